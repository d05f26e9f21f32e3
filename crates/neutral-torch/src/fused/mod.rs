//! Functions that a training step is made of, each in one pass over memory, forward and backward.
//!
//! Most have two forms. On a CPU, in fp32 and bf16, a kernel of this crate behind
//! [`attach`](crate::attach); elsewhere, and in fp64, the same formula in libtorch's operations, which
//! also is the reference that the kernel is tested against. Kernels round where the reference
//! rounds: to the tensors' kind after every operation that would have made a tensor. Matrix products are
//! libtorch's everywhere.
//!
//! Tensor names end in their shape: `n` rows, `d` width, `f` feed-forward width, `v` vocabulary.

pub(crate) mod attention;
mod cross_entropy;
mod divergence;
mod join_rows;
mod linear;
mod log_probs;
mod optimizer;
mod rms_norm;
mod row_dot;
mod scale_rows;
mod swiglu;

pub use attention::{
    Heads, KeyValues, PrefixTree, Scores, attention, cached_attention, prefix_attention,
};
pub use cross_entropy::{linear_cross_entropy, linear_token_losses};
pub use divergence::{Predictions, linear_divergence};
pub use join_rows::join_rows;
pub use linear::{add_linear, linear};
pub use log_probs::{TokenScore, linear_log_probs};
pub use optimizer::{AdamWStep, adamw};
pub use rms_norm::{NormRule, rms_norm};
pub use row_dot::row_dot;
pub use scale_rows::scale_rows;
pub use swiglu::{swiglu, swiglu_packed};

use tch::{Device, Kind, Tensor};

/// Rows that a thread takes at once: enough to be worth its while.
const ROWS_AT_ONCE: usize = 16;

/// Rows whose part of a sum over all rows is summed by itself, whatever the number of threads, so
/// that the sum does not depend on it.
const ROWS_A_PARTIAL_SUM: usize = 64;

/// Whether there is a kernel for such tensors.
fn has_kernel(x: &Tensor) -> bool {
    x.device() == Device::Cpu && matches!(x.kind(), Kind::Float | Kind::BFloat16)
}

/// Calls a generic function with the element type of a tensor's kind.
macro_rules! by_kind {
    ($tensor:expr, $function:ident($($argument:expr),* $(,)?)) => {
        if $tensor.kind() == tch::Kind::BFloat16 {
            $function::<crate::element::Bf16>($($argument),*)
        } else {
            $function::<f32>($($argument),*)
        }
    };
}
pub(crate) use by_kind;

/// The last size, and the product of the others.
fn rows_and_width(x: &Tensor) -> (usize, usize) {
    let width = x.size().last().map_or(1, |&d| d as usize);
    (x.numel().checked_div(width).unwrap_or(0), width)
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;
    use crate::RandomStream;
    use crate::simd::at_every_width;

    /// Normal numbers of a kind, tracked.
    pub(crate) fn normal(name: &str, shape: &[i64], kind: Kind) -> Tensor {
        let numbers = RandomStream::new(5, name).normal(shape, 1.0, Device::Cpu);
        numbers.to_kind(kind).detach().set_requires_grad(true)
    }

    /// The outputs of a function, and the gradients of a fixed random projection of them.
    pub(crate) fn run(
        inputs: &[Tensor],
        function: impl Fn(&[Tensor]) -> Vec<Tensor>,
    ) -> Vec<Tensor> {
        let outputs = function(inputs);
        let loss = outputs
            .iter()
            .enumerate()
            .map(|(i, out)| {
                let weight = normal(&format!("projection {i}"), &out.size(), Kind::Double);
                (out.to_kind(Kind::Double) * weight.detach()).sum(Kind::Double)
            })
            .reduce(|a, b| a + b);
        let inputs: Vec<&Tensor> = inputs.iter().filter(|t| t.requires_grad()).collect();
        let gradients = Tensor::run_backward(&[loss.expect("an output")], &inputs, false, false);
        outputs.into_iter().chain(gradients).map(|t| t.detach()).collect()
    }

    /// The same inputs in another kind, leaves again.
    pub(crate) fn in_kind(inputs: &[Tensor], kind: Kind) -> Vec<Tensor> {
        let cast = |t: &Tensor| {
            let tracked = t.requires_grad();
            if !t.is_floating_point() {
                return t.shallow_clone();
            }
            t.detach().to_kind(kind).set_requires_grad(tracked)
        };
        inputs.iter().map(cast).collect()
    }

    /// Largest difference from fp64, relative to the largest number of each tensor.
    pub(crate) fn error(found: &[Tensor], exact: &[Tensor]) -> f64 {
        assert_eq!(found.len(), exact.len());
        let one = |(found, exact): (&Tensor, &Tensor)| {
            assert_eq!(found.size(), exact.size());
            let difference = (found.to_kind(Kind::Double) - exact).abs().max().double_value(&[]);
            // Any comparison with NaN is false, and `f64::max` forgets it.
            assert!(difference.is_finite(), "not every number is finite");
            difference / exact.abs().max().double_value(&[]).max(1e-30)
        };
        found.iter().zip(exact).map(one).fold(0.0, f64::max)
    }

    /// The kernel against its formula in fp64 on the same (rounded) inputs: in fp32 within `1e-5`,
    /// in bf16 within twice the distance of the formula's own bf16 form and a rounding; at every
    /// width of vectors that the processor has.
    pub(crate) fn agrees(
        name: &str,
        inputs: &[Tensor],
        kernel: impl Fn(&[Tensor]) -> Vec<Tensor>,
        formula: impl Fn(&[Tensor]) -> Vec<Tensor>,
    ) {
        for kind in [Kind::Float, Kind::BFloat16] {
            let inputs = in_kind(inputs, kind);
            let exact = run(&in_kind(&inputs, Kind::Double), &formula);
            let theirs = error(&run(&inputs, &formula), &exact);
            let bound = if kind == Kind::Float { 1e-5 } else { 2.0 * theirs + 1.0 / 256.0 };
            at_every_width(|width| {
                let ours = error(&run(&inputs, &kernel), &exact);
                assert!(
                    ours <= bound,
                    "{name} in {kind:?}, {width:?}: {ours:.1e}, the formula {theirs:.1e}"
                );
            });
        }
    }
}
