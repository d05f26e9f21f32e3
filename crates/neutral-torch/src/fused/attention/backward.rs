//! Backward: block by block of keys, against the queries from its first on.
//!
//! Everything is computed transposed, a row a key: `Sᵀ = K Qᵀ`, `Pᵀ = exp(scale · Sᵀ − log sums)`,
//! `∂Pᵀ = V ∂Oᵀ`, `∂Sᵀ = scale · Pᵀ ⊙ (∂Pᵀ − D)` with `D = Σ ∂O ⊙ O` a query. Then rows of `Pᵀ` and
//! `∂Sᵀ` are left operands as they are: `∂V += Pᵀ ∂O`, `∂K += ∂Sᵀ Q`; and `∂Qᵀ += Kᵀ ∂Sᵀ`.

use super::Kernel;
use super::head::{Geometry, Place, Rotation, Source};
use super::pack::{as_numbers, pairs, transpose, transpose_into};
use super::product::{Left, Out, Right, Sizes, product};
use crate::element::{Element, Parts};
use crate::parallel::parallel_for;
use crate::simd::{LANES, dot, exp, vectorised};

/// Keys of a block.
const KEYS: usize = 48;

impl<T: Element> Kernel<'_, T> {
    /// Fills in the gradients of queries, keys and values, each at its place.
    pub(super) fn backward(
        &self,
        of_out: &[T],
        out: &[T],
        log_sums: &[f32],
        gradients: [(Parts<T>, Place); 3],
    ) {
        let g = self.geometry;
        let group = g.query_heads / g.key_value_heads;
        parallel_for(g.batch * g.key_value_heads, 1, |begin, end| {
            let mut work = Work::new::<T>(&g);
            for unit in begin..end {
                let (sequence, head) = (unit / g.key_value_heads, unit % g.key_value_heads);
                self.begin_keys(&mut work, sequence, head);
                for query_head in head * group..(head + 1) * group {
                    let of_out = (of_out, out, log_sums);
                    self.queries(&mut work, sequence, query_head, of_out);
                    let starts = self.starts.map(|starts| &starts[sequence * g.t..][..g.t]);
                    for first in (0..g.padded_t).step_by(KEYS) {
                        work.block::<T>(&g, first, starts);
                    }
                    self.write_queries(&mut work, sequence, query_head, gradients[0]);
                }
                for (which, numbers) in [(1, &work.of_keys), (2, &work.of_values)] {
                    let (all, place) = gradients[which];
                    let rotation: Option<Rotation> = (which == 1).then_some(self.rotation);
                    let place = place.head(head, g.e);
                    #[expect(unsafe_code, reason = "threads write their own heads")]
                    // SAFETY: this head of this sequence belongs to one unit.
                    unsafe {
                        g.write(all, place, sequence, 0..g.t, rotation, (numbers, g.padded_e));
                    }
                }
            }
        });
    }

    fn begin_keys(&self, work: &mut Work, sequence: usize, head: usize) {
        let g = self.geometry;
        g.read(&self.source(1, head, sequence), &mut work.keys);
        // By way of pairs, in memory that the queries will fill later.
        pairs::<T>(&work.keys, g.padded_t, g.e, g.padded_e, &mut work.query_pairs);
        let groups = g.padded_t / T::GROUP;
        transpose(&work.query_pairs, groups, g.e, g.padded_e, &mut work.keys_transposed);
        g.read(&self.source(2, head, sequence), &mut work.values);
        work.of_keys.fill(0.0);
        work.of_values.fill(0.0);
    }

    fn queries(
        &self,
        work: &mut Work,
        sequence: usize,
        head: usize,
        (of_out, out, log_sums): (&[T], &[T], &[f32]),
    ) {
        let g = self.geometry;
        let place = Place { stride: g.query_heads * g.e, offset: head * g.e };
        let gradient = Source { all: of_out, place, sequence, rotation: None };
        let Work { rows, query_columns, query_pairs, out_columns, out_pairs, .. } = work;
        for (source, columns, paired) in [
            (self.source(0, head, sequence), query_columns, query_pairs),
            (gradient, out_columns, out_pairs),
        ] {
            g.read(&source, rows);
            let words = g.e / T::GROUP;
            transpose(rows, g.padded_t, words, words, columns);
            pairs::<T>(rows, g.padded_t, g.e, g.padded_e, paired);
        }
        for (position, inner) in work.inner[..g.t].iter_mut().enumerate() {
            let at = (sequence * g.t + position) * place.stride + place.offset;
            *inner = dot(&of_out[at..][..g.e], &out[at..][..g.e]);
        }
        let (here, padding) = work.log_sums.split_at_mut(g.t);
        here.copy_from_slice(&log_sums[(sequence * g.query_heads + head) * g.t..][..g.t]);
        // Probabilities of queries beyond the end are exp(−∞).
        padding.fill(f32::INFINITY);
        work.of_queries.fill(0);
    }

    /// Turns `∂Qᵀ` round, some queries at a time.
    fn write_queries(
        &self,
        work: &mut Work,
        sequence: usize,
        head: usize,
        (all, place): (Parts<T>, Place),
    ) {
        let g = self.geometry;
        let Work { turned, of_queries, .. } = work;
        for first in (0..g.t).step_by(LANES) {
            let strides = [g.padded_t, g.e];
            transpose_into(&of_queries[first..], [g.e, LANES], strides, turned);
            let positions = first..(first + LANES).min(g.t);
            let place = place.head(head, g.e);
            let rotation = Some(self.rotation);
            #[expect(unsafe_code, reason = "threads write their own heads")]
            // SAFETY: this query head of this sequence belongs to one unit.
            unsafe {
                g.write(all, place, sequence, positions, rotation, (as_numbers(turned), g.e));
            }
        }
    }
}

