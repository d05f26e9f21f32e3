//! The training stream: which sequence comes at which position, and from which domain.
//!
//! A pure function of (configuration, shards, position): there is no state, so resuming is asking
//! for the next position, and any number of readers agree.
//!
//! *Which domain* (the paper's section on data: a share p of every batch is original text): sequence `i` is original
//! if `⌊(i+1)p⌋ > ⌊ip⌋`. So the first `n` sequences hold exactly `⌊np⌋` original ones, for every `n`, and they are as
//! evenly spread as can be. *Which text* of the domain: [`crate::pool`].

use crate::pool::{Pool, Share};
use crate::{Batch, DataError, Domain, TokenShards};

/// How the two domains are mixed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MixConfig {
    /// The share of sequences from the original domain, the paper's `p`, from 0 to 1.
    pub original_fraction: f64,
    /// Input tokens of a sequence, `T`.
    pub sequence_length: usize,
    /// Chooses the order.
    pub seed: u64,
}

/// Two pools of text as one endless, reproducible stream of sequences.
#[derive(Clone, Debug)]
pub struct MixedStream {
    original: Pool,
    new: Pool,
    original_share: Share,
    sequence_length: usize,
    separator_id: u32,
    sequence_start: Option<u32>,
}

impl MixedStream {
    /// Checks that every domain that the mix needs has at least one sequence.
    ///
    /// Pretraining on one domain is `p = 0` with all text as `new`.
    ///
    /// # Errors
    /// If `original_fraction` is not a share, or so close to 0 or 1 that it would round to it; if
    /// `sequence_length` is 0; if a needed domain is too short for one sequence; if the shards come
    /// from different tokenizers.
    pub fn new(
        original: Vec<TokenShards>,
        new: Vec<TokenShards>,
        config: MixConfig,
    ) -> Result<Self, DataError> {
        let MixConfig { original_fraction: p, sequence_length, seed } = config;
        if !(0.0..=1.0).contains(&p) {
            return Err(DataError::invalid("original_fraction", p, "write a number from 0 to 1"));
        }
        let original_share = Share::of(p);
        if (p > 0.0 && original_share.is_none()) || (p < 1.0 && original_share.is_all()) {
            let expected = "write 0, 1, or a share that is at least 1e-9 from both";
            return Err(DataError::invalid("original_fraction", p, expected));
        }
        if sequence_length == 0 {
            return Err(DataError::invalid("sequence_length", 0, "write at least 1"));
        }
        let Some(first) = new.first().or(original.first()) else {
            return Err(DataError::invalid("the text of a mix", "none", "give tokens of a corpus"));
        };
        let separator_id = first.separator_id();
        if let Some(odd) = new.iter().chain(&original).find(|s| !first.same_tokenizer(s)) {
            return Err(DataError::invalid(
                "the tokenizer of a mix",
                format!("not the same for {} as for the others", odd.name()),
                "tokenize both domains with one tokenizer",
            ));
        }
        let original = Pool::new(Domain::Original, original, sequence_length, seed);
        let new = Pool::new(Domain::New, new, sequence_length, seed);
        for (pool, needed) in
            [(&original, !original_share.is_none()), (&new, !original_share.is_all())]
        {
            if needed {
                pool.check()?;
            }
        }
        Ok(Self {
            original,
            new,
            original_share,
            sequence_length,
            separator_id,
            sequence_start: None,
        })
    }

    /// Gives each corpus of a domain its share of the domain's sequences, in place of one that is in proportion to its
    /// length. One weight above 0 a corpus, in the order given to [`MixedStream::new`]; no weights change nothing.
    ///
    /// # Errors
    /// If weights and corpora differ in number; if a weight is no finite number above 0; if a corpus is too short for
    /// one sequence, or its share is less than a billionth.
    pub fn weighted(mut self, domain: Domain, weights: &[f64]) -> Result<Self, DataError> {
        if !weights.is_empty() {
            let pool = match domain {
                Domain::Original => &mut self.original,
                Domain::New => &mut self.new,
            };
            pool.weigh(weights)?;
        }
        Ok(self)
    }

    /// With a token in the place of the first that each sequence reads; what is predicted stays.
    #[must_use]
    pub fn beginning_with(self, token: Option<u32>) -> Self {
        Self { sequence_start: token, ..self }
    }

    /// The `n` sequences from position `first_sequence` on.
    ///
    /// # Shapes
    /// `tokens` and `targets` `[n, T]`, `domains` `[n]`.
    ///
    /// # Panics
    /// If positions exceed 2⁶⁴.
    pub fn batch(&self, first_sequence: u64, n: usize) -> Batch {
        let mut batch = Batch::with_capacity(n, self.sequence_length);
        for position in first_sequence..first_sequence + n as u64 {
            let original_before = self.original_share.of_first(position);
            let (pool, k) = if self.original_share.of_first(position + 1) > original_before {
                (&self.original, original_before)
            } else {
                (&self.new, position - original_before)
            };
            batch.push(pool.sequence(k), pool.domain());
            if let Some(token) = self.sequence_start {
                let first = batch.tokens.len() - self.sequence_length;
                batch.tokens[first] = token;
            }
        }
        batch
    }

    /// How many of the first `n` sequences are (original, new): `(⌊np⌋, n − ⌊np⌋)`.
    pub fn counts(&self, n_sequences: u64) -> (u64, u64) {
        let original = self.original_share.of_first(n_sequences);
        (original, n_sequences - original)
    }

    /// How often the first `n` sequences read the text of each domain, (original, new): one number a corpus where they
    /// are weighted, else one for all of them; 0 where there is none.
    pub fn passes(&self, n_sequences: u64) -> (Vec<f64>, Vec<f64>) {
        let (original, new) = self.counts(n_sequences);
        (self.original.passes(original), self.new.passes(new))
    }

    /// The token between documents.
    pub fn separator_id(&self) -> u32 {
        self.separator_id
    }

    /// Input tokens of a sequence.
    pub fn sequence_length(&self) -> usize {
        self.sequence_length
    }
}

#[cfg(test)]
mod tests;
