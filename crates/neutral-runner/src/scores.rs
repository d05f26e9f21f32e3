//! A model's scores on every corpus of the evaluation.

use std::num::NonZeroUsize;
use std::sync::atomic::AtomicBool;

use indicatif::MultiProgress;
use neutral_eval::{CorpusScore, ScoreOptions, score};
use neutral_model::{Extension, Transformer};
use neutral_report::{ByCorpus, ByDomain};
use neutral_spec::{CorpusRef, Evaluation};

use crate::inputs::Inputs;
use crate::progress;

/// Tokens of one forward pass; bounds memory, and moves scores by rounding alone.
pub(crate) const TOKENS_PER_BATCH: NonZeroUsize = NonZeroUsize::new(8192).unwrap();

/// Scores by corpus, a map a domain.
pub(crate) type Scores = ByDomain<ByCorpus<CorpusScore>>;

/// Something of every score.
pub(crate) fn of_scores<T>(
    scores: &Scores,
    of: impl Fn(&CorpusScore) -> T,
) -> ByDomain<ByCorpus<T>> {
    let domain = |scores: &ByCorpus<CorpusScore>| {
        scores.iter().map(|(corpus, score)| (corpus.clone(), of(score))).collect()
    };
    ByDomain { original: domain(&scores.original), new: domain(&scores.new) }
}

/// What the held-out text of a plan is scored with.
#[derive(Clone, Copy)]
pub(crate) struct Scorer<'a> {
    pub evaluation: &'a Evaluation,
    pub inputs: &'a Inputs,
    /// [`TOKENS_PER_BATCH`], unless somebody wants to see what it moves.
    pub tokens_per_batch: NonZeroUsize,
    pub stop: &'a AtomicBool,
    pub bars: &'a MultiProgress,
}

impl Scorer<'_> {
    /// Scores a model on all of it; the title is the progress bar's.
    pub(crate) fn score(
        &self,
        model: &Transformer,
        extension: &Extension,
        title: &str,
    ) -> anyhow::Result<Scores> {
        let Self { evaluation, inputs, .. } = self;
        let options = ScoreOptions {
            window: evaluation.window,
            separator_id: inputs.tokenizer.separator_id(),
            in_every_window: inputs.tokenizer.sequence_start().is_some(),
            tokens_per_batch: self.tokens_per_batch.get(),
        };
        let bar = progress::bar(self.bars, &format!("{title}: scores"));
        let domain = |corpora: &[CorpusRef]| -> anyhow::Result<ByCorpus<CorpusScore>> {
            let mut scores = ByCorpus::new();
            for corpus in corpora {
                bar.set_message(corpus.to_string());
                let documents = inputs.documents(corpus, evaluation.split, evaluation.max_bytes)?;
                let score = score(model, extension, &documents, &options, self.stop, &bar)?;
                scores.insert(corpus.to_string(), score);
            }
            Ok(scores)
        };
        let scores =
            Scores { original: domain(&evaluation.original)?, new: domain(&evaluation.new)? };
        bar.finish_and_clear();
        Ok(scores)
    }
}
