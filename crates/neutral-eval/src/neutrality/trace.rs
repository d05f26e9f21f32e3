//! One document, token by token: where gates open, and where the extended model departs from its base.

use neutral_data::EvalDocument;
use neutral_model::{Extension, Transformer, mean_over_gates};
use tch::{Kind, Tensor};

use super::pair::Pair;
use crate::score::{check_document, check_options};
use crate::{EvalError, ScoreOptions};

/// What happened when a token was read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TokenTrace {
    /// The token that was read.
    pub token: u32,
    /// Share of gates that are not exactly zero here, over blocks; a gate a channel counts by its share
    /// of channels. Absent without gates.
    pub open_gates: Option<f64>,
    /// Mean of the gates' values here. Absent without gates.
    pub mean_gate: Option<f64>,
    /// `KL(base ‖ extended)` of what comes after the token, in nats.
    pub kl_nats: f64,
}

/// Reads the beginning of a document, after the separator, with base and extended model: at most
/// `most` tokens, and no more than a window holds.
///
/// # Errors
/// As [`crate::score`]; a document without tokens gives nothing.
///
/// # Panics
/// As [`crate::compare`].
pub fn trace(
    base: (&Transformer, &Extension),
    after: (&Transformer, &Extension),
    document: &EvalDocument,
    options: &ScoreOptions,
    most: usize,
) -> Result<Vec<TokenTrace>, EvalError> {
    check_options(base.0, options)?;
    check_document(document, base.0.config().vocab_size)?;
    let read = document.tokens.len().min(most).min(options.window - 1);
    let tokens = &document.tokens[..read];
    if tokens.is_empty() {
        return Ok(Vec::new());
    }
    let input = std::iter::once(options.separator_id).chain(tokens.iter().copied());
    let input: Vec<i64> = input.map(i64::from).collect();
    let device = base.0.device();
    let tokens_bt = Tensor::from_slice(&input).unsqueeze(0).to_device(device);
    // The separator is read and not shown.
    let shown_n = Tensor::arange_start(1, input.len() as i64, (Kind::Int64, device));
    let pair = Pair { base, after };
    let positions = tch::no_grad(|| pair.run(tokens_bt, &shown_n));
    if let Some(&nats) = positions.kl_nats.iter().find(|nats| !nats.is_finite()) {
        return Err(EvalError::NonFinite { id: document.id.clone(), nats });
    }
    let open_gates = mean_over_gates(&positions.residues, |value| value.ne(0.0));
    let mean_gate = mean_over_gates(&positions.residues, Tensor::shallow_clone);
    let traces = tokens.iter().zip(positions.kl_nats).enumerate();
    let trace = |(i, (&token, kl_nats))| TokenTrace {
        token,
        open_gates: open_gates.as_ref().map(|open| open[i + 1]),
        mean_gate: mean_gate.as_ref().map(|mean| mean[i + 1]),
        kl_nats,
    };
    Ok(traces.map(trace).collect())
}
