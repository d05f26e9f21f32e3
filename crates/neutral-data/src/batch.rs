//! What a training step reads: tokens, the tokens after them, and the domain of each sequence.
//!
//! Shapes: `n` sequences, `t` tokens each. Plain memory; tensors are made from it by neutral-train.

use serde::{Deserialize, Serialize};

/// Which of the two domains a sequence is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Domain {
    /// Text close to what the base was trained on; the share `p` of the mix.
    Original,
    /// Text that is to be learnt.
    New,
}

impl Domain {
    /// The name in files and messages: `original` or `new`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Original => "original",
            Self::New => "new",
        }
    }
}

/// Some sequences of equal length, with their targets and domains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// `n`.
    pub sequences: usize,
    /// `t`, in tokens.
    pub sequence_length: usize,
    /// Inputs, `[n, t]` in row-major order.
    pub tokens: Vec<u32>,
    /// The token after each input, `[n, t]`: `targets[i, j] = tokens[i, j + 1]`.
    pub targets: Vec<u32>,
    /// The domain of each sequence, `[n]`.
    pub domains: Vec<Domain>,
}

impl Batch {
    /// An empty batch with room for `sequences`.
    pub fn with_capacity(sequences: usize, sequence_length: usize) -> Self {
        let room = sequences * sequence_length;
        Self {
            sequences: 0,
            sequence_length,
            tokens: Vec::with_capacity(room),
            targets: Vec::with_capacity(room),
            domains: Vec::with_capacity(sequences),
        }
    }

    /// Appends a sequence: all but the last token are inputs, all but the first are targets.
    ///
    /// # Panics
    /// If the chunk has not `sequence_length + 1` tokens.
    pub fn push(&mut self, chunk: &[u32], domain: Domain) {
        assert_eq!(chunk.len(), self.sequence_length + 1, "tokens of a chunk");
        self.sequences += 1;
        self.tokens.extend_from_slice(&chunk[..self.sequence_length]);
        self.targets.extend_from_slice(&chunk[1..]);
        self.domains.push(domain);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_the_tokens_shifted_by_one() {
        let mut batch = Batch::with_capacity(2, 3);
        batch.push(&[1, 2, 3, 4], Domain::New);
        batch.push(&[4, 5, 6, 7], Domain::Original);
        assert_eq!(batch.sequences, 2);
        assert_eq!(batch.tokens, [1, 2, 3, 4, 5, 6]);
        assert_eq!(batch.targets, [2, 3, 4, 5, 6, 7]);
        assert_eq!(batch.domains, [Domain::New, Domain::Original]);
    }
}
