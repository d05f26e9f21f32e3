//! From blocks of small integers to numbers.
//!
//! The formulas are those of ggml's reference (`dequantize_row_*` in `ggml-quants.c`) in its order
//! of operations, so the f32 values are the same to the bit. `d` is a scale, `m` a minimum, `q` an
//! integer. In the blocks of 32 the low halves of 16 bytes are the first 16 weights, the high halves
//! the other 16; in those of 256 the same holds for 32 bytes and 64 weights.

use crate::tensor::TensorType;

/// Decodes whole blocks of a type that is understood, appending their weights to `out`.
pub(crate) fn dequantize(tensor_type: TensorType, bytes: &[u8], out: &mut Vec<f32>) {
    match tensor_type {
        TensorType::F32 => out.extend(bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b))),
        TensorType::F16 => out.extend(bytes.as_chunks().0.iter().map(|b| f16(*b))),
        TensorType::Bf16 => {
            let halves = bytes.as_chunks().0.iter();
            out.extend(halves.map(|b| f32::from_bits(u32::from(u16::from_le_bytes(*b)) << 16)));
        }
        TensorType::Q4_0 => bytes.as_chunks().0.iter().for_each(|b| q4_0(b, out)),
        TensorType::Q4_1 => bytes.as_chunks().0.iter().for_each(|b| q4_1(b, out)),
        TensorType::Q5_0 => bytes.as_chunks().0.iter().for_each(|b| q5_0(b, out)),
        TensorType::Q5_1 => bytes.as_chunks().0.iter().for_each(|b| q5_1(b, out)),
        TensorType::Q8_0 => bytes.as_chunks().0.iter().for_each(|b| q8_0(b, out)),
        TensorType::Q4K => bytes.as_chunks().0.iter().for_each(|b| q4_k(b, out)),
        TensorType::Q5K => bytes.as_chunks().0.iter().for_each(|b| q5_k(b, out)),
        TensorType::Q6K => bytes.as_chunks().0.iter().for_each(|b| q6_k(b, out)),
        // Callers have asked for the block's size, which such a type has none of.
        TensorType::Other(_) => {}
    }
}

/// A 16-bit float: a sign, 5 bits of exponent, 10 of fraction.
fn f16(bytes: [u8; 2]) -> f32 {
    let half = u32::from(u16::from_le_bytes(bytes));
    let (sign, exponent, fraction) = ((half & 0x8000) << 16, (half >> 10) & 0x1f, half & 0x3ff);
    match exponent {
        // Multiples of 2^-24, all of them exact in f32.
        0 => f32::from_bits(sign | (fraction as f32 * 2.0_f32.powi(-24)).to_bits()),
        0x1f => f32::from_bits(sign | 0x7f80_0000 | fraction << 13),
        _ => f32::from_bits(sign | (exponent + 127 - 15) << 23 | fraction << 13),
    }
}

/// The 16 bits of a 32-bit float that is nearest, the even one of two. NaN stays NaN.
pub(crate) fn bf16(x: f32) -> u16 {
    let bits = x.to_bits();
    if x.is_nan() {
        return (bits >> 16) as u16 | 0x40;
    }
    ((bits + 0x7fff + (bits >> 16 & 1)) >> 16) as u16
}

fn low(b: u8) -> i32 {
    i32::from(b & 15)
}

fn high(b: u8) -> i32 {
    i32::from(b >> 4)
}

/// `d·(q - 8)`. Bytes: d, 16 of q.
fn q4_0(block: &[u8; 18], out: &mut Vec<f32>) {
    let [d0, d1, q @ ..] = block;
    let d = f16([*d0, *d1]);
    out.extend(q.iter().map(|b| d * (low(*b) - 8) as f32));
    out.extend(q.iter().map(|b| d * (high(*b) - 8) as f32));
}

/// `d·q + m`. Bytes: d, m, 16 of q.
fn q4_1(block: &[u8; 20], out: &mut Vec<f32>) {
    let [d0, d1, m0, m1, q @ ..] = block;
    let (d, m) = (f16([*d0, *d1]), f16([*m0, *m1]));
    out.extend(q.iter().map(|b| d * low(*b) as f32 + m));
    out.extend(q.iter().map(|b| d * high(*b) as f32 + m));
}

