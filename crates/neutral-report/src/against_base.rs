//! What training changed about the base's predictions, token by token, and with what weights.

use serde::{Deserialize, Serialize};

use crate::ReportError;
use crate::results::{ByCorpus, ByDomain, finite};

/// A trained model beside its base, on some of the held-out text of each corpus.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AgainstBase {
    /// By corpus.
    pub divergence: ByDomain<ByCorpus<Divergence>>,
    /// Where the positive bins of gates' histograms end.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gate_edges: Vec<f64>,
    /// Of the matrices that were added to the base, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub singular_values: Vec<Spectrum>,
    /// The beginning of one document a corpus; absent without gates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub samples: Option<ByDomain<ByCorpus<Sample>>>,
}

/// How far predictions are from the base's, over scored tokens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Divergence {
    /// Scored tokens.
    pub tokens: u64,
    /// `KL(base ‖ trained)` of each token's distribution, in nats.
    pub kl_nats: Distribution,
    /// Share of tokens at which both hold the same one for the likeliest.
    pub top1_agreement: f64,
    /// Share of tokens whose hidden state after the final norm, and so whose logits, have the base's
    /// bits.
    pub same_bits_fraction: f64,
    /// Tokens before which no gate has opened; null where nothing was added beside sub-layers.
    pub neutral_prefixes: Option<NeutralPrefixes>,
    /// By block; empty without gates.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gates: Vec<BlockGates>,
}

/// Mean and quantiles.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Distribution {
    /// The arithmetic mean.
    pub mean: f64,
    /// The median.
    pub p50: f64,
    /// Nine in ten are not above.
    pub p90: f64,
    /// Ninety-nine in a hundred are not above.
    pub p99: f64,
    /// The largest.
    pub max: f64,
}

/// Tokens that are predicted from a prefix at which all gates were exactly zero.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct NeutralPrefixes {
    /// Share of scored tokens.
    pub fraction: f64,
    /// How many.
    pub tokens: u64,
    /// Of them, those whose hidden state has not the base's bits: 0 is expected.
    pub violations: u64,
}

/// What the gates of a block did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BlockGates {
    /// The block, from 0.
    pub block: usize,
    /// Share of tokens at which all of its gates are exactly zero.
    pub zero_fraction: f64,
    /// Values below 0.
    pub negative: u64,
    /// Values of exactly 0.
    pub zero: u64,
    /// Values above 0: below the first of [`AgainstBase::gate_edges`], from each edge on, from the last
    /// on.
    pub positive: Vec<u64>,
}

/// The singular values of one matrix.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spectrum {
    /// Its name among the weights: `layers.0.mlp.adapter.w_o`.
    pub matrix: String,
    /// Its number of rows.
    pub rows: u64,
    /// Its number of columns.
    pub columns: u64,
    /// `exp` of the entropy of its singular values as shares of their sum.
    pub effective_rank: f64,
    /// The largest first; of many, 16 at even distances, the largest and the smallest among them.
    pub singular_values: Vec<f64>,
}

/// The beginning of a document as it was read; a list has one entry a token.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// The document.
    pub document: String,
    /// The text that each token completes; together they are the text. Empty where a token ends
    /// within a character.
    pub text: Vec<String>,
    /// Share of gates that are not exactly zero when the token is read.
    pub open_gates: Vec<f64>,
    /// Mean of the gates' values.
    pub mean_gate: Vec<f64>,
    /// `KL(base ‖ trained)` of what follows the token, in nats.
    pub kl_nats: Vec<f64>,
}

impl AgainstBase {
    /// Refuses numbers that are not finite.
    pub(crate) fn check(&self, trial: &str) -> Result<(), ReportError> {
        let all = self.divergence.original.iter().chain(&self.divergence.new);
        for (corpus, Divergence { kl_nats: kl, .. }) in all {
            for value in [kl.mean, kl.p50, kl.p90, kl.p99, kl.max] {
                finite(trial, value, || format!("against_base.divergence of {corpus}"))?;
            }
        }
        for spectrum in &self.singular_values {
            let values = spectrum.singular_values.iter().chain([&spectrum.effective_rank]);
            for value in values {
                finite(trial, *value, || format!("singular values of {}", spectrum.matrix))?;
            }
        }
        let samples = self.samples.iter().flat_map(|s| s.original.iter().chain(&s.new));
        for (corpus, sample) in samples {
            for value in sample.mean_gate.iter().chain(&sample.kl_nats) {
                finite(trial, *value, || format!("the sample of {corpus}"))?;
            }
        }
        Ok(())
    }
}

impl Spectrum {
    /// The block that the matrix is in, and what remains of its name.
    pub(crate) fn block(&self) -> Option<(usize, &str)> {
        let (block, rest) = self.matrix.strip_prefix("layers.")?.split_once('.')?;
        Some((block.parse().ok()?, rest))
    }

    /// How many singular values the matrix has.
    pub(crate) fn count(&self) -> u64 {
        self.rows.min(self.columns)
    }
}

impl<T> ByDomain<ByCorpus<T>> {
    /// All corpora, those of the original domain first.
    pub(crate) fn corpora(&self) -> impl Iterator<Item = (&'static str, &str, &T)> {
        let original = self.original.iter().map(|(corpus, value)| ("original", &**corpus, value));
        original.chain(self.new.iter().map(|(corpus, value)| ("new", &**corpus, value)))
    }
}
