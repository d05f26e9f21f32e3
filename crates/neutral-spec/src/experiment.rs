//! What the user writes: the YAML's vocabulary, one type a block of the file.
//!
//! Nothing here is resolved: a sweep is still a sweep, a budget still a share. See [`crate::plan`].
//! Doc comments and ranges become the JSON Schema, which is what a file is checked against
//! ([`crate::schema`]); rules between fields are in [`crate::validate`].

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::base::BaseSpec;
use crate::corpus_ref::CorpusRef;
use crate::evaluation::EvaluationSpec;
use crate::executor::ExecutorSpec;
use crate::method::Method;
use crate::mixed_corpus::MixedCorpus;
use crate::paper::PaperSpec;

/// One experiment file: a question, and everything needed to answer it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Experiment {
    /// Its name, `[a-z0-9-]+`; the run's folder is called so.
    #[schemars(extend("format" = "experiment-name", "pattern" = "^[a-z0-9-]+$"))]
    pub experiment: String,
    /// The question that the run answers, one sentence.
    #[schemars(length(min = 1))]
    pub question: String,
    /// Another experiment file with the same question, named by the error when a corpus cannot be
    /// had on this machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub if_unavailable: Option<String>,
    /// Every method is run once with each.
    #[schemars(length(min = 1), extend("uniqueItems" = true))]
    pub seeds: Vec<u64>,
    /// The numbers that matrix products are computed in.
    pub precision: Precision,
    /// Text to tokens.
    pub tokenizer: TokenizerSpec,
    /// The model that is extended.
    pub base: BaseSpec,
    /// The two domains and their mix.
    pub data: DataSpec,
    /// How every method trains, unless the method says otherwise.
    pub training: TrainingSpec,
    /// The methods to compare.
    #[schemars(length(min = 1))]
    pub methods: Vec<MethodEntry>,
    /// The label of the method that the others are held against besides the pristine base, such as
    /// the base trained on original text alone: then forgetting is told from domain adaptation. It
    /// is one trial a seed, so no sweep may reach it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    pub control: Option<String>,
    /// Varied for every method.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sweep: Option<Sweep>,
    /// What a paper found that the experiment repeats: the report puts it beside what is found here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paper: Option<PaperSpec>,
    /// What is measured, on which text.
    pub evaluation: EvaluationSpec,
    /// Steps between two checkpoints of a training; has no influence on results.
    #[serde(default = "default_checkpoint_every")]
    #[schemars(range(min = 1))]
    pub checkpoint_every_steps: u64,
    /// Where trials run; has no influence on results.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub executor: Option<ExecutorSpec>,
}

fn default_checkpoint_every() -> u64 {
    100
}

/// The numbers that matrix products are computed in; weights that train are kept in fp32 either way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// bfloat16 products with fp32 sums.
    Bf16,
    /// Single precision throughout.
    Fp32,
    /// Double precision throughout. Nothing trains in it, so no experiment can ask for it: it is for scores whose
    /// printed digits do not depend on the order of sums.
    #[serde(skip_deserializing)]
    Fp64,
}

impl Precision {
    /// As it is written in files and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bf16 => "bf16",
            Self::Fp32 => "fp32",
            Self::Fp64 => "fp64",
        }
    }

    /// Bytes of a number.
    pub fn bytes(self) -> u64 {
        match self {
            Self::Bf16 => 2,
            Self::Fp32 => 4,
            Self::Fp64 => 8,
        }
    }
}

/// Where the tokenizer comes from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum TokenizerSpec {
    /// A byte-level BPE trained on the training split of some corpora.
    Train {
        /// Number of tokens, the 256 bytes and the document separator included.
        #[schemars(range(min = 257, max = 10_000_000))]
        vocab_size: usize,
        /// Corpora to learn it from.
        #[schemars(length(min = 1), extend("uniqueItems" = true))]
        corpora: Vec<CorpusRef>,
    },
    /// A `tokenizer.json` as Hugging Face writes it.
    Load {
        /// The file, relative to the experiment file.
        #[schemars(length(min = 1))]
        path: String,
    },
    /// The one that comes with the base, which must be loaded.
    Base {
        /// Where BOS stands, if the tokenizer begins texts with it.
        #[serde(default, skip_serializing_if = "is_default_bos")]
        bos: BosPolicy,
    },
}

