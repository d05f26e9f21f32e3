//! Where one head's rows lie in memory, and how they are rotated.

use super::pack::as_numbers;
use crate::element::{Element, Parts};
use crate::simd::vectorised;

/// Sizes of one call, and what is padded.
#[derive(Clone, Copy)]
pub(super) struct Geometry {
    pub batch: usize,
    /// Tokens of a sequence.
    pub t: usize,
    /// The same, up to a multiple of 16.
    pub padded_t: usize,
    pub query_heads: usize,
    pub key_value_heads: usize,
    /// Width of a head, an even number.
    pub e: usize,
    /// The same, up to a multiple of 16.
    pub padded_e: usize,
    pub scale: f32,
}

/// Cosines and sines, `[t][e / 2]`.
#[derive(Clone, Copy)]
pub(super) struct Rotation<'a> {
    pub cos: &'a [f32],
    pub sin: &'a [f32],
}

/// Rows of one head in a tensor that holds those of several: row `n` begins at `n · stride + offset`.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub stride: usize,
    pub offset: usize,
}

/// One head of one sequence.
pub(super) struct Source<'a, T> {
    pub all: &'a [T],
    pub place: Place,
    pub sequence: usize,
    pub rotation: Option<Rotation<'a>>,
}

impl Place {
    /// The place of a later head.
    pub(super) fn head(self, head: usize, e: usize) -> Self {
        Self { offset: self.offset + head * e, ..self }
    }

    #[inline(always)]
    fn start(self, row: usize) -> usize {
        row * self.stride + self.offset
    }
}

impl Geometry {
    /// Reads a head of one sequence, rotated if asked; the rows of the padding are zero.
    pub(super) fn read<T: Element>(&self, source: &Source<T>, out: &mut [u32]) {
        let out = &mut as_numbers::<T>(out)[..self.padded_t * self.e];
        let (out, padding) = out.split_at_mut(self.t * self.e);
        self.read_rows(source, source.sequence * self.t, 0, out);
        padding.fill(T::from_f32(0.0));
    }

    /// Reads rows from one on, at positions from one on, as many as fit.
    pub(super) fn read_rows<T: Element>(
        &self,
        source: &Source<T>,
        first_row: usize,
        first_position: usize,
        out: &mut [T],
    ) {
        let Source { all, place, rotation, .. } = *source;
        let (e, half) = (self.e, self.e / 2);
        for (i, out) in out.chunks_exact_mut(e).enumerate() {
            let row = &all[place.start(first_row + i)..][..e];
            match rotation {
                None => out.copy_from_slice(row),
                Some(Rotation { cos, sin }) => {
                    let at = (first_position + i) * half;
                    rotate_row(row, &cos[at..][..half], &sin[at..][..half], out);
                }
            }
        }
    }

    /// Writes rows of an output or a gradient, rotated back if asked. Row `position` is at `(position − from) · stride`.
    ///
    /// # Safety
    /// No other thread uses these rows of this head.
    #[expect(unsafe_code, reason = "threads write their own heads")]
    pub(super) unsafe fn write<T: Element>(
        &self,
        all: Parts<T>,
        place: Place,
        sequence: usize,
        positions: std::ops::Range<usize>,
        rotation: Option<Rotation>,
        (numbers, stride): (&[f32], usize),
    ) {
        let (e, half) = (self.e, self.e / 2);
        let from = positions.start;
        for position in positions {
            // SAFETY: as the caller promises.
            let out = unsafe { all.get(place.start(sequence * self.t + position), e) };
            let row = &numbers[(position - from) * stride..][..e];
            match rotation {
                None => copy_row(row, out),
                Some(Rotation { cos, sin }) => {
                    let at = position * half;
                    rotate_row_back(row, &cos[at..][..half], &sin[at..][..half], out);
                }
            }
        }
    }
}

vectorised! {
    fn copy_row<T>(row: &[f32], out: &mut [T]) {
        out.iter_mut().zip(row).for_each(|(out, x)| *out = T::from_f32(*x));
    }

    fn rotate_row<T>(row: &[T], cos: &[f32], sin: &[f32], out: &mut [T]) {
        let half = cos.len();
        let (first, second) = row.split_at(half);
        let (out_first, out_second) = out.split_at_mut(half);
        let angles = cos.iter().zip(sin);
        let outs = out_first.iter_mut().zip(out_second);
        for (((a, b), (cos, sin)), (first_out, second_out)) in
            first.iter().zip(second).zip(angles).zip(outs)
        {
            let (a, b) = (a.to_f32(), b.to_f32());
            *first_out = T::from_f32(a * cos - b * sin);
            *second_out = T::from_f32(b * cos + a * sin);
        }
    }

    fn rotate_row_back<T>(row: &[f32], cos: &[f32], sin: &[f32], out: &mut [T]) {
        let half = cos.len();
        let (first, second) = row.split_at(half);
        let (out_first, out_second) = out.split_at_mut(half);
        let angles = cos.iter().zip(sin);
        let outs = out_first.iter_mut().zip(out_second);
        for (((a, b), (cos, sin)), (first, second)) in
            first.iter().zip(second).zip(angles).zip(outs)
        {
            *first = T::from_f32(a * cos + b * sin);
            *second = T::from_f32(b * cos - a * sin);
        }
    }
}
