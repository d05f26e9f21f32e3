//! Products of rows and weights, in bf16 also where libtorch has none that is fast.
//!
//! On CPUs libtorch leaves products of bf16 to oneDNN, which asks for AVX-512 or AVX-NE-CONVERT, and takes a plain
//! loop without, tens of times slower than products of fp32. There both factors are widened, which changes none of
//! their values, multiplied in fp32 and rounded once: what instructions for bf16 do.

use tch::{Device, Kind, Tensor, no_grad};

use super::rows_and_width;
use crate::autograd::{Gradients, attach};
use crate::simd::has_fast_bf16;

/// Rows from which on widening is faster, at widths from 256 to 8,192 on a Zen 3.
const ROWS_WIDENED: usize = 8;

/// `x Wᵀ`, and `b` if there is one, rounded once.
///
/// # Shapes
/// `x`: `[…, in]`, `weight_oi`: `[out, in]`, `bias_o`: `[out]`, all of one kind; result: `[…, out]`.
///
/// # Panics
/// If shapes or kinds differ.
pub fn linear(x: &Tensor, weight_oi: &Tensor, bias_o: Option<&Tensor>) -> Tensor {
    if !is_widened(x) {
        return x.linear(weight_oi, bias_o);
    }
    widened(x, weight_oi, bias_o, || wide(x).linear(&wide(weight_oi), bias_o.map(wide)))
}

/// `y + x Wᵀ`, rounded once: added within the product, which is one pass over the widest tensor less.
///
/// # Shapes
/// As for [`linear`]; `y`: `[…, out]`, as the result.
///
/// # Panics
/// As for [`linear`].
pub fn add_linear(y: &Tensor, x: &Tensor, weight_oi: &Tensor) -> Tensor {
    if !is_widened(x) {
        return rows(y).addmm(&rows(x), &weight_oi.tr()).view_as(y);
    }
    let sum = || rows(&wide(y)).addmm(&rows(&wide(x)), &wide(weight_oi).tr()).view_as(y);
    widened(x, weight_oi, Some(y), sum)
}

/// `a b`.
///
/// # Shapes
/// `[n, k]`, `[k, m]`, of one kind; result: `[n, m]`.
pub(super) fn product(a_nk: &Tensor, b_km: &Tensor) -> Tensor {
    if is_widened(a_nk) {
        return wide(a_nk).matmul(&wide(b_km)).to_kind(a_nk.kind());
    }
    a_nk.matmul(b_km)
}

/// Whether libtorch multiplies such tensors in a plain loop.
pub(super) fn has_slow_products(x: &Tensor) -> bool {
    x.device() == Device::Cpu && x.kind() == Kind::BFloat16 && !has_fast_bf16()
}

/// Fewer rows are sooner multiplied in that loop than the weight is widened.
fn is_widened(x: &Tensor) -> bool {
    has_slow_products(x) && rows_and_width(x).0 >= ROWS_WIDENED
}

fn wide(x: &Tensor) -> Tensor {
    x.to_kind(Kind::Float)
}

fn rows(x: &Tensor) -> Tensor {
    x.reshape([-1, x.size().last().copied().unwrap_or(1)])
}

/// What `sum` gives in fp32, rounded, with its backward pass. For that the factors are kept as they are, not as their
/// wide copies, and only where a gradient needs them.
fn widened(
    x: &Tensor,
    weight_oi: &Tensor,
    added: Option<&Tensor>,
    sum: impl FnOnce() -> Tensor,
) -> Tensor {
    let kind = x.kind();
    let inputs: Vec<&Tensor> = [x, weight_oi].into_iter().chain(added).collect();
    assert!(
        inputs.iter().all(|input| input.kind() == kind),
        "factors and what is added are of one kind"
    );
    let y = no_grad(|| sum().to_kind(kind));
    let kept_x = weight_oi.requires_grad().then(|| x.detach());
    let kept_weight = x.requires_grad().then(|| weight_oi.detach());
    let added_size = added.map(Tensor::size);
    attach("linear", &inputs, &[&y], move |gradients: Gradients| {
        let wanted = gradients.wanted;
        let Some(of_y) = &gradients.outputs[0] else {
            return wanted.iter().map(|_| None).collect();
        };
        let of_y = wide(of_y);
        let weight_oi = kept_weight.filter(|_| wanted[0]);
        let of_x = weight_oi.map(|weight_oi| of_y.matmul(&wide(&weight_oi)));
        let x = kept_x.filter(|_| wanted[1]);
        let of_weight = x.map(|x| rows(&of_y).tr().matmul(&rows(&wide(&x))));
        let of_added = added_size.map(|size| wanted[2].then(|| of_y.sum_to_size(size)));
        let each = [of_x, of_weight].into_iter().chain(of_added);
        each.map(|gradient| gradient.map(|gradient| gradient.to_kind(kind))).collect()
    });
    y
}

