//! A shuffled order that is computed, not stored: a keyed bijection of `0..n`.
//!
//! A Feistel network permutes the smallest power of four that covers `n`; numbers at or above `n`
//! are sent through again until they fall below it ("cycle walking"), which keeps the map a
//! bijection. So the k-th item of an epoch is known without a list of all, in constant memory, and
//! a resumed run needs nothing but its position. Not for cryptography.
//!
//! Source: Black and Rogaway, *Ciphers with Arbitrary Finite Domains*, CT-RSA 2002.

/// Ten rounds: on the smallest domains (two bits) fewer leave some orders visibly rarer.
const ROUNDS: usize = 10;

/// A bijection of `0..n`, chosen by a key.
#[derive(Clone, Debug)]
pub(crate) struct Permutation {
    length: u64,
    half_bits: u32,
    round_keys: [u64; ROUNDS],
}

impl Permutation {
    /// The permutation of `0..length` for a key; every word of the key matters.
    ///
    /// # Panics
    /// If `length` is 0: there is nothing to permute.
    pub(crate) fn new(length: u64, key: &[u64]) -> Self {
        assert!(length > 0, "a permutation of nothing");
        let bits = u64::BITS - (length - 1).leading_zeros();
        let mut state = key.iter().fold(0, |state, &word| mix(state ^ mix(word)));
        let round_keys = std::array::from_fn(|_| {
            state = mix(state);
            state
        });
        Self { length, half_bits: bits.div_ceil(2).max(1), round_keys }
    }

    /// Where `index` goes.
    ///
    /// # Panics
    /// If `index` is not below the length.
    pub(crate) fn apply(&self, index: u64) -> u64 {
        assert!(index < self.length, "{index} is not below {}", self.length);
        let mut value = self.feistel(index);
        // At most 4 numbers stand for each below `length`, so this takes 4 turns on average at most.
        while value >= self.length {
            value = self.feistel(value);
        }
        value
    }

    fn feistel(&self, value: u64) -> u64 {
        let mask = (1_u64 << self.half_bits) - 1;
        let (mut left, mut right) = (value >> self.half_bits, value & mask);
        for key in self.round_keys {
            (left, right) = (right, left ^ (mix(right ^ key) & mask));
        }
        left << self.half_bits | right
    }
}

/// The finaliser of `SplitMix64`: every bit of the input changes half of the output's.
fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(length: u64, key: &[u64]) -> Vec<u64> {
        let permutation = Permutation::new(length, key);
        (0..length).map(|i| permutation.apply(i)).collect()
    }

    #[test]
    fn it_is_a_bijection_of_every_length() {
        for length in (1..300).chain([1023, 1024, 1025, 4096, 4097, 10_007]) {
            for seed in 0..4 {
                let mut all = order(length, &[seed, 1]);
                all.sort_unstable();
                assert!(all.iter().copied().eq(0..length), "length {length}, seed {seed}");
            }
        }
    }

    #[test]
    fn the_largest_lengths_stay_within_themselves() {
        let length = u64::MAX >> 1;
        let permutation = Permutation::new(length, &[3]);
        let to = [0, 1, 1 << 40, length - 1].map(|i| permutation.apply(i));
        assert!(to.iter().all(|&to| to < length), "{to:?}");
        assert_eq!(std::collections::HashSet::from(to).len(), to.len(), "{to:?}");
    }

    #[test]
    fn keys_give_different_orders_and_every_word_of_them_matters() {
        let orders: std::collections::HashSet<_> =
            (0..50).flat_map(|a| (0..50).map(move |b| order(20, &[a, b]))).collect();
        assert_eq!(orders.len(), 2500);
    }

    #[test]
    fn every_place_is_equally_likely() {
        // 6 × 6 cells of 1,000 expected counts each; the deviation of a cell is about 29, so 150 is
        // five of them, and a biased network misses by hundreds.
        let mut counts = [[0_i32; 6]; 6];
        for seed in 0..6000 {
            for (from, to) in order(6, &[seed]).into_iter().enumerate() {
                counts[from][to as usize] += 1;
            }
        }
        assert!(counts.iter().flatten().all(|c| (c - 1000).abs() < 150), "{counts:?}");
    }
}
