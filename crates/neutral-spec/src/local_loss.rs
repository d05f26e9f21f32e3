//! The local losses of neutral residues: what pulls the residue to zero on the original domain.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The loss added to the language model's: `ℓ = ℓ_LM + weight · ℓ_local`.
///
/// Any of them may begin softly: with `warmup_fraction: f`, the weight of step `i` of `N`, counted from 1, is
/// `weight · min(1, i / round(f · N))`. A gate that closes before its adapter has learnt anything
/// stays closed, as nothing reaches it any more; this is the time that it is given. The opposite, a
/// strong loss that weakens, is not offered: it would close gates in those very steps.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum LocalLossSpec {
    /// `‖g(x)·A(x)‖₁ / d`, mean over blocks and over tokens of the original domain.
    L1 {
        /// The paper's α.
        #[serde(default = "default_weight")]
        #[schemars(extend("exclusiveMinimum" = 0))]
        weight: f64,
        /// Share of steps over which the weight grows from 0, as the learning rate's warm-up; 0 if absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schemars(range(min = 0, max = 1))]
        warmup_fraction: Option<f64>,
    },
    /// `|g(x)|` itself, whatever it lets through: mean over blocks, over a gate's channels and over tokens of
    /// the original domain. It closes gates and leaves the adapter alone. Ours, not the paper's.
    GateL1 {
        /// Its factor.
        #[schemars(extend("exclusiveMinimum" = 0))]
        weight: f64,
        /// Share of steps over which the weight grows from 0, as the learning rate's warm-up; 0 if absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schemars(range(min = 0, max = 1))]
        warmup_fraction: Option<f64>,
    },
    /// How many gates would be open under the noise that `hard_sigmoid` gates have by their authors,
    /// `P(g > 0) = σ(z − β ln(−γ/ζ))` with `β = 2/3`: mean over blocks, over a gate's channels and over
    /// tokens of the original domain. Needs a gate of activation `hard_sigmoid`.
    /// Source: the L0 term of Louizos, Welling and Kingma, ICLR 2018. Deviation: theirs is over weights.
    L0 {
        /// Their λ, a gate and token.
        #[schemars(extend("exclusiveMinimum" = 0))]
        weight: f64,
        /// Share of steps over which the weight grows from 0, as the learning rate's warm-up; 0 if absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schemars(range(min = 0, max = 1))]
        warmup_fraction: Option<f64>,
    },
    /// `KL(p_base ‖ p)` of the next token in nats, mean over tokens of the original domain: not the
    /// residues are small there, but what they change. The base is the same model without its
    /// extension, at one more forward pass over those tokens. Ours; compare the method `kl_to_base`.
    Kl {
        /// Its factor.
        #[schemars(extend("exclusiveMinimum" = 0))]
        weight: f64,
        /// Share of steps over which the weight grows from 0, as the learning rate's warm-up; 0 if absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schemars(range(min = 0, max = 1))]
        warmup_fraction: Option<f64>,
    },
    /// Cross-entropy of the gate as a classifier: original domain 0, new domain 1; mean over blocks
    /// and over all tokens. Needs a sigmoid gate, one a token.
    DomainClassifier {
        /// The paper's α.
        #[serde(default = "default_weight")]
        #[schemars(extend("exclusiveMinimum" = 0))]
        weight: f64,
        /// Share of steps over which the weight grows from 0, as the learning rate's warm-up; 0 if absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schemars(range(min = 0, max = 1))]
        warmup_fraction: Option<f64>,
    },
    /// No local loss.
    None {},
}

fn default_weight() -> f64 {
    0.01
}

impl Default for LocalLossSpec {
    fn default() -> Self {
        Self::l1(default_weight())
    }
}

impl LocalLossSpec {
    /// The paper's loss with a weight from the first step on.
    pub fn l1(weight: f64) -> Self {
        Self::L1 { weight, warmup_fraction: None }
    }

    /// The name of the kind, as written in YAML; `None` for no loss.
    pub fn kind(&self) -> Option<&'static str> {
        match self {
            Self::L1 { .. } => Some("l1"),
            Self::GateL1 { .. } => Some("gate_l1"),
            Self::L0 { .. } => Some("l0"),
            Self::Kl { .. } => Some("kl"),
            Self::DomainClassifier { .. } => Some("domain_classifier"),
            Self::None {} => None,
        }
    }

    /// It is a mean over tokens of the original domain alone.
    pub fn is_of_original(&self) -> bool {
        !matches!(self, Self::DomainClassifier { .. } | Self::None {})
    }

    /// The factor after warm-up, and the share of steps that warm up; both 0 for no loss.
    pub fn weight_and_warmup(&self) -> (f64, f64) {
        match *self {
            Self::L1 { weight, warmup_fraction }
            | Self::GateL1 { weight, warmup_fraction }
            | Self::L0 { weight, warmup_fraction }
            | Self::Kl { weight, warmup_fraction }
            | Self::DomainClassifier { weight, warmup_fraction } => {
                (weight, warmup_fraction.unwrap_or(0.0))
            }
            Self::None {} => (0.0, 0.0),
        }
    }
}
