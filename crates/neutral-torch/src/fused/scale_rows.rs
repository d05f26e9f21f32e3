//! A row times its own number: a gate and what it lets through.

use tch::{Tensor, no_grad};

use super::{ROWS_AT_ONCE, by_kind, has_kernel, rows_and_width};
use crate::autograd::{Gradients, attach};
use crate::element::{Element, Parts, numbers, numbers_mut};
use crate::parallel::parallel_for;
use crate::simd::{self, vectorised};

/// `g ⊙ x`, one `g` a row.
///
/// # Shapes
/// `g`: `[…, 1]`, `x`: `[…, d]` of one kind; result: as `x`.
pub fn scale_rows(g: &Tensor, x: &Tensor) -> Tensor {
    if !has_kernel(x) {
        return g * x;
    }
    by_kind!(x, kernel(g, x))
}

fn kernel<T: Element>(g: &Tensor, x: &Tensor) -> Tensor {
    let (g, x) = (g.contiguous(), x.contiguous());
    let (rows, d) = rows_and_width(&x);
    let out = no_grad(|| {
        let mut out = x.empty_like();
        let (g, x) = (numbers::<T>(&g), numbers::<T>(&x));
        scaled(rows, d, g, x, numbers_mut::<T>(&mut out));
        out
    });
    let saved = (g.detach(), x.detach());
    attach("scale_rows", &[&g, &x], &[&out], move |gradients: Gradients| {
        let (g, x) = saved;
        let Some(of_out) = &gradients.outputs[0] else { return vec![None, None] };
        let of_out = of_out.contiguous();
        let mut of_x = x.empty_like();
        scaled(rows, d, numbers::<T>(&g), numbers::<T>(&of_out), numbers_mut::<T>(&mut of_x));
        let of_g = gradients.wanted[0].then(|| {
            let mut of_g = g.empty_like();
            dots(rows, d, numbers::<T>(&x), numbers::<T>(&of_out), numbers_mut::<T>(&mut of_g));
            of_g
        });
        vec![of_g, Some(of_x)]
    });
    out
}

fn scaled<T: Element>(rows: usize, d: usize, g: &[T], x: &[T], out: &mut [T]) {
    let out = Parts::new(out);
    parallel_for(rows, ROWS_AT_ONCE, |begin, end| {
        for n in begin..end {
            #[expect(unsafe_code, reason = "threads write their own rows")]
            // SAFETY: every row belongs to one range.
            let out = unsafe { out.get(n * d, d) };
            scale(g[n].to_f32(), &x[n * d..][..d], out);
        }
    });
}

/// `Σ a ⊙ b` of every row, in fp32, rounded at the end.
fn dots<T: Element>(rows: usize, d: usize, a: &[T], b: &[T], out: &mut [T]) {
    let out = Parts::new(out);
    parallel_for(rows, ROWS_AT_ONCE, |begin, end| {
        for n in begin..end {
            #[expect(unsafe_code, reason = "threads write their own rows")]
            // SAFETY: every row belongs to one range.
            let out = unsafe { out.get(n, 1) };
            out[0] = T::from_f32(dot(&a[n * d..][..d], &b[n * d..][..d]));
        }
    });
}

vectorised! {
    fn scale<T>(g: f32, x: &[T], out: &mut [T]) {
        for (out, x) in out.iter_mut().zip(x) {
            *out = T::from_f32(g * x.to_f32());
        }
    }

    fn dot<T>(a: &[T], b: &[T]) -> f32 {
        simd::dot(a, b)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{agrees, normal};
    use super::*;
    use tch::Kind;

    #[test]
    fn the_kernel_is_the_formula() {
        for shape in [[1, 1, 1], [2, 3, 17], [1, 67, 96]] {
            let gate = [shape[0], shape[1], 1];
            let inputs = [normal("g", &gate, Kind::Double), normal("x", &shape, Kind::Double)];
            let name = format!("{shape:?}");
            agrees(&name, &inputs, |t| vec![scale_rows(&t[0], &t[1])], |t| vec![&t[0] * &t[1]]);
        }
    }
}
