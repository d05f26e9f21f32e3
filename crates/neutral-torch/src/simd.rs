//! Plain loops at the width of the processor.
//!
//! A kernel is written once, over arrays of [`LANES`] numbers, and `vectorised!` compiles it for
//! AVX-512, for AVX2 and for any processor, and chooses when it runs. Sums are kept in [`LANES`]
//! partial sums whatever the processor, so that results differ between processors only where a
//! fused multiply-add rounds once instead of twice.

use std::sync::atomic::{AtomicU8, Ordering};

use crate::element::Element;

/// Numbers that are handled at once: a register of AVX-512 in fp32.
pub(crate) const LANES: usize = 16;

/// So many numbers.
pub(crate) type Lanes = [f32; LANES];

/// What the processor's vectors are, each with all that the one before has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Width {
    /// Whatever the target has without asking.
    Portable = 1,
    /// 256 bits.
    Avx2,
    /// 512 bits.
    Avx512,
    /// 512 bits, and products of bf16 pairs.
    Avx512Bf16,
}

/// The width in use, 0 while nobody has asked.
static WIDTH: AtomicU8 = AtomicU8::new(0);

/// Detected once a process.
#[inline(always)]
pub(crate) fn width() -> Width {
    match WIDTH.load(Ordering::Relaxed) {
        1 => Width::Portable,
        2 => Width::Avx2,
        3 => Width::Avx512,
        4 => Width::Avx512Bf16,
        _ => {
            let found = detect();
            WIDTH.store(found as u8, Ordering::Relaxed);
            found
        }
    }
}

/// Runs something at every width that this processor has.
#[cfg(test)]
pub(crate) fn at_every_width(mut run: impl FnMut(Width)) {
    let all = [Width::Portable, Width::Avx2, Width::Avx512, Width::Avx512Bf16];
    for width in all.into_iter().filter(|&width| width <= detect()) {
        WIDTH.store(width as u8, Ordering::Relaxed);
        run(width);
    }
}

/// Whether libtorch multiplies bf16 with instructions for it: oneDNN asks for AVX-512, or for AVX-NE-CONVERT.
#[cfg(target_arch = "x86_64")]
pub(crate) fn has_fast_bf16() -> bool {
    width() >= Width::Avx512 || is_x86_feature_detected!("avxneconvert")
}

/// Elsewhere that is libtorch's own business.
#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn has_fast_bf16() -> bool {
    true
}

