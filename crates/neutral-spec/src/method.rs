//! The methods and their options: what is trained, and what keeps it from forgetting.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::budget::Budget;

/// One way of extending a model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Method {
    /// Every weight of the base is trained; nothing is added.
    Finetune {},
    /// Low-rank products beside linear layers: `y = W x + (lora_alpha / r) · B A x`.
    Lora {
        /// Extra weights; solved into one rank for all targets.
        budget: Budget,
        /// Scale before division by the rank; equal to the rank if absent, so that the scale is 1.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schemars(extend("exclusiveMinimum" = 0))]
        lora_alpha: Option<f64>,
        /// The layers that get one; all seven by default.
        #[serde(default = "LinearSite::all")]
        #[schemars(length(min = 1), extend("uniqueItems" = true))]
        targets: Vec<LinearSite>,
    },
    /// A GLU in parallel to every feed-forward layer: `FFN(x) + W_o(σ(W_g x) ⊙ (W_i x))`.
    Adapter {
        /// Extra weights; solved into one width for all blocks.
        budget: Budget,
        /// What it is parallel to.
        #[serde(default)]
        placement: Placement,
        /// How `W_i` and `W_g` are drawn.
        #[serde(default = "Start::he")]
        start: Start,
    },
    /// The same with a block gate, a local loss and a low-variance start.
    NeutralResidues {
        /// Extra weights, the gate's included; solved into one width for all blocks.
        budget: Budget,
        /// What opens and closes the residue.
        #[serde(default)]
        gate: GateSpec,
        /// What pulls the residue to zero on the original domain.
        #[serde(default)]
        local_loss: LocalLossSpec,
        /// What it is parallel to.
        #[serde(default)]
        placement: Placement,
        /// How `W_i`, `W_g` and the gate's weights are drawn.
        #[serde(default = "Start::low_variance")]
        start: Start,
    },
}

impl Method {
    /// The name of the kind, as written in YAML.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Finetune {} => "finetune",
            Self::Lora { .. } => "lora",
            Self::Adapter { .. } => "adapter",
            Self::NeutralResidues { .. } => "neutral_residues",
        }
    }
}

/// A linear layer of a block.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum LinearSite {
    /// Queries.
    QProj,
    /// Keys.
    KProj,
    /// Values.
    VProj,
    /// Attention's output.
    OProj,
    /// The GLU's gated half.
    GateProj,
    /// The GLU's linear half.
    UpProj,
    /// The feed-forward layer's output.
    DownProj,
}

impl LinearSite {
    /// All seven, in the order of a block.
    pub const ALL: [Self; 7] = [
        Self::QProj,
        Self::KProj,
        Self::VProj,
        Self::OProj,
        Self::GateProj,
        Self::UpProj,
        Self::DownProj,
    ];

    fn all() -> Vec<Self> {
        Self::ALL.to_vec()
    }

    /// The name within a block, as Hugging Face's Llama has it: `q_proj`.
    pub fn name(self) -> &'static str {
        match self {
            Self::QProj => "q_proj",
            Self::KProj => "k_proj",
            Self::VProj => "v_proj",
            Self::OProj => "o_proj",
            Self::GateProj => "gate_proj",
            Self::UpProj => "up_proj",
            Self::DownProj => "down_proj",
        }
    }
}

/// The sub-layer that a branch is parallel to; it reads the same normalised input.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Placement {
    /// The feed-forward layer, as in the paper.
    #[default]
    Ffn,
    /// The attention layer.
    Attention,
}

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
    /// No gate: `g = 1`.
    None,
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

/// The loss added to the language model's: `ℓ = ℓ_LM + weight · ℓ_local`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum LocalLossSpec {
    /// `‖g(x)·A(x)‖₁ / d`, mean over blocks and over tokens of the original domain.
    L1 {
        /// The paper's α.
        #[serde(default = "default_local_loss_weight")]
        #[schemars(extend("exclusiveMinimum" = 0))]
        weight: f64,
    },
    /// Cross-entropy of the gate as a classifier: original domain 0, new domain 1; mean over blocks
    /// and over all tokens. Needs a sigmoid gate, one a token.
    DomainClassifier {
        /// The paper's α.
        #[serde(default = "default_local_loss_weight")]
        #[schemars(extend("exclusiveMinimum" = 0))]
        weight: f64,
    },
    /// No local loss.
    None {},
}

fn default_local_loss_weight() -> f64 {
    0.01
}

impl Default for LocalLossSpec {
    fn default() -> Self {
        Self::L1 { weight: default_local_loss_weight() }
    }
}

/// The variance that `W_i` and `W_g` are drawn with; `W_o` starts at zero either way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Start {
    /// `1 / (d · L)`: the model stays near the base for longer.
    LowVariance,
    /// He's `2 / d`.
    He,
}

impl Start {
    fn he() -> Self {
        Self::He
    }
    fn low_variance() -> Self {
        Self::LowVariance
    }
}
