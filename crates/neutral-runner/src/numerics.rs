//! The version of everything that computes a number.

use neutral_spec::{GateActivation, LocalLossSpec, Method, Precision};

/// Part of every fingerprint: results of two versions are never mixed or reused.
///
/// Raise it whenever the goldens of the smoke run change, in the same commit.
pub(crate) const NUMERICS_VERSION: u32 = 2;

/// The version of extensions' forward passes, which have changed since; part of what answers to tasks are kept by.
///
/// 1: DoRA's factors are not rounded to bf16.
pub(crate) fn forward() -> String {
    "forward 1".to_owned()
}

/// What else has changed, of some methods alone; nothing of the others, whose results are kept.
///
/// 1: an l1 loss's gradient and the residual stream's are summed in fp32 before they are rounded to bf16, and so are
/// those of the gate's l1 and of the residue; DoRA's factors are not rounded to bf16.
pub(crate) fn version_of(method: &Method, precision: Precision) -> Option<u32> {
    match (method, precision) {
        (
            Method::NeutralResidues { gate, local_loss: LocalLossSpec::L1 { .. }, .. },
            Precision::Bf16,
        ) if gate.activation != GateActivation::None => Some(1),
        (
            Method::NeutralResidues { local_loss: LocalLossSpec::GateL1 { .. }, .. }
            | Method::Dora { .. },
            Precision::Bf16,
        ) => Some(1),
        _ => None,
    }
}

/// The version of what trials draw that go on from others, part of their fingerprints.
///
/// 1: each draws its own start and text; before, all of a sequence drew those of its first.
pub(crate) const DRAWS_AFTER: u32 = 1;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// The fixes that a version stands for are of bf16, of a gated l1, of a gate's and of `DoRA`; all else keeps its
    /// results.
    #[test]
    fn what_did_not_change_has_no_version() {
        let of =
            |method, precision| version_of(&serde_json::from_value(method).unwrap(), precision);
        let residues = |gate: &str, loss: &str| {
            json!({
                "kind": "neutral_residues", "budget": "20%",
                "gate": { "activation": gate }, "local_loss": { "kind": loss, "weight": 1 },
            })
        };
        let (gated, dora) = (residues("relu", "l1"), json!({ "kind": "dora", "budget": "20%" }));
        for method in [gated, residues("relu", "gate_l1"), dora] {
            assert_eq!(of(method.clone(), Precision::Bf16), Some(1), "{method}");
            assert_eq!(of(method.clone(), Precision::Fp32), None, "{method}");
        }
        let [ungated, classified] =
            [residues("none", "l1"), residues("sigmoid", "domain_classifier")];
        for method in [ungated, classified, json!({ "kind": "finetune" })] {
            assert_eq!(of(method.clone(), Precision::Bf16), None, "{method}");
        }
    }
}
