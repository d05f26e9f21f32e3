//! The rotations' frequencies: plain, or Llama 3's.
//!
//! Llama 3.1 and later slow the low frequencies down. Hugging Face says so by four numbers, a GGUF
//! file by the divisor of every frequency, in the tensor `rope_freqs.weight`. Three of the numbers
//! are the same in all those models and the fourth is the last divisor; whether they give all the
//! divisors is checked.

use std::f32::consts::PI;

use serde::Serialize;

use crate::dequantize::dequantize;
use crate::error::GgufError;
use crate::gguf::Gguf;
use crate::source::Source;
use crate::tensor::TensorType;

/// The tensor of divisors, `[head_dim / 2]`.
pub(crate) const FREQUENCIES: &str = "rope_freqs.weight";

/// Values of transformers' `rope_type`, with their parameters.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "rope_type", rename_all = "lowercase")]
pub(crate) enum Rope {
    /// Frequency `i` is `theta^(-2i / head_dim)`.
    Default,
    /// Wavelengths up to `original / high` stay, those from `original / low` on are multiplied by
    /// `factor`, and between the two it goes smoothly.
    Llama3 {
        factor: f32,
        low_freq_factor: f32,
        high_freq_factor: f32,
        original_max_position_embeddings: usize,
    },
}

impl Rope {
    pub(crate) fn is_default(&self) -> bool {
        *self == Self::Default
    }
}

/// Reads how frequencies are scaled.
pub(crate) fn scaling<S: Source>(
    gguf: &Gguf<S>,
    theta: f32,
    head_dim: usize,
) -> Result<Rope, GgufError> {
    let key = "llama.rope.scaling.type";
    match gguf.get_string(key)? {
        None | Some("none" | "") => {}
        Some(other) => {
            let found = format!("is {other:?}; only \"none\" and Llama 3's tensor are converted");
            return Err(gguf.unsupported(key, found));
        }
    }
    let key = "llama.rope.scaling.factor";
    if let Some(factor) = gguf.get_f32(key)?
        && factor != 1.0
        && factor != 0.0
    {
        return Err(gguf.unsupported(key, format!("is {factor} without a type; it would be 1")));
    }
    let Some(tensor) = gguf.tensors().get(FREQUENCIES) else { return Ok(Rope::Default) };
    if tensor.tensor_type != TensorType::F32 || tensor.shape != [head_dim as u64 / 2] {
        let (found, shape) = (tensor.tensor_type, &tensor.shape);
        let right = head_dim / 2;
        return Err(gguf.unsupported(
            FREQUENCIES,
            format!("is {found} of shape {shape:?}; it would be F32 of shape [{right}]"),
        ));
    }
    // The shape is as large as the file has bytes for; the file was checked to have them.
    let mut bytes = vec![0; head_dim / 2 * 4];
    gguf.read_exact_at(&mut bytes, tensor.offset)?;
    let mut divisors = Vec::with_capacity(head_dim / 2);
    dequantize(TensorType::F32, &bytes, &mut divisors);

    let factor = divisors.last().copied().unwrap_or(1.0);
    let original = gguf.get_size("llama.rope.scaling.original_context_length")?.unwrap_or(8192);
    let (low, high) = (1.0, 4.0);
    let expected = |i: usize| {
        let wavelength = 2.0 * PI * theta.powf((2 * i) as f32 / head_dim as f32);
        let turns = original as f32 / wavelength;
        let smooth = ((turns - low) / (high - low)).clamp(0.0, 1.0);
        1.0 / ((1.0 - smooth) / factor + smooth)
    };
    // Both sides are computed in f32, with powers and quotients that round differently.
    let near = |(i, found): (usize, &f32)| (expected(i) - found).abs() <= 1e-4 * found.abs();
    if !(factor.is_finite() && factor >= 1.0 && divisors.iter().enumerate().all(near)) {
        let found = format!(
            "does not hold Llama 3's divisors for a factor of {factor}, {low} and {high} as low and \
             high factors, and {original} original positions; no other scaling is converted"
        );
        return Err(gguf.unsupported(FREQUENCIES, found));
    }
    if divisors.iter().all(|d| *d == 1.0) {
        return Ok(Rope::Default);
    }
    Ok(Rope::Llama3 {
        factor,
        low_freq_factor: low,
        high_freq_factor: high,
        original_max_position_embeddings: original,
    })
}
