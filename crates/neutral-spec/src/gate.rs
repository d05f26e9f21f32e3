//! The gate of neutral residues and its options.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::method::is_false;

/// The gate `g(x)` that multiplies the adapter's output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GateSpec {
    /// Its activation.
    #[serde(default)]
    pub activation: GateActivation,
    /// One gate a token, or one a channel of the residue.
    #[serde(default)]
    pub per: GatePer,
    /// A learnt bias and its start; no bias if absent, as in the paper.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bias: Option<f64>,
    /// All blocks have the same weights of the gate and the same bias, each its own `x`: the original
    /// domain lies in one direction of the residual stream, or it does not. Branches beside attention and
    /// beside the feed-forward layer have one each. Ours, not the paper's.
    #[serde(default, skip_serializing_if = "is_false")]
    pub shared: bool,
    /// The gate reads the mean of `x` over the last so many tokens of its sequence (of its document where attention stays within), the token's own included, in place
    /// of `x`: a domain is a matter of passages, not of tokens. Ours, not the paper's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 2, max = 1_048_576))]
    pub window: Option<usize>,
}

/// The gate's activation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum GateActivation {
    /// `max(0, z)`: exactly zero when off.
    #[default]
    Relu,
    /// `z` if positive, else `eᶻ − 1`: the paper's earlier version.
    Elu,
    /// `1 / (1 + e⁻ᶻ)`.
    Sigmoid,
    /// `min(1, max(0, (ζ − γ) / (1 + e⁻ᶻ) + γ))` with `γ = −0.1` and `ζ = 1.1`: a sigmoid that is stretched
    /// and cut, so that it is exactly 0 from `z = −ln 11` down and exactly 1 from `ln 11` up.
    /// Source: the gate of Louizos, Welling and Kingma, *Learning Sparse Neural Networks through L0
    /// Regularization*, ICLR 2018, as they evaluate it. Deviation: it has no noise in training either.
    #[serde(rename = "hard_sigmoid")]
    HardSigmoid,
    /// No gate: `g = 1`.
    None,
}

impl GateSpec {
    /// Options that are set and that a gate of activation `none` would ignore: the field, its value, and why.
    pub fn ignored(self) -> Vec<(&'static str, String, &'static str)> {
        let Self { activation, per, bias, shared, window } = self;
        if activation != GateActivation::None {
            return Vec::new();
        }
        let bias = bias.map(|bias| ("bias", bias.to_string(), "has no bias"));
        let per =
            (per == GatePer::Channel).then(|| ("per", "channel".to_owned(), "has no channels"));
        let shared = shared.then(|| ("shared", "true".to_owned(), "has nothing to share"));
        let window = window.map(|window| ("window", window.to_string(), "reads nothing"));
        [bias, per, shared, window].into_iter().flatten().collect()
    }
}

impl GateActivation {
    /// `γ` and `ζ` of [`GateActivation::HardSigmoid`]: the interval that the sigmoid is stretched to.
    pub const STRETCH: [f64; 2] = [-0.1, 1.1];
}

/// How fine the gate is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum GatePer {
    /// One number a token: `w ∈ ℝᵈ`.
    #[default]
    Token,
    /// One number a token and channel: `W ∈ ℝᵈˣᵈ`.
    Channel,
}
