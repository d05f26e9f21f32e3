//! The extended model against its base, token by token.
//!
//! # Neutral prefixes, bit for bit
//! At a token where every gate is exactly zero, so far as the model has read in its window, each branch
//! has added `0 · A(x) = ±0` everywhere it could have mattered: `x + 0 = x` in any precision, bf16 too.
//! The extended model then does what the base does, and its logits must be the base's, bit for bit.
//! [`compare`] does not take that for granted: both models run over the same batch, with the same
//! kernels on the same shapes, and the hidden states after the final norm are compared as bits. Equal
//! rows of hidden states give equal logits, since the head is the same product of the same shape.
//!
//! What could break it is counted as a violation and reported: `0 · A(x)` is no number where `A(x)` has
//! overflowed, and a −0 of the base becomes +0 when +0 is added, which changes a bit and no value.

use std::sync::atomic::{AtomicBool, Ordering};

use indicatif::ProgressBar;
use neutral_data::EvalDocument;
use neutral_model::{Extension, Transformer};

use super::gates::{BlockGates, GateCounts};
use super::pair::{Pair, Positions};
use crate::batches::{Batch, Row, group};
use crate::score::{check_document, check_options};
use crate::{Distribution, EvalError, ScoreOptions};

/// What an extension changed about the base's predictions of a text, over scored tokens.
#[derive(Clone, Debug, PartialEq)]
pub struct Divergence {
    /// Scored tokens.
    pub tokens: u64,
    /// `KL(base ‖ extended) = Σ p ln(p / q)` of each token's distribution, in nats.
    pub kl_nats: Distribution,
    /// Share of tokens at which both hold the same one for the likeliest.
    pub top1_agreement: f64,
    /// Share of tokens at which the hidden state after the final norm, and so the logits, have the
    /// base's bits, whatever the gates.
    pub same_bits_fraction: f64,
    /// Absent without branches.
    pub neutral_prefixes: Option<NeutralPrefixes>,
    /// What gates did, by block; empty without gates.
    pub gates: Vec<BlockGates>,
}

/// Tokens at which the extension has not let anything through yet.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NeutralPrefixes {
    /// Share of scored tokens that are predicted from a neutral prefix: all branches of all blocks were
    /// shut at every token that the model has read in its window, the one before the document included.
    pub fraction: f64,
    /// How many these are.
    pub tokens: u64,
    /// Of them, those whose hidden state after the final norm has not the base's bits; 0 is expected.
    pub violations: u64,
}

/// Compares an extended model with its base on documents, read as [`crate::score`] reads them.
///
/// `base` is what was extended, mostly a model without any extension; `after` is the same model with one, or
/// another where it was trained.
/// Costs two forward passes; logits exist for some rows at a time.
///
/// # Errors
/// As [`crate::score`].
///
/// # Panics
/// If the models do not have the same vocabulary and device, or the extension was made for another.
pub fn compare(
    base: (&Transformer, &Extension),
    after: (&Transformer, &Extension),
    documents: &[EvalDocument],
    options: &ScoreOptions,
    stop: &AtomicBool,
    progress: &ProgressBar,
) -> Result<Divergence, EvalError> {
    check_options(base.0, options)?;
    let mut rows = Vec::new();
    for (document, found) in documents.iter().enumerate() {
        check_document(found, base.0.config().vocab_size)?;
        rows.extend(
            options.windows(&found.tokens).into_iter().map(|window| Row { document, window }),
        );
    }
    let tokens = documents.iter().map(|document| document.tokens.len() as u64).sum();
    if tokens == 0 {
        return Err(EvalError::NothingToScore { documents: documents.len() });
    }
    progress.set_length(tokens);
    progress.set_position(0);
    let pair = Pair { base, after };
    let (mut sums, mut gates) = (Sums::default(), GateCounts::default());
    for rows in group(&mut rows, options.tokens_per_batch) {
        if stop.load(Ordering::SeqCst) {
            return Err(EvalError::Interrupted);
        }
        let Batch { tokens_bt, scored_n, .. } =
            Batch::new(rows, options.separator_id, base.0.device());
        let positions = tch::no_grad(|| pair.run(tokens_bt, &scored_n));
        let mut kl_nats = positions.kl_nats.as_slice();
        for Row { document, window } in rows {
            let (own, rest) = kl_nats.split_at(window.targets.len());
            if let Some(&nats) = own.iter().find(|nats| !nats.is_finite()) {
                return Err(EvalError::NonFinite { id: documents[*document].id.clone(), nats });
            }
            kl_nats = rest;
        }
        gates.add(&positions.residues, &scored_n);
        progress.inc(positions.kl_nats.len() as u64);
        sums.add(positions);
    }
    Ok(sums.finish(gates.finish()))
}

/// Counts over batches.
#[derive(Default)]
struct Sums {
    kl_nats: Vec<f64>,
    same_top: u64,
    same_bits: u64,
    /// Neutral ones, and those of them that have other bits.
    neutral: Option<(u64, u64)>,
}

impl Sums {
    fn add(&mut self, positions: Positions) {
        let Positions { kl_nats, same_top, same_bits, neutral, residues: _ } = positions;
        let count = |truths: &[bool]| truths.iter().filter(|truth| **truth).count() as u64;
        self.same_top += count(&same_top);
        self.same_bits += count(&same_bits);
        if let Some(neutral) = neutral {
            let (tokens, violations) = self.neutral.get_or_insert_default();
            *tokens += count(&neutral);
            let broken =
                neutral.iter().zip(&same_bits).filter(|(neutral, same)| **neutral && !**same);
            *violations += broken.count() as u64;
        }
        self.kl_nats.extend(kl_nats);
    }

    fn finish(self, gates: Vec<BlockGates>) -> Divergence {
        let tokens = self.kl_nats.len() as u64;
        let share = |of: u64| of as f64 / tokens as f64;
        Divergence {
            tokens,
            top1_agreement: share(self.same_top),
            same_bits_fraction: share(self.same_bits),
            neutral_prefixes: self.neutral.map(|(neutral, violations)| NeutralPrefixes {
                fraction: share(neutral),
                tokens: neutral,
                violations,
            }),
            kl_nats: Distribution::of(self.kl_nats),
            gates,
        }
    }
}
