//! The methods and their options: what is trained, and what keeps it from forgetting.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::budget::Budget;
use crate::gate::GateSpec;
use crate::local_loss::LocalLossSpec;

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
    /// LoRA whose rows keep a trained length apart from their direction:
    /// `y = m ⊙ (W + s·B A) x / ‖W + s·B A‖`, with the norm of each row and `s = lora_alpha / r`.
    /// Source: Liu et al., *`DoRA`: Weight-Decomposed Low-Rank Adaptation*, ICML 2024.
    Dora {
        /// Extra weights, the lengths `m` included; solved into one rank for all targets.
        budget: Budget,
        /// As LoRA's.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schemars(extend("exclusiveMinimum" = 0))]
        lora_alpha: Option<f64>,
        /// The layers that get one; all seven by default.
        #[serde(default = "LinearSite::all")]
        #[schemars(length(min = 1), extend("uniqueItems" = true))]
        targets: Vec<LinearSite>,
    },
    /// Fine-tuning that stays near what the base says of the original domain:
    /// `ℓ = ℓ_LM + weight · KL(p_base ‖ p)`, mean over the mix's tokens of the original domain.
    /// Source: the distillation of Li and Hoiem, *Learning without Forgetting*, ECCV 2016, at
    /// temperature 1, on the original domain's stand-in.
    KlToBase {
        /// The KL's factor.
        #[schemars(extend("exclusiveMinimum" = 0))]
        weight: f64,
    },
    /// Fine-tuning that stays near the base's weights: `ℓ = ℓ_LM + weight / 2 · ‖w − w_base‖²`. Set
    /// `training.weight_decay: 0` beside it, as the decay pulls to zero.
    /// Source: Li, Grandvalet and Davoine, *Explicit Inductive Bias for Transfer Learning*, ICML 2018.
    L2Sp {
        /// Their α.
        #[schemars(extend("exclusiveMinimum" = 0))]
        weight: f64,
    },
    /// The same, where the original domain needs a weight more the nearer it stays:
    /// `ℓ = ℓ_LM + weight / 2 · Σ F (w − w_base)²`, with the diagonal of the Fisher information of the
    /// base on the mix's original domain, a token.
    /// Source: Kirkpatrick et al., *Overcoming catastrophic forgetting*, PNAS 2017.
    Ewc {
        /// Their λ.
        #[schemars(extend("exclusiveMinimum" = 0))]
        weight: f64,
        /// Sequences of the original domain that `F` is the mean over.
        #[serde(default = "default_fisher_sequences")]
        #[schemars(range(min = 1, max = 1_000_000))]
        fisher_sequences: usize,
    },
    /// Fine-tuning, then the mean of both models' weights: `w_base + share · (w − w_base)`.
    /// Source: Wortsman et al., *Robust fine-tuning of zero-shot models*, CVPR 2022.
    WiseFt {
        /// Their α: 0 is the base, 1 the fine-tuned model.
        #[schemars(extend("exclusiveMinimum" = 0, "exclusiveMaximum" = 1))]
        share: f64,
    },
    /// A GLU in parallel to every feed-forward layer: `FFN(x) + W_o(σ(W_g x) ⊙ (W_i x))`.
    Adapter {
        /// Extra weights; solved into one width for all blocks.
        budget: Budget,
        /// What it is parallel to.
        #[serde(default)]
        placement: BranchPlacement,
        /// How `W_i` and `W_g` are drawn.
        #[serde(default = "Start::he")]
        start: Start,
        /// Its σ; that of the base's own GLU, if absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        activation: Option<GluActivation>,
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
        placement: BranchPlacement,
        /// How `W_i`, `W_g` and the gate's weights are drawn.
        #[serde(default = "Start::low_variance")]
        start: Start,
        /// The adapter's σ; that of the base's own GLU, if absent, as in the paper.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        activation: Option<GluActivation>,
        /// The adapter reads `x` through an RMSNorm of its own, `n ⊙ x / rms(x)` with `n = 1` at the
        /// start; the gate reads `x` as it is. Ours, not the paper's.
        #[serde(default, skip_serializing_if = "is_false")]
        input_norm: bool,
    },
    /// Whole new blocks among those of the base, at equal distances, each a copy of the block below it that
    /// adds nothing at the start: `W_o = 0` and `W_down = 0`. They alone are trained.
    /// Source: Wu et al., *`LLaMA Pro`: Progressive `LLaMA` with Block Expansion*, ACL 2024.
    BlockExpansion {
        /// Extra weights; solved into a number of blocks, one for each of the base's at most.
        budget: Budget,
    },
}

/// For options that are off by default, and left out of files and fingerprints where they are.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes the field by reference")]
pub(crate) fn is_false(option: &bool) -> bool {
    !option
}

impl Method {
    /// The name of the kind, as written in YAML.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Finetune {} => "finetune",
            Self::Lora { .. } => "lora",
            Self::Dora { .. } => "dora",
            Self::KlToBase { .. } => "kl_to_base",
            Self::L2Sp { .. } => "l2_sp",
            Self::Ewc { .. } => "ewc",
            Self::WiseFt { .. } => "wise_ft",
            Self::Adapter { .. } => "adapter",
            Self::NeutralResidues { .. } => "neutral_residues",
            Self::BlockExpansion { .. } => "block_expansion",
        }
    }

    /// The base's own weights are trained, and nothing is added.
    pub fn trains_base(&self) -> bool {
        match self {
            Self::Finetune {}
            | Self::KlToBase { .. }
            | Self::L2Sp { .. }
            | Self::Ewc { .. }
            | Self::WiseFt { .. } => true,
            Self::Lora { .. }
            | Self::Dora { .. }
            | Self::Adapter { .. }
            | Self::NeutralResidues { .. }
            | Self::BlockExpansion { .. } => false,
        }
    }

    /// The loss that is added on the extension's residues.
    pub fn local_loss(&self) -> LocalLossSpec {
        match self {
            Self::NeutralResidues { local_loss, .. } => *local_loss,
            Self::Finetune {}
            | Self::KlToBase { .. }
            | Self::L2Sp { .. }
            | Self::Ewc { .. }
            | Self::WiseFt { .. }
            | Self::Lora { .. }
            | Self::Dora { .. }
            | Self::Adapter { .. }
            | Self::BlockExpansion { .. } => LocalLossSpec::None {},
        }
    }
}

fn default_fisher_sequences() -> usize {
    64
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

/// The sub-layers that a method puts its branches beside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BranchPlacement {
    /// The feed-forward layer of every block, as in the paper.
    #[default]
    Ffn,
    /// The attention layer of every block.
    Attention,
    /// Both, each with a branch of its own and of the same width.
    Both,
}

impl BranchPlacement {
    /// The sub-layers, in the order of a block.
    pub fn sites(self) -> &'static [Placement] {
        match self {
            Self::Ffn => &[Placement::Ffn],
            Self::Attention => &[Placement::Attention],
            Self::Both => &[Placement::Attention, Placement::Ffn],
        }
    }
}

/// The sub-layer that a branch is parallel to; it reads the same normalised input.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Placement {
    /// The feed-forward layer.
    Ffn,
    /// The attention layer.
    Attention,
}

/// The σ of an adapter's GLU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum GluActivation {
    /// `z / (1 + e⁻ᶻ)`.
    Silu,
    /// GELU in its approximation by tanh.
    GeluTanh,
    /// `max(0, z)`.
    Relu,
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
