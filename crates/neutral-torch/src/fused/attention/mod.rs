//! Causal grouped-query attention with rotary positions, for training lengths.
//!
//! libtorch's CPU kernel is fast forward and slow backward, and wants rotated, transposed copies.
//! Here one unit of work is a key-value head of a sequence with its query heads: rows are read where
//! the projections left them, rotated on the way in and back on the way out, and everything between
//! stays in the cache. What is kept for the backward pass is the input, the output and one number
//! a query.

mod backward;
mod cached;
mod forward;
mod head;
mod pack;
mod prefix;
mod product;

use tch::{Device, Kind, Tensor, no_grad};

pub use self::cached::{KeyValues, cached_attention};
use self::head::{Geometry, Place, Rotation};
pub use self::prefix::{PrefixTree, prefix_attention};
use super::linear::has_slow_products;
use super::{by_kind, has_kernel};
use crate::autograd::{Gradients, attach};
use crate::element::{Element, Parts, numbers, numbers_mut};
use crate::precision::sum_kind;
use crate::simd::LANES;

/// How the heads share the width.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heads {
    /// Query heads.
    pub query: usize,
    /// Key and value heads, a divisor of the query heads.
    pub key_value: usize,
    /// Width of each, an even number.
    pub width: usize,
}

/// What becomes of `q · k` before the softmax.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scores {
    /// What it is multiplied with, mostly `1 / √e`.
    pub scale: f64,
    /// Then `s ↦ c · tanh(s / c)`, if there is a `c`.
    pub softcap: Option<f64>,
}

/// `softmax(scores(rot(q) rot(k)ᵀ)) v`, query head `i` of `h` reading key-value head `⌊i · k / h⌋` of `k`; position
/// `i` attends to `starts[i] ..= i`, from 0 on without `starts`. Scores with a cap have no kernel.
///
/// The rotation is on the halves of a head, `x ⊙ cos + cat(−x₂, x₁) ⊙ sin`, in fp32, or in fp64 if the
/// input is, rounded to the kind of the input. Products of bf16 are summed in fp32, and probabilities are rounded to bf16
/// before the second product (not so with a cap, where such products are slow).
///
/// # Shapes
/// `qkv`: one tensor `[b, t, (query + 2 · key_value) · e]`, or three, `[b, t, query · e]` and twice
/// `[b, t, key_value · e]`; `cos_te`, `sin_te`: `[t, e/2]` fp32, or fp64; `starts_bt`: `[b, t]`, `Int64`, each
/// at most its own position; result: `[b, t, query · e]`.
///
/// # Panics
/// If the shapes do not fit each other.
pub fn attention(
    qkv: &[&Tensor],
    heads: Heads,
    scores: Scores,
    [cos_te, sin_te]: [&Tensor; 2],
    starts_bt: Option<&Tensor>,
) -> Tensor {
    if has_kernel(qkv[0]) && scores.softcap.is_none() {
        return by_kind!(qkv[0], kernel(qkv, heads, scores, [cos_te, sin_te], starts_bt));
    }
    formula(qkv, heads, scores, [cos_te, sin_te], starts_bt)
}

fn formula(
    qkv: &[&Tensor],
    heads: Heads,
    scores: Scores,
    rotation: [&Tensor; 2],
    starts_bt: Option<&Tensor>,
) -> Tensor {
    let t = qkv[0].size()[1];
    let [q, k, v] = rotated(qkv, heads, rotation);
    let mask = starts_bt.map(|starts| {
        let key = Tensor::arange(t, (Kind::Int64, starts.device()));
        key.ge_tensor(&starts.unsqueeze(-1)).tril(0).unsqueeze(1)
    });
    let seen = mask.as_ref().map_or(Seen::Before, Seen::Where);
    attend([&q, &k, &v], heads, scores, seen)
}

/// Queries and keys, rotated, and values: `[b, heads, t, e]` each.
fn rotated(qkv: &[&Tensor], heads: Heads, rotation: [&Tensor; 2]) -> [Tensor; 3] {
    let (size, e) = (qkv[0].size(), heads.width as i64);
    let (b, t) = (size[0], size[1]);
    let widths = [heads.query, heads.key_value, heads.key_value].map(|n| n as i64 * e);
    let parts = match qkv {
        [packed] => packed.split_with_sizes(widths.as_slice(), -1),
        separate => separate.iter().map(|t| t.shallow_clone()).collect(),
    };
    let head = |x: &Tensor| x.reshape([b, t, -1, e]);
    [rotate(&head(&parts[0]), rotation), rotate(&head(&parts[1]), rotation), head(&parts[2])]
        .map(|x| x.transpose(1, 2))
}

