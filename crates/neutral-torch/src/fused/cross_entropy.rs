//! Head and cross-entropy, without ever holding the logits of a large vocabulary.
//!
//! Logits are made for some rows at a time. Autograd would keep every chunk for the backward pass,
//! so each chunk's gradient is computed at once, over the logits' own memory: what is kept is a
//! gradient of the size of the hidden states and, if the head trains, one of its own size.

use neutral_spec::{LOGITS_FROZEN, LOGITS_TRAINED};
use tch::{Kind, Tensor, no_grad};

use super::linear::{linear, product};
use super::{by_kind, has_kernel, rows_and_width};
use crate::autograd::{Gradients, attach};
use crate::element::{Element, Parts, numbers, numbers_mut};
use crate::parallel::parallel_for;
use crate::precision::sum_kind;
use crate::simd::{LANES, exp, larger, largest_of, sum, vectorised};

/// libtorch's usual mark for a position without target.
const IGNORED: i64 = -100;

/// Rows for which oneDNN packs the other factor of a product once: a chunk has a multiple of them.
const ROWS_A_PACK: usize = 256;

/// Numbers that a thread adds at least.
const ADDED_AT_ONCE: usize = 1 << 15;

/// Rows of a chunk over a head that trains, all chunks about as long.
pub(super) fn rows_trained(rows: usize, vocab: usize, d: usize) -> usize {
    let most = (LOGITS_TRAINED / vocab).max(2 * d);
    let chunks = rows.div_ceil(most).max(1);
    rows.div_ceil(chunks).next_multiple_of(ROWS_A_PACK)
}

/// The sum of all rows' cross-entropies in nats, which carries the gradient, and each row's by
/// itself, which carries none. A target of −100 counts as 0. With a cap `c`, logits `z` become
/// `c · tanh(z / c)`.
///
/// # Shapes
/// `hidden`: `[…, d]`, `head_vd`: `[v, d]`, `targets`: `[…]`, `Int64`; results: fp32 scalar, and fp32
/// as `targets` (fp64 if `hidden` is).
///
/// # Panics
/// If a target is neither −100 nor below `v`.
pub fn linear_cross_entropy(
    hidden: &Tensor,
    head_vd: &Tensor,
    targets: &Tensor,
    softcap: Option<f64>,
) -> (Tensor, Tensor) {
    let wants = Wants { hidden: hidden.requires_grad(), head: head_vd.requires_grad() };
    let vocab = head_vd.size()[0] as usize;
    let (rows, d) = rows_and_width(hidden);
    let at_once = if wants.head { rows_trained(rows, vocab, d) } else { LOGITS_FROZEN / vocab };
    cross_entropy(hidden, head_vd, targets, softcap, wants, at_once.max(1))
}

/// Each row's cross-entropy in nats, without gradients.
///
/// # Shapes
/// As [`linear_cross_entropy`].
///
/// # Panics
/// As [`linear_cross_entropy`].
pub fn linear_token_losses(
    hidden: &Tensor,
    head_vd: &Tensor,
    targets: &Tensor,
    softcap: Option<f64>,
) -> Tensor {
    let rows = (LOGITS_FROZEN / head_vd.size()[0] as usize).max(1);
    cross_entropy(hidden, head_vd, targets, softcap, Wants { hidden: false, head: false }, rows).1
}

fn cross_entropy(
    hidden: &Tensor,
    head_vd: &Tensor,
    targets: &Tensor,
    softcap: Option<f64>,
    wants: Wants,
    rows: usize,
) -> (Tensor, Tensor) {
    let targets_n = targets.reshape([-1]);
    let (total, losses_n) = in_chunks(hidden, head_vd, softcap, wants, rows, |logits, first| {
        let targets = targets_n.narrow(0, first, logits.size()[0]);
        losses_and_gradient(logits, &targets, wants.hidden || wants.head)
    });
    (total, losses_n.view_as(targets))
}

/// Which gradients are computed on the way.
#[derive(Clone, Copy)]
pub(super) struct Wants {
    pub(super) hidden: bool,
    pub(super) head: bool,
}