#[cfg(test)]
mod tests {
    use super::super::testing::{agrees, normal, run};
    use super::*;
    use crate::simd::{Width, at_every_width};

    /// `x`, the weight as a transposed view, what is added; `x` in rows that are not contiguous.
    fn inputs(added: &[i64]) -> Vec<Tensor> {
        let tensor = |name: &str, shape: &[i64]| normal(name, shape, Kind::Double);
        vec![tensor("x", &[5, 3, 24]), tensor("weight", &[24, 20]), tensor("added", added)]
    }

    fn parts(inputs: &[Tensor]) -> [Tensor; 3] {
        [inputs[0].transpose(0, 1), inputs[1].tr(), inputs[2].shallow_clone()]
    }

    fn both(inputs: &[Tensor]) -> Vec<Tensor> {
        let [x, weight, bias] = parts(inputs);
        vec![linear(&x, &weight, None), linear(&x, &weight, Some(&bias))]
    }

    fn sum(inputs: &[Tensor]) -> Vec<Tensor> {
        let [x, weight, y] = parts(inputs);
        vec![add_linear(&y, &x, &weight)]
    }

    const SIZES: [&[i64]; 2] = [&[20], &[3, 5, 20]];

    #[test]
    fn linear_layers_agree_with_their_formula_at_every_width() {
        let formula = |inputs: &[Tensor]| {
            let [x, weight, added] = parts(inputs);
            let y = x.matmul(&weight.tr());
            vec![y.shallow_clone(), y + added]
        };
        agrees("linear", &inputs(SIZES[0]), both, formula);
        agrees("add_linear", &inputs(SIZES[1]), sum, |t| formula(t).split_off(1));
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn bf16_is_widened_where_the_vectors_have_less_than_512_bits_and_the_rows_are_many() {
        let rows = |n, kind| Tensor::zeros([n, 4], (kind, Device::Cpu));
        at_every_width(|at| {
            let slow = at < Width::Avx512 && !is_x86_feature_detected!("avxneconvert");
            assert_eq!(is_widened(&rows(8, Kind::BFloat16)), slow, "{at:?}");
            assert!(!is_widened(&rows(7, Kind::BFloat16)) && !is_widened(&rows(8, Kind::Float)));
        });
    }

    /// Sums of whole numbers have no rounding in fp32, in whichever order; a second rounding would be seen in the last
    /// bit of bf16, which they fill.
    #[test]
    fn what_is_widened_is_the_exact_result_rounded_once() {
        let whole = |name: &str, shape: &[i64]| {
            (normal(name, shape, Kind::Float).detach() * 40.0).round().to_kind(Kind::BFloat16)
        };
        let [x, weight] = [whole("x", &[9, 24]), whole("weight", &[20, 24])];
        let exact = |added: &Tensor| {
            let [x, weight, added] = [&x, &weight, added].map(|t| t.to_kind(Kind::Double));
            (x.linear(&weight, None::<&Tensor>) + added).to_kind(Kind::BFloat16)
        };
        let [bias, y] = [whole("bias", &[20]), whole("y", &[9, 20])];
        at_every_width(|at| {
            if is_widened(&x) {
                assert_eq!(linear(&x, &weight, Some(&bias)), exact(&bias), "{at:?}");
                assert_eq!(add_linear(&y, &x, &weight), exact(&y), "{at:?}");
                assert_eq!(product(&x, &weight.tr()), exact(&y.zeros_like()), "{at:?}");
            }
        });
    }

    /// What is kept for one gradient must not be what another needs.
    #[test]
    fn each_gradient_by_itself_is_the_one_beside_the_others() {
        for (function, size) in [(both as fn(&[Tensor]) -> Vec<Tensor>, SIZES[0]), (sum, SIZES[1])]
        {
            let tracked = |alone: Option<usize>| -> Vec<Tensor> {
                let each = inputs(size).into_iter().enumerate();
                each.map(|(i, t)| {
                    let tracked = alone.is_none_or(|alone| alone == i);
                    t.detach().to_kind(Kind::BFloat16).set_requires_grad(tracked)
                })
                .collect()
            };
            at_every_width(|at| {
                if at >= Width::Avx512 {
                    return; // libtorch's own
                }
                let all = run(&tracked(None), function);
                let gradients = &all[all.len() - 3..];
                for (i, expected) in gradients.iter().enumerate() {
                    let found = run(&tracked(Some(i)), function).pop().expect("a gradient");
                    assert_eq!(&found, expected, "of input {i}, {at:?}");
                }
            });
        }
    }

    #[test]
    #[should_panic(expected = "of one kind")]
    fn kinds_that_differ_are_refused() {
        let rows = |kind| Tensor::zeros([8, 4], (kind, Device::Cpu));
        let [x, weight] = [rows(Kind::BFloat16), rows(Kind::Float)];
        let _ = widened(&x, &weight, None, || unreachable!());
    }
}
