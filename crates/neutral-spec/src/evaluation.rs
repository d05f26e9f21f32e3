//! What is measured: the block `evaluation` of the file.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::corpus_ref::CorpusRef;

/// What is measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EvaluationSpec {
    /// Which pages: `test` for results, `valid` for tuning.
    #[serde(default)]
    pub split: EvaluationSplit,
    /// Corpora of the original domain: forgetting is measured on each.
    #[schemars(length(min = 1), extend("uniqueItems" = true))]
    pub original: Vec<CorpusRef>,
    /// Corpora of the new domain: learning is measured on each.
    #[schemars(length(min = 1), extend("uniqueItems" = true))]
    pub new: Vec<CorpusRef>,
    /// At most so many bytes of text a corpus, whole documents in the order of their ids' hashes; all, if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub max_bytes: Option<u64>,
    /// Longest context in tokens; `training.sequence_length`, if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_048_576))]
    pub window: Option<usize>,
    /// Tokens of each corpus on which every trained model is compared with its base, token by token:
    /// KL, neutral prefixes, gates; 0 leaves that out. Has no influence on other results.
    #[serde(default = "default_neutrality_tokens", skip_serializing_if = "is_default_neutrality")]
    #[schemars(range(min = 0, max = 1_000_000_000))]
    pub neutrality_tokens: usize,
    /// Tasks to score too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tasks: Option<TasksSpec>,
}

pub(crate) fn default_neutrality_tokens() -> usize {
    8192
}
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
pub(crate) fn is_default_neutrality(tokens: &usize) -> bool {
    *tokens == default_neutrality_tokens()
}

/// Tasks of lm-evaluation-harness, scored before and after; names are those of tasks and groups.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TasksSpec {
    /// Folders of task files, relative to the experiment file; of equal names the last folder's counts.
    #[serde(default = "default_include_path")]
    pub include_path: Vec<String>,
    /// Tasks of the original domain: the mean of their scores shows forgetting.
    #[serde(default)]
    #[schemars(extend("uniqueItems" = true))]
    pub original: Vec<String>,
    /// Tasks of the new domain: the mean of their scores shows learning.
    #[serde(default)]
    #[schemars(extend("uniqueItems" = true))]
    pub new: Vec<String>,
    /// Documents of each task, from the first; all, if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub limit: Option<usize>,
    /// Examples before each document, in place of the task's number unless that is 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub num_fewshot: Option<usize>,
    /// Whether every text begins with BOS; as the tokenizer's template has it, if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub add_bos_token: Option<bool>,
}

fn default_include_path() -> Vec<String> {
    vec!["tasks".to_owned()]
}

/// A split that may be measured on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum EvaluationSplit {
    /// For choosing rates and weights.
    Valid,
    /// For results.
    #[default]
    Test,
}
