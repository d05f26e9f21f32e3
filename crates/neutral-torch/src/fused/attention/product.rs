//! Small matrix products in registers: what attention's tiles are made of.
//!
//! `C[m, n] (+)= A[m, k] · B[k, n]` with fp32 sums. Operands are words of 32 bits, each a *group* of
//! neighbours along `k`: one fp32, or a pair of bf16. So one loop serves both, and only the
//! instruction in its middle differs: a fused multiply-add, or AVX-512's product of bf16 pairs.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{
    __m512bh, __m512i, _mm512_add_ps, _mm512_castsi512_ps, _mm512_dpbf16_ps, _mm512_fmadd_ps,
    _mm512_loadu_ps, _mm512_loadu_si512, _mm512_set1_epi32, _mm512_setzero_ps, _mm512_storeu_ps,
};

use crate::element::Element;
use crate::simd::{LANES, Width, vectorised, width};

/// Rows of a tile.
#[cfg(target_arch = "x86_64")]
const TILE_ROWS: usize = 6;
/// Registers in a row of a tile.
#[cfg(target_arch = "x86_64")]
const TILE_VECTORS: usize = 4;
/// Rows of a tile of one register of 512 bits, or two of 256, for other processors.
const PLAIN_ROWS: usize = 4;

/// `A`: rows of groups, one row every `stride`.
#[derive(Clone, Copy)]
pub(super) struct Left<'a> {
    pub words: &'a [u32],
    pub stride: usize,
}

/// `B`: a row of `n` words for every group along `k`, one row every `stride`.
#[derive(Clone, Copy)]
pub(super) struct Right<'a> {
    pub words: &'a [u32],
    pub stride: usize,
}

/// `C`.
pub(super) struct Out<'a> {
    pub numbers: &'a mut [f32],
    pub stride: usize,
    /// Adds to what is there, in place of overwriting it.
    pub add: bool,
}

/// `m` rows, `n` columns (a multiple of 16), `k` groups.
#[derive(Clone, Copy)]
pub(super) struct Sizes {
    pub m: usize,
    pub n: usize,
    pub k: usize,
}

/// The product of operands whose words are groups of `T`.
pub(super) fn product<T: Element>(sizes: Sizes, a: Left, b: Right, c: Out) {
    let Sizes { m, n, k } = sizes;
    if m == 0 || n == 0 {
        return;
    }
    assert!(n.is_multiple_of(LANES));
    assert!(k == 0 || (a.words.len() >= (m - 1) * a.stride + k && a.stride >= k));
    assert!(k == 0 || (b.words.len() >= (k - 1) * b.stride + n && b.stride >= n));
    assert!(c.numbers.len() >= (m - 1) * c.stride + n && c.stride >= n);
    #[cfg(target_arch = "x86_64")]
    #[expect(unsafe_code, reason = "instructions that were found, on sizes that were checked")]
    // SAFETY: `width` says what the processor has; the tiles stay within the sizes.
    unsafe {
        match (width(), T::GROUP) {
            (Width::Avx512 | Width::Avx512Bf16, 1) => return fp32::tiles(sizes, a, b, c),
            (Width::Avx512Bf16, _) => return pairs::tiles(sizes, a, b, c),
            _ => {}
        }
    }
    plain::<T>(sizes, a, b, c);
}

vectorised! {
    /// The same in plain loops, over tiles that fit the registers of AVX2.
    fn plain<T>(sizes: Sizes, a: Left, b: Right, c: Out) {
        let mut c = c;
        for column in (0..sizes.n).step_by(LANES) {
            let mut row = 0;
            while row < sizes.m {
                if sizes.m - row >= PLAIN_ROWS {
                    plain_tile::<PLAIN_ROWS, T>([row, column], sizes.k, a, b, &mut c);
                    row += PLAIN_ROWS;
                } else {
                    plain_tile::<1, T>([row, column], sizes.k, a, b, &mut c);
                    row += 1;
                }
            }
        }
    }
}

