//! The values that gates take, block by block.

use std::collections::BTreeMap;

use neutral_model::Residue;
use tch::{Kind, Tensor};

use super::residues::{all_shut, at, count};

/// Where the bins of a [`GateHistogram`] end.
pub const GATE_EDGES: [f64; 9] = [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0];

/// How many values of a block's gates fall where. A gate a token has one value at each token, a gate a
/// channel as many as there are channels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GateHistogram {
    /// Below 0: an ELU's.
    pub negative: u64,
    /// Exactly 0, of either sign.
    pub zero: u64,
    /// Above 0: below the first of [`GATE_EDGES`]; from each edge on and below the next; from the last
    /// on. One more than there are edges.
    pub positive: Vec<u64>,
}

impl Default for GateHistogram {
    fn default() -> Self {
        Self { negative: 0, zero: 0, positive: vec![0; GATE_EDGES.len() + 1] }
    }
}

impl GateHistogram {
    /// All values.
    pub fn total(&self) -> u64 {
        self.negative + self.zero + self.positive.iter().sum::<u64>()
    }

    /// Counts values of any shape.
    fn add(&mut self, values: &Tensor) {
        let values = values.to_kind(Kind::Double);
        self.negative += count(&values.lt(0.0));
        self.zero += count(&values.eq(0.0));
        let above = values.masked_select(&values.gt(0.0));
        let edges = Tensor::from_slice(&GATE_EDGES).to_device(above.device());
        let counts = above
            .bucketize(&edges, false, true)
            .bincount(None::<Tensor>, self.positive.len() as i64);
        let counts = Vec::<i64>::try_from(counts).expect("a vector of whole numbers");
        for (sum, new) in self.positive.iter_mut().zip(counts) {
            *sum += new as u64;
        }
    }
}

/// What the gates of a block did on a text.
#[derive(Clone, Debug, PartialEq)]
pub struct BlockGates {
    /// The block, from 0.
    pub block: usize,
    /// Share of tokens at which all of the block's gates are exactly zero in every channel.
    pub zero_fraction: f64,
    /// The values of all of the block's gates.
    pub histogram: GateHistogram,
}

/// Counts over batches; branches without a gate are left out.
#[derive(Debug, Default)]
pub(super) struct GateCounts {
    blocks: BTreeMap<usize, (u64, GateHistogram)>,
    tokens: u64,
}

impl GateCounts {
    /// Counts the scored positions of one forward pass.
    pub(super) fn add(&mut self, residues: &[Residue], scored_n: &Tensor) {
        self.tokens += scored_n.numel() as u64;
        for branches in residues.chunk_by(|a, b| a.block == b.block) {
            let mut gates = branches.iter().filter_map(|residue| residue.gate.as_ref()).peekable();
            if gates.peek().is_none() {
                continue;
            }
            let (shut, histogram) = self.blocks.entry(branches[0].block).or_default();
            *shut += count(&at(&all_shut(branches).unsqueeze(-1), scored_n));
            gates.for_each(|gate| histogram.add(&at(&gate.value, scored_n)));
        }
    }

    pub(super) fn finish(self) -> Vec<BlockGates> {
        let tokens = self.tokens as f64;
        let block = |(block, (shut, histogram))| BlockGates {
            block,
            zero_fraction: shut as f64 / tokens,
            histogram,
        };
        self.blocks.into_iter().map(block).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_on_an_edge_is_in_the_bin_above_and_none_is_lost() {
        let mut histogram = GateHistogram::default();
        let values = [-0.5, -0.0, 0.0, 1e-9, 1e-3, 0.02, 0.999, 1.0, 9.99, 10.0, 1e30];
        histogram.add(&Tensor::from_slice(&values));
        assert_eq!((histogram.negative, histogram.zero), (1, 2));
        assert_eq!(histogram.positive, [1, 1, 0, 1, 0, 0, 1, 1, 1, 2]);
        assert_eq!(histogram.total(), values.len() as u64);
        // Edges that bf16 has too.
        let mut histogram = GateHistogram::default();
        histogram.add(&Tensor::from_slice(&[1.0_f32, 10.0]).to_kind(Kind::BFloat16));
        assert_eq!(histogram.positive, [0, 0, 0, 0, 0, 0, 0, 1, 0, 1]);
    }
}