/// The sum of what rows of logits `hidden · headᵀ` lose, with its gradient, and each row's loss, `[n]`.
///
/// `losses_of` gets the logits of some rows, `[rows, v]`, and the first row's place; if a gradient is wanted, it leaves its
/// own in their place.
pub(super) fn in_chunks(
    hidden: &Tensor,
    head_vd: &Tensor,
    softcap: Option<f64>,
    wants: Wants,
    rows: usize,
    losses_of: impl Fn(&mut Tensor, i64) -> Tensor,
) -> (Tensor, Tensor) {
    let (_, d) = rows_and_width(hidden);
    let (total, losses, of_hidden, of_head) = no_grad(|| {
        let hidden_nd = hidden.reshape([-1, d as i64]);
        let head = head_vd.to_kind(hidden.kind());
        let (mut losses, mut of_hidden) = (Vec::new(), Vec::new());
        let mut of_head: Option<Tensor> = None;
        let chunks = hidden_nd.split(rows as i64, 0).into_iter();
        for (first, hidden) in (0..).step_by(rows).zip(chunks) {
            let mut logits = linear(&hidden, &head, None);
            let bent = softcap.map(|cap| cap_in_place(&mut logits, cap));
            losses.push(losses_of(&mut logits, first));
            let gradient = wants.hidden || wants.head;
            if let Some(bent) = bent.filter(|_| gradient) {
                logits = logits * (1.0 - bent.square());
            }
            if wants.hidden {
                of_hidden.push(product(&logits, &head));
            }
            if wants.head {
                let new = product(&logits.tr(), &hidden);
                drop(logits);
                // In place: it is the largest tensor of the step.
                match &mut of_head {
                    Some(sum) => add(sum, &new),
                    None => of_head = Some(new.to_kind(sum_kind(head.kind()))),
                }
            }
        }
        let losses = Tensor::cat(&losses, 0);
        let total = losses.sum(losses.kind());
        let of_hidden = wants.hidden.then(|| Tensor::cat(&of_hidden, 0).view_as(hidden));
        (total, losses, of_hidden, of_head)
    });
    if wants.hidden || wants.head {
        let (hidden_kind, head_kind) = (hidden.kind(), head_vd.kind());
        attach("losses of logits", &[hidden, head_vd], &[&total], move |given: Gradients| {
            let Some(scale) = &given.outputs[0] else { return vec![None, None] };
            // Scaled in fp32 and rounded once.
            let scaled =
                |g: Tensor, kind: Kind| g.to_kind(scale.kind()).g_mul_(scale).to_kind(kind);
            vec![of_hidden.map(|g| scaled(g, hidden_kind)), of_head.map(|g| scaled(g, head_kind))]
        });
    }
    (total, losses)
}

/// `sum += new`, where the sum may be fp32 of bf16: libtorch would widen the whole of `new` first.
fn add(sum: &mut Tensor, new: &Tensor) {
    if !has_kernel(new) {
        let _ = sum.g_add_(new);
        return;
    }
    by_kind!(new, add_kernel(sum, new));
}

fn add_kernel<T: Element>(sum: &mut Tensor, new: &Tensor) {
    let (new, length) = (new.contiguous(), new.numel());
    let new = numbers::<T>(&new);
    let sum = Parts::new(numbers_mut::<f32>(sum));
    parallel_for(length, ADDED_AT_ONCE, |begin, end| {
        #[expect(unsafe_code, reason = "threads write their own numbers")]
        // SAFETY: every number belongs to one range.
        let part = unsafe { sum.get(begin, end - begin) };
        add_to(part, &new[begin..end]);
    });
}

/// Caps logits; `tanh(z / c)` of each, of which the cap's slope is 1 less the square.
pub(super) fn cap_in_place(logits: &mut Tensor, cap: f64) -> Tensor {
    let bent = (&*logits / cap).tanh();
    logits.copy_(&(&bent * cap));
    bent
}

