//! `neutrality.json`: a trained model beside its base, kept in the trial's folder.
//!
//! Measured from the weights on disk, so that trials which finished earlier, or were measured on more
//! or less text, are measured again without being trained again.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, Ordering};

use indicatif::ProgressBar;
use neutral_data::{EvalDocument, Tokenizer};
use neutral_eval::{GATE_EDGES, ScoreOptions, TokenTrace, compare, spectra, trace};
use neutral_model::Extension;
use neutral_report::{
    AgainstBase, BlockGates, ByCorpus, ByDomain, Distribution, Divergence, NeutralPrefixes, Sample,
    Spectrum,
};
use neutral_spec::{CorpusRef, Trial};
use neutral_store::{Fingerprint, StoreError, read_json, write_json};
use serde::{Deserialize, Serialize};

use crate::exit::{Interrupted, is_interrupted};
use crate::progress;
use crate::trial::{NEUTRALITY, Shared};
use crate::trial_file::Extended;

/// Raised when the same trial would give other numbers.
const NEUTRALITY_VERSION: u32 = 1;

/// Tokens of the document that is shown of each corpus.
const SAMPLE_TOKENS: usize = 300;

/// Singular values that are kept of a matrix.
const SINGULAR_VALUES: usize = 16;

/// No token of a tokenizer in use stands for more bytes, on the mean over a text.
const BYTES_PER_TOKEN: u64 = 16;

/// `neutrality.json`.
#[derive(Debug, Serialize, Deserialize)]
struct NeutralityRecord {
    fingerprint: Fingerprint,
    against_base: AgainstBase,
}

/// What was made of a base, itself, and how text is read with both.
pub(crate) struct Beside<'a> {
    /// What was extended; the same model without any extension, if absent.
    pub(crate) pristine: Option<&'a Extended>,
    pub(crate) after: &'a Extended,
    pub(crate) tokenizer: &'a Tokenizer,
    pub(crate) window: usize,
    /// Of one forward pass.
    pub(crate) tokens_per_batch: NonZeroUsize,
}

impl Shared<'_> {
    /// A finished trial beside its base: from its folder, or measured now. Nothing if the plan leaves it
    /// out, if measuring fails, which is said, or if the run is asked to stop meanwhile.
    pub(crate) fn against_base(
        &self,
        trial: &Trial,
        interrupted: &mut bool,
    ) -> anyhow::Result<Option<AgainstBase>> {
        let tokens = self.plan.neutrality_tokens;
        if tokens == 0 {
            return Ok(None);
        }
        if let Some(kept) = self.kept_beside(trial)? {
            return Ok(Some(kept));
        }
        if *interrupted {
            return Ok(None);
        }
        match self.contained(|| self.measure(trial, tokens)) {
            Ok(against_base) => {
                let fingerprint = self.beside_fingerprint(trial);
                let record = NeutralityRecord { fingerprint, against_base };
                write_json(&self.folder(trial).join(NEUTRALITY), &record)?;
                Ok(Some(record.against_base))
            }
            Err(error) if is_interrupted(&error) => {
                *interrupted = true;
                Ok(None)
            }
            // A full disk or a damaged cache is no matter of this trial.
            Err(error) if error.is::<StoreError>() => Err(error),
            // The trial's own results stand.
            Err(error) => {
                tracing::error!("{}: cannot be compared with its base: {error:#}", trial.id);
                Ok(None)
            }
        }
    }

    /// What the trial's folder has, if it was measured of the same on as much text.
    pub(crate) fn kept_beside(&self, trial: &Trial) -> anyhow::Result<Option<AgainstBase>> {
        let path = self.folder(trial).join(NEUTRALITY);
        if !path.exists() {
            return Ok(None);
        }
        let kept: NeutralityRecord = read_json(&path)?;
        let holds = kept.fingerprint == self.beside_fingerprint(trial);
        Ok(holds.then_some(kept.against_base))
    }

    fn beside_fingerprint(&self, trial: &Trial) -> Fingerprint {
        let tokens = self.plan.neutrality_tokens;
        Fingerprint::of(&(NEUTRALITY_VERSION, self.fingerprint(trial), tokens))
    }

    fn measure(&self, trial: &Trial, tokens: usize) -> anyhow::Result<AgainstBase> {
        let evaluation = &self.plan.evaluation;
        let (file, folder) = (self.file(trial)?, self.folder(trial));
        let after = file.after(&folder, self.loading())?;
        let pristine = file.pristine(&folder, self.loading())?;
        let beside = Beside {
            pristine: pristine.as_ref(),
            after: &after,
            tokenizer: &self.inputs.tokenizer,
            window: evaluation.window,
            tokens_per_batch: self.scorer.tokens_per_batch,
        };
        let bar = progress::bar(self.bars, &format!("{}: beside the base", trial.id));
        let limit = most_bytes(tokens);
        let max_bytes = evaluation.max_bytes.map_or(limit, |max| max.min(limit));
        let corpus = |corpus: &CorpusRef| -> anyhow::Result<_> {
            if self.stop.load(Ordering::SeqCst) {
                return Err(Interrupted.into());
            }
            bar.set_message(corpus.to_string());
            let documents = self.inputs.documents(corpus, evaluation.split, Some(max_bytes))?;
            let (divergence, sample) = beside.corpus(cut(documents, tokens), self.stop, &bar)?;
            Ok((corpus.to_string(), divergence, sample))
        };
        let domain = |corpora: &[CorpusRef]| corpora.iter().map(corpus).collect();
        let measured: ByDomain<anyhow::Result<Vec<_>>> =
            ByDomain { original: domain(&evaluation.original), new: domain(&evaluation.new) };
        let against_base =
            beside.put_together(ByDomain { original: measured.original?, new: measured.new? });
        bar.finish_and_clear();
        Ok(against_base)
    }
}

