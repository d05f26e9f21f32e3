//! The version of everything that computes a number.

use neutral_spec::{GateActivation, LocalLossSpec, Method, Precision};

/// Part of every fingerprint: results of two versions are never mixed or reused.
///
/// Raise it whenever the goldens of the smoke run change, in the same commit.
pub(crate) const NUMERICS_VERSION: u32 = 2;

/// The same of forward passes of extensions that have changed since; part of what answers to tasks are kept by.
///
/// 1: DoRA's factors are not rounded to bf16.
pub(crate) const FORWARD_VERSION: u32 = 1;

/// What else has changed, of some methods alone; nothing of the others, whose results are kept.
///
/// 1: an l1 loss's gradient and the residual stream's are summed in fp32 before they are rounded to bf16;
/// DoRA's factors are not rounded to bf16.
pub(crate) fn version_of(method: &Method, precision: Precision) -> Option<u32> {
    match (method, precision) {
        (
            Method::NeutralResidues { gate, local_loss: LocalLossSpec::L1 { .. }, .. },
            Precision::Bf16,
        ) if gate.activation != GateActivation::None => Some(1),
        (Method::Dora { .. }, Precision::Bf16) => Some(1),
        _ => None,
    }
}
