//! `results.json`: the types of its schema, number 1.
//!
//! Other tools read the file: a field is renamed, removed or given another meaning only together
//! with [`SCHEMA`]. Corpora keep the order of the experiment file, the first being the main one.

use std::collections::BTreeSet;

use indexmap::IndexMap;
use neutral_store::Fingerprint;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::tasks::{self, ByTask};
use crate::{AgainstBase, Neutrality, PaperFigures, ReportError};

/// The number of the schema that this crate writes and reads.
pub const SCHEMA: u32 = 1;

/// A value a corpus, by the corpus' name, in the order of the experiment file.
pub type ByCorpus<T> = IndexMap<String, T>;

/// Everything that a run found out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Results {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The experiment's name.
    pub experiment: String,
    /// The question that the run answers.
    pub question: String,
    /// Fingerprint of everything that determines the trials' results: settings, text, tokenizer, base, numerics.
    pub plan_fingerprint: Fingerprint,
    /// What it was computed on.
    pub environment: Environment,
    /// What all trials share, as the plan has it in JSON: `base`, `tokenizer`, `evaluation` and `tasks`; absent in results
    /// of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub setting: Option<Value>,
    /// The pristine base.
    pub base: BaseResult,
    /// The label of the trials that the others are held against besides the base; absent if none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control: Option<String>,
    /// What the paper found, where the experiment repeats it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paper: Option<PaperFigures>,
    /// The trials, in the order of the plan.
    pub trials: Vec<TrialResult>,
}

/// What results were computed on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Environment {
    /// Version of libtorch.
    pub libtorch: String,
    /// `cpu`, `cuda(0)`.
    pub device: String,
    /// `fp32`, `bf16`.
    pub precision: String,
    /// Threads of the tensor library, of each process.
    pub threads: usize,
    /// Processes that trained each model together; absent if it was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub processes: Option<usize>,
    /// The processor's name.
    pub cpu: String,
    /// The commit that last changed the program's code when it was built, `-dirty` if the code was changed since; null
    /// outside of a checkout. Where trials were made by other code than what collected them, all, with commas.
    pub git: Option<String>,
}

/// The pristine base: the baseline of forgetting and of learning.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BaseResult {
    /// Its weights.
    pub parameters: u64,
    /// Its scores.
    pub metrics: ByDomain<ByCorpus<Metrics>>,
    /// Its scores on tasks; absent if none were scored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tasks: Option<ByDomain<ByTask>>,
}

/// A value a domain.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ByDomain<T> {
    /// What the base was trained on, or close to it.
    pub original: T,
    /// What is to be learnt.
    pub new: T,
}

/// How well a model predicts a corpus. Ratios are over the corpus, not means of ratios.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Metrics {
    /// `−ΣLL / (Σbytes · ln 2)`: compares across tokenizers.
    pub bits_per_byte: f64,
    /// `−ΣLL / Σtokens`.
    pub nats_per_token: f64,
    /// `exp(nats_per_token)`.
    pub perplexity: f64,
    /// Tokens that were predicted.
    pub tokens: u64,
    /// Bytes of text that they stand for.
    pub bytes: u64,
}

/// One trial. What was not measured because it did not finish is null.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrialResult {
    /// Unique within the run; the name of its folder.
    pub id: String,
    /// Of all that determines its result and of its very weights ([`crate::made_from`] of its folder); absent unless it
    /// finished, and of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<Fingerprint>,
    /// The method's kind, as in YAML: `neutral_residues`.
    pub method: String,
    /// The method's name in tables.
    pub label: String,
    /// Seed of the extension's start and of the data's order.
    pub seed: u64,
    /// How it ended.
    pub status: Status,
    /// Why it did not finish; absent if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Counts of weights.
    pub parameters: Parameters,
    /// The resolved trial, as the plan has it: `neutral_spec::Trial` in JSON.
    pub spec: Value,
    /// Scores after training.
    pub metrics: Option<ByDomain<ByCorpus<Metrics>>>,
    /// Bits/byte after − base, by corpus of the original domain; less is better.
    pub forgetting: Option<ByCorpus<f64>>,
    /// Bits/byte after − those of the control of the same seed, by corpus of the original domain;
    /// less is better. Absent where there is no control to hold the trial against, and for itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forgetting_from_control: Option<ByCorpus<f64>>,
    /// Bits/byte of the base − after, by corpus of the new domain; more is better.
    pub learning: Option<ByCorpus<f64>>,
    /// What gates and residues do; null for methods without a residue.
    pub neutrality: Option<ByDomain<Neutrality>>,
    /// The trained model beside its base; absent where it was not measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub against_base: Option<AgainstBase>,
    /// Scores on tasks; absent if none were scored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tasks: Option<ByDomain<ByTask>>,
    /// Tokens trained on.
    pub tokens: Option<u64>,
    /// Training speed.
    pub tokens_per_second: Option<f64>,
    /// Most memory that the process has held up to the training's end, earlier trials of the same process included.
    pub peak_rss_bytes: Option<u64>,
    /// Training time, summed over resumes; evaluation not included.
    pub elapsed_seconds: Option<f64>,
}

