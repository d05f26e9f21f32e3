//! A row times its own number: a gate and what it lets through.

use tch::{Kind, Tensor, no_grad};

use super::{ROWS_AT_ONCE, by_kind, has_kernel, rows_and_width};
use crate::autograd::{Gradients, attach};
use crate::element::{Element, Parts, numbers, numbers_mut};
use crate::parallel::parallel_for;
use crate::simd::{dot, dot_with, vectorised};

/// `g ⊙ x`, one `g` a row or one an entry, twice: what is added to the residual stream, and what a loss is of.
///
/// The gradients of both are summed in fp32 and go on from there. One tensor for both would have them
/// summed in its own kind, and in bf16 a loss's gradient may be smaller than half of the last digit of the
/// stream's: it would be lost at every entry, not at random.
///
/// # Shapes
/// `g`: `[…, 1]` or, without a kernel, `[…, d]`; `x`: `[…, d]` of one kind; results: as `x`, in the same memory.
///
/// # Panics
/// If there are not as many rows in both.
pub fn scale_rows(g: &Tensor, x: &Tensor) -> [Tensor; 2] {
    if has_kernel(x) && g.size().last() == Some(&1) {
        assert_eq!(
            g.numel() * x.size().last().map_or(1, |d| *d as usize),
            x.numel(),
            "one g a row"
        );
        by_kind!(x, kernel(g, x))
    } else if x.kind() == Kind::BFloat16 {
        on_device(g, x)
    } else {
        let out = g * x;
        [out.shallow_clone(), out]
    }
}

/// The same in libtorch's operations.
fn on_device(g: &Tensor, x: &Tensor) -> [Tensor; 2] {
    let out = no_grad(|| g * x);
    let again = out.detach();
    let saved = (g.detach(), x.detach());
    attach("scale_rows", &[g, x], &[&out, &again], move |gradients: Gradients| {
        let (g, x) = saved;
        let of_outputs = gradients.outputs.iter().flatten().map(|of| of.to_kind(Kind::Float));
        let Some(of_out) = of_outputs.reduce(|a, b| a + b) else { return vec![None, None] };
        let of_g = gradients.wanted[0].then(|| {
            let of_entries = &of_out * &x;
            let of_g = if g.size() == x.size() {
                of_entries
            } else {
                of_entries.sum_dim_intlist(-1, true, Kind::Float)
            };
            of_g.to_kind(g.kind())
        });
        vec![of_g, Some((of_out * g).to_kind(x.kind()))]
    });
    [out, again]
}

fn kernel<T: Element>(g: &Tensor, x: &Tensor) -> [Tensor; 2] {
    let (g, x) = (g.contiguous(), x.contiguous());
    let (rows, d) = rows_and_width(&x);
    let out = no_grad(|| {
        let mut out = x.empty_like();
        let (g, x) = (numbers::<T>(&g), numbers::<T>(&x));
        scaled(rows, d, g, x, numbers_mut::<T>(&mut out));
        out
    });
    let again = out.detach();
    let saved = (g.detach(), x.detach());
    attach("scale_rows", &[&g, &x], &[&out, &again], move |gradients: Gradients| {
        let (g, x) = saved;
        let of_outputs: Vec<Tensor> =
            gradients.outputs.iter().flatten().map(Tensor::contiguous).collect();
        let of_outputs: Vec<&[T]> = of_outputs.iter().map(numbers::<T>).collect();
        let mut of_x = x.empty_like();
        let mut of_g = gradients.wanted[0].then(|| g.empty_like());
        let (to_x, to_g) = (numbers_mut::<T>(&mut of_x), of_g.as_mut().map(numbers_mut::<T>));
        match of_outputs[..] {
            [] => return vec![None, None],
            [of_out] => {
                scaled(rows, d, numbers::<T>(&g), of_out, to_x);
                if let Some(to_g) = to_g {
                    dots(rows, d, numbers::<T>(&x), of_out, to_g);
                }
            }
            [one, other, ..] => {
                let inputs = [numbers::<T>(&g), numbers::<T>(&x)];
                of_both(rows, d, inputs, [one, other], to_x, to_g);
            }
        }
        vec![of_g, Some(of_x)]
    });
    [out, again]
}

