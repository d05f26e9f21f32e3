//! Products of rows and weights, in bf16 also where libtorch has none that is fast.
//!
//! On CPUs libtorch leaves products of bf16 to oneDNN, which asks for AVX-512, and takes a plain loop without
//! it, tens of times slower than products of fp32. There both factors are widened, which changes none of their
//! values, multiplied in fp32 and rounded once: what instructions for bf16 do.

use tch::{Device, Kind, Tensor, no_grad};

use super::rows_and_width;
use crate::autograd::{Gradients, attach};
use crate::simd::{Width, width};

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
    if is_widened(x) { widened(x, weight_oi, bias_o) } else { x.linear(weight_oi, bias_o) }
}

/// `y + x Wᵀ`, rounded once: added within the product, which is one pass over the widest tensor less.
///
/// # Shapes
/// As for [`linear`]; `y`: `[…, out]`, as the result.
///
/// # Panics
/// As for [`linear`].
pub fn add_linear(y: &Tensor, x: &Tensor, weight_oi: &Tensor) -> Tensor {
    if is_widened(x) {
        return widened(x, weight_oi, Some(y));
    }
    rows(y).addmm(&rows(x), &weight_oi.tr()).view_as(y)
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
    x.device() == Device::Cpu && x.kind() == Kind::BFloat16 && width() < Width::Avx512
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

/// For the backward pass `x` and the weight are kept as they are, not as their wide copies.
fn widened(x: &Tensor, weight_oi: &Tensor, added: Option<&Tensor>) -> Tensor {
    let kind = x.kind();
    let y = no_grad(|| {
        let product = wide(x).linear(&wide(weight_oi), None::<&Tensor>);
        added.map_or_else(|| product.shallow_clone(), |added| &product + added).to_kind(kind)
    });
    let inputs: Vec<&Tensor> = [x, weight_oi].into_iter().chain(added).collect();
    let (x, weight_oi, size) = (x.detach(), weight_oi.detach(), added.map(Tensor::size));
    attach("linear", &inputs, &[&y], move |gradients: Gradients| {
        let Some(of_y) = &gradients.outputs[0] else {
            return gradients.wanted.iter().map(|_| None).collect();
        };
        let of_y = wide(of_y);
        let of_x = || of_y.matmul(&wide(&weight_oi));
        let of_weight = || rows(&of_y).tr().matmul(&rows(&wide(&x)));
        let of_added = || of_y.sum_to_size(size.as_deref().unwrap_or_default());
        let each: [&dyn Fn() -> Tensor; 3] = [&of_x, &of_weight, &of_added];
        let wanted = gradients.wanted.iter().zip(each);
        wanted.map(|(wanted, of)| wanted.then(|| of().to_kind(kind))).collect()
    });
    y
}

#[cfg(test)]
mod tests {
    use super::super::testing::{agrees, normal};
    use super::*;

    fn inputs(added: &[i64]) -> Vec<Tensor> {
        let tensor = |name: &str, shape: &[i64]| normal(name, shape, Kind::Double);
        vec![tensor("x", &[3, 5, 24]), tensor("weight", &[20, 24]), tensor("added", added)]
    }

    #[test]
    fn linear_layers_agree_with_their_formula_at_every_width() {
        agrees(
            "linear",
            &inputs(&[20]),
            |t| vec![linear(&t[0], &t[1], None), linear(&t[0], &t[1], Some(&t[2]))],
            |t| vec![t[0].matmul(&t[1].tr()), t[0].matmul(&t[1].tr()) + &t[2]],
        );
        agrees(
            "add_linear",
            &inputs(&[3, 5, 20]),
            |t| vec![add_linear(&t[2], &t[0], &t[1])],
            |t| vec![&t[2] + t[0].matmul(&t[1].tr())],
        );
    }

    /// A sum of 4,096 products in bf16 would stop growing at 256; two roundings would be seen in the last bit.
    #[test]
    fn what_is_widened_is_the_exact_result_rounded_once() {
        let ones = Tensor::ones([1, 4096], (Kind::BFloat16, Device::Cpu));
        assert_eq!(widened(&ones, &ones, None).double_value(&[0, 0]), 4096.0);
        for (name, added) in [("bias", vec![20]), ("sum", vec![3, 5, 20])] {
            let inputs = inputs(&added);
            let [x, w, b] = [0, 1, 2].map(|i| inputs[i].detach().to_kind(Kind::BFloat16));
            let [exact_x, exact_w, exact_b] = [&x, &w, &b].map(|t| t.to_kind(Kind::Double));
            // A rounding to fp32 on the way, from fp64, is not to be told from the exact sum.
            let exact = exact_x.linear(&exact_w, None::<&Tensor>) + exact_b;
            let exact = exact.to_kind(Kind::Float).to_kind(Kind::BFloat16);
            assert_eq!(widened(&x, &w, Some(&b)), exact, "{name}");
        }
    }

    #[test]
    fn only_what_is_wanted_has_a_gradient() {
        let inputs = inputs(&[20]);
        let [x, w, b] = [0, 1, 2].map(|i| inputs[i].detach().to_kind(Kind::BFloat16));
        let x = x.set_requires_grad(true);
        widened(&x, &w, Some(&b)).sum(Kind::Float).backward();
        assert!(x.grad().defined() && !w.grad().defined() && !b.grad().defined());
        assert!(!no_grad(|| widened(&x, &w, None)).requires_grad());
    }
}