/// A corpus' name and what was found on it.
type Found = (String, Divergence, Option<Sample>);

impl Beside<'_> {
    /// What was found on some documents, and the beginning of the first that has any text.
    pub(crate) fn corpus(
        &self,
        documents: Vec<EvalDocument>,
        stop: &AtomicBool,
        bar: &ProgressBar,
    ) -> anyhow::Result<(Divergence, Option<Sample>)> {
        let options = ScoreOptions {
            window: self.window,
            separator_id: self.tokenizer.separator_id(),
            in_every_window: self.tokenizer.sequence_start().is_some(),
            tokens_per_batch: self.tokens_per_batch.get(),
        };
        let none = Extension::none();
        let after = (&self.after.0, &self.after.1);
        let base = self.pristine.map_or((after.0, &none), |(model, below)| (model, below));
        let found = compare(base, after, &documents, &options, stop, bar)?;
        let sample = match shown(&documents).filter(|_| !found.gates.is_empty()) {
            Some(document) => {
                let traces = trace(base, after, document, &options, SAMPLE_TOKENS)?;
                Some(sample(&document.id, &traces, self.tokenizer)?)
            }
            None => None,
        };
        Ok((divergence(found), sample))
    }

    /// What was found on all corpora, and the singular values of what was added.
    pub(crate) fn put_together(&self, found: ByDomain<Vec<Found>>) -> AgainstBase {
        let ByDomain { original, new } = found;
        let divergence = |found: &[Found]| {
            found
                .iter()
                .map(|(corpus, divergence, _)| (corpus.clone(), divergence.clone()))
                .collect()
        };
        let samples = |found: &[Found]| -> ByCorpus<Sample> {
            found.iter().filter_map(|(corpus, _, s)| Some((corpus.clone(), s.clone()?))).collect()
        };
        let samples = ByDomain { original: samples(&original), new: samples(&new) };
        let gated = !(samples.original.is_empty() && samples.new.is_empty());
        AgainstBase {
            divergence: ByDomain { original: divergence(&original), new: divergence(&new) },
            gate_edges: if gated { GATE_EDGES.to_vec() } else { Vec::new() },
            singular_values: spectra(&self.after.1).into_iter().map(spectrum).collect(),
            samples: gated.then_some(samples),
        }
    }
}

/// The first document that fills a sample, else the longest.
fn shown(documents: &[EvalDocument]) -> Option<&EvalDocument> {
    let length = |document: &&EvalDocument| document.tokens.len();
    let fills = documents.iter().find(|document| length(document) >= SAMPLE_TOKENS);
    fills.or_else(|| documents.iter().max_by_key(length).filter(|longest| length(longest) > 0))
}

/// Bytes of text that are enough for so many tokens.
pub(crate) fn most_bytes(tokens: usize) -> u64 {
    (tokens as u64).saturating_mul(BYTES_PER_TOKEN)
}

/// So many tokens of some documents, the last cut short.
pub(crate) fn cut(documents: Vec<EvalDocument>, tokens: usize) -> Vec<EvalDocument> {
    let mut left = tokens;
    let cut = documents.into_iter().map_while(|mut document| {
        (left > 0).then(|| {
            document.tokens.truncate(left);
            left -= document.tokens.len();
            document
        })
    });
    cut.collect()
}