/// Memory of one thread.
struct Work {
    rows: Vec<u32>,
    turned: Vec<u32>,
    keys: Vec<u32>,
    keys_transposed: Vec<u32>,
    values: Vec<u32>,
    query_columns: Vec<u32>,
    query_pairs: Vec<u32>,
    out_columns: Vec<u32>,
    out_pairs: Vec<u32>,
    log_sums: Vec<f32>,
    inner: Vec<f32>,
    scores: Vec<f32>,
    of_probabilities: Vec<f32>,
    probabilities: Vec<u32>,
    of_scores: Vec<u32>,
    of_scores_pairs: Vec<u32>,
    /// fp32 numbers as words, to be transposed.
    of_queries: Vec<u32>,
    of_keys: Vec<f32>,
    of_values: Vec<f32>,
}

impl Work {
    fn new<T: Element>(g: &Geometry) -> Self {
        let (t, group) = (g.padded_t, T::GROUP);
        let head = || vec![0; t * g.e / group];
        let pairs = || vec![0; t / group * g.padded_e];
        let block = || vec![0; KEYS * t / group];
        Self {
            rows: head(),
            turned: vec![0; LANES * g.e],
            keys: head(),
            keys_transposed: head(),
            values: head(),
            query_columns: head(),
            query_pairs: pairs(),
            out_columns: head(),
            out_pairs: pairs(),
            log_sums: vec![0.0; t],
            inner: vec![0.0; t],
            scores: vec![0.0; KEYS * t],
            of_probabilities: vec![0.0; KEYS * t],
            probabilities: block(),
            of_scores: block(),
            of_scores_pairs: block(),
            of_queries: vec![0; g.e * t],
            of_keys: vec![0.0; t * g.padded_e],
            of_values: vec![0.0; t * g.padded_e],
        }
    }

    /// What the keys from `first` on add to all three gradients.
    fn block<T: Element>(&mut self, g: &Geometry, first: usize, starts: Option<&[i32]>) {
        let (t, group) = (g.padded_t, T::GROUP);
        let m = KEYS.min(t - first);
        // Queries from the first key on, whole registers of them: `first` is a multiple of 16.
        let n = t - first;
        let words = g.e / group;
        let sizes = Sizes { m, n, k: words };
        for (left, right, out) in [
            (&self.keys, &self.query_columns, &mut self.scores),
            (&self.values, &self.out_columns, &mut self.of_probabilities),
        ] {
            product::<T>(
                sizes,
                Left { words: &left[first * words..], stride: words },
                Right { words: &right[first..], stride: t },
                Out { numbers: out, stride: n, add: false },
            );
        }
        self.softmax_gradient::<T>(g, first, (m, n), starts);
        for (left, right, out) in [
            (&self.probabilities, &self.out_pairs, &mut self.of_values),
            (&self.of_scores, &self.query_pairs, &mut self.of_keys),
        ] {
            product::<T>(
                Sizes { m, n: g.padded_e, k: n / group },
                Left { words: left, stride: n / group },
                Right { words: &right[first / group * g.padded_e..], stride: g.padded_e },
                Out { numbers: &mut out[first * g.padded_e..], stride: g.padded_e, add: true },
            );
        }
        product::<T>(
            Sizes { m: g.e, n, k: m / group },
            Left { words: &self.keys_transposed[first / group..], stride: t / group },
            Right { words: &self.of_scores_pairs, stride: n },
            Out { numbers: &mut as_numbers(&mut self.of_queries)[first..], stride: t, add: true },
        );
    }

    /// `Pᵀ` and `∂Sᵀ` of a block, the latter in both orders that products want.
    fn softmax_gradient<T: Element>(
        &mut self,
        g: &Geometry,
        first: usize,
        (m, n): (usize, usize),
        starts: Option<&[i32]>,
    ) {
        let Self { scores, of_probabilities, log_sums, inner, .. } = self;
        let (log_sums, inner) = (&log_sums[first..][..n], &inner[first..][..n]);
        for row in 0..m {
            let scores = &mut scores[row * n..][..n];
            let gradient = &mut of_probabilities[row * n..][..n];
            // A query before this key does not see it.
            scores[..row].fill(0.0);
            gradient[..row].fill(0.0);
            let after = (&mut scores[row..], &mut gradient[row..]);
            probabilities_and_gradient(after.0, after.1, &log_sums[row..], &inner[row..], g.scale);
            if let Some(starts) = starts {
                let key = (first + row) as i32;
                for (i, _) in starts[first..].iter().enumerate().filter(|(_, s)| **s > key) {
                    scores[i] = 0.0;
                    gradient[i] = 0.0;
                }
            }
        }
        let words = m * n / T::GROUP;
        round(&scores[..m * n], as_numbers::<T>(&mut self.probabilities[..words]));
        round(&of_probabilities[..m * n], as_numbers::<T>(&mut self.of_scores[..words]));
        pairs::<T>(&self.of_scores, m, n, n, &mut self.of_scores_pairs);
    }
}

vectorised! {
    /// From scores and `∂P` to `P` and `∂S`.
    fn probabilities_and_gradient(
        scores: &mut [f32],
        gradient: &mut [f32],
        log_sums: &[f32],
        inner: &[f32],
        scale: f32,
    ) {
        let queries = log_sums.iter().zip(inner);
        for ((s, g), (log_sum, inner)) in scores.iter_mut().zip(gradient).zip(queries) {
            let p = exp(*s * scale - log_sum);
            *s = p;
            *g = p * (*g - inner) * scale;
        }
    }

    fn round<T>(numbers: &[f32], out: &mut [T]) {
        out.iter_mut().zip(numbers).for_each(|(out, x)| *out = T::from_f32(*x));
    }
}
