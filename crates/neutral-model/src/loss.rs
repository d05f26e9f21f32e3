//! Cross-entropy without ever holding the logits of a large vocabulary.
//!
//! Logits are made for so many rows at a time that they stay below [`LOGITS_AT_ONCE`] numbers. That
//! alone would not help training, as autograd keeps every chunk for the backward pass. So where
//! there is more than one chunk, each one's gradient is computed at once, in a graph of its own that
//! is dropped, and the result carries it: `loss + (S − S)` with `S = Σ hidden ⊙ ∂loss/∂hidden`, the
//! second `S` cut from the graph. Its value is the loss and its gradient is the exact one.

use tch::{Kind, Reduction, Tensor};

use crate::linear::linear;

/// Numbers of a logits tensor that is held at once: 64 MiB in fp32.
const LOGITS_AT_ONCE: usize = 16 << 20;

/// libtorch's usual mark for a position without target.
const IGNORED: i64 = -100;

/// Rows of logits to make at once for a vocabulary.
pub(crate) fn rows_at_once(vocab_size: usize) -> i64 {
    (LOGITS_AT_ONCE / vocab_size).max(1) as i64
}

/// Sum of the cross-entropies of all rows, in nats.
///
/// # Shapes
/// `hidden_btd`: `[b, t, d]`, `head_vd`: `[v, d]`, `targets_bt`: `[b, t]`; result: fp32 scalar.
pub(crate) fn loss_sum(
    hidden_btd: &Tensor,
    head_vd: &Tensor,
    targets_bt: &Tensor,
    rows: i64,
) -> Tensor {
    let (hidden_nd, targets_n) = flatten(hidden_btd, targets_bt);
    if hidden_nd.size()[0] <= rows {
        return cross_entropy(&hidden_nd, head_vd, &targets_n, Reduction::Sum);
    }
    let (hidden_tracked, head_tracked) = (is_tracked(&hidden_nd), is_tracked(head_vd));
    if !hidden_tracked && !head_tracked {
        let sums = chunks(&hidden_nd, &targets_n, rows)
            .map(|(hidden, targets)| cross_entropy(&hidden, head_vd, &targets, Reduction::Sum));
        return sums.fold(Tensor::from(0f32).to_device(hidden_nd.device()), |sum, next| sum + next);
    }
    let head_leaf = head_vd.detach().set_requires_grad(head_tracked);
    let mut loss = Tensor::from(0f32).to_device(hidden_nd.device());
    let mut hidden_gradients = Vec::new();
    let mut head_gradient: Option<Tensor> = None;
    for (hidden, targets) in chunks(&hidden_nd, &targets_n, rows) {
        let hidden_leaf = hidden.detach().set_requires_grad(hidden_tracked);
        let chunk_loss = cross_entropy(&hidden_leaf, &head_leaf, &targets, Reduction::Sum);
        let mut inputs = Vec::new();
        inputs.extend(hidden_tracked.then_some(&hidden_leaf));
        inputs.extend(head_tracked.then_some(&head_leaf));
        let mut gradients = Tensor::run_backward(&[&chunk_loss], &inputs, false, false).into_iter();
        if hidden_tracked {
            hidden_gradients.extend(gradients.next());
        }
        if let (true, Some(gradient)) = (head_tracked, gradients.next()) {
            head_gradient = Some(match head_gradient {
                Some(sum) => sum + gradient,
                None => gradient,
            });
        }
        loss += chunk_loss.detach();
    }
    if hidden_tracked {
        loss += carrier(&hidden_nd, &Tensor::cat(&hidden_gradients, 0));
    }
    if let Some(gradient) = head_gradient {
        loss += carrier(head_vd, &gradient);
    }
    loss
}

/// Cross-entropy of every position, in nats; 0 where the target is −100.
///
/// # Shapes
/// As [`loss_sum`]; result: `[b, t]`, fp32.
pub(crate) fn token_losses(
    hidden_btd: &Tensor,
    head_vd: &Tensor,
    targets_bt: &Tensor,
    rows: i64,
) -> Tensor {
    let (hidden_nd, targets_n) = flatten(hidden_btd, targets_bt);
    let losses: Vec<Tensor> = chunks(&hidden_nd, &targets_n, rows)
        .map(|(hidden, targets)| cross_entropy(&hidden, head_vd, &targets, Reduction::None))
        .collect();
    Tensor::cat(&losses, 0).view_as(targets_bt)
}

/// A zero whose gradient with respect to `x` is `gradient`, scaled in fp32.
fn carrier(x: &Tensor, gradient: &Tensor) -> Tensor {
    let product = x.to_kind(Kind::Float) * gradient.to_kind(Kind::Float);
    let sum = product.sum(Kind::Float);
    let value = sum.detach();
    sum - value
}

fn cross_entropy(
    hidden_nd: &Tensor,
    head_vd: &Tensor,
    targets_n: &Tensor,
    reduction: Reduction,
) -> Tensor {
    let logits_nv = linear(hidden_nd, head_vd, None).to_kind(Kind::Float);
    logits_nv.cross_entropy_loss(targets_n, None::<Tensor>, reduction, IGNORED, 0.0)
}

