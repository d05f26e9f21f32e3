//! The text of one domain as one endless, reproducible order of sequences.
//!
//! Token files are cut into chunks of `T + 1` tokens, one every `T`. All chunks of all files are one pool, so a file
//! counts in proportion to its length; with weights each file is a pool of its own, which has its share of the domain's
//! sequences. The k-th sequence of a pool is the k-th chunk of it shuffled; each epoch has a shuffle of its own, and
//! holds every chunk once.
//!
//! Shares are met as the mix of the two domains is: the first pool has `⌊ns₁⌋` of the first `n` sequences, the second
//! its share of those that this leaves, and so on, so that each is evenly spread.
//!
//! The tokens after the last whole chunk of a file, fewer than `T + 1`, are never seen. Sequences
//! start anywhere in a document; what attention does at separators is the trainer's business.

use crate::permutation::Permutation;
use crate::{DataError, Domain, TokenShards};

const BILLION: u64 = 1_000_000_000;

/// A share of a sequence of things, as a whole number of billionths, so that nothing drifts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Share(u64);

impl Share {
    const ALL: Self = Self(BILLION);

    /// The nearest to a number from 0 to 1.
    pub(crate) fn of(share: f64) -> Self {
        Self((share * BILLION as f64).round() as u64)
    }

    pub(crate) fn is_none(self) -> bool {
        self.0 == 0
    }

    pub(crate) fn is_all(self) -> bool {
        self.0 == BILLION
    }

    /// `⌊ns⌋`, how many of the first `n` it has.
    pub(crate) fn of_first(self, n: u64) -> u64 {
        (u128::from(n) * u128::from(self.0) / u128::from(BILLION)) as u64
    }
}

/// All chunks of a domain.
#[derive(Clone, Debug)]
pub(crate) struct Pool {
    domain: Domain,
    parts: Vec<Part>,
    sequence_length: usize,
    seed: u64,
}

impl Pool {
    /// All files as one, each in proportion to its length.
    pub(crate) fn new(
        domain: Domain,
        shards: Vec<TokenShards>,
        sequence_length: usize,
        seed: u64,
    ) -> Self {
        let key = vec![seed, domain as u64];
        Self {
            domain,
            parts: vec![Part::new(shards, Share::ALL, key, sequence_length)],
            sequence_length,
            seed,
        }
    }

    pub(crate) fn domain(&self) -> Domain {
        self.domain
    }

    /// Each file as a pool of its own, with its share of the domain's sequences.
    pub(crate) fn weigh(&mut self, weights: &[f64]) -> Result<(), DataError> {
        let shards: Vec<_> =
            self.parts.drain(..).flat_map(|part| part.shards).map(|s| s.shard).collect();
        if shards.len() != weights.len() {
            let expected = format!("a weight for each of {} corpora", shards.len());
            return Err(DataError::invalid("weights", weights.len(), expected));
        }
        if let Some(weight) = weights.iter().find(|w| !(w.is_finite() && **w > 0.0)) {
            return Err(DataError::invalid("a corpus' weight", weight, "a number above 0"));
        }
        let mut left: f64 = weights.iter().sum();
        for (i, (shard, &weight)) in shards.into_iter().zip(weights).enumerate() {
            let last = i + 1 == weights.len();
            let share = if last { Share::ALL } else { Share::of(weight / left) };
            if share.is_none() || (share.is_all() && !last) {
                let what = format!("the weight of {}", shard.name());
                let expected = "weigh a corpus at least a billionth of the others";
                return Err(DataError::invalid(&what, weight, expected));
            }
            left -= weight;
            let key = vec![self.seed, self.domain as u64, i as u64];
            self.parts.push(Part::new(vec![shard], share, key, self.sequence_length));
        }
        self.check()
    }

    /// Every part has a sequence to give.
    pub(crate) fn check(&self) -> Result<(), DataError> {
        let Some(part) = self.parts.iter().find(|part| part.chunks == 0) else { return Ok(()) };
        let longest = part.shards.iter().map(|s| s.shard.len()).max().unwrap_or(0);
        let which = match &*part.shards {
            [one] => format!("{}, text", one.shard.name()),
            _ => "the longest text".to_owned(),
        };
        Err(DataError::invalid(
            &format!("{which} of the {} domain", self.domain.name()),
            format!("{longest} tokens long ({} corpora)", part.shards.len()),
            format!(
                "a sequence needs {} tokens; add text or shorten sequence_length",
                self.sequence_length + 1
            ),
        ))
    }

    /// The `T + 1` tokens of the `k`-th sequence of the domain.
    pub(crate) fn sequence(&self, k: u64) -> &[u32] {
        let (part, k) = self.part_of(k);
        part.sequence(k, self.sequence_length)
    }

    /// How often the first `n` sequences read each part's text.
    pub(crate) fn passes(&self, n: u64) -> Vec<f64> {
        let mut left = n;
        let of = |part: &Part| {
            let own = part.share.of_first(left);
            left -= own;
            own as f64 / part.chunks.max(1) as f64
        };
        self.parts.iter().map(of).collect()
    }

    /// The part that the domain's `k`-th sequence is from, and how many were from it before.
    fn part_of(&self, mut k: u64) -> (&Part, u64) {
        for part in &self.parts {
            let own = part.share.of_first(k);
            if part.share.of_first(k + 1) > own {
                return (part, own);
            }
            k -= own;
        }
        unreachable!("the last part has all that the others leave")
    }
}

/// Files whose chunks are shuffled together.
#[derive(Clone, Debug)]
struct Part {
    /// Of the sequences that the parts before it leave.
    share: Share,
    shards: Vec<PooledShard>,
    chunks: u64,
    /// What its shuffles follow from, with the epoch.
    key: Vec<u64>,
}

#[derive(Clone, Debug)]
struct PooledShard {
    shard: TokenShards,
    /// Number in the part of its first chunk.
    first_chunk: u64,
}

impl Part {
    fn new(shards: Vec<TokenShards>, share: Share, key: Vec<u64>, sequence_length: usize) -> Self {
        let mut chunks = 0;
        let shards = shards
            .into_iter()
            .map(|shard| {
                let first_chunk = chunks;
                chunks += (shard.len().saturating_sub(1) / sequence_length) as u64;
                if chunks == first_chunk {
                    tracing::warn!(
                        corpus = shard.name(),
                        tokens = shard.len(),
                        sequence_length,
                        "its training text is too short for one sequence and is never read"
                    );
                }
                PooledShard { shard, first_chunk }
            })
            .collect();
        Self { share, shards, chunks, key }
    }

    fn sequence(&self, k: u64, sequence_length: usize) -> &[u32] {
        let epoch = k / self.chunks;
        let key = [&*self.key, &[epoch]].concat();
        let chunk = Permutation::new(self.chunks, &key).apply(k % self.chunks);
        // The last file that starts at or before the chunk; files without chunks start where the
        // next one does, so they are passed over.
        let at = self.shards.partition_point(|s| s.first_chunk <= chunk) - 1;
        let PooledShard { shard, first_chunk } = &self.shards[at];
        shard.slice((chunk - first_chunk) as usize * sequence_length, sequence_length + 1)
    }
}
