//! How near to nothing the residues are, and whether there are gates that make them so.

use serde::{Deserialize, Serialize};

use crate::results::{ByDomain, TrialResult};

/// How near to nothing the residues are on a domain's held-out text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Neutrality {
    /// Share of tokens at which every gate of a block is exactly zero, mean over blocks; of a branch
    /// without a gate, at which its residue is, which says nothing of gates: see
    /// [`TrialResult::gates_zero`].
    pub gate_zero_fraction: f64,
    /// `‖residue‖₁ / d`, mean over tokens and blocks.
    pub residue_l1: f64,
    /// The same share, block by block.
    pub gate_zero_fraction_per_block: Vec<f64>,
    /// The same mean, block by block.
    pub residue_l1_per_block: Vec<f64>,
}

impl Neutrality {
    /// One for several corpora of a domain: the mean weighted by tokens; `None` if there are none.
    ///
    /// # Panics
    /// If the parts are of models with different numbers of blocks.
    pub fn pooled(parts: &[(Self, u64)]) -> Option<Self> {
        let (first, _) = parts.first()?;
        let total: u64 = parts.iter().map(|(_, tokens)| tokens).sum();
        let mean = |value: &dyn Fn(&Self) -> f64| {
            parts.iter().map(|(part, tokens)| value(part) * *tokens as f64).sum::<f64>()
                / total as f64
        };
        let blocks = |value: &dyn Fn(&Self) -> &Vec<f64>| {
            (0..value(first).len()).map(|block| mean(&|part| value(part)[block])).collect()
        };
        Some(Self {
            gate_zero_fraction: mean(&|part| part.gate_zero_fraction),
            residue_l1: mean(&|part| part.residue_l1),
            gate_zero_fraction_per_block: blocks(&|part| &part.gate_zero_fraction_per_block),
            residue_l1_per_block: blocks(&|part| &part.residue_l1_per_block),
        })
    }
}

impl TrialResult {
    /// The shares of tokens at which the gates are zero; `None` for a trial without gates, where
    /// `gate_zero_fraction` is a number about residues that would read as "the gates never close".
    pub fn gates_zero(&self) -> Option<ByDomain<f64>> {
        let activation = self.spec.pointer("/method/gate/activation")?.as_str()?;
        let ByDomain { original, new } = self.neutrality.as_ref()?;
        let shares =
            ByDomain { original: original.gate_zero_fraction, new: new.gate_zero_fraction };
        (activation != "none").then_some(shares)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    #[test]
    fn corpora_are_pooled_by_their_tokens() {
        let part = |x: f64| Neutrality {
            gate_zero_fraction: x,
            residue_l1: x,
            gate_zero_fraction_per_block: vec![x, x],
            residue_l1_per_block: vec![x, x],
        };
        let pooled = Neutrality::pooled(&[(part(0.0), 100), (part(1.0), 300)]);
        assert_eq!(pooled, Some(part(0.75)));
        assert_eq!(Neutrality::pooled(&[]), None);
    }

    #[test]
    fn only_a_trial_with_gates_has_a_share_of_zero_gates() {
        let results = sample::quick();
        let shares: Vec<_> = results.trials.iter().map(TrialResult::gates_zero).collect();
        let expected = ByDomain { original: 0.801, new: 0.0213 };
        assert_eq!(shares, [None, None, None, Some(expected)]);
        let [.., adapter, neutral] = results.trials.as_slice() else { panic!("four methods") };
        assert!(adapter.neutrality.is_some(), "a residue without a gate");
        let mut ungated = neutral.clone();
        ungated.spec["method"]["gate"]["activation"] = "none".into();
        assert_eq!(ungated.gates_zero(), None);
    }
}
