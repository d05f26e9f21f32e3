//! Types of tensors, and what the file says of each tensor.

use std::fmt;

/// The encodings that are understood, with the numbers that the format gives them.
///
/// A row is cut into blocks; a block holds some scales and one small integer a weight. The last
/// dimension of a tensor, its rows' length, is a whole number of blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TensorType {
    /// 32-bit floats.
    F32,
    /// 16-bit floats with 5 bits of exponent.
    F16,
    /// The upper halves of 32-bit floats.
    Bf16,
    /// 4 bits and a scale, 32 weights a block.
    Q4_0,
    /// 4 bits, a scale and a minimum, 32 weights a block.
    Q4_1,
    /// 5 bits and a scale, 32 weights a block.
    Q5_0,
    /// 5 bits, a scale and a minimum, 32 weights a block.
    Q5_1,
    /// 8 bits and a scale, 32 weights a block.
    Q8_0,
    /// 4 bits in 8 groups with scales and minima of 6 bits, 256 weights a block.
    Q4K,
    /// As [`TensorType::Q4K`] with 5 bits.
    Q5K,
    /// 6 bits in 16 groups with scales of 8 bits, 256 weights a block.
    Q6K,
    /// One that is known by its number alone.
    Other(u32),
}

impl TensorType {
    /// The type that a file's number means.
    pub fn from_number(number: u32) -> Self {
        match number {
            0 => Self::F32,
            1 => Self::F16,
            2 => Self::Q4_0,
            3 => Self::Q4_1,
            6 => Self::Q5_0,
            7 => Self::Q5_1,
            8 => Self::Q8_0,
            12 => Self::Q4K,
            13 => Self::Q5K,
            14 => Self::Q6K,
            30 => Self::Bf16,
            other => Self::Other(other),
        }
    }

    /// Weights and bytes of a block; none for a type that is not understood.
    pub fn block(self) -> Option<(usize, usize)> {
        Some(match self {
            Self::F32 => (1, 4),
            Self::F16 | Self::Bf16 => (1, 2),
            Self::Q4_0 => (32, 18),
            Self::Q4_1 => (32, 20),
            Self::Q5_0 => (32, 22),
            Self::Q5_1 => (32, 24),
            Self::Q8_0 => (32, 34),
            Self::Q4K => (256, 144),
            Self::Q5K => (256, 176),
            Self::Q6K => (256, 210),
            Self::Other(_) => return None,
        })
    }
}

impl fmt::Display for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        /// ggml's names of the types that are not understood, from its `enum ggml_type`.
        const NAMES: [(u32, &str); 23] = [
            (9, "Q8_1"),
            (10, "Q2_K"),
            (11, "Q3_K"),
            (15, "Q8_K"),
            (16, "IQ2_XXS"),
            (17, "IQ2_XS"),
            (18, "IQ3_XXS"),
            (19, "IQ1_S"),
            (20, "IQ4_NL"),
            (21, "IQ3_S"),
            (22, "IQ2_S"),
            (23, "IQ4_XS"),
            (24, "I8"),
            (25, "I16"),
            (26, "I32"),
            (27, "I64"),
            (28, "F64"),
            (29, "IQ1_M"),
            (34, "TQ1_0"),
            (35, "TQ2_0"),
            (39, "MXFP4"),
            (40, "NVFP4"),
            (41, "Q1_0"),
        ];
        match self {
            Self::Bf16 => write!(f, "BF16"),
            Self::Q4K => write!(f, "Q4_K"),
            Self::Q5K => write!(f, "Q5_K"),
            Self::Q6K => write!(f, "Q6_K"),
            Self::Other(number) => match NAMES.iter().find(|(known, _)| known == number) {
                Some((_, name)) => write!(f, "{name}"),
                None => write!(f, "type {number}"),
            },
            plain => write!(f, "{plain:?}"),
        }
    }
}

/// A tensor as the header describes it.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorInfo {
    /// Its name in the file.
    pub name: String,
    /// Its shape, outermost dimension first: `[out, in]` of a linear layer. The file has them the
    /// other way round.
    pub shape: Vec<u64>,
    /// How its weights are encoded.
    pub tensor_type: TensorType,
    /// Where its bytes begin, from the start of the file.
    pub offset: u64,
}

impl TensorInfo {
    /// Number of weights. The parser has checked that it does not overflow.
    pub fn elements(&self) -> u64 {
        self.shape.iter().product()
    }

    /// Length of a row.
    pub fn columns(&self) -> u64 {
        self.shape.last().copied().unwrap_or(1)
    }

    /// Bytes in the file; none for a type that is not understood.
    pub fn bytes(&self) -> Option<u64> {
        let (weights, bytes) = self.tensor_type.block()?;
        (self.elements() / weights as u64).checked_mul(bytes as u64)
    }
}
