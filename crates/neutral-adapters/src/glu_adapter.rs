//! The adapter `A(x)`: a GLU in parallel to a sub-layer (paper, section 3.1).
//!
//! Alone it is the paper's *vanilla adapter*; times a gate it is a neutral residue
//! (see [`crate::NeutralResidue`]).
//!
//! Shape suffixes: b batch, t tokens, d width of the model, h width of the adapter.

use neutral_model::{
    Activation, Before, Branch, BranchOutput, Transformer, TransformerConfig, Units, widened,
};
use neutral_spec::{BranchPlacement, GateActivation, Method};
use neutral_torch::ParamStore;
use neutral_torch::fused::{self, NormRule, join_rows, rms_norm};
use serde_json::Value;
use tch::Tensor;

use crate::start::Weights;
use crate::{AdapterError, adapter_activation};

/// `A(x) = W_o (σ(W_g x) ⊙ (W_i x))`, without biases; σ is that of the base's own GLU, or the method's.
///
/// `W_o = 0` at the start, so `A(x) = 0` there and only `W_o` gets a gradient in the first step.
#[derive(Debug)]
pub struct GluAdapter {
    w_i_hd: Tensor,
    w_g_hd: Tensor,
    w_o_dh: Tensor,
    activation: Activation,
    input_norm: Option<(Tensor, NormRule)>,
}

impl GluAdapter {
    /// An adapter of given weights.
    ///
    /// # Shapes
    /// `w_i`, `w_g`: `[h, d]`; `w_o`: `[d, h]`.
    pub fn new(w_i_hd: Tensor, w_g_hd: Tensor, w_o_dh: Tensor, activation: Activation) -> Self {
        Self { w_i_hd, w_g_hd, w_o_dh, activation, input_norm: None }
    }

    /// The same behind a norm of its own: `A(n ⊙ x / √(mean(x²) + ε))`.
    ///
    /// Why the input and not the output: `x` has passed the block's norm, whose gains may be anything, so that
    /// only an own norm makes `‖x‖² ≈ d`, which the start's variance counts on, and lets the adapter
    /// choose its channels. `W_o = 0` still makes the start exact. A normalised output would have length
    /// 1 as soon as it is not 0, for the local loss to pull at in vain, and a slope of `1/√ε` there;
    /// a norm before `W_o` would undo the low-variance start.
    ///
    /// # Shapes
    /// `n`: `[d]`.
    #[must_use]
    pub fn with_input_norm(self, n_d: Tensor, epsilon: f64) -> Self {
        Self { input_norm: Some((n_d, NormRule { epsilon, unit_offset: false })), ..self }
    }

    /// New weights `{prefix}.w_i`, `.w_g` from `N(0, variance)` and `.w_o = 0`.
    pub(crate) fn start(
        weights: &mut Weights,
        prefix: &str,
        [d, h]: [i64; 2],
        variance: f64,
        activation: Activation,
    ) -> Result<Self, AdapterError> {
        Ok(Self::new(
            weights.normal(&format!("{prefix}.w_i"), &[h, d], variance)?,
            weights.normal(&format!("{prefix}.w_g"), &[h, d], variance)?,
            weights.constant(&format!("{prefix}.w_o"), &[d, h], 0.0)?,
            activation,
        ))
    }

    /// `A(x)`, computed in `x`'s kind; gradients reach the weights in theirs.
    ///
    /// # Shapes
    /// `[B,T,d] → [B,T,d]`.
    ///
    /// # Panics
    /// If `x`'s last dimension is not `d`.
    pub fn output(&self, x_btd: &Tensor) -> Tensor {
        let normed = self.input_norm.as_ref().map(|(n_d, rule)| rms_norm(x_btd, &[], n_d, *rule).1);
        let x_btd = normed.as_ref().unwrap_or(x_btd);
        // One product for both; putting the weights together costs a copy of them.
        let both = join_rows(&[&self.w_g_hd, &self.w_i_hd], x_btd.kind());
        linear(&self.activation.glu_packed(&linear(x_btd, &both)), &self.w_o_dh)
    }
}

impl Branch for GluAdapter {
    fn forward(&self, x_btd: &Tensor, _: &mut Before) -> BranchOutput {
        BranchOutput { output_btd: self.output(x_btd), watched_btd: None, gate: None }
    }
}

/// Whether a method's adapters are units like those of the feed-forward layers that they stand beside: no gate, no norm
/// of their own, and the base's σ.
pub fn merges_adapters(method: &Method, config: &TransformerConfig) -> bool {
    let (placement, plain) = match method {
        Method::Adapter { placement, .. } => (placement, true),
        Method::NeutralResidues { placement, gate, input_norm, .. } => {
            (placement, gate.activation == GateActivation::None && !input_norm)
        }
        _ => return false,
    };
    let same_sigma = adapter_activation(method, config) == config.activation;
    plain && same_sigma && *placement == BranchPlacement::Ffn
}

/// The model with such adapters as further units of its feed-forward layers, and its `config.json`: it computes without
/// the extension what it did with it, but for rounding.
///
/// # Errors
/// If a weight is missing, or one is there that is no such adapter's, as a gate's.
pub fn merge_adapters(
    model: &Transformer,
    adapters: &ParamStore,
    config_json: &Value,
) -> Result<(Transformer, Value), AdapterError> {
    let of_block = |block| {
        let of = |name| adapters.get(&format!("layers.{block}.mlp.adapter.{name}"));
        Ok(Units { gate_hd: of("w_g")?, up_hd: of("w_i")?, down_dh: of("w_o")? })
    };
    let units: Vec<_> =
        (0..model.config().n_layers()).map(of_block).collect::<Result<_, AdapterError>>()?;
    let merged = |name: &str| {
        let of_adapter = name.rsplit_once(".mlp.adapter.").map(|(_, weight)| weight);
        of_adapter.is_some_and(|weight| ["w_i", "w_g", "w_o"].contains(&weight))
    };
    if let Some((name, _)) = adapters.iter().find(|(name, _)| !merged(name)) {
        let target = "a model without extensions";
        return Err(AdapterError::LeftOver { tensor: name.to_owned(), target });
    }
    Ok(widened(model, &units, config_json)?)
}

/// `x Wᵀ` in the kind of `x`; the cast of `W` is differentiable.
pub(crate) fn linear(x: &Tensor, weight: &Tensor) -> Tensor {
    fused::linear(x, &weight.to_kind(x.kind()), None)
}