/// Where the token that begins a text (BOS) stands in what is trained on and scored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BosPolicy {
    /// Before each document: a sequence or window that starts within one begins with whatever comes next.
    #[default]
    EveryDocument,
    /// At the start of each sequence and window too. Models that always saw it first, Gemma's above all, predict
    /// badly without.
    EverySequence,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_default_bos(bos: &BosPolicy) -> bool {
    *bos == BosPolicy::default()
}

/// The text of both domains and how it is mixed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DataSpec {
    /// Text close to what the base was trained on.
    #[schemars(extend("uniqueItems" = true))]
    pub original: Vec<MixedCorpus>,
    /// Text of the domain to be learnt.
    #[schemars(extend("uniqueItems" = true))]
    pub new: Vec<MixedCorpus>,
    /// The paper's p: share of sequences from the original domain, 0 to 1. At 0 no original text is
    /// trained on and at 1 no new text, so that a sweep may pass through them.
    #[serde(default = "default_original_fraction")]
    #[schemars(range(min = 0, max = 1))]
    pub original_fraction: f64,
    /// What happens where one document ends and the next begins within a sequence.
    #[serde(default)]
    pub documents: DocumentPolicy,
}

/// The paper's.
fn default_original_fraction() -> f64 {
    0.1
}

impl DataSpec {
    /// The corpora of both domains.
    pub fn corpora(&self) -> impl Iterator<Item = &CorpusRef> {
        MixedCorpus::corpora(&self.original).chain(MixedCorpus::corpora(&self.new))
    }

    /// The original and the new domain's corpora that are trained on: none of a domain without a share of the mix.
    pub fn mixed(&self) -> [&[MixedCorpus]; 2] {
        let original = if self.original_fraction > 0.0 { &*self.original } else { &[] };
        let new = if self.original_fraction < 1.0 { &*self.new } else { &[] };
        [original, new]
    }
}

/// Documents are packed one after another into sequences of equal length; may a token attend to a
/// document before its own?
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DocumentPolicy {
    /// Yes: plain causal attention over the sequence, as most pretraining does.
    #[default]
    AttendAcross,
    /// No: attention stays within the document.
    AttendWithin,
}

/// How weights are trained: `AdamW`, with gradients clipped by their global norm.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TrainingSpec {
    /// Tokens to train on; rounded up to whole steps.
    #[schemars(range(min = 1, max = 1_000_000_000_000_000_u64))]
    pub tokens: u64,
    /// Tokens of a sequence.
    #[schemars(range(min = 1, max = 1_048_576))]
    pub sequence_length: usize,
    /// Sequences an optimizer step.
    #[schemars(range(min = 1, max = 1_048_576))]
    pub batch_size: usize,
    /// Sequences a forward pass, if fewer; gradients are accumulated with token-exact averaging.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_048_576))]
    pub micro_batch_size: Option<usize>,
    /// Peak learning rate.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub learning_rate: f64,
    /// Its course over the run.
    pub schedule: Schedule,
    /// Decoupled weight decay, on matrices only.
    #[serde(default = "default_weight_decay")]
    #[schemars(range(min = 0))]
    pub weight_decay: f64,
    /// Decay of the mean of gradients.
    #[serde(default = "default_beta1")]
    #[schemars(range(min = 0), extend("exclusiveMaximum" = 1))]
    pub beta1: f64,
    /// Decay of the mean of squared gradients.
    #[serde(default = "default_beta2")]
    #[schemars(range(min = 0), extend("exclusiveMaximum" = 1))]
    pub beta2: f64,
    /// Added to the root of the mean of squared gradients; far below it would be 0 in fp32, and a step of no gradient 0/0.
    #[serde(default = "default_epsilon")]
    #[schemars(range(min = 1e-30))]
    pub epsilon: f64,
    /// Largest global gradient norm; 0 clips nothing.
    #[serde(default = "default_gradient_clip")]
    #[schemars(range(min = 0))]
    pub gradient_clip: f64,
}