/// The rows' losses; turns logits into `softmax − onehot(target)` in place, if wanted.
fn losses_and_gradient(logits: &mut Tensor, targets: &Tensor, gradient: bool) -> Tensor {
    if has_kernel(logits) {
        return by_kind!(logits, kernel(logits, targets, gradient));
    }
    let mut log_p = logits.to_kind(sum_kind(logits.kind())).log_softmax(-1, None::<Kind>);
    let counted = targets.ne(IGNORED);
    // Of what does not count, any token; a target that is none stays one, and `gather` refuses it.
    let index = targets.masked_fill(&counted.logical_not(), 0).unsqueeze(-1);
    let losses = -log_p.gather(-1, &index, false).squeeze_dim(-1) * &counted;
    if gradient {
        let ones = Tensor::ones_like(&index).to_kind(log_p.kind());
        // In place: each is as large as a chunk's logits, and a GPU's memory holds fewer of them than a step does.
        let mut difference = log_p.exp_().scatter_add_(-1, &index, &-ones);
        logits.copy_(&difference.g_mul_(&counted.unsqueeze(-1)));
    }
    losses
}

fn kernel<T: Element>(logits: &mut Tensor, targets: &Tensor, gradient: bool) -> Tensor {
    let (rows, v) = rows_and_width(logits);
    let targets: Vec<i64> =
        Vec::try_from(targets.contiguous()).expect("targets are whole numbers on the CPU");
    let bad = targets.iter().find(|&&t| t != IGNORED && !(0..v as i64).contains(&t));
    assert!(bad.is_none(), "target {bad:?} is not below the vocabulary's size {v}");
    let mut losses = Tensor::zeros([rows as i64], (Kind::Float, tch::Device::Cpu));
    let logits = Parts::new(numbers_mut::<T>(logits));
    let out = Parts::new(numbers_mut::<f32>(&mut losses));
    parallel_for(rows, 1, |begin, end| {
        for (n, &target) in (begin..end).zip(&targets[begin..end]) {
            #[expect(unsafe_code, reason = "threads write their own rows")]
            // SAFETY: every row belongs to one range.
            let (row, out) = unsafe { (logits.get(n * v, v), out.get(n, 1)) };
            if target == IGNORED {
                row.fill(T::from_f32(0.0));
                continue;
            }
            let target = target as usize;
            let at_target = row[target].to_f32();
            let log_sum = log_sum_exp(row).1;
            out[0] = log_sum - at_target;
            if gradient {
                probabilities(row, log_sum);
                // Rounded once, from the difference: 1 − p is small where the model is right.
                row[target] = T::from_f32(exp(at_target - log_sum) - 1.0);
            }
        }
    });
    losses
}

