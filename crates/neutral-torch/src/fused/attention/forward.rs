//! Forward: block by block of queries, against the keys up to its last.

use std::array;
use std::ops::Range;

use super::Kernel;
use super::head::{Geometry, Place, Source};
use super::pack::{as_numbers, pairs, transpose};
use super::product::{Left, Out, Right, Sizes, product};
use crate::element::{Element, Parts};
use crate::parallel::parallel_for;
use crate::simd::{LANES, exp, larger, largest_of, sum, vectorised};

/// Queries of a block: whole tiles, and few enough that scores and probabilities stay in the cache.
pub(super) const QUERIES: usize = 48;

impl<T: Element> Kernel<'_, T> {
    /// Fills in the output, `[b·t][query heads · e]`, and `ln Σ eˢ` of every query.
    pub(super) fn forward(&self, out: Parts<T>, log_sums: Parts<f32>) {
        let g = self.geometry;
        parallel_for(g.batch * g.key_value_heads, 1, |begin, end| {
            let mut work = Work::new::<T>(&g);
            for unit in begin..end {
                let (sequence, head) = (unit / g.key_value_heads, unit % g.key_value_heads);
                self.keys_and_values(&mut work, sequence, head);
                let group = g.query_heads / g.key_value_heads;
                for query_head in head * group..(head + 1) * group {
                    self.forward_head(&mut work, sequence, query_head, out, log_sums);
                }
            }
        });
    }

    fn keys_and_values(&self, work: &mut Work, sequence: usize, head: usize) {
        let g = self.geometry;
        let words = g.e / T::GROUP;
        g.read(&self.source(1, head, sequence), &mut work.rows);
        transpose(&work.rows, g.padded_t, words, words, &mut work.keys);
        g.read(&self.source(2, head, sequence), &mut work.rows);
        pairs::<T>(&work.rows, g.padded_t, g.e, g.padded_e, &mut work.values);
    }

    fn forward_head(
        &self,
        work: &mut Work,
        sequence: usize,
        head: usize,
        out: Parts<T>,
        log_sums: Parts<f32>,
    ) {
        let g = self.geometry;
        g.read(&self.source(0, head, sequence), &mut work.queries);
        let starts = self.starts.map(|starts| &starts[sequence * g.t..][..g.t]);
        let words = g.e / T::GROUP;
        for first in (0..g.t).step_by(QUERIES) {
            let last = (first + QUERIES).min(g.t);
            let keys: [Range<usize>; QUERIES] = array::from_fn(|i| {
                starts.map_or(0, |s| s[(first + i).min(g.t - 1)] as usize)..first + i + 1
            });
            #[expect(unsafe_code, reason = "threads write their own heads")]
            // SAFETY: this query head of this sequence belongs to one unit.
            let log_sums = unsafe {
                log_sums.get((sequence * g.query_heads + head) * g.t + first, last - first)
            };
            work.attend::<T>(&g, first * words, &keys[..last - first], log_sums);
            let place = Place { stride: g.query_heads * g.e, offset: head * g.e };
            #[expect(unsafe_code, reason = "threads write their own heads")]
            // SAFETY: as above.
            unsafe {
                g.write(out, place, sequence, first..last, None, (&work.mixed, g.padded_e));
            }
        }
    }

    /// A head of the queries (0), keys (1) or values (2) of a sequence; the first two are rotated.
    pub(super) fn source(&self, which: usize, head: usize, sequence: usize) -> Source<'_, T> {
        let (all, place) = self.sources[which];
        let rotation = (which < 2).then_some(self.rotation);
        Source { all, place: place.head(head, self.geometry.e), sequence, rotation }
    }
}

