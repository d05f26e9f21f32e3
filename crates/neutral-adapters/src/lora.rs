//! LoRA: a low-rank product beside a linear layer, the paper's second competitor.
//!
//! Source: Hu et al., *LoRA: Low-Rank Adaptation of Large Language Models*, 2021, with the start that
//! PEFT has: `A` Kaiming uniform (`a = √5`), `B` zero. No dropout, no rank-stabilised scale, no `DoRA`.
//!
//! Shape suffixes: i input width, o output width, r rank.

use neutral_model::LinearDelta;
use tch::Tensor;

use crate::AdapterError;
use crate::glu_adapter::linear;
use crate::start::NewWeights;

/// `y = W x + s · B A x`, with `s = lora_alpha / r`.
///
/// `B = 0` at the start, so `y = W x` there and only `B` gets a gradient in the first step.
#[derive(Debug)]
pub struct LoraDelta {
    a_ri: Tensor,
    b_or: Tensor,
    scale: f64,
}

impl LoraDelta {
    /// A delta of given weights and scale `s`.
    ///
    /// # Shapes
    /// `a`: `[r, in]`; `b`: `[out, r]`.
    pub fn new(a_ri: Tensor, b_or: Tensor, scale: f64) -> Self {
        Self { a_ri, b_or, scale }
    }

    /// New weights `{prefix}.lora_a` and `{prefix}.lora_b = 0`; without `lora_alpha`, `s = 1`.
    pub(crate) fn start(
        weights: &mut NewWeights,
        prefix: &str,
        (input, output): (usize, usize),
        rank: usize,
        lora_alpha: Option<f64>,
    ) -> Result<Self, AdapterError> {
        let r = rank as i64;
        Ok(Self::new(
            weights.kaiming_uniform(&format!("{prefix}.lora_a"), [r, input as i64])?,
            weights.constant(&format!("{prefix}.lora_b"), &[output as i64, r], 0.0)?,
            lora_alpha.map_or(1.0, |alpha| alpha / rank as f64),
        ))
    }
}

impl LinearDelta for LoraDelta {
    /// # Shapes
    /// `x`: `[…, in]`; `y = x Wᵀ` and the result: `[…, out]`.
    fn apply(&self, x: &Tensor, _weight: &Tensor, y: Tensor) -> Tensor {
        // Scaled where it is narrowest.
        let low_rank = linear(x, &self.a_ri) * self.scale;
        // Added within the product: one pass over the widest tensor less, and one rounding.
        let rows = |x: &Tensor| x.reshape([-1, x.size().last().copied().unwrap_or(1)]);
        let b_ro = self.b_or.to_kind(x.kind()).tr();
        rows(&y).addmm(&rows(&low_rank), &b_ro).view_as(&y)
    }
}