#[inline(always)]
fn plain_tile<const M: usize, T: Element>(
    [row, column]: [usize; 2],
    k: usize,
    a: Left,
    b: Right,
    c: &mut Out,
) {
    let mut sums = [[0.0_f32; LANES]; M];
    for group in 0..k {
        let right = &b.words[group * b.stride + column..][..LANES];
        for (m, sums) in sums.iter_mut().enumerate() {
            let left = a.words[(row + m) * a.stride + group];
            for (sum, &right) in sums.iter_mut().zip(right) {
                *sum = if T::GROUP == 1 {
                    f32::from_bits(left).mul_add(f32::from_bits(right), *sum)
                } else {
                    let low = |word: u32| f32::from_bits(word << 16);
                    let high = |word: u32| f32::from_bits(word & 0xffff_0000);
                    high(left).mul_add(high(right), low(left).mul_add(low(right), *sum))
                };
            }
        }
    }
    for (m, sums) in sums.iter().enumerate() {
        let out = &mut c.numbers[(row + m) * c.stride + column..][..LANES];
        for (out, sum) in out.iter_mut().zip(sums) {
            *out = if c.add { *out + sum } else { *sum };
        }
    }
}

/// The tile of so many rows and registers.
#[cfg(target_arch = "x86_64")]
macro_rules! tile_of {
    ($m:expr, $vectors:expr, $($rows:literal)*) => {
        match ($m, $vectors) {
            $(
                ($rows, 1) => tile::<$rows, 1>,
                ($rows, 2) => tile::<$rows, 2>,
                ($rows, 3) => tile::<$rows, 3>,
                ($rows, _) => tile::<$rows, 4>,
            )*
            _ => unreachable!("a tile has 1 to 6 rows"),
        }
    };
}