/// The fifth bit of weight `i`, in its place.
fn fifth(bits: [u8; 4], i: usize) -> i32 {
    ((u32::from_le_bytes(bits) >> i & 1) << 4) as i32
}

/// `d·(q - 16)`. Bytes: d, 4 of fifth bits, 16 of the other four.
fn q5_0(block: &[u8; 22], out: &mut Vec<f32>) {
    let [d0, d1, h0, h1, h2, h3, q @ ..] = block;
    let (d, h) = (f16([*d0, *d1]), [*h0, *h1, *h2, *h3]);
    out.extend(q.iter().enumerate().map(|(i, b)| d * ((low(*b) | fifth(h, i)) - 16) as f32));
    out.extend(q.iter().enumerate().map(|(i, b)| d * ((high(*b) | fifth(h, i + 16)) - 16) as f32));
}

/// `d·q + m`. Bytes: d, m, 4 of fifth bits, 16 of the other four.
fn q5_1(block: &[u8; 24], out: &mut Vec<f32>) {
    let [d0, d1, m0, m1, h0, h1, h2, h3, q @ ..] = block;
    let (d, m, h) = (f16([*d0, *d1]), f16([*m0, *m1]), [*h0, *h1, *h2, *h3]);
    out.extend(q.iter().enumerate().map(|(i, b)| d * (low(*b) | fifth(h, i)) as f32 + m));
    out.extend(q.iter().enumerate().map(|(i, b)| d * (high(*b) | fifth(h, i + 16)) as f32 + m));
}

/// `q·d`. Bytes: d, 32 of q.
fn q8_0(block: &[u8; 34], out: &mut Vec<f32>) {
    let [d0, d1, q @ ..] = block;
    let d = f16([*d0, *d1]);
    out.extend(q.iter().map(|b| f32::from(b.cast_signed()) * d));
}

/// Scale and minimum of group `j` of 8, 6 bits each: the first four of both have a byte each, whose
/// upper two bits belong to the last four, which have their lower four bits in the last four bytes.
fn scale_and_minimum(packed: &[u8], j: usize) -> (f32, f32) {
    let (scale, minimum) = if j < 4 {
        (packed[j] & 63, packed[j + 4] & 63)
    } else {
        let (d, m, both) = (packed[j - 4], packed[j], packed[j + 4]);
        (both & 15 | d >> 6 << 4, both >> 4 | m >> 6 << 4)
    };
    (f32::from(scale), f32::from(minimum))
}

/// `d·scale·q - m·minimum`. Bytes: d, m, 12 of scales and minima, 128 of q.
fn q4_k(block: &[u8; 144], out: &mut Vec<f32>) {
    let (d, m) = (f16([block[0], block[1]]), f16([block[2], block[3]]));
    let packed = &block[4..16];
    for (pair, q) in block[16..].chunks_exact(32).enumerate() {
        let (scale, minimum) = scale_and_minimum(packed, 2 * pair);
        out.extend(q.iter().map(|b| d * scale * low(*b) as f32 - m * minimum));
        let (scale, minimum) = scale_and_minimum(packed, 2 * pair + 1);
        out.extend(q.iter().map(|b| d * scale * high(*b) as f32 - m * minimum));
    }
}

/// As [`q4_k`]. Bytes: d, m, 12 of scales and minima, 32 of fifth bits, 128 of the other four. Bit
/// `j` of fifth byte `i` is that of weight `i` of group `j`.
fn q5_k(block: &[u8; 176], out: &mut Vec<f32>) {
    let (d, m) = (f16([block[0], block[1]]), f16([block[2], block[3]]));
    let (packed, h) = (&block[4..16], &block[16..48]);
    for (pair, q) in block[48..].chunks_exact(32).enumerate() {
        let fifth = |b: u8, group: usize| i32::from(b >> group & 1) << 4;
        let (scale, minimum) = scale_and_minimum(packed, 2 * pair);
        let weight = |(b, h): (&u8, &u8)| low(*b) | fifth(*h, 2 * pair);
        out.extend(q.iter().zip(h).map(|bh| d * scale * weight(bh) as f32 - m * minimum));
        let (scale, minimum) = scale_and_minimum(packed, 2 * pair + 1);
        let weight = |(b, h): (&u8, &u8)| high(*b) | fifth(*h, 2 * pair + 1);
        out.extend(q.iter().zip(h).map(|bh| d * scale * weight(bh) as f32 - m * minimum));
    }
}