vectorised! {
    /// Turns scores `s` into `exp(scale · s − max)` within `begin..end` and zeros elsewhere, rounded
    /// into `out`; returns `max` and the sum of what is not rounded.
    fn softmax<T>(
        scores: &mut [f32],
        begin: usize,
        end: usize,
        scale: f32,
        out: &mut [T],
    ) -> (f32, f32) {
        // The tail goes through whole lanes too, as far as the row has them: −∞ becomes a zero.
        let inside = (end - begin) / LANES;
        let tail = begin + inside * LANES;
        let padded = if tail == end { end } else { scores.len().min(tail + LANES) };
        scores[..begin].fill(0.0);
        scores[end..padded].fill(f32::NEG_INFINITY);
        scores[padded..].fill(0.0);
        let (whole, rest) = scores[begin..padded].as_chunks_mut::<LANES>();
        let mut largest = [f32::NEG_INFINITY; LANES];
        for x in whole.iter() {
            for i in 0..LANES {
                largest[i] = larger(largest[i], x[i]);
            }
        }
        let max = rest.iter().fold(largest_of(largest), |max, x| larger(max, *x)) * scale;
        let mut sums = [0.0; LANES];
        let (whole, last) = whole.split_at_mut(inside);
        for x in whole {
            for i in 0..LANES {
                x[i] = exp(x[i] * scale - max);
                sums[i] += x[i];
            }
        }
        for x in last.as_flattened_mut() {
            *x = exp(*x * scale - max);
        }
        for x in rest {
            *x = exp(*x * scale - max);
        }
        let total = scores[tail..end].iter().fold(sum(sums), |total, x| total + x);
        out.iter_mut().zip(scores.iter()).for_each(|(out, p)| *out = T::from_f32(*p));
        (max, total)
    }
}

/// Memory of one thread.
pub(super) struct Work {
    /// Rows as they are read.
    pub(super) rows: Vec<u32>,
    pub(super) queries: Vec<u32>,
    /// `[e / G][padded_t]`.
    pub(super) keys: Vec<u32>,
    /// `[padded_t / G][padded_e]`.
    pub(super) values: Vec<u32>,
    scores: Vec<f32>,
    probabilities: Vec<u32>,
    /// What a block of queries gives, `[QUERIES][padded_e]`.
    pub(super) mixed: Vec<f32>,
}

impl Work {
    pub(super) fn new<T: Element>(g: &Geometry) -> Self {
        let (t, group) = (g.padded_t, T::GROUP);
        Self {
            rows: vec![0; t * g.e / group],
            queries: vec![0; t * g.e / group],
            keys: vec![0; g.e / group * t],
            values: vec![0; t / group * g.padded_e],
            scores: vec![0.0; QUERIES * t],
            probabilities: vec![0; QUERIES * t / group],
            mixed: vec![0.0; QUERIES * g.padded_e],
        }
    }

    /// `mixed` and `ln Σ eˢ` of some queries, at most [`QUERIES`], the first of which begins at a word of
    /// `queries`; each attends to its range of keys.
    pub(super) fn attend<T: Element>(
        &mut self,
        g: &Geometry,
        first_word: usize,
        keys: &[Range<usize>],
        log_sums: &mut [f32],
    ) {
        let (m, width_words) = (keys.len(), g.e / T::GROUP);
        // Keys that some query may attend to, whole registers of them.
        let from = keys.iter().map(|keys| keys.start).min().unwrap_or(0) / LANES * LANES;
        let last = keys.iter().map(|keys| keys.end).max().unwrap_or(0);
        let n = last.next_multiple_of(LANES) - from;
        product::<T>(
            Sizes { m, n, k: width_words },
            Left { words: &self.queries[first_word..], stride: width_words },
            Right { words: &self.keys[from..], stride: g.padded_t },
            Out { numbers: &mut self.scores, stride: n, add: false },
        );
        let mut sums = [0.0_f32; QUERIES];
        for (row, keys) in keys.iter().enumerate() {
            let scores = &mut self.scores[row * n..][..n];
            let words = &mut self.probabilities[row * n / T::GROUP..][..n / T::GROUP];
            let words = as_numbers::<T>(words);
            let (begin, end) = (keys.start - from, keys.end - from);
            let (max, total) = softmax(scores, begin, end, g.scale, words);
            sums[row] = total;
            log_sums[row] = max + total.ln();
        }
        product::<T>(
            Sizes { m, n: g.padded_e, k: n / T::GROUP },
            Left { words: &self.probabilities, stride: n / T::GROUP },
            Right { words: &self.values[from / T::GROUP * g.padded_e..], stride: g.padded_e },
            Out { numbers: &mut self.mixed, stride: g.padded_e, add: false },
        );
        for (row, total) in sums[..m].iter().enumerate() {
            for x in &mut self.mixed[row * g.padded_e..][..g.e] {
                *x /= total;
            }
        }
    }
}