/// The keys that queries attend to.
#[derive(Clone, Copy)]
enum Seen<'a> {
    /// Those of their own position and before; as many keys as queries.
    Before,
    /// All.
    All,
    /// Where it is true, `[…, t, s]`.
    Where(&'a Tensor),
}

/// Attention of rotated queries to rotated keys.
///
/// # Shapes
/// `q`: `[b, query, t, e]`, `k`, `v`: `[b, key_value, s, e]`; result: `[b, t, query · e]`.
fn attend([q, k, v]: [&Tensor; 3], heads: Heads, scores: Scores, seen: Seen) -> Tensor {
    if has_slow_products(q) {
        let [q, k, v] = [q, k, v].map(|x| x.to_kind(Kind::Float));
        return attend([&q, &k, &v], heads, scores, seen).to_kind(Kind::BFloat16);
    }
    let size = q.size();
    let repeated =
        |x: &Tensor| x.repeat_interleave_self_int((heads.query / heads.key_value) as i64, 1, None);
    let (mask, causal) = match seen {
        Seen::Before => (None, true),
        Seen::All => (None, false),
        Seen::Where(mask) => (Some(mask), false),
    };
    let mixed = match scores.softcap {
        None => {
            let shared = heads.query != heads.key_value;
            let sdpa = |k: &Tensor, v: &Tensor, shared| {
                let scale = scores.scale;
                Tensor::scaled_dot_product_attention(q, k, v, mask, 0.0, causal, scale, shared)
            };
            // Of CUDA's kernels only flash attention shares heads, and it has neither masks nor fp32; without a kernel
            // all scores would exist, in fp32, and keys and values be repeated all the same. fp64 has none anywhere.
            let kernel_shares = match q.device() {
                Device::Cpu => q.kind() != Kind::Double,
                _ => mask.is_none() && q.kind() == Kind::BFloat16,
            };
            if kernel_shares || !shared {
                sdpa(k, v, shared)
            } else {
                sdpa(&repeated(k), &repeated(v), false)
            }
        }
        // Source: `eager_attention_forward` of Gemma 2 in Hugging Face transformers.
        Some(cap) => {
            let capped = (q.matmul(&repeated(k).transpose(2, 3)) * scores.scale / cap).tanh() * cap;
            let hidden = match seen {
                Seen::Before => {
                    Some(Tensor::ones([size[2], size[2]], (Kind::Bool, q.device())).triu(1))
                }
                Seen::All => None,
                Seen::Where(mask) => Some(mask.logical_not()),
            };
            let capped = hidden.map_or(capped.shallow_clone(), |hidden| {
                capped.masked_fill(&hidden, f64::NEG_INFINITY)
            });
            capped.softmax(-1, sum_kind(q.kind())).to_kind(q.kind()).matmul(&repeated(v))
        }
    };
    mixed.transpose(1, 2).reshape([size[0], size[2], -1])
}

/// Source: `apply_rotary_pos_emb` of Hugging Face transformers.
fn rotate(x_bthe: &Tensor, [cos_te, sin_te]: [&Tensor; 2]) -> Tensor {
    let kind = sum_kind(x_bthe.kind());
    let table = |half: &Tensor| half.to_kind(kind).unsqueeze(1);
    let (cos, sin) = (table(cos_te), table(sin_te));
    let halves = x_bthe.to_kind(kind).chunk(2, -1);
    let first = &halves[0] * &cos - &halves[1] * &sin;
    let second = &halves[1] * &cos + &halves[0] * &sin;
    Tensor::cat(&[first, second], -1).to_kind(x_bthe.kind())
}

