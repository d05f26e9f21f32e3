//! RMSNorm, as Llama has it.

use tch::{Kind, Tensor};

/// `x / √(mean(x²) + ε) ⊙ w` over the last dimension: normalised in fp32, rounded to the kind of
/// `x`, then scaled.
///
/// # Shapes
/// `x`: `[…, d]`, `weight`: `[d]`, result: as `x`.
///
/// Source: `LlamaRMSNorm` of Hugging Face transformers.
pub(crate) fn rms_norm(x: &Tensor, weight: &Tensor, epsilon: f64) -> Tensor {
    let kind = x.kind();
    if kind == Kind::Float && weight.kind() == Kind::Float {
        return x.rms_norm(weight.size(), Some(weight), epsilon);
    }
    let normalised = x.to_kind(Kind::Float).rms_norm(weight.size(), None::<Tensor>, epsilon);
    normalised.to_kind(kind) * weight.to_kind(kind)
}
