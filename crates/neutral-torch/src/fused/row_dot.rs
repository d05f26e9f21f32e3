//! One number a row: the logit of a gate.

use tch::{Kind, Tensor, no_grad};

use super::{ROWS_A_PARTIAL_SUM, ROWS_AT_ONCE, by_kind, has_kernel, rows_and_width};
use crate::autograd::{Gradients, attach};
use crate::element::{Element, Parts, numbers, numbers_mut};
use crate::parallel::parallel_for;
use crate::precision::sum_kind;
use crate::simd::{dot_with, vectorised};

/// `w · x` for every row, summed in fp32 whatever the kinds of `x` and `w`.
///
/// # Shapes
/// `x`: `[…, d]`, `weight_d`: `[d]`; result: `[…, 1]`, fp32 (fp64 if `x` is).
///
/// # Panics
/// If the widths differ.
pub fn row_dot(x: &Tensor, weight_d: &Tensor) -> Tensor {
    assert_eq!(x.size().last(), weight_d.size().last(), "a weight for each of a row's numbers");
    if has_kernel(x) { by_kind!(x, kernel(x, weight_d)) } else { formula(x, weight_d) }
}

/// For the backward pass `x` is kept as it is, not as the wider copy that is summed.
fn formula(x: &Tensor, weight_d: &Tensor) -> Tensor {
    let kind = sum_kind(x.kind());
    let row = move |weight_d: &Tensor| weight_d.to_kind(kind).unsqueeze(0);
    let out = no_grad(|| x.to_kind(kind).linear(&row(weight_d), None::<&Tensor>));
    let (x_kept, weight_kept) = (x.detach(), weight_d.detach());
    attach("row_dot", &[x, weight_d], &[&out], move |gradients: Gradients| {
        let Some(of_out) = &gradients.outputs[0] else { return vec![None, None] };
        let of_x = gradients.wanted[0].then(|| (of_out * row(&weight_kept)).to_kind(x_kept.kind()));
        let of_weight = gradients.wanted[1].then(|| {
            let rows = x_kept.to_kind(kind).reshape([-1, weight_kept.size()[0]]);
            let of_weight = of_out.reshape([1, -1]).matmul(&rows).squeeze_dim(0);
            of_weight.to_kind(weight_kept.kind())
        });
        vec![of_x, of_weight]
    });
    out
}

fn kernel<T: Element>(x: &Tensor, weight_d: &Tensor) -> Tensor {
    let x = x.contiguous();
    let (rows, d) = rows_and_width(&x);
    let (out, wide) = no_grad(|| {
        let mut size = x.size();
        if let Some(last) = size.last_mut() {
            *last = 1;
        }
        let wide = weight_d.to_kind(Kind::Float).contiguous();
        let mut out = Tensor::empty(size.as_slice(), (Kind::Float, x.device()));
        let (x, w) = (numbers::<T>(&x), numbers::<f32>(&wide));
        let dots = Parts::new(numbers_mut::<f32>(&mut out));
        parallel_for(rows, ROWS_AT_ONCE, |begin, end| {
            for n in begin..end {
                #[expect(unsafe_code, reason = "threads write their own rows")]
                // SAFETY: every row belongs to one range.
                let out = unsafe { dots.get(n, 1) };
                out[0] = dot_with(&x[n * d..][..d], w);
            }
        });
        (out, wide)
    });
    let kind = weight_d.kind();
    let saved = x.detach();
    attach("row_dot", &[&x, weight_d], &[&out], move |gradients: Gradients| {
        let Some(of_out) = &gradients.outputs[0] else { return vec![None, None] };
        let of_out = of_out.contiguous();
        let of_x = gradients.wanted[0].then(|| {
            let mut of_x = saved.empty_like();
            products::<T>(numbers(&of_out), numbers(&wide), numbers_mut(&mut of_x));
            of_x
        });
        let of_weight =
            gradients.wanted[1].then(|| weighted_sum::<T>(&saved, numbers(&of_out)).to_kind(kind));
        vec![of_x, of_weight]
    });
    out
}

/// `g ⊗ w`.
fn products<T: Element>(g: &[f32], w: &[f32], out: &mut [T]) {
    let out = Parts::new(out);
    parallel_for(g.len(), ROWS_AT_ONCE, |begin, end| {
        for (n, &g) in (begin..end).zip(&g[begin..end]) {
            #[expect(unsafe_code, reason = "threads write their own rows")]
            // SAFETY: every row belongs to one range.
            let out = unsafe { out.get(n * w.len(), w.len()) };
            scale(g, w, out);
        }
    });
}

/// `Σₙ gₙ xₙ`, in blocks of rows whatever the number of threads.
fn weighted_sum<T: Element>(x: &Tensor, g: &[f32]) -> Tensor {
    let (rows, d) = rows_and_width(x);
    let blocks = rows.div_ceil(ROWS_A_PARTIAL_SUM);
    let mut partial = Tensor::zeros([blocks as i64, d as i64], (Kind::Float, x.device()));
    let x = numbers::<T>(x);
    let sums = Parts::new(numbers_mut::<f32>(&mut partial));
    parallel_for(blocks, 1, |begin, end| {
        for block in begin..end {
            #[expect(unsafe_code, reason = "threads write their own blocks")]
            // SAFETY: every block belongs to one range.
            let sum = unsafe { sums.get(block * d, d) };
            let first = block * ROWS_A_PARTIAL_SUM;
            for n in first..(first + ROWS_A_PARTIAL_SUM).min(rows) {
                add_scaled(g[n], &x[n * d..][..d], sum);
            }
        }
    });
    partial.sum_dim_intlist([0_i64].as_slice(), false, Kind::Float)
}

vectorised! {
    fn scale<T>(g: f32, w: &[f32], out: &mut [T]) {
        out.iter_mut().zip(w).for_each(|(out, w)| *out = T::from_f32(g * w));
    }

    fn add_scaled<T>(g: f32, x: &[T], sum: &mut [f32]) {
        sum.iter_mut().zip(x).for_each(|(sum, x)| *sum += g * x.to_f32());
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{agrees, normal};
    use super::*;

    #[test]
    fn the_kernel_is_the_formula() {
        for shape in [[1, 1, 1], [2, 3, 17], [1, 200, 96]] {
            let inputs =
                [normal("x", &shape, Kind::Double), normal("w", &shape[2..], Kind::Double)];
            let formula =
                |t: &[Tensor]| vec![(&t[0] * &t[1]).sum_dim_intlist(-1, true, t[0].kind())];
            agrees(&format!("{shape:?}"), &inputs, |t| vec![row_dot(&t[0], &t[1])], formula);
        }
    }
}
