//! How often gates are shut and how large residues are (the paper's analysis of how gates respond to
//! each domain).
//!
//! Counted over exactly the tokens that are scored: no padding, and no token twice where windows
//! overlap.
//!
//! Tensor names end in their shape: `b` window, `t` position, `n` scored position, `d` model width,
//! `c` channels of the gate (1 or d).

use std::collections::BTreeMap;

use neutral_model::Residue;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use crate::EvalError;

/// How often a block's residue is shut off, and how large it is.
///
/// Blocks without a branch do not appear: the lists hold the others, in order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Neutrality {
    /// Mean over blocks of the share below.
    pub gate_zero_fraction: f64,
    /// Share of tokens at which the block's gate is exactly zero in every channel. A branch without
    /// a gate counts as shut where its residue is exactly zero. If a block has two branches, both
    /// must be.
    pub gate_zero_fraction_per_block: Vec<f64>,
    /// Mean over blocks of the mean below.
    pub residue_l1: f64,
    /// Mean over tokens of `‖g(x)·A(x)‖₁ / d`, summed over the block's branches.
    pub residue_l1_per_block: Vec<f64>,
    /// Tokens that both are means over.
    pub tokens: u64,
}

/// Sums over batches.
#[derive(Debug, Default)]
pub(crate) struct NeutralitySums {
    blocks: BTreeMap<usize, BlockSums>,
    tokens: u64,
}

#[derive(Debug, Default)]
struct BlockSums {
    shut: u64,
    l1: f64,
}

impl NeutralitySums {
    /// Counts the scored positions of one forward pass.
    ///
    /// # Shapes
    /// Residues `[b, t, d]`, `scored_n`: places in `b·t`.
    pub(crate) fn add(&mut self, residues: &[Residue], scored_n: &Tensor) {
        self.tokens += scored_n.numel() as u64;
        for branches in residues.chunk_by(|a, b| a.block == b.block) {
            let sums = self.blocks.entry(branches[0].block).or_default();
            sums.shut += count(&at(&all_shut(branches).unsqueeze(-1), scored_n));
            sums.l1 += branches.iter().map(|residue| l1_sum(residue, scored_n)).sum::<f64>();
        }
    }

    /// The means; `None` if there was no residue.
    pub(crate) fn means(self) -> Result<Option<Neutrality>, EvalError> {
        if self.blocks.is_empty() {
            return Ok(None);
        }
        let tokens = self.tokens as f64;
        let (mut shut, mut l1) = (Vec::new(), Vec::new());
        for (block, sums) in self.blocks {
            let mean = sums.l1 / tokens;
            if !mean.is_finite() {
                return Err(EvalError::NonFiniteResidue { block, l1: mean });
            }
            shut.push(sums.shut as f64 / tokens);
            l1.push(mean);
        }
        let mean = |blocks: &[f64]| blocks.iter().sum::<f64>() / blocks.len() as f64;
        Ok(Some(Neutrality {
            gate_zero_fraction: mean(&shut),
            gate_zero_fraction_per_block: shut,
            residue_l1: mean(&l1),
            residue_l1_per_block: l1,
            tokens: self.tokens,
        }))
    }
}

/// Where all of some branches let nothing through, `[b, t]`, bool.
///
/// A gate of −0 is shut like one of 0; one that is no number is not.
///
/// # Panics
/// If there are none.
pub(crate) fn all_shut(branches: &[Residue]) -> Tensor {
    let shut = branches.iter().map(|residue| {
        let decides_btc = residue.gate.as_ref().map_or(&residue.output_btd, |gate| &gate.value);
        decides_btc.eq(0.0).all_dim(-1, false)
    });
    shut.reduce(|shut_bt, also_bt| shut_bt.logical_and(&also_bt)).expect("at least one branch")
}

/// How often something is true.
pub(crate) fn count(truths: &Tensor) -> u64 {
    truths.sum(Kind::Int64).int64_value(&[]) as u64
}

