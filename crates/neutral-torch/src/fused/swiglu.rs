//! The gated half of a GLU: `silu(gate) ⊙ up`.

use tch::{Tensor, no_grad};

use super::{ROWS_AT_ONCE, by_kind, has_kernel, rows_and_width};
use crate::autograd::{Gradients, attach};
use crate::element::{Element, Parts, numbers, numbers_mut};
use crate::parallel::parallel_for;
use crate::simd::{sigmoid, vectorised};

/// `silu(gate) ⊙ up`, with `silu(z) = z / (1 + e⁻ᶻ)` rounded before the product.
///
/// # Shapes
/// Both `[…, f]`; so is the result.
///
/// # Panics
/// If the shapes differ.
pub fn swiglu(gate: &Tensor, up: &Tensor) -> Tensor {
    if !has_kernel(gate) {
        return gate.silu() * up;
    }
    assert_eq!(gate.size(), up.size(), "the kernel does not broadcast");
    by_kind!(gate, separate(gate, up))
}

/// The same of the two halves of one tensor.
///
/// # Shapes
/// `gate_up`: `[…, 2f]`, the gate first; result: `[…, f]`.
///
/// # Panics
/// If the last dimension is odd.
pub fn swiglu_packed(gate_up: &Tensor) -> Tensor {
    if !has_kernel(gate_up) {
        let halves = gate_up.chunk(2, -1);
        return halves[0].silu() * &halves[1];
    }
    assert!(gate_up.size().last().is_some_and(|width| width % 2 == 0), "two halves");
    by_kind!(gate_up, packed(gate_up))
}

fn separate<T: Element>(gate: &Tensor, up: &Tensor) -> Tensor {
    let (gate, up) = (gate.contiguous(), up.contiguous());
    let (rows, f) = rows_and_width(&gate);
    let out = no_grad(|| {
        let mut out = gate.empty_like();
        let (g, u) = (numbers::<T>(&gate), numbers::<T>(&up));
        forward(Layout { rows, f, stride: f }, g, u, numbers_mut::<T>(&mut out));
        out
    });
    let saved = (gate.detach(), up.detach());
    attach("swiglu", &[&gate, &up], &[&out], move |gradients: Gradients| {
        let (gate, up) = saved;
        let Some(of_out) = &gradients.outputs[0] else { return vec![None, None] };
        let of_out = of_out.contiguous();
        let (mut of_gate, mut of_up) = (gate.empty_like(), up.empty_like());
        backward(
            Layout { rows, f, stride: f },
            [numbers::<T>(&gate), numbers::<T>(&up), numbers::<T>(&of_out)],
            Parts::new(numbers_mut::<T>(&mut of_gate)),
            Parts::new(numbers_mut::<T>(&mut of_up)),
            0,
        );
        vec![Some(of_gate), Some(of_up)]
    });
    out
}

fn packed<T: Element>(gate_up: &Tensor) -> Tensor {
    let gate_up = gate_up.contiguous();
    let (rows, width) = rows_and_width(&gate_up);
    let f = width / 2;
    let layout = Layout { rows, f, stride: width };
    let out = no_grad(|| {
        let mut size = gate_up.size();
        if let Some(last) = size.last_mut() {
            *last = f as i64;
        }
        let mut out = gate_up.new_empty(&size, (gate_up.kind(), gate_up.device()));
        let all = numbers::<T>(&gate_up);
        forward(layout, all, second_half(all, f), numbers_mut::<T>(&mut out));
        out
    });
    let saved = gate_up.detach();
    attach("swiglu_packed", &[&gate_up], &[&out], move |gradients: Gradients| {
        let Some(of_out) = &gradients.outputs[0] else { return vec![None] };
        let of_out = of_out.contiguous();
        let mut of_both = saved.empty_like();
        let all = numbers::<T>(&saved);
        let parts = Parts::new(numbers_mut::<T>(&mut of_both));
        backward(layout, [all, second_half(all, f), numbers::<T>(&of_out)], parts, parts, f);
        vec![Some(of_both)]
    });
    out
}