/// Defines `tiles` and `tile` in a module, for processors with some features and the instruction that
/// multiplies two registers of groups and adds a third. A function may only be compiled for what the
/// processor that calls it has.
#[cfg(target_arch = "x86_64")]
macro_rules! tiles_with {
    ($module:ident, $features:literal, |$sum:ident, $left:ident, $right:ident| $multiply:expr) => {
        mod $module {
            use super::*;

            /// Covers `C` with tiles, column by column, so that a strip of `B` stays in the first
            /// cache.
            #[target_feature(enable = $features)]
            pub(super) fn tiles(Sizes { m, n, k }: Sizes, a: Left, b: Right, c: Out) {
                for column in (0..n).step_by(TILE_VECTORS * LANES) {
                    let vectors = ((n - column) / LANES).min(TILE_VECTORS);
                    for row in (0..m).step_by(TILE_ROWS) {
                        let tile: unsafe fn(_, _, _, _, _, _, _, _) =
                            tile_of!((m - row).min(TILE_ROWS), vectors, 1 2 3 4 5 6);
                        #[expect(unsafe_code, reason = "sizes were checked by `product`")]
                        // SAFETY: rows and columns of this tile lie within all three.
                        unsafe {
                            tile(
                                k,
                                a.words.as_ptr().add(row * a.stride),
                                a.stride,
                                b.words.as_ptr().add(column),
                                b.stride,
                                c.numbers.as_mut_ptr().add(row * c.stride + column),
                                c.stride,
                                c.add,
                            );
                        }
                    }
                }
            }

            /// `M` rows of `N` registers.
            ///
            /// # Safety
            /// The pointers reach `M` rows of `k` words, `k` rows of `16 N` words, and `M` rows of
            /// `16 N` numbers.
            #[expect(unsafe_code, reason = "loads and stores of whole registers")]
            #[expect(clippy::too_many_arguments, reason = "three matrices and their strides")]
            #[target_feature(enable = $features)]
            unsafe fn tile<const M: usize, const N: usize>(
                k: usize,
                a: *const u32,
                a_stride: usize,
                b: *const u32,
                b_stride: usize,
                c: *mut f32,
                c_stride: usize,
                add: bool,
            ) {
                let mut sums = [[_mm512_setzero_ps(); N]; M];
                // SAFETY: as the caller promises.
                unsafe {
                    for group in 0..k {
                        let row = b.add(group * b_stride);
                        let right: [_; N] =
                            std::array::from_fn(|i| _mm512_loadu_si512(row.add(i * LANES).cast()));
                        for (m, sums) in sums.iter_mut().enumerate() {
                            let $left =
                                _mm512_set1_epi32((*a.add(m * a_stride + group)).cast_signed());
                            for (place, $right) in sums.iter_mut().zip(right) {
                                let $sum = *place;
                                *place = $multiply;
                            }
                        }
                    }
                    for (m, sums) in sums.iter().enumerate() {
                        for (i, sum) in sums.iter().enumerate() {
                            let place = c.add(m * c_stride + i * LANES);
                            let before =
                                if add { _mm512_loadu_ps(place) } else { _mm512_setzero_ps() };
                            _mm512_storeu_ps(place, _mm512_add_ps(before, *sum));
                        }
                    }
                }
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
tiles_with!(fp32, "avx512f", |sum, left, right| {
    _mm512_fmadd_ps(_mm512_castsi512_ps(left), _mm512_castsi512_ps(right), sum)
});

// A register of bf16 pairs has no other form than its bits.
#[cfg(target_arch = "x86_64")]
tiles_with!(pairs, "avx512f,avx512bf16", |sum, left, right| {
    let [left, right] = [left, right].map(|words| std::mem::transmute::<__m512i, __m512bh>(words));
    _mm512_dpbf16_ps(sum, left, right)
});

#[cfg(test)]
mod tests {
    use super::*;
    use crate::element::Bf16;
    use crate::simd::at_every_width;

    fn check<T: Element>() {
        let number = |i: usize, by: f32| T::from_f32((i as f32 * by).sin()).to_f32();
        for (m, n, k) in [(1, 16, 1), (6, 64, 5), (7, 80, 3), (13, 48, 9), (5, 16, 0)] {
            let (a_stride, b_stride, c_stride) = (k + 2, n + 16, n + 3);
            let pair = |i: usize, by: f32| [number(2 * i, by), number(2 * i + 1, by)];
            let words = |len: usize, by: f32| -> Vec<u32> {
                (0..len)
                    .map(|i| T::join(T::from_f32(pair(i, by)[0]), T::from_f32(pair(i, by)[1])))
                    .collect()
            };
            let (a, b) = (words(m * a_stride, 0.7), words(k * b_stride, 1.3));
            for add in [false, true] {
                let mut found = vec![0.5_f32; m * c_stride];
                let sizes = Sizes { m, n, k };
                let left = Left { words: &a, stride: a_stride };
                let right = Right { words: &b, stride: b_stride };
                let out = Out { numbers: &mut found, stride: c_stride, add };
                product::<T>(sizes, left, right, out);
                for (row, column) in (0..m).flat_map(|r| (0..n).map(move |c| (r, c))) {
                    let mut exact = if add { 0.5 } else { 0.0 };
                    for group in 0..k {
                        let left = pair(row * a_stride + group, 0.7);
                        let right = pair(group * b_stride + column, 1.3);
                        for i in 0..T::GROUP {
                            exact += f64::from(left[i]) * f64::from(right[i]);
                        }
                    }
                    let found = f64::from(found[row * c_stride + column]);
                    assert!((found - exact).abs() < 1e-5, "{m} {n} {k} at {row} {column}");
                }
                let beyond =
                    (0..m).flat_map(|row| &found[row * c_stride + n..(row + 1) * c_stride]);
                assert!(beyond.into_iter().all(|&x| x == 0.5), "beyond a row");
            }
        }
    }

    #[test]
    fn products_agree_with_double_precision_in_fp32_and_in_pairs_of_bf16() {
        at_every_width(|_| {
            check::<f32>();
            check::<Bf16>();
        });
    }
}
