//! Scores documents: the loss of every token, given what comes before it in its own document.
//!
//! Windows of all documents are batched by length; each belongs to one document, so plain causal
//! attention keeps to it. The loss of a token is fp32, as [`Transformer::token_losses`] gives it; sums
//! are f64.

use std::sync::atomic::{AtomicBool, Ordering};

use indicatif::ProgressBar;
use neutral_data::EvalDocument;
use neutral_model::{Attention, Extension, Input, Transformer};
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use crate::batches::{Batch, Row, group};
use crate::neutrality::{NeutralitySums, at};
use crate::{EvalError, Metrics, Neutrality, Window, prefixed_windows, rolling_windows};

/// How documents are scored.
#[derive(Clone, Copy, Debug)]
pub struct ScoreOptions {
    /// Tokens that the model reads at once, at most; changes scores.
    pub window: usize,
    /// The token before every document: the one that training put there.
    pub separator_id: u32,
    /// It begins every window, one within a document too, for models that read nothing well without (Gemma).
    pub in_every_window: bool,
    /// Positions of one forward pass, padding included; bounds memory and moves scores by rounding
    /// alone. A window that is longer is computed by itself.
    pub tokens_per_batch: usize,
}

impl ScoreOptions {
    /// The windows of a document, in order.
    pub(crate) fn windows<'a>(&self, tokens: &'a [u32]) -> Vec<Window<'a>> {
        let Self { window, separator_id, .. } = *self;
        if self.in_every_window {
            prefixed_windows(tokens, separator_id, window).collect()
        } else {
            rolling_windows(tokens, separator_id, window).collect()
        }
    }
}

/// The scores of a corpus.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CorpusScore {
    /// All documents together.
    pub metrics: Metrics,
    /// Each by itself, in the order they were given: for paired comparisons of two models.
    pub per_document: Vec<DocumentScore>,
    /// What the extension's branches did; nothing if it has none.
    pub neutrality: Option<Neutrality>,
}

/// The score of a document.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DocumentScore {
    /// The document.
    pub id: String,
    /// `Σ −ln p(token | tokens before it)`.
    pub nats: f64,
    /// Its tokens, all of them scored.
    pub tokens: u64,
    /// UTF-8 bytes of its text.
    pub bytes: u64,
}

/// Scores documents under a model with an extension; the pristine base's is [`Extension::none`].
///
/// The bar's length is set to the number of tokens, and moves with them. A document without text
/// and tokens scores 0 nats. The flag is looked at before every batch.
///
/// # Errors
/// If an option does not fit the model; if a document has tokens but no text or the reverse, or a
/// token that the model does not know; if no document has a token; if a score is not finite. The
/// document is named. [`EvalError::Interrupted`] if it was told to stop.
///
/// # Panics
/// If the extension was made for another model.
pub fn score(
    model: &Transformer,
    extension: &Extension,
    documents: &[EvalDocument],
    options: &ScoreOptions,
    stop: &AtomicBool,
    progress: &ProgressBar,
) -> Result<CorpusScore, EvalError> {
    check_options(model, options)?;
    let vocab_size = model.config().vocab_size;
    let (mut per_document, mut rows) = (Vec::with_capacity(documents.len()), Vec::new());
    for (document, found) in documents.iter().enumerate() {
        check_document(found, vocab_size)?;
        let EvalDocument { id, tokens, bytes } = found;
        rows.extend(options.windows(tokens).into_iter().map(|window| Row { document, window }));
        let tokens = tokens.len() as u64;
        per_document.push(DocumentScore { id: id.clone(), nats: 0.0, tokens, bytes: *bytes });
    }
    let sum = |of: fn(&DocumentScore) -> u64| per_document.iter().map(of).sum::<u64>();
    let (tokens, bytes) = (sum(|document| document.tokens), sum(|document| document.bytes));
    if tokens == 0 {
        return Err(EvalError::NothingToScore { documents: documents.len() });
    }
    progress.set_length(tokens);
    progress.set_position(0);
    let mut neutrality = NeutralitySums::default();
    for rows in group(&mut rows, options.tokens_per_batch) {
        if stop.load(Ordering::SeqCst) {
            return Err(EvalError::Interrupted);
        }
        let batch = Batch::new(rows, options.separator_id, model.device());
        let losses = tch::no_grad(|| token_losses(model, extension, batch, &mut neutrality));
        let mut losses = losses.as_slice();
        for Row { document, window } in rows {
            let (own, rest) = losses.split_at(window.targets.len());
            let DocumentScore { id, nats, .. } = &mut per_document[*document];
            *nats += own.iter().copied().sum::<f64>();
            if !nats.is_finite() {
                return Err(EvalError::NonFinite { id: id.clone(), nats: *nats });
            }
            progress.inc(own.len() as u64);
            losses = rest;
        }
    }
    let nats = per_document.iter().map(|document| document.nats).sum();
    let metrics = Metrics::new(nats, tokens, bytes)?;
    Ok(CorpusScore { metrics, per_document, neutrality: neutrality.means()? })
}

/// The losses of a batch's scored positions in nats, row by row.
fn token_losses(
    model: &Transformer,
    extension: &Extension,
    batch: Batch,
    neutrality: &mut NeutralitySums,
) -> Vec<f64> {
    let Batch { tokens_bt, scored_n, targets_n } = batch;
    let input = Input { tokens_bt, attention: Attention::Causal };
    let output = model.forward(&input, extension);
    neutrality.add(&output.residues, &scored_n);
    // Only scored positions reach the head, the most expensive layer of a small model.
    let hidden_1nd = at(&output.hidden_btd, &scored_n).unsqueeze(0);
    let losses_1n = model.token_losses(&hidden_1nd, &targets_n.unsqueeze(0));
    let losses_n: Tensor = losses_1n.view(-1).to_device(Device::Cpu).to_kind(Kind::Double);
    let mut losses = vec![0_f64; losses_n.numel()];
    losses_n.copy_data(&mut losses, losses_n.numel());
    losses
}

pub(crate) fn check_options(model: &Transformer, options: &ScoreOptions) -> Result<(), EvalError> {
    let require = |holds: bool, field, value: String, expected: String| {
        if holds { Ok(()) } else { Err(EvalError::Option { field, value, expected }) }
    };
    let ScoreOptions { window, separator_id, in_every_window, tokens_per_batch } = *options;
    let least = if in_every_window { 2 } else { 1 };
    require(window >= least, "window", window.to_string(), format!("at least {least}"))?;
    let found = tokens_per_batch.to_string();
    require(tokens_per_batch > 0, "tokens_per_batch", found, "at least 1".to_owned())?;
    let vocab_size = model.config().vocab_size;
    let known = (separator_id as usize) < vocab_size;
    let expected = format!("a token below the model's vocabulary size of {vocab_size}");
    require(known, "separator_id", separator_id.to_string(), expected)
}

pub(crate) fn check_document(document: &EvalDocument, vocab_size: usize) -> Result<(), EvalError> {
    let EvalDocument { id, tokens, bytes } = document;
    if tokens.is_empty() != (*bytes == 0) {
        let tokens = tokens.len() as u64;
        return Err(EvalError::Document { id: id.clone(), tokens, bytes: *bytes });
    }
    match tokens.iter().find(|token| **token as usize >= vocab_size) {
        Some(&token) => Err(EvalError::Vocabulary { id: id.clone(), token, vocab_size }),
        None => Ok(()),
    }
}