fn flatten(hidden_btd: &Tensor, targets_bt: &Tensor) -> (Tensor, Tensor) {
    let width = hidden_btd.size().pop().unwrap_or(1);
    (hidden_btd.reshape([-1, width]), targets_bt.reshape([-1]))
}

fn chunks(
    hidden_nd: &Tensor,
    targets_n: &Tensor,
    rows: i64,
) -> impl Iterator<Item = (Tensor, Tensor)> {
    hidden_nd.split(rows, 0).into_iter().zip(targets_n.split(rows, 0))
}

/// Autograd would record an operation on the tensor: it has a gradient to give, and we are not
/// within `no_grad`.
fn is_tracked(tensor: &Tensor) -> bool {
    tensor.alias().requires_grad()
}

#[cfg(test)]
mod tests {
    use super::*;
    use neutral_torch::RandomStream;
    use tch::Device;

    /// Ten rows with one target ignored, a head of 13 tokens.
    fn inputs(kind: Kind, trained: bool) -> (Tensor, Tensor, Tensor) {
        let mut stream = RandomStream::new(1, "loss");
        let hidden = stream.normal(&[2, 5, 6], 1.0, Device::Cpu).to_kind(kind);
        let head = stream.normal(&[13, 6], 1.0, Device::Cpu);
        let head = if trained { head } else { head.to_kind(kind) };
        let targets = Tensor::from_slice(&[0i64, 1, 2, IGNORED, 4, 12, 11, 10, 9, 8]).view([2, 5]);
        (hidden.set_requires_grad(true), head.set_requires_grad(trained), targets)
    }

    /// The loss in chunks of so many rows, and the gradients of a third of it.
    fn run(kind: Kind, trained: bool, rows: i64) -> (Tensor, Tensor, Option<Tensor>) {
        let (hidden, head, targets) = inputs(kind, trained);
        let loss = loss_sum(&hidden, &head, &targets, rows);
        assert_eq!((loss.kind(), loss.size()), (Kind::Float, vec![]));
        // Not a power of two: a scale that bf16 would round is applied in fp32 either way.
        (&loss / 3.0).backward();
        (loss.detach(), hidden.grad(), trained.then(|| head.grad()))
    }

    #[test]
    fn chunks_give_the_loss_and_gradients_of_the_whole() {
        // In bf16 the gradient is rounded once more on its way through the chunk's own graph.
        for (kind, tolerance) in [(Kind::Float, 1e-6), (Kind::BFloat16, 1.0 / 128.0)] {
            for trained in [false, true] {
                let (loss, hidden, head) = run(kind, trained, 10);
                for rows in [1, 3, 5, 9] {
                    let near = |a: &Tensor, b: &Tensor| {
                        assert_eq!(a.kind(), b.kind());
                        assert!(
                            a.allclose(b, tolerance, tolerance, false),
                            "{rows} rows of {kind:?}"
                        );
                    };
                    let chunked = run(kind, trained, rows);
                    assert!(chunked.0.allclose(&loss, 1e-6, 1e-6, false));
                    near(&chunked.1, &hidden);
                    if let (Some(a), Some(b)) = (&chunked.2, &head) {
                        near(a, b);
                    }
                }
            }
        }
    }

    #[test]
    fn a_head_that_trains_alone_gets_the_same_gradient() {
        let gradient = |rows| {
            let (hidden, head, targets) = inputs(Kind::Float, true);
            loss_sum(&hidden.detach(), &head, &targets, rows).backward();
            head.grad()
        };
        assert!(gradient(3).allclose(&gradient(10), 1e-6, 1e-6, false));
    }

    #[test]
    fn within_no_grad_there_is_no_graph_and_the_same_loss() {
        let (hidden, head, targets) = inputs(Kind::Float, true);
        let loss = |rows| tch::no_grad(|| loss_sum(&hidden, &head, &targets, rows));
        assert!(!loss(3).requires_grad());
        assert!(loss(3).allclose(&loss(10), 1e-6, 1e-6, false));
        assert!(loss_sum(&hidden, &head, &targets, 3).requires_grad());
    }

    #[test]
    fn losses_of_tokens_add_up_to_the_sum_and_ignored_ones_are_zero() {
        let (hidden, head, targets) = inputs(Kind::Float, false);
        let losses = token_losses(&hidden, &head, &targets, 3);
        assert_eq!(losses.size(), [2, 5]);
        assert_eq!(losses.double_value(&[0, 3]), 0.0);
        assert!(losses.double_value(&[0, 2]) > 0.0);
        let sum = loss_sum(&hidden, &head, &targets, 3);
        assert!(losses.sum(Kind::Float).allclose(&sum, 1e-6, 1e-6, false));
    }

    #[test]
    fn a_large_vocabulary_is_taken_in_few_rows() {
        assert_eq!(rows_at_once(4096), 4096);
        assert_eq!(rows_at_once(256_000), 65);
        assert_eq!(rows_at_once(usize::MAX), 1);
    }
}