/// `d·scale·(q - 32)`. Bytes: 128 of lower four bits, 64 of upper two, 16 of scales, d. Weights come
/// in two halves of 128: each has four runs of 32, whose lower bits are the low halves of 64 bytes,
/// then the high ones, and whose upper bits lie in 32 bytes, two bits a run.
fn q6_k(block: &[u8; 210], out: &mut Vec<f32>) {
    let d = f16([block[208], block[209]]);
    for half in 0..2 {
        let lower = &block[64 * half..][..64];
        let upper = &block[128 + 32 * half..][..32];
        let scales = &block[192 + 8 * half..][..8];
        for run in 0..4 {
            let lower = &lower[32 * (run % 2)..][..32];
            for (i, (l, u)) in lower.iter().zip(upper).enumerate() {
                let four = if run < 2 { low(*l) } else { high(*l) };
                let q = (four | i32::from(u >> (2 * run) & 3) << 4) - 32;
                let scale = f32::from(scales[2 * run + i / 16].cast_signed());
                out.push(d * scale * q as f32);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use safetensors::SafeTensors;

    use super::*;

    fn fixture() -> Vec<u8> {
        let path =
            concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/gguf/blocks.safetensors");
        std::fs::read(path).unwrap()
    }

    fn floats(bytes: &[u8]) -> Vec<f32> {
        bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
    }

    #[test]
    fn random_blocks_of_every_type_are_the_reference_s_to_the_bit() {
        let file = fixture();
        let file = SafeTensors::deserialize(&file).unwrap();
        for number in [0, 1, 2, 3, 6, 7, 8, 12, 13, 14, 30] {
            let tensor_type = TensorType::from_number(number);
            let tensor = |part| file.tensor(&format!("{tensor_type}.{part}")).unwrap();
            let mut ours = Vec::new();
            dequantize(tensor_type, tensor("bytes").data(), &mut ours);
            let theirs = floats(tensor("f32").data());
            assert_eq!(ours.len(), theirs.len());
            for (i, (ours, theirs)) in ours.iter().zip(theirs).enumerate() {
                assert_eq!(ours.to_bits(), theirs.to_bits(), "{tensor_type} {i}: {ours} {theirs}");
            }
        }
    }

    #[test]
    fn all_16_bit_floats_are_what_their_fields_say() {
        for bits in 0..=u16::MAX {
            let (exponent, fraction) = (i32::from(bits >> 10 & 31), f64::from(bits & 1023));
            let size = match exponent {
                0 => fraction / 1024.0 * 2.0_f64.powi(-14),
                31 if fraction == 0.0 => f64::INFINITY,
                31 => f64::NAN,
                _ => (1.0 + fraction / 1024.0) * 2.0_f64.powi(exponent - 15),
            };
            let expected = if bits >> 15 == 0 { size } else { -size };
            let found = f64::from(f16(bits.to_le_bytes()));
            assert!(found == expected || found.is_nan() && expected.is_nan(), "{bits:#x}");
            assert!(found.is_nan() || found.is_sign_negative() == (bits >> 15 == 1));
        }
    }

    #[test]
    fn floats_are_rounded_to_bf16_as_the_reference_rounds() {
        let file = fixture();
        let file = SafeTensors::deserialize(&file).unwrap();
        let theirs = file.tensor("bf16.u16").unwrap();
        let theirs = theirs.data().as_chunks().0.iter().map(|b| u16::from_le_bytes(*b));
        for (x, theirs) in floats(file.tensor("bf16.f32").unwrap().data()).iter().zip(theirs) {
            assert_eq!(bf16(*x), theirs, "{x}, {:#x}", x.to_bits());
        }
    }
}