#[cfg(target_arch = "x86_64")]
fn detect() -> Width {
    let avx512 = is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("fma");
    if avx512 && is_x86_feature_detected!("avx512bf16") {
        Width::Avx512Bf16
    } else if avx512 {
        Width::Avx512
    } else if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
        Width::Avx2
    } else {
        Width::Portable
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn detect() -> Width {
    Width::Portable
}

/// Compiles a function three times, for AVX-512, for AVX2 and for any processor, and calls the one
/// that fits. What it calls must be `#[inline(always)]`, or it is compiled for any processor.
macro_rules! vectorised {
    ($(
        $(#[$attribute:meta])*
        $visibility:vis fn $name:ident $(<$element:ident>)? ($($argument:ident: $type:ty),* $(,)?)
            $(-> $result:ty)? $body:block
    )*) => {$(
        $(#[$attribute])*
        $visibility fn $name $(<$element: $crate::element::Element>)? ($($argument: $type),*)
            $(-> $result)?
        {
            #[inline(always)]
            fn portable $(<$element: $crate::element::Element>)? ($($argument: $type),*)
                $(-> $result)? $body
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            fn avx2 $(<$element: $crate::element::Element>)? ($($argument: $type),*)
                $(-> $result)?
            {
                portable $(::<$element>)? ($($argument),*)
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma")]
            fn avx512 $(<$element: $crate::element::Element>)? ($($argument: $type),*)
                $(-> $result)?
            {
                portable $(::<$element>)? ($($argument),*)
            }
            #[cfg(target_arch = "x86_64")]
            #[expect(unsafe_code, reason = "calls code for instructions that were found")]
            // SAFETY: `width` says that the processor has the instructions.
            unsafe {
                use $crate::simd::Width;
                match $crate::simd::width() {
                    Width::Avx512 | Width::Avx512Bf16 => {
                        return avx512 $(::<$element>)? ($($argument),*);
                    }
                    Width::Avx2 => return avx2 $(::<$element>)? ($($argument),*),
                    Width::Portable => {}
                }
            }
            portable $(::<$element>)? ($($argument),*)
        }
    )*};
}
pub(crate) use vectorised;

/// The sum of all lanes, always in the same order.
#[inline(always)]
pub(crate) fn sum(lanes: Lanes) -> f32 {
    let mut lanes = lanes;
    let mut half = LANES / 2;
    while half > 0 {
        for i in 0..half {
            lanes[i] += lanes[i + half];
        }
        half /= 2;
    }
    lanes[0]
}

/// The larger number; the first, where one is NaN. One instruction, as `f32::max` is not.
#[inline(always)]
pub(crate) fn larger(a: f32, b: f32) -> f32 {
    if b > a { b } else { a }
}

/// The largest lane.
#[inline(always)]
pub(crate) fn largest_of(mut lanes: Lanes) -> f32 {
    let mut half = LANES / 2;
    while half > 0 {
        for i in 0..half {
            lanes[i] = larger(lanes[i], lanes[i + half]);
        }
        half /= 2;
    }
    lanes[0]
}

/// Transposes 16 × 16 words: a row every `stride`, in and out.
#[inline(always)]
pub(crate) fn transpose_block(words: &[u32], stride: usize, out: &mut [u32], stride_out: usize) {
    #[cfg(target_arch = "x86_64")]
    if matches!(width(), Width::Avx512 | Width::Avx512Bf16) {
        let end = (LANES - 1) * stride + LANES;
        assert!(words.len() >= end && out.len() >= (LANES - 1) * stride_out + LANES);
        #[expect(unsafe_code, reason = "instructions that were found, on sizes that were checked")]
        // SAFETY: checked.
        unsafe {
            transpose_registers(words.as_ptr(), stride, out.as_mut_ptr(), stride_out);
        }
        return;
    }
    for row in 0..LANES {
        for column in 0..LANES {
            out[column * stride_out + row] = words[row * stride + column];
        }
    }
}

/// In four rounds: blocks off the diagonal change places, of 8, 4, 2 and 1 words.
///
/// # Safety
/// The pointers reach 16 rows of 16 words.
#[cfg(target_arch = "x86_64")]
#[expect(unsafe_code, reason = "loads and stores of whole registers")]
#[target_feature(enable = "avx512f")]
unsafe fn transpose_registers(words: *const u32, stride: usize, out: *mut u32, stride_out: usize) {
    use std::arch::x86_64::{_mm512_loadu_si512, _mm512_permutex2var_epi32, _mm512_storeu_si512};
    // SAFETY: as the caller promises.
    unsafe {
        let mut rows: [_; LANES] =
            std::array::from_fn(|i| _mm512_loadu_si512(words.add(i * stride).cast()));
        for size in [8, 4, 2, 1] {
            // Lane l of the upper row keeps its own where bit `size` is not set, and takes the lower
            // row's from `size` lanes before where it is; the lower row takes the rest.
            let pick = |upper: bool| -> [u32; LANES] {
                std::array::from_fn(|lane| {
                    let lane = lane as u32;
                    match (lane & size == 0, upper) {
                        (true, true) => lane,
                        (false, true) => 16 + lane - size,
                        (true, false) => lane + size,
                        (false, false) => 16 + lane,
                    }
                })
            };
            let (up, down) = (pick(true), pick(false));
            let (up, down) =
                (_mm512_loadu_si512(up.as_ptr().cast()), _mm512_loadu_si512(down.as_ptr().cast()));
            let size = size as usize;
            for i in (0..LANES).filter(|i| i & size == 0) {
                let (a, b) = (rows[i], rows[i + size]);
                rows[i] = _mm512_permutex2var_epi32(a, up, b);
                rows[i + size] = _mm512_permutex2var_epi32(a, down, b);
            }
        }
        for (i, row) in rows.into_iter().enumerate() {
            _mm512_storeu_si512(out.add(i * stride_out).cast(), row);
        }
    }
}

vectorised! {
    /// `Σ aᵢ bᵢ`.
    pub(crate) fn dot<T>(a: &[T], b: &[T]) -> f32 {
        products(a, b)
    }

    /// `Σ aᵢ bᵢ` with the second in fp32.
    pub(crate) fn dot_with<T>(a: &[T], b: &[f32]) -> f32 {
        products(a, b)
    }
}

#[inline(always)]
fn products<A: Element, B: Element>(a: &[A], b: &[B]) -> f32 {
    let (whole_a, rest_a) = a.as_chunks::<LANES>();
    let (whole_b, rest_b) = b.as_chunks::<LANES>();
    let mut lanes = [0.0; LANES];
    for (a, b) in whole_a.iter().zip(whole_b) {
        for i in 0..LANES {
            lanes[i] += a[i].to_f32() * b[i].to_f32();
        }
    }
    let rest: f32 = rest_a.iter().zip(rest_b).map(|(a, b)| a.to_f32() * b.to_f32()).sum();
    sum(lanes) + rest
}

/// `eˣ` to 1.5 units in the last place; 0 below −87.3, and no more than `e^88.3` above it.
///
/// Range reduction by `ln 2` in two parts, then a polynomial of degree 6: no branch and no call, so
/// loops of it are vectorised. Coefficients: Cephes' `expf`.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    // Adding it rounds to a whole number, which then stands in the lowest bits.
    const ROUND: f32 = 12_582_912.0;
    // NaN stays, as comparisons with it are false.
    let clamped = if x < -87.3 { -87.3 } else { x };
    let clamped = if clamped > 88.3 { 88.3 } else { clamped };
    let shifted = clamped.mul_add(std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = n.mul_add(-LN2_LOW, n.mul_add(-LN2_HIGH, clamped));
    let mut p = 1.987_569_1e-4_f32;
    p = p.mul_add(r, 1.398_199_9e-3);
    p = p.mul_add(r, 8.333_452e-3);
    p = p.mul_add(r, 4.166_579_6e-2);
    p = p.mul_add(r, 0.166_666_65);
    p = p.mul_add(r, 0.5);
    let mantissa = p.mul_add(r * r, r) + 1.0;
    // n is between −126 and 127, so 2ⁿ is a normal number.
    let exponent = shifted.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127);
    let value = mantissa * f32::from_bits(exponent << 23);
    if x < -87.3 { 0.0 } else { value }
}

/// `1 / (1 + e⁻ˣ)`.
#[inline(always)]
pub(crate) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_agrees_with_double_precision() {
        for i in -873_000..=883_000 {
            let x = i as f32 * 1e-4;
            let (found, expected) = (f64::from(exp(x)), f64::from(x).exp());
            let apart = ((found - expected) / expected).abs();
            assert!(apart < 2e-7, "{x}: {apart}");
        }
        assert_eq!(exp(0.0).to_bits(), 1.0_f32.to_bits());
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert!(exp(f32::INFINITY) > 2e38 && exp(-87.4) == 0.0);
        assert!(exp(f32::NAN).is_nan());
    }

    #[test]
    fn kernels_give_the_same_on_every_width() {
        vectorised! {
            fn exp_all(x: &mut [f32]) {
                for x in x {
                    *x = exp(*x);
                }
            }
        }
        let x: Vec<f32> = (0..999).map(|i| (i as f32).sin() * 20.0).collect();
        at_every_width(|width| {
            let mut wide = x.clone();
            exp_all(&mut wide);
            assert!(wide.iter().zip(&x).all(|(&a, &b)| a == exp(b)), "{width:?}");
        });
    }

    #[test]
    fn a_block_is_transposed_at_every_width() {
        let words: Vec<u32> = (0..16 * 20).collect();
        at_every_width(|width| {
            let mut out = vec![0; 16 * 18];
            transpose_block(&words, 20, &mut out, 18);
            for (row, column) in (0..16).flat_map(|row| (0..16).map(move |column| (row, column))) {
                assert_eq!(out[column * 18 + row], words[row * 20 + column], "{width:?}");
            }
        });
    }

    #[test]
    fn a_sum_is_of_all_lanes() {
        assert_eq!(sum(std::array::from_fn(|i| i as f32)), 120.0);
    }
}
