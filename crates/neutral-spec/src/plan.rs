//! What an experiment means: trials, each fully explicit.

use serde::{Deserialize, Serialize};

use neutral_store::Fingerprint;

use crate::base::BaseSpec;
use crate::corpus_ref::CorpusRef;
use crate::evaluation::{EvaluationSplit, TasksSpec, is_default_neutrality};
use crate::experiment::{DataSpec, Precision, TokenizerSpec, TrainingSpec};
use crate::method::Method;
use crate::paper::PaperSpec;

/// Everything a run will do, resolved.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Plan {
    /// The experiment's name.
    pub experiment: String,
    /// The experiment's question.
    pub question: String,
    /// What to run where a corpus cannot be had.
    pub if_unavailable: Option<String>,
    /// Text to tokens.
    pub tokenizer: TokenizerSpec,
    /// The model that is extended.
    pub base: BaseSpec,
    /// The numbers that matrix products are computed in.
    pub precision: Precision,
    /// The label of the trials that the others are held against besides the base: one a seed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub control: Option<String>,
    /// What a paper found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paper: Option<PaperSpec>,
    /// The trials, in the order of the file: by method, then sweep, then seed.
    pub trials: Vec<Trial>,
    /// What is measured.
    pub evaluation: Evaluation,
    /// Tokens of each corpus on which trained models are compared with the base, token by token. Not
    /// a part of what determines a trial: it may be changed without training anew.
    #[serde(skip_serializing_if = "is_default_neutrality")]
    pub neutrality_tokens: usize,
    /// Tasks to score. No part of what determines a trial either.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tasks: Option<TasksSpec>,
    /// Steps between two checkpoints.
    pub checkpoint_every_steps: u64,
}

impl Plan {
    /// Fingerprint of everything in the file that determines what is trained and measured. Which
    /// trials are the control is, like their labels, a way to read the measurements.
    ///
    /// The data's, tokenizer's and base's own fingerprints are not known before they are made; the
    /// runner adds them.
    pub fn fingerprint(&self) -> Fingerprint {
        let trials: Vec<_> = self.trials.iter().map(Trial::fingerprint).collect();
        Fingerprint::of(&(&self.tokenizer, &self.base, self.precision, &self.evaluation, trials))
    }

    /// The trial of an id.
    pub fn trial(&self, id: &str) -> Option<&Trial> {
        self.trials.iter().find(|trial| trial.id == id)
    }

    /// Every corpus that the plan reads, sorted, each once.
    pub fn corpora(&self) -> Vec<CorpusRef> {
        let scored = [&*self.evaluation.original, &*self.evaluation.new];
        corpora(&self.tokenizer, &self.base, self.trials.iter().map(|trial| &trial.data), scored)
    }
}

/// The corpora that a tokenizer and a base are made of, that trials read, and that are scored.
pub(crate) fn corpora<'a>(
    tokenizer: &TokenizerSpec,
    base: &BaseSpec,
    trials: impl Iterator<Item = &'a DataSpec>,
    scored: [&[CorpusRef]; 2],
) -> Vec<CorpusRef> {
    let mut all = scored.concat();
    if let TokenizerSpec::Train { corpora, .. } = tokenizer {
        all.extend_from_slice(corpora);
    }
    if let BaseSpec::Pretrain { corpora, .. } = base {
        all.extend_from_slice(corpora);
    }
    all.extend(trials.flat_map(DataSpec::corpora).cloned());
    all.sort();
    all.dedup();
    all
}

/// One training and its evaluation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// Unique within the plan and fit for a folder's name: `neutral-residues-learning-rate-0.002-s0`. What stands
    /// before `-s0` is the same for all seeds.
    pub id: String,
    /// The method's name in tables.
    pub label: String,
    /// The values that sweeps set, by path, for tables: `training.learning_rate`, 0.002.
    pub varied: Vec<(String, serde_json::Value)>,
    /// Seed of the extension's start and of the data's order.
    pub seed: u64,
    /// The trial whose model is extended; the base, if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<After>,
    /// What is trained.
    pub method: Method,
    /// The rank or width that the budget was solved into, and what it costs.
    pub size: ExtensionSize,
    /// The text.
    pub data: DataSpec,
    /// How it trains, overrides applied.
    pub training: TrainingSpec,
}

impl Trial {
    /// The fine-tuning whose weights a trial of WiSE-FT averages with its base's; none for other methods.
    pub fn as_fine_tuning(&self) -> Option<Self> {
        let Method::WiseFt { .. } = self.method else { return None };
        Some(Self { method: Method::Finetune {}, ..self.clone() })
    }

    /// Fingerprint of what determines this trial's result: all but its id and label.
    pub fn fingerprint(&self) -> Fingerprint {
        let own = (self.seed, &self.method, self.size, &self.data, &self.training);
        match &self.after {
            None => Fingerprint::of(&own),
            Some(after) => Fingerprint::of(&(own, &after.fingerprint)),
        }
    }
}

/// The trial that another one goes on from; it stands before it in the plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct After {
    /// Its id.
    pub trial: String,
    /// Its [`Trial::fingerprint`].
    pub fingerprint: Fingerprint,
}

/// The size of an extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExtensionSize {
    /// LoRA's rank, the adapter's width (its bottleneck), or the number of new blocks; 0 for fine-tuning.
    pub units: usize,
    /// Weights that the extension adds to the base.
    pub extension_parameters: u64,
    /// Weights that are trained.
    pub trainable_parameters: u64,
}

/// What is measured, resolved.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Evaluation {
    /// Which pages.
    pub split: EvaluationSplit,
    /// Corpora of the original domain.
    pub original: Vec<CorpusRef>,
    /// Corpora of the new domain.
    pub new: Vec<CorpusRef>,
    /// At most so many bytes a corpus.
    pub max_bytes: Option<u64>,
    /// Longest context in tokens.
    pub window: usize,
}
