//! Python's `random.Random`, as far as few-shot samples and bootstraps draw from it.
//!
//! The generator is MT19937 (Matsumoto and Nishimura, 1998), seeded by `init_by_array`; what is made of
//! its words follows `CPython`'s `Lib/random.py`, so that a seed draws the same examples there and here.

const WORDS: usize = 624;
const MIDDLE: usize = 397;

/// A stream of random numbers that equals `random.Random(seed)`.
#[derive(Clone, Debug)]
pub struct PythonRandom {
    state: Vec<u32>,
    next: usize,
}

impl PythonRandom {
    /// `random.Random(seed)`.
    pub fn new(seed: u64) -> Self {
        let low = seed as u32;
        let key = if seed >> 32 == 0 { vec![low] } else { vec![low, (seed >> 32) as u32] };
        let mut state = vec![19_650_218_u32; WORDS];
        for i in 1..WORDS {
            let last = state[i - 1] ^ (state[i - 1] >> 30);
            state[i] = last.wrapping_mul(1_812_433_253).wrapping_add(i as u32);
        }
        let (mut i, mut j) = (1, 0);
        for _ in 0..WORDS.max(key.len()) {
            let last = (state[i - 1] ^ (state[i - 1] >> 30)).wrapping_mul(1_664_525);
            state[i] = (state[i] ^ last).wrapping_add(key[j]).wrapping_add(j as u32);
            i += 1;
            if i == WORDS {
                state[0] = state[WORDS - 1];
                i = 1;
            }
            j = (j + 1) % key.len();
        }
        for _ in 1..WORDS {
            let last = (state[i - 1] ^ (state[i - 1] >> 30)).wrapping_mul(1_566_083_941);
            state[i] = (state[i] ^ last).wrapping_sub(i as u32);
            i += 1;
            if i == WORDS {
                state[0] = state[WORDS - 1];
                i = 1;
            }
        }
        state[0] = 0x8000_0000;
        Self { state, next: WORDS }
    }

    fn word(&mut self) -> u32 {
        if self.next == WORDS {
            for i in 0..WORDS {
                let y = self.state[i] & 0x8000_0000 | self.state[(i + 1) % WORDS] & 0x7fff_ffff;
                let twist = if y & 1 == 1 { 0x9908_b0df } else { 0 };
                self.state[i] = self.state[(i + MIDDLE) % WORDS] ^ (y >> 1) ^ twist;
            }
            self.next = 0;
        }
        let mut y = self.state[self.next];
        self.next += 1;
        y ^= y >> 11;
        y ^= y << 7 & 0x9d2c_5680;
        y ^= y << 15 & 0xefc6_0000;
        y ^ y >> 18
    }

    /// `random()`: 53 bits in [0, 1).
    pub fn uniform(&mut self) -> f64 {
        let (a, b) = (self.word() >> 5, self.word() >> 6);
        (f64::from(a) * 67_108_864.0 + f64::from(b)) / 9_007_199_254_740_992.0
    }

    /// `_randbelow(n)`, by rejection; `n` is at least 1 and has at most 32 bits.
    fn below(&mut self, n: usize) -> usize {
        let bits = usize::BITS - n.leading_zeros();
        loop {
            let r = (self.word() >> (32 - bits)) as usize;
            if r < n {
                return r;
            }
        }
    }

    /// The indices that `sample(range(population), count)` draws: none twice, in its order. `None` where
    /// Python raises, when there are fewer than `count`.
    pub fn sample(&mut self, population: usize, count: usize) -> Option<Vec<usize>> {
        if count > population {
            return None;
        }
        // From here on a set of what is taken is smaller than a list of what is left, says CPython.
        let mut set_size = 21.0;
        if count > 5 {
            set_size += 4_f64.powf(((count * 3) as f64).log(4.0).ceil());
        }
        let mut drawn = Vec::with_capacity(count);
        if population as f64 <= set_size {
            let mut pool: Vec<usize> = (0..population).collect();
            for i in 0..count {
                let j = self.below(population - i);
                drawn.push(pool[j]);
                pool[j] = pool[population - i - 1];
            }
        } else {
            let mut taken = std::collections::HashSet::new();
            while drawn.len() < count {
                let j = self.below(population);
                if taken.insert(j) {
                    drawn.push(j);
                }
            }
        }
        Some(drawn)
    }

    /// One of the indices that `choices(range(population), k=…)` draws, with replacement.
    pub fn choice(&mut self, population: usize) -> usize {
        (self.uniform() * population as f64) as usize
    }
}