vectorised! {
    fn add_to<T>(sum: &mut [f32], new: &[T]) {
        for (sum, new) in sum.iter_mut().zip(new) {
            *sum += new.to_f32();
        }
    }

    fn probabilities<T>(row: &mut [T], log_sum: f32) {
        for x in row.iter_mut() {
            *x = T::from_f32(exp(x.to_f32() - log_sum));
        }
    }

    /// The largest `x`, and `ln Σ eˣ`, which is not finite if an `x` is +∞ or NaN.
    pub(super) fn log_sum_exp<T>(row: &[T]) -> (f32, f32) {
        let (whole, rest) = row.as_chunks::<LANES>();
        let mut largest = [f32::NEG_INFINITY; LANES];
        for x in whole {
            for i in 0..LANES {
                largest[i] = larger(largest[i], x[i].to_f32());
            }
        }
        let max = rest.iter().fold(largest_of(largest), |max, x| larger(max, x.to_f32()));
        let mut sums = [0.0; LANES];
        for x in whole {
            for i in 0..LANES {
                sums[i] += exp(x[i].to_f32() - max);
            }
        }
        let rest: f32 = rest.iter().map(|x| exp(x.to_f32() - max)).sum();
        (max, max + (sum(sums) + rest).ln())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{agrees, in_kind, normal, run};
    use super::*;
    use tch::{Device, Reduction};

    fn formula(t: &[Tensor]) -> Vec<Tensor> {
        capped_formula(t, None)
    }

    fn capped_formula(t: &[Tensor], softcap: Option<f64>) -> Vec<Tensor> {
        let logits = t[0].linear(&t[1].to_kind(t[0].kind()), None::<&Tensor>);
        let logits = softcap.map_or(logits.shallow_clone(), |cap| (&logits / cap).tanh() * cap);
        let logits = logits.to_kind(sum_kind(t[0].kind()));
        let sum = logits.view([-1, t[1].size()[0]]).cross_entropy_loss(
            &t[2].view(-1),
            None::<Tensor>,
            Reduction::Sum,
            IGNORED,
            0.0,
        );
        vec![sum]
    }

    /// Ten rows, two of them without target.
    fn inputs(vocab: i64) -> [Tensor; 3] {
        let targets: Vec<i64> = (0..10).map(|i| i * 5 % vocab).collect();
        let targets = Tensor::from_slice(&targets);
        let _ = targets.get(3).fill_(IGNORED);
        let _ = targets.get(9).fill_(IGNORED);
        let tensor = |name, shape: &[i64]| normal(name, shape, Kind::Double);
        [tensor("hidden", &[2, 5, 6]), tensor("head", &[vocab, 6]), targets.view([2, 5])]
    }

    #[test]
    fn the_kernel_is_the_formula_for_every_size_of_chunk() {
        for vocab in [2, 13, 40] {
            for rows in [1, 3, 10, 99] {
                for (hidden, head) in [(true, true), (true, false), (false, true)] {
                    let [h, w, t] = inputs(vocab);
                    let inputs = [h.set_requires_grad(hidden), w.set_requires_grad(head), t];
                    let wants = Wants { hidden, head };
                    for cap in [None, Some(1.5)] {
                        agrees(
                            &format!("{vocab} by {rows}, {cap:?}"),
                            &inputs,
                            |t| vec![cross_entropy(&t[0], &t[1], &t[2], cap, wants, rows).0],
                            |t| capped_formula(t, cap),
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn chunks_over_a_head_that_trains_are_few_and_even_and_hold_no_large_vocabulary_whole() {
        // SmolLM2 at 4 × 512 tokens, the bases of 8.4 and 2.4 M weights, a few rows, none.
        assert_eq!(rows_trained(2048, 49_152, 576), 1024);
        assert_eq!(rows_trained(8192, 8192, 256), 4096);
        assert_eq!(rows_trained(4096, 4096, 192), 4096);
        assert_eq!(rows_trained(10, 320, 32), 256);
        assert_eq!(rows_trained(0, 320, 32), 0);
    }

    #[test]
    fn where_there_is_no_kernel_the_gradient_is_libtorchs() {
        let inputs = inputs(13);
        let ours = run(&inputs, |t| vec![linear_cross_entropy(&t[0], &t[1], &t[2], None).0]);
        for (ours, theirs) in ours.iter().zip(run(&inputs, formula)) {
            assert!(ours.allclose(&theirs, 1e-12, 1e-12, false));
        }
    }

    #[test]
    fn losses_of_rows_add_up_and_ignored_ones_are_zero() {
        let inputs = in_kind(&inputs(13), Kind::Float);
        let losses = linear_token_losses(&inputs[0], &inputs[1], &inputs[2], None);
        assert_eq!(losses.size(), [2, 5]);
        assert_eq!(losses.double_value(&[0, 3]), 0.0);
        assert!(losses.double_value(&[0, 2]) > 0.0 && !losses.requires_grad());
        let (sum, same) = linear_cross_entropy(&inputs[0], &inputs[1], &inputs[2], None);
        assert!(same.equal(&losses) && sum.requires_grad());
        assert!(losses.sum(Kind::Float).allclose(&sum, 1e-6, 1e-6, false));
    }

    #[test]
    fn a_row_without_hope_is_finite_and_one_with_infinity_is_not() {
        let row = |numbers: &[f32]| {
            let mut logits = Tensor::from_slice(numbers).view([1, -1]);
            losses_and_gradient(&mut logits, &Tensor::from_slice(&[0_i64]), true).double_value(&[0])
        };
        assert_eq!(row(&[-1e30, 1e30]), f64::from(2e30_f32));
        assert!(!row(&[0.0, f32::INFINITY]).is_finite() && !row(&[f32::NAN, 0.0]).is_finite());
    }

    #[test]
    #[should_panic(expected = "target Some(13)")]
    fn a_target_beyond_the_vocabulary_is_refused() {
        let zeros = |shape: [i64; 2]| Tensor::zeros(shape, (Kind::Float, Device::Cpu));
        let _ = linear_token_losses(
            &zeros([1, 2]),
            &zeros([13, 2]),
            &Tensor::from_slice(&[13_i64]),
            None,
        );
    }
}