/// How a trial ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Trained and scored.
    Finished,
    /// Stopped by an error.
    Failed,
    /// Stopped because the loss was NaN or ran away.
    Diverged,
    /// Stopped from outside, or not begun; the same command goes on with it.
    Interrupted,
}

impl Status {
    /// The word in `results.json`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Finished => "finished",
            Self::Failed => "failed",
            Self::Diverged => "diverged",
            Self::Interrupted => "interrupted",
        }
    }
}

/// Counts of weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parameters {
    /// Of the base.
    pub base: u64,
    /// Added to it.
    pub extension: u64,
    /// Trained.
    pub trainable: u64,
}

/// Bits/byte after − base, or − control, by corpus: what was lost on the original domain.
///
/// The paper has differences of length-normalised log-perplexities (its introduction and Figure 1); bits per byte do
/// not depend on the tokenizer.
///
/// # Panics
/// If the two were not measured on the same corpora, or on texts of different size, and so on different texts.
pub fn forgetting(base: &ByCorpus<Metrics>, after: &ByCorpus<Metrics>) -> ByCorpus<f64> {
    difference(after, base)
}

/// Bits/byte of the base − after, by corpus: what was won on the new domain.
///
/// # Panics
/// As [`forgetting`].
pub fn learning(base: &ByCorpus<Metrics>, after: &ByCorpus<Metrics>) -> ByCorpus<f64> {
    difference(base, after)
}

fn difference(left: &ByCorpus<Metrics>, right: &ByCorpus<Metrics>) -> ByCorpus<f64> {
    assert_eq!(left.len(), right.len(), "{:?} and {:?}", left.keys(), right.keys());
    left.iter()
        .map(|(corpus, left)| {
            let right = right.get(corpus).unwrap_or_else(|| panic!("{corpus}: measured once"));
            assert_eq!(left.bytes, right.bytes, "{corpus}: not the same text");
            (corpus.clone(), left.bits_per_byte - right.bits_per_byte)
        })
        .collect()
}

impl TrialResult {
    /// Its metrics, if it finished.
    pub fn finished(&self) -> Option<&ByDomain<ByCorpus<Metrics>>> {
        self.metrics.as_ref().filter(|_| self.status == Status::Finished)
    }

    /// The corpora of the new domain that it was trained on; none where all of its text is of the original one.
    pub(crate) fn read(&self) -> BTreeSet<&str> {
        let of_data = |name: &str| self.spec.get("data")?.get(name);
        let is_mixed = of_data("original_fraction").and_then(Value::as_f64) != Some(1.0);
        let corpora = of_data("new").and_then(Value::as_array).filter(|_| is_mixed);
        (corpora.into_iter().flatten())
            .filter_map(|of| of.as_str().or_else(|| of.get("corpus")?.as_str()))
            .collect()
    }

    /// The trial of the same seed that it goes on from; none if it extends the base.
    pub(crate) fn after(&self) -> Option<&str> {
        self.spec.pointer("/after/trial")?.as_str()
    }

    /// The values that the sweep set, as the spec's `varied` lists them: path and value.
    pub fn varied(&self) -> Vec<(&str, &Value)> {
        let pairs = self.spec.get("varied").and_then(|v| v.as_array());
        pairs
            .into_iter()
            .flatten()
            .filter_map(|pair| Some((pair.get(0)?.as_str()?, pair.get(1)?)))
            .collect()
    }
}

impl Results {
    /// The trial that one goes on from.
    pub(crate) fn before(&self, trial: &TrialResult) -> Option<&TrialResult> {
        self.trials.iter().find(|other| Some(&*other.id) == trial.after())
    }