fn divergence(found: neutral_eval::Divergence) -> Divergence {
    let neutral_eval::Distribution { mean, p50, p90, p99, max } = found.kl_nats;
    let prefixes = found.neutral_prefixes.map(|prefixes| {
        let neutral_eval::NeutralPrefixes { fraction, tokens, violations } = prefixes;
        NeutralPrefixes { fraction, tokens, violations }
    });
    let gates = found.gates.into_iter().map(|gates| {
        let neutral_eval::BlockGates { block, zero_fraction, histogram } = gates;
        let neutral_eval::GateHistogram { negative, zero, positive } = histogram;
        BlockGates { block, zero_fraction, negative, zero, positive }
    });
    Divergence {
        tokens: found.tokens,
        kl_nats: Distribution { mean, p50, p90, p99, max },
        top1_agreement: found.top1_agreement,
        same_bits_fraction: found.same_bits_fraction,
        neutral_prefixes: prefixes,
        gates: gates.collect(),
    }
}

fn spectrum(found: neutral_eval::Spectrum) -> Spectrum {
    let [rows, columns] = found.shape;
    let all = &found.singular_values;
    let kept = all.len().min(SINGULAR_VALUES);
    let last = |n: usize| n.saturating_sub(1).max(1);
    let singular_values = (0..kept).map(|i| all[i * (all.len() - 1) / last(kept)]).collect();
    let effective_rank = found.effective_rank();
    let (rows, columns) = (rows as u64, columns as u64);
    Spectrum { matrix: found.name, rows, columns, effective_rank, singular_values }
}

fn sample(document: &str, traces: &[TokenTrace], tokenizer: &Tokenizer) -> anyhow::Result<Sample> {
    let ids: Vec<u32> = traces.iter().map(|trace| trace.token).collect();
    let column = |of: fn(&TokenTrace) -> f64| traces.iter().map(|t| four_digits(of(t))).collect();
    Ok(Sample {
        document: document.to_owned(),
        text: pieces(&ids, tokenizer)?,
        open_gates: column(|trace| trace.open_gates.unwrap_or(0.0)),
        mean_gate: column(|trace| trace.mean_gate.unwrap_or(0.0)),
        kl_nats: column(|trace| trace.kl_nats),
    })
}

/// The text that each token completes; what is left of a character goes to the last.
fn pieces(ids: &[u32], tokenizer: &Tokenizer) -> anyhow::Result<Vec<String>> {
    let mut stream = tokenizer.text_stream();
    let mut pieces = Vec::with_capacity(ids.len());
    for id in ids {
        pieces.push(stream.next(*id)?.unwrap_or_default());
    }
    let rest = stream.finish()?;
    if let Some(last) = pieces.last_mut() {
        *last += &rest;
    }
    Ok(pieces)
}

/// Four digits are more than a colour can show.
fn four_digits(value: f64) -> f64 {
    format!("{value:.3e}").parse().unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(tokens: usize) -> EvalDocument {
        EvalDocument { id: "d".to_owned(), tokens: vec![1; tokens], bytes: 3 * tokens as u64 }
    }

    #[test]
    fn documents_are_cut_at_the_limit_and_not_before() {
        let lengths = |limit| {
            let cut = cut([5, 0, 7, 2].map(document).into(), limit);
            cut.iter().map(|d| d.tokens.len()).collect::<Vec<_>>()
        };
        assert_eq!(lengths(100), [5, 0, 7, 2]);
        assert_eq!(lengths(12), [5, 0, 7]);
        assert_eq!(lengths(6), [5, 0, 1]);
        assert_eq!(lengths(5), [5]);
    }

    #[test]
    fn the_first_long_document_is_shown_or_the_longest() {
        let length = |lengths: &[usize]| {
            let documents: Vec<_> = lengths.iter().copied().map(document).collect();
            shown(&documents).map(|document| document.tokens.len())
        };
        assert_eq!(length(&[5, 301, 900]), Some(301));
        assert_eq!(length(&[5, 0, 7]), Some(7));
        assert_eq!((length(&[0]), length(&[])), (None, None));
    }

    #[test]
    fn of_many_singular_values_the_ends_are_kept() {
        let kept = |n: usize| {
            let singular_values = (0..n).rev().map(|i| i as f64).collect();
            let shape = [n as i64, n as i64];
            let name = "w".to_owned();
            spectrum(neutral_eval::Spectrum { name, shape, singular_values }).singular_values
        };
        assert_eq!(kept(3), [2.0, 1.0, 0.0]);
        assert_eq!(kept(1), [0.0]);
        let many = kept(192);
        assert_eq!((many.len(), many[0], many[15]), (SINGULAR_VALUES, 191.0, 0.0));
        assert!(many.is_sorted_by(|a, b| a > b));
    }

    #[test]
    fn samples_have_four_digits() {
        assert_eq!([0.0, 1.0, 0.123_456, 2.5e-9].map(four_digits), [0.0, 1.0, 0.1235, 2.5e-9]);
    }
}