/// From the first row's second half on; nothing without rows.
fn second_half<T>(all: &[T], f: usize) -> &[T] {
    all.get(f..).unwrap_or_default()
}

/// Rows of `f` numbers, one every `stride`.
#[derive(Clone, Copy)]
struct Layout {
    rows: usize,
    f: usize,
    stride: usize,
}

fn forward<T: Element>(layout: Layout, gate: &[T], up: &[T], out: &mut [T]) {
    let Layout { rows, f, stride } = layout;
    let out = Parts::new(out);
    parallel_for(rows, ROWS_AT_ONCE, |begin, end| {
        for n in begin..end {
            #[expect(unsafe_code, reason = "threads write their own rows")]
            // SAFETY: every row belongs to one range.
            let out = unsafe { out.get(n * f, f) };
            forward_row(&gate[n * stride..][..f], &up[n * stride..][..f], out);
        }
    });
}

/// Gradients of both; those of `up` begin at `up_at`.
fn backward<T: Element>(
    layout: Layout,
    [gate, up, of_out]: [&[T]; 3],
    of_gate: Parts<T>,
    of_up: Parts<T>,
    up_at: usize,
) {
    let Layout { rows, f, stride } = layout;
    parallel_for(rows, ROWS_AT_ONCE, |begin, end| {
        for n in begin..end {
            #[expect(unsafe_code, reason = "threads write their own rows")]
            // SAFETY: every row belongs to one range, and gate and up do not overlap.
            let (of_gate, of_up) =
                unsafe { (of_gate.get(n * stride, f), of_up.get(n * stride + up_at, f)) };
            let (gate, up) = (&gate[n * stride..][..f], &up[n * stride..][..f]);
            backward_row(gate, up, &of_out[n * f..][..f], of_gate, of_up);
        }
    });
}

vectorised! {
    fn forward_row<T>(gate: &[T], up: &[T], out: &mut [T]) {
        for ((out, gate), up) in out.iter_mut().zip(gate).zip(up) {
            let z = gate.to_f32();
            let silu = T::from_f32(z * sigmoid(z));
            *out = T::from_f32(silu.to_f32() * up.to_f32());
        }
    }

    /// `∂up = ∂ ⊙ silu(z)`, `∂gate = ∂ ⊙ up ⊙ σ(z)(1 + z(1 − σ(z)))`.
    fn backward_row<T>(gate: &[T], up: &[T], of_out: &[T], of_gate: &mut [T], of_up: &mut [T]) {
        let inputs = gate.iter().zip(up).zip(of_out);
        for (((z, up), g), (of_gate, of_up)) in inputs.zip(of_gate.iter_mut().zip(of_up)) {
            let (z, g) = (z.to_f32(), g.to_f32());
            let s = sigmoid(z);
            *of_up = T::from_f32(g * z * s);
            *of_gate = T::from_f32(g * up.to_f32() * s * (1.0 + z * (1.0 - s)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{agrees, normal};
    use super::*;
    use tch::Kind;

    #[test]
    fn the_kernel_is_the_formula() {
        for shape in [[1, 1, 2], [2, 3, 34], [1, 67, 96]] {
            let both = [normal("both", &shape, Kind::Double)];
            agrees(
                &format!("packed {shape:?}"),
                &both,
                |t| vec![swiglu_packed(&t[0])],
                |t| {
                    let halves = t[0].chunk(2, -1);
                    vec![halves[0].silu() * &halves[1]]
                },
            );
            let two = [normal("gate", &shape, Kind::Double), normal("up", &shape, Kind::Double)];
            agrees(
                &format!("separate {shape:?}"),
                &two,
                |t| vec![swiglu(&t[0], &t[1])],
                |t| vec![t[0].silu() * &t[1]],
            );
        }
    }
}
