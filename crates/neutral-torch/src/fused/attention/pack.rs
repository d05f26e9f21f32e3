//! One head's numbers, in the orders that products want.
//!
//! Everything begins as *rows*: `[rows][width / G]` words, each a group of neighbours in a row, which
//! for a product along the width is the left operand as it is. The other three orders follow.

use crate::element::Element;
use crate::simd::{LANES, transpose_block, vectorised};

/// Words as the numbers that they hold.
#[inline(always)]
pub(super) fn as_numbers<T: Element>(words: &mut [u32]) -> &mut [T] {
    #[expect(unsafe_code, reason = "a word is one fp32 or two bf16")]
    // SAFETY: sizes and alignment fit, and any bits are a number.
    unsafe {
        std::slice::from_raw_parts_mut(words.as_mut_ptr().cast(), words.len() * T::GROUP)
    }
}

#[inline(always)]
fn numbers_of<T: Element>(words: &[u32]) -> &[T] {
    #[expect(unsafe_code, reason = "a word is one fp32 or two bf16")]
    // SAFETY: as above.
    unsafe {
        std::slice::from_raw_parts(words.as_ptr().cast(), words.len() * T::GROUP)
    }
}

/// From `[rows][columns]` words to `[columns][rows]`: of rows, this makes the right operand of a
/// product along the width; of pairs, the left operand of a product along the rows.
pub(super) fn transpose(
    words: &[u32],
    rows: usize,
    columns: usize,
    stride: usize,
    out: &mut [u32],
) {
    transpose_into(words, [rows, columns], [stride, rows], out);
}

vectorised! {
    /// Right operand of a product along the rows, `[rows / G][padded]` words, zero beyond the width:
    /// each a group of neighbours in a column.
    pub(super) fn pairs<T>(
        rows_in: &[u32],
        rows: usize,
        width: usize,
        padded: usize,
        out: &mut [u32],
    ) {
        let numbers = &numbers_of::<T>(rows_in)[..rows * width];
        for (group, out) in out.chunks_exact_mut(padded).take(rows / T::GROUP).enumerate() {
            let (out, rest) = out.split_at_mut(width);
            let first = &numbers[group * T::GROUP * width..][..width];
            let last = &numbers[(group * T::GROUP + T::GROUP - 1) * width..][..width];
            for ((out, first), last) in out.iter_mut().zip(first).zip(last) {
                *out = T::join(*first, *last);
            }
            rest.fill(0);
        }
    }

    /// The same words, a row every `strides[1]` instead of a column every `strides[0]`.
    pub(super) fn transpose_into(
        words: &[u32],
        sizes: [usize; 2],
        strides: [usize; 2],
        out: &mut [u32],
    ) {
        let [rows, columns] = sizes;
        let [stride_in, stride_out] = strides;
        let (whole_rows, whole_columns) = (rows / LANES * LANES, columns / LANES * LANES);
        for row in (0..whole_rows).step_by(LANES) {
            for column in (0..whole_columns).step_by(LANES) {
                let from = &words[row * stride_in + column..];
                let to = &mut out[column * stride_out + row..];
                transpose_block(from, stride_in, to, stride_out);
            }
        }
        for row in 0..rows {
            let from = if row < whole_rows { whole_columns } else { 0 };
            for column in from..columns {
                out[column * stride_out + row] = words[row * stride_in + column];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::element::Bf16;
    use crate::simd::at_every_width;

    #[test]
    fn every_order_holds_every_number_at_its_place() {
        fn check<T: Element>() {
            let (rows, padded) = (48, 64);
            for width in [6, 32, 50] {
                let g = T::GROUP;
                let number = |row: usize, column: usize| T::from_f32((row * 5 + column) as f32);
                let mut words = vec![0; rows * width / g];
                let places = || (0..rows).flat_map(|r| (0..width).map(move |c| (r, c)));
                for (row, column) in places() {
                    as_numbers::<T>(&mut words)[row * width + column] = number(row, column);
                }
                let mut columns = vec![7; rows * width / g];
                transpose(&words, rows, width / g, width / g, &mut columns);
                let mut paired = vec![7; rows / g * padded];
                pairs::<T>(&words, rows, width, padded, &mut paired);
                let mut transposed = vec![7; width * rows / g];
                transpose(&paired, rows / g, width, padded, &mut transposed);
                let at = |words: &[u32], word: usize, i: usize| {
                    numbers_of::<T>(words)[word * g + i].to_f32()
                };
                for (row, column) in places() {
                    let number = number(row, column).to_f32();
                    assert_eq!(at(&columns, column / g * rows + row, column % g), number);
                    assert_eq!(at(&paired, row / g * padded + column, row % g), number);
                    assert_eq!(at(&transposed, column * (rows / g) + row / g, row % g), number);
                }
                assert!(paired[width..padded].iter().all(|&word| word == 0));
            }
        }
        at_every_width(|_| {
            check::<f32>();
            check::<Bf16>();
        });
    }
}
