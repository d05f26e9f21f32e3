//! A linear layer without bias, and the delta that an extension may put on it.

use tch::Tensor;

use crate::LinearDelta;

/// `y = x Wᵀ`, computed in the kind of `x`; then the delta, if there is one.
///
/// Weights that train are fp32 whatever the model computes in: the cast is part of the graph, so
/// their gradients are fp32 too.
///
/// # Shapes
/// `x`: `[…, in]`, `weight`: `[out, in]`, result: `[…, out]`.
pub(crate) fn linear(x: &Tensor, weight: &Tensor, delta: Option<&dyn LinearDelta>) -> Tensor {
    let cast = (weight.kind() != x.kind()).then(|| weight.to_kind(x.kind()));
    let weight = cast.as_ref().unwrap_or(weight);
    let y = x.linear(weight, None::<Tensor>);
    match delta {
        Some(delta) => delta.apply(x, weight, y),
        None => y,
    }
}