/// The operands of one call.
struct Kernel<'a, T> {
    geometry: Geometry,
    /// Queries, keys, values.
    sources: [(&'a [T], Place); 3],
    rotation: Rotation<'a>,
    starts: Option<&'a [i32]>,
}

/// What the backward pass needs.
struct Saved {
    qkv: Vec<Tensor>,
    out: Tensor,
    log_sums: Tensor,
    rotation: [Tensor; 2],
    starts: Option<Vec<i32>>,
}

fn kernel<T: Element>(
    qkv: &[&Tensor],
    heads: Heads,
    scores: Scores,
    rotation: [&Tensor; 2],
    starts_bt: Option<&Tensor>,
) -> Tensor {
    let inputs: Vec<Tensor> = qkv.iter().map(|x| x.contiguous()).collect();
    let size = inputs[0].size();
    let sizes = [size[0] as usize, size[1] as usize];
    let geometry = geometry(&inputs, heads, scores, sizes, sizes[1], rotation);
    let g = geometry;
    let starts: Option<Vec<i32>> = starts_bt.map(|starts| {
        let starts: Vec<i64> =
            Vec::try_from(starts.contiguous().view(-1)).expect("starts are whole numbers");
        let allowed = |(at, &start): (usize, &i64)| (0..=(at % g.t) as i64).contains(&start);
        assert!(starts.len() == g.batch * g.t && starts.iter().enumerate().all(allowed));
        starts.into_iter().map(|start| start as i32).collect()
    });
    let (out, saved) = no_grad(|| {
        let rotation = rotation.map(Tensor::contiguous);
        let shape = [g.batch, g.t, g.query_heads * g.e].map(|n| n as i64);
        let mut out = inputs[0].new_empty(shape, (T::KIND, tch::Device::Cpu));
        let sums = (g.batch * g.query_heads * g.t) as i64;
        let mut log_sums = Tensor::empty([sums], (Kind::Float, tch::Device::Cpu));
        let inputs: Vec<Tensor> = inputs.iter().map(Tensor::detach).collect();
        operands::<T>(g, heads, &inputs, &rotation, starts.as_deref())
            .forward(Parts::new(numbers_mut(&mut out)), Parts::new(numbers_mut(&mut log_sums)));
        let saved = Saved { qkv: inputs, out: out.detach(), log_sums, rotation, starts };
        (out, saved)
    });
    let tracked: Vec<&Tensor> = inputs.iter().collect();
    attach("attention", &tracked, &[&out], move |given: Gradients| {
        let Saved { qkv, out, log_sums, rotation, starts } = saved;
        let Some(of_out) = &given.outputs[0] else { return qkv.iter().map(|_| None).collect() };
        let of_out = of_out.contiguous();
        let mut gradients: Vec<Tensor> = qkv.iter().map(Tensor::empty_like).collect();
        let parts: Vec<Parts<T>> =
            gradients.iter_mut().map(|t| Parts::new(numbers_mut(t))).collect();
        let places = places(g, heads, qkv.len());
        let gradients_at =
            std::array::from_fn(|i| (parts[if qkv.len() == 1 { 0 } else { i }], places[i]));
        operands::<T>(g, heads, &qkv, &rotation, starts.as_deref()).backward(
            numbers(&of_out),
            numbers(&out),
            numbers(&log_sums),
            gradients_at,
        );
        gradients.into_iter().map(Some).collect()
    });
    out
}

/// Sizes of a call on tensors of `[batch, rows]`, with positions below `t`.
fn geometry(
    qkv: &[Tensor],
    heads: Heads,
    scores: Scores,
    [batch, rows]: [usize; 2],
    t: usize,
    [cos_te, sin_te]: [&Tensor; 2],
) -> Geometry {
    let Heads { query, key_value, width: e } = heads;
    assert!(e.is_multiple_of(2) && query.is_multiple_of(key_value), "{heads:?}");
    let widths = match qkv.len() {
        1 => vec![query + 2 * key_value],
        3 => vec![query, key_value, key_value],
        n => panic!("queries, keys and values are one tensor or three, not {n}"),
    };
    for (tensor, heads) in qkv.iter().zip(widths) {
        assert_eq!(tensor.size(), [batch, rows, heads * e].map(|n| n as i64));
    }
    for table in [cos_te, sin_te] {
        assert_eq!((table.kind(), table.size()), (Kind::Float, vec![t as i64, (e / 2) as i64]));
    }
    Geometry {
        batch,
        t,
        padded_t: t.next_multiple_of(LANES),
        query_heads: query,
        key_value_heads: key_value,
        e,
        padded_e: e.next_multiple_of(LANES),
        scale: scores.scale as f32,
    }
}

/// Where queries, keys and values begin, in one tensor or in three.
fn places(g: Geometry, heads: Heads, tensors: usize) -> [Place; 3] {
    let widths = [heads.query, heads.key_value, heads.key_value].map(|n| n * g.e);
    if tensors == 1 {
        let stride = widths.iter().sum();
        [0, widths[0], widths[0] + widths[1]].map(|offset| Place { stride, offset })
    } else {
        widths.map(|stride| Place { stride, offset: 0 })
    }
}

fn operands<'a, T: Element>(
    geometry: Geometry,
    heads: Heads,
    qkv: &'a [Tensor],
    [cos, sin]: &'a [Tensor; 2],
    starts: Option<&'a [i32]>,
) -> Kernel<'a, T> {
    let places = places(geometry, heads, qkv.len());
    let source = |i: usize| numbers::<T>(&qkv[if qkv.len() == 1 { 0 } else { i }]);
    Kernel {
        geometry,
        sources: std::array::from_fn(|i| (source(i), places[i])),
        rotation: Rotation { cos: numbers(cos), sin: numbers(sin) },
        starts,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::super::testing::{agrees, normal};
    use super::*;

    pub(super) fn table(t: i64, half: i64) -> [Tensor; 2] {
        let angles = Tensor::arange(t, (Kind::Double, Device::Cpu))
            .outer(&(Tensor::arange(half, (Kind::Double, Device::Cpu)) * -0.7).exp());
        [angles.cos(), angles.sin()].map(|t| t.to_kind(Kind::Float))
    }

    /// Two documents, the second from the middle on, in every other sequence.
    fn documents(b: i64, t: i64) -> Tensor {
        let start = |i: i64| if i / t % 2 == 0 && i % t >= t / 2 { t / 2 } else { 0 };
        Tensor::from_slice(&(0..b * t).map(start).collect::<Vec<_>>()).view([b, t])
    }

    /// Every token sees so many, itself included.
    fn window(b: i64, t: i64, width: i64) -> Tensor {
        let start = |i: i64| (i % t - width + 1).max(0);
        Tensor::from_slice(&(0..b * t).map(start).collect::<Vec<_>>()).view([b, t])
    }

    #[test]
    fn the_kernel_is_the_formula_in_every_shape() {
        let shapes = [
            (1, 1, 1, 1, 2),
            (2, 5, 4, 2, 6),
            (1, 49, 3, 1, 16),
            (2, 130, 2, 2, 20),
            (1, 97, 4, 1, 64),
        ];
        for (b, t, query, key_value, width) in shapes {
            let heads = Heads { query, key_value, width };
            let [cos, sin] = table(t, width as i64 / 2);
            let numbers = |name: &str, heads: usize| {
                normal(name, &[b, t, (heads * width) as i64], Kind::Double)
            };
            let separate = [numbers("q", query), numbers("k", key_value), numbers("v", key_value)];
            let packed = [numbers("qkv", query + 2 * key_value)];
            let scale = 1.0 / (width as f64).sqrt();
            let plain = Scores { scale, softcap: None };
            let all =
                [plain, Scores { scale: 0.3, ..plain }, Scores { softcap: Some(0.5), ..plain }];
            for (inputs, scores) in [&separate[..], &packed[..]]
                .into_iter()
                .zip(all.into_iter().cycle())
                .chain([(&packed[..], all[2])])
            {
                for starts in [None, Some(documents(b, t)), Some(window(b, t, 7))] {
                    let name = format!(
                        "{heads:?} {b}×{t} {} {scores:?} {}",
                        inputs.len(),
                        starts.is_some()
                    );
                    let with = |run: fn(
                        &[&Tensor],
                        Heads,
                        Scores,
                        [&Tensor; 2],
                        Option<&Tensor>,
                    ) -> Tensor| {
                        let (cos, sin, starts) = (&cos, &sin, starts.as_ref());
                        move |t: &[Tensor]| {
                            let t: Vec<&Tensor> = t.iter().collect();
                            vec![run(&t, heads, scores, [cos, sin], starts)]
                        }
                    };
                    agrees(&name, inputs, with(attention), with(formula));
                }
            }
        }
    }
}