    /// Whether trials are told apart by what they read: some were trained on one corpus of the new domain and some on
    /// another, from the base. What a trial learnt is then what it learnt of its own.
    pub(crate) fn is_of_many_domains(&self) -> bool {
        let read = |trial: &TrialResult| -> BTreeSet<String> {
            let is_scored = |corpus: &&str| self.base.metrics.new.contains_key(*corpus);
            trial.read().into_iter().filter(is_scored).map(str::to_owned).collect()
        };
        let mut all = self.trials.iter().map(read).filter(|read| !read.is_empty());
        let goes_on = self.trials.iter().any(|trial| trial.after().is_some());
        let first = all.next();
        !goes_on && all.any(|read| Some(&read) != first.as_ref())
    }

    /// Refuses numbers that are not finite: JSON would turn them into null without a word.
    pub(crate) fn check(&self) -> Result<(), ReportError> {
        check_metrics("base", &self.base.metrics)?;
        if let Some(tasks) = &self.base.tasks {
            tasks::check("base", tasks)?;
        }
        for trial in &self.trials {
            if let Some(metrics) = &trial.metrics {
                check_metrics(&trial.id, metrics)?;
            }
            let differences = [
                ("forgetting", &trial.forgetting),
                ("forgetting_from_control", &trial.forgetting_from_control),
                ("learning", &trial.learning),
            ];
            for (name, by_corpus) in differences {
                for (corpus, value) in by_corpus.iter().flatten() {
                    finite(&trial.id, *value, || format!("{name}.{corpus}"))?;
                }
            }
            let neutrality = trial.neutrality.iter();
            for (n, domain) in neutrality.flat_map(|n| [(&n.original, "original"), (&n.new, "new")])
            {
                let all = [n.gate_zero_fraction, n.residue_l1];
                let blocks = n.gate_zero_fraction_per_block.iter().chain(&n.residue_l1_per_block);
                for value in all.iter().chain(blocks) {
                    finite(&trial.id, *value, || format!("neutrality.{domain}"))?;
                }
            }
            if let Some(tasks) = &trial.tasks {
                tasks::check(&trial.id, tasks)?;
            }
            if let Some(against_base) = &trial.against_base {
                against_base.check(&trial.id)?;
            }
            for value in [trial.tokens_per_second, trial.elapsed_seconds].into_iter().flatten() {
                finite(&trial.id, value, || "tokens_per_second or elapsed_seconds".to_owned())?;
            }
        }
        Ok(())
    }
}

fn check_metrics(trial: &str, metrics: &ByDomain<ByCorpus<Metrics>>) -> Result<(), ReportError> {
    for (corpus, m) in metrics.original.iter().chain(&metrics.new) {
        for value in [m.bits_per_byte, m.nats_per_token, m.perplexity] {
            finite(trial, value, || format!("metrics of {corpus}"))?;
        }
    }
    Ok(())
}

pub(crate) fn finite(
    trial: &str,
    value: f64,
    field: impl FnOnce() -> String,
) -> Result<(), ReportError> {
    if value.is_finite() {
        Ok(())
    } else {
        Err(ReportError::NotFinite { trial: trial.to_owned(), field: field(), value })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    fn metrics(bits_per_byte: f64) -> ByCorpus<Metrics> {
        let m =
            Metrics { bits_per_byte, nats_per_token: 1.0, perplexity: 2.7, tokens: 1, bytes: 1 };
        ByCorpus::from([("a".to_owned(), m)])
    }

    #[test]
    fn worse_is_forgetting_and_better_is_learning() {
        assert!((forgetting(&metrics(1.0), &metrics(1.5))["a"] - 0.5).abs() < 1e-12);
        assert!((learning(&metrics(4.0), &metrics(1.5))["a"] - 2.5).abs() < 1e-12);
    }

    #[test]
    #[should_panic(expected = "not the same text")]
    fn other_text_cannot_be_compared() {
        let mut after = metrics(1.5);
        after[0].bytes += 1;
        forgetting(&metrics(1.0), &after);
    }

    #[test]
    fn a_number_that_json_cannot_hold_is_refused() {
        let mut results = sample::quick();
        assert!(results.check().is_ok());
        results.trials[0].forgetting.as_mut().unwrap()[0] = f64::NAN;
        let error = results.check().unwrap_err().to_string();
        assert!(error.contains("finetune") && error.contains("forgetting"), "{error}");
    }

    #[test]
    fn the_sweeps_values_are_read_from_the_spec() {
        let results = sample::sweep();
        let varied = results.trials[0].varied();
        assert_eq!(varied[0].0, "training.learning_rate");
        assert!(results.trials[0].finished().is_some());
    }
}