fn default_weight_decay() -> f64 {
    0.1
}
fn default_beta1() -> f64 {
    0.9
}
fn default_beta2() -> f64 {
    0.95
}
fn default_epsilon() -> f64 {
    1e-8
}
fn default_gradient_clip() -> f64 {
    1.0
}

impl TrainingSpec {
    /// Optimizer steps: `⌈tokens / (batch_size · sequence_length)⌉`.
    pub fn steps(&self) -> u64 {
        self.tokens.div_ceil(self.tokens_per_step())
    }

    /// Tokens an optimizer step.
    pub fn tokens_per_step(&self) -> u64 {
        (self.batch_size * self.sequence_length) as u64
    }
}

/// The course of the learning rate. Fractions are of all steps.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Schedule {
    /// Linear warm-up, then half a cosine down to `final_fraction` of the peak.
    Cosine {
        /// Share of steps that warm up.
        #[schemars(range(min = 0, max = 1))]
        warmup_fraction: f64,
        /// The last rate, as a share of the peak.
        #[schemars(range(min = 0, max = 1))]
        final_fraction: f64,
    },
    /// Linear warm-up, a constant peak, then a linear decay to `final_fraction` of the peak.
    WarmupStableDecay {
        /// Share of steps that warm up.
        #[schemars(range(min = 0, max = 1))]
        warmup_fraction: f64,
        /// Share of steps that decay, at the end.
        #[schemars(range(min = 0, max = 1))]
        decay_fraction: f64,
        /// The last rate, as a share of the peak.
        #[schemars(range(min = 0, max = 1))]
        final_fraction: f64,
    },
}

/// One method of the comparison, with its own training values, data values and sweep.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MethodEntry {
    /// Its name in tables; the method's kind, if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    pub label: Option<String>,
    /// The label of a method above: what its trial of the same seed made of the base is extended, in place of the
    /// base. It is one trial a seed, so no sweep may reach it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    pub after: Option<String>,
    /// What is trained.
    pub method: Method,
    /// Values that replace those of the experiment's `training`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub training: Option<TrainingOverrides>,
    /// Values that replace those of the experiment's `data`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<DataOverrides>,
    /// Varied for this method alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sweep: Option<Sweep>,
}

/// How a method may train of its own; every other value is common to all, so that they compare.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TrainingOverrides {
    /// See [`TrainingSpec::tokens`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000_000_000_000_u64))]
    pub tokens: Option<u64>,
    /// See [`TrainingSpec::learning_rate`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub learning_rate: Option<f64>,
    /// See [`TrainingSpec::weight_decay`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub weight_decay: Option<f64>,
    /// See [`TrainingSpec::schedule`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<Schedule>,
}

/// What a method may read of its own; every other value is common to all, so that they compare.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DataOverrides {
    /// See [`DataSpec::original`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("uniqueItems" = true))]
    pub original: Option<Vec<MixedCorpus>>,
    /// See [`DataSpec::new`]; one language after another, with [`MethodEntry::after`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("uniqueItems" = true))]
    pub new: Option<Vec<MixedCorpus>>,
    /// See [`DataSpec::original_fraction`]; 1 makes a control that trains on original text alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1))]
    pub original_fraction: Option<f64>,
}

/// Values to try. A key is a path within a trial: `training.learning_rate`,
/// `data.original_fraction`, `method.local_loss.weight`.
///
/// `grid` takes every combination; the lists of `zip` have one length and go in step; with both,
/// every combination of `grid` meets every step of `zip`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Sweep {
    /// Every combination.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "value_lists")]
    pub grid: BTreeMap<String, Vec<serde_json::Value>>,
    /// In step.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "value_lists")]
    pub zip: BTreeMap<String, Vec<serde_json::Value>>,
}

/// Any key, each with at least one value.
fn value_lists(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "object",
        "additionalProperties": { "type": "array", "items": true, "minItems": 1 }
    })
}