/// `g (a + b)` and `Σ x ⊙ (a + b)` of every row, rounded at the end.
fn of_both<T: Element>(
    rows: usize,
    d: usize,
    [g, x]: [&[T]; 2],
    [a, b]: [&[T]; 2],
    of_x: &mut [T],
    of_g: Option<&mut [T]>,
) {
    let (of_x, of_g) = (Parts::new(of_x), of_g.map(Parts::new));
    parallel_for(rows, ROWS_AT_ONCE, |begin, end| {
        let mut sum = vec![0.0_f32; d];
        for (n, g) in (begin..end).zip(&g[begin..end]) {
            let here = n * d..(n + 1) * d;
            #[expect(unsafe_code, reason = "threads write their own rows")]
            // SAFETY: every row belongs to one range.
            let (of_x, of_g) =
                unsafe { (of_x.get(n * d, d), of_g.as_ref().map(|of_g| of_g.get(n, 1))) };
            add(&a[here.clone()], &b[here.clone()], &mut sum);
            scale_sum(g.to_f32(), &sum, of_x);
            if let Some(of_g) = of_g {
                of_g[0] = T::from_f32(dot_with(&x[here], &sum));
            }
        }
    });
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

    fn add<T>(a: &[T], b: &[T], sum: &mut [f32]) {
        for ((sum, a), b) in sum.iter_mut().zip(a).zip(b) {
            *sum = a.to_f32() + b.to_f32();
        }
    }

    fn scale_sum<T>(g: f32, sum: &[f32], out: &mut [T]) {
        for (out, sum) in out.iter_mut().zip(sum) {
            *out = T::from_f32(g * sum);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{agrees, normal};
    use super::*;

    #[test]
    fn the_kernel_is_the_formula() {
        for shape in [[1, 1, 1], [2, 3, 17], [1, 67, 96]] {
            let gate = [shape[0], shape[1], 1];
            let inputs = [normal("g", &gate, Kind::Double), normal("x", &shape, Kind::Double)];
            let name = format!("{shape:?}");
            let one = |t: &[Tensor]| scale_rows(&t[0], &t[1])[0].shallow_clone();
            agrees(&name, &inputs, |t| vec![one(t)], |t| vec![&t[0] * &t[1]]);
            let twice = |t: &[Tensor]| {
                let product = &t[0] * &t[1];
                vec![product.shallow_clone(), product]
            };
            agrees(&name, &inputs, |t| scale_rows(&t[0], &t[1]).into(), twice);
            let inputs = ["g", "x"].map(|name| normal(name, &shape, Kind::Double));
            agrees(&name, &inputs, |t| scale_rows(&t[0], &t[1]).into(), twice);
        }
    }

    /// The mean of what a gradient of 1/1,024 of another one moves the input's by, over what it should.
    fn pull(width: i64, twice: impl Fn(&Tensor, &Tensor) -> [Tensor; 2]) -> f64 {
        let in_bf16 = |name, shape: &[i64]| normal(name, shape, Kind::BFloat16).detach();
        let (g, x) = (in_bf16("g", &[512, width]).abs(), in_bf16("x", &[512, 64]));
        let large = in_bf16("stream", &[512, 64]);
        let small = large.abs() / 1024.0;
        let gradient = |small: &Tensor| {
            let x = x.detach().set_requires_grad(true);
            let [stream, watched] = twice(&g, &x);
            let loss = (stream * &large).sum(Kind::Float) + (watched * small).sum(Kind::Float);
            loss.backward();
            x.grad().to_kind(Kind::Double)
        };
        let moved = gradient(&small) - gradient(&small.zeros_like());
        let should = (g.to_kind(Kind::Double) * small.to_kind(Kind::Double)).sum(Kind::Double);
        (moved.sum(Kind::Double) / should).double_value(&[])
    }

    #[test]
    fn a_gradient_below_the_last_digit_of_the_other_is_not_lost() {
        for width in [1, 64] {
            for twice in [scale_rows, on_device] {
                let pull = pull(width, twice);
                assert!((pull - 1.0).abs() < 0.1, "{width}: {pull}");
            }
            let pull = pull(width, |g, x| {
                let product = g * x;
                [product.shallow_clone(), product]
            });
            assert!(pull < 0.5, "{width}: one tensor for both has lost nothing: {pull}");
        }
    }
}
