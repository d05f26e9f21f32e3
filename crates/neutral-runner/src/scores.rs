//! A model's scores on every corpus of the evaluation.

use std::sync::atomic::{AtomicBool, Ordering};

use indicatif::MultiProgress;
use neutral_eval::{CorpusScore, ScoreOptions, score};
use neutral_model::{Extension, Transformer};
use neutral_report::ByCorpus;
use neutral_spec::{CorpusRef, Evaluation};
use serde::{Deserialize, Serialize};
use tch::Device;

use crate::exit::Interrupted;
use crate::inputs::Inputs;
use crate::progress;

/// Tokens of one forward pass; bounds memory, and moves scores by rounding alone.
pub(crate) const TOKENS_PER_BATCH: usize = 8192;

/// Scores by corpus, a map a domain.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Scores {
    /// Corpora of the original domain.
    pub original: ByCorpus<CorpusScore>,
    /// Corpora of the new domain.
    pub new: ByCorpus<CorpusScore>,
}

/// Scores a model on all held-out text of the plan.
#[expect(clippy::too_many_arguments, reason = "a model, the text, and where to report")]
pub(crate) fn score_all(
    model: &Transformer,
    extension: &Extension,
    evaluation: &Evaluation,
    inputs: &Inputs,
    device: Device,
    stop: &AtomicBool,
    bars: &MultiProgress,
    title: &str,
) -> anyhow::Result<Scores> {
    let options = ScoreOptions {
        window: evaluation.window,
        separator_id: inputs.tokenizer.separator_id(),
        device,
        tokens_per_batch: TOKENS_PER_BATCH,
    };
    let bar = progress::bar(bars, &format!("{title}: scores"));
    let domain = |corpora: &[CorpusRef]| -> anyhow::Result<ByCorpus<CorpusScore>> {
        let mut scores = ByCorpus::new();
        for corpus in corpora {
            if stop.load(Ordering::SeqCst) {
                return Err(Interrupted.into());
            }
            bar.set_message(corpus.to_string());
            let documents = inputs.documents(corpus, evaluation.split, evaluation.max_bytes)?;
            let score = score(model, extension, &documents, &options, &bar)?;
            scores.insert(corpus.to_string(), score);
        }
        Ok(scores)
    };
    let scores = Scores { original: domain(&evaluation.original)?, new: domain(&evaluation.new)? };
    bar.finish_and_clear();
    Ok(scores)
}