/// `Σ_n ‖residue‖₁ / d`.
fn l1_sum(residue: &Residue, scored_n: &Tensor) -> f64 {
    let residue_nd = at(&residue.output_btd, scored_n).to_kind(Kind::Float);
    residue_nd.abs().mean_dim(-1, false, Kind::Float).sum(Kind::Double).double_value(&[])
}

/// Rows `[n, c]` of `[b, t, c]`.
pub(crate) fn at(x_btc: &Tensor, scored_n: &Tensor) -> Tensor {
    x_btc.flatten(0, 1).index_select(0, scored_n)
}

#[cfg(test)]
mod tests {
    use super::*;
    use neutral_model::Gate;
    use neutral_spec::Placement;

    /// Three tokens of width 2; the middle one is not scored below.
    fn residue(
        block: usize,
        placement: Placement,
        output: [f32; 6],
        gate: Option<&[f32]>,
    ) -> Residue {
        let tensor = |numbers: &[f32]| Tensor::from_slice(numbers).view([1, 3, -1]);
        let gate = gate.map(|gate| Gate {
            value: tensor(gate),
            unrounded: tensor(gate),
            logit: tensor(gate),
        });
        Residue { block, placement, output_btd: tensor(&output), gate }
    }

    fn means(residues: &[Residue]) -> Neutrality {
        let mut sums = NeutralitySums::default();
        sums.add(residues, &Tensor::from_slice(&[0_i64, 2]));
        sums.means().unwrap().unwrap()
    }

    #[test]
    fn gates_and_residues_by_hand() {
        use Placement::{Attention, Ffn};
        let found = means(&[
            // A gate a token, open though the residue is zero, as at the start of training.
            residue(0, Ffn, [0.0; 6], Some(&[0.5, 0.0, 0.0])),
            // A gate a channel: shut only where all channels are.
            residue(
                2,
                Ffn,
                [1.0, -3.0, 50.0, 50.0, 0.0, 0.0],
                Some(&[1.0, 0.0, 0.0, 0.0, 0.0, 0.0]),
            ),
            // No gate: the residue itself.
            residue(3, Ffn, [0.0, 0.0, 1.0, 1.0, 0.0, -1.0], None),
            // Two branches: shut only where both are.
            residue(5, Attention, [0.0, 0.0, 0.0, 0.0, 1.0, 1.0], None),
            residue(5, Ffn, [0.0, 2.0, 0.0, 0.0, 0.0, 0.0], None),
        ]);
        assert_eq!(found.gate_zero_fraction_per_block, [0.5, 0.5, 0.5, 0.0]);
        assert_eq!(found.residue_l1_per_block, [0.0, 1.0, 0.25, 1.0]);
        assert!((found.gate_zero_fraction - 0.375).abs() < 1e-12);
        assert!((found.residue_l1 - 0.5625).abs() < 1e-12);
        assert_eq!(found.tokens, 2);
    }

    #[test]
    fn a_gate_that_is_almost_zero_is_open() {
        let gate = [f32::MIN_POSITIVE, 0.0, -0.0];
        let found = means(&[residue(0, Placement::Ffn, [0.0; 6], Some(&gate))]);
        assert_eq!(found.gate_zero_fraction_per_block, [0.5]);
    }

    #[test]
    fn without_branches_there_is_nothing_to_say_and_infinity_is_an_error() {
        let mut sums = NeutralitySums::default();
        sums.add(&[], &Tensor::from_slice(&[0_i64]));
        assert!(sums.means().unwrap().is_none());
        let mut sums = NeutralitySums::default();
        let broken = residue(4, Placement::Ffn, [f32::INFINITY; 6], None);
        sums.add(&[broken], &Tensor::from_slice(&[0_i64]));
        let message = sums.means().unwrap_err().to_string();
        assert!(message.contains("block 4") && message.contains("inf"), "{message}");
    }
}
