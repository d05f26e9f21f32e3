//! How well a model predicts held-out text, and what an extension changed about it.
//!
//! ```text
//! documents ─ rolling windows ─► batches ─ Transformer::forward ─► nats a token ─► Metrics
//!                                                              └─► residues     ─► Neutrality
//! base and extended model on the same batches ─► Divergence: KL, agreement, equal bits, gates
//! ```
//!
//! [`score`] reads every document by itself: no token is ever conditioned on another document. Long
//! documents are cut into windows as lm-evaluation-harness cuts them ([`rolling_windows`]), so the
//! figures can be held against those of other tools. [`Metrics`] says why bits per byte is the one
//! to compare. [`compare`], [`trace`] and [`spectra`] say how an extended model departs from its base: where, by how much, and with what.
//!
//! # What varies with the batch
//! Windows of one batch are computed together, and matrix products of another shape round in another
//! order. A score therefore moves a little with [`ScoreOptions::tokens_per_batch`] and with the other
//! documents: by less than 1e-5 of itself in fp32, and less than 1e-2 of itself in bf16 (tests on the
//! CPU hold both). Nothing else depends on the batch: padding stands to the right, where causal attention does
//! not see it, and padded positions have no target.
//!
//! This crate trains nothing, reads no files and knows no method by name; it does not see
//! neutral-adapters.

mod batches;
mod continuations;
mod error;
mod metrics;
mod neutrality;
mod score;
#[cfg(test)]
mod tests;
mod windows;

pub use continuations::{BatchSize, Continuation, ContinuationScore, Work, score_continuations};
pub use error::EvalError;
pub use metrics::Metrics;
pub use neutrality::{
    BlockGates, Distribution, Divergence, GATE_EDGES, GateHistogram, NeutralPrefixes, Neutrality,
    Spectrum, TokenTrace, compare, spectra, trace,
};
pub use score::{CorpusScore, DocumentScore, ScoreOptions, score};
pub use windows::{Window, prefixed_windows, rolling_windows};
