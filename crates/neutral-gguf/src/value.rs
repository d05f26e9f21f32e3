//! Metadata: keys with typed values.
//!
//! An array stays as the bytes of the file, checked once and decoded on the way out. So it takes as
//! much memory as it takes on disk, whatever its elements are, and its strings are borrowed.

use std::fmt;

/// The types of values, with the numbers that the format gives them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// 0, one byte.
    U8,
    /// 1, one byte.
    I8,
    /// 2, two bytes.
    U16,
    /// 3, two bytes.
    I16,
    /// 4, four bytes.
    U32,
    /// 5, four bytes.
    I32,
    /// 6, four bytes.
    F32,
    /// 7, one byte, 0 or 1.
    Bool,
    /// 8, a length of eight bytes, then UTF-8.
    String,
    /// 9, a kind of four bytes, a length of eight, then the elements.
    Array,
    /// 10, eight bytes.
    U64,
    /// 11, eight bytes.
    I64,
    /// 12, eight bytes.
    F64,
}

impl Kind {
    /// The kind that a file's number means.
    pub fn from_number(number: u32) -> Option<Self> {
        Some(match number {
            0 => Self::U8,
            1 => Self::I8,
            2 => Self::U16,
            3 => Self::I16,
            4 => Self::U32,
            5 => Self::I32,
            6 => Self::F32,
            7 => Self::Bool,
            8 => Self::String,
            9 => Self::Array,
            10 => Self::U64,
            11 => Self::I64,
            12 => Self::F64,
            _ => return None,
        })
    }

    /// Bytes of a value, or the least that one takes if it has a length of its own.
    pub fn size(self) -> usize {
        match self {
            Self::U8 | Self::I8 | Self::Bool => 1,
            Self::U16 | Self::I16 => 2,
            Self::U32 | Self::I32 | Self::F32 => 4,
            Self::U64 | Self::I64 | Self::F64 | Self::String => 8,
            Self::Array => 12,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}", format!("{self:?}").to_lowercase())
    }
}

/// One value. Integers of all widths are one of two; a 32-bit float stays one, for its shortest
/// decimal form is what the author of a model wrote.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `u8` to `u64`.
    Unsigned(u64),
    /// `i8` to `i64`.
    Signed(i64),
    /// `f32`.
    F32(f32),
    /// `f64`.
    F64(f64),
    /// `bool`.
    Bool(bool),
    /// A string.
    String(String),
    /// An array of one kind.
    Array(Array),
}

impl Value {
    /// A number or a truth value of a fixed size from its little-endian bytes; none if a truth
    /// value is neither 0 nor 1, or for kinds without a fixed size.
    pub(crate) fn from_bytes(kind: Kind, bytes: &[u8]) -> Option<Self> {
        Some(match kind {
            Kind::U8 => Self::Unsigned(u8::from_le_bytes(bytes.try_into().ok()?).into()),
            Kind::U16 => Self::Unsigned(u16::from_le_bytes(bytes.try_into().ok()?).into()),
            Kind::U32 => Self::Unsigned(u32::from_le_bytes(bytes.try_into().ok()?).into()),
            Kind::U64 => Self::Unsigned(u64::from_le_bytes(bytes.try_into().ok()?)),
            Kind::I8 => Self::Signed(i8::from_le_bytes(bytes.try_into().ok()?).into()),
            Kind::I16 => Self::Signed(i16::from_le_bytes(bytes.try_into().ok()?).into()),
            Kind::I32 => Self::Signed(i32::from_le_bytes(bytes.try_into().ok()?).into()),
            Kind::I64 => Self::Signed(i64::from_le_bytes(bytes.try_into().ok()?)),
            Kind::F32 => Self::F32(f32::from_le_bytes(bytes.try_into().ok()?)),
            Kind::F64 => Self::F64(f64::from_le_bytes(bytes.try_into().ok()?)),
            Kind::Bool => match bytes {
                [0] => Self::Bool(false),
                [1] => Self::Bool(true),
                _ => return None,
            },
            Kind::String | Kind::Array => return None,
        })
    }

    /// A whole number that is not negative.
    pub fn as_unsigned(&self) -> Option<u64> {
        match self {
            Self::Unsigned(n) => Some(*n),
            Self::Signed(n) => u64::try_from(*n).ok(),
            _ => None,
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Unsigned(n) => write!(f, "{n}"),
            Self::Signed(n) => write!(f, "{n}"),
            Self::F32(x) => write!(f, "{x}"),
            Self::F64(x) => write!(f, "{x}"),
            Self::Bool(b) => write!(f, "{b}"),
            Self::String(s) => write!(f, "{s:?}"),
            Self::Array(a) => write!(f, "{} values of kind {}", a.length, a.kind),
        }
    }
}

/// An array of numbers, truth values or strings, as the file has it. The parser has checked it.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    pub(crate) kind: Kind,
    pub(crate) length: usize,
    pub(crate) bytes: Vec<u8>,
}

impl Array {
    /// What the elements are.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The elements, if they are strings.
    pub fn strings(&self) -> Option<Vec<&str>> {
        if self.kind != Kind::String {
            return None;
        }
        let mut rest = self.bytes.as_slice();
        let mut strings = Vec::with_capacity(self.length);
        while let Some((length, tail)) = rest.split_first_chunk::<8>() {
            let length = usize::try_from(u64::from_le_bytes(*length)).ok()?;
            let (string, tail) = tail.split_at_checked(length)?;
            strings.push(std::str::from_utf8(string).ok()?);
            rest = tail;
        }
        Some(strings)
    }

    /// The elements, if they are whole numbers of any width.
    pub fn integers(&self) -> Option<Vec<i64>> {
        let values = self.bytes.chunks_exact(self.kind.size());
        values
            .map(|bytes| match Value::from_bytes(self.kind, bytes)? {
                Value::Unsigned(n) => i64::try_from(n).ok(),
                Value::Signed(n) => Some(n),
                _ => None,
            })
            .collect()
    }

    /// The elements, if they are 32-bit floats.
    pub fn floats(&self) -> Option<Vec<f32>> {
        if self.kind != Kind::F32 {
            return None;
        }
        let (values, _) = self.bytes.as_chunks::<4>();
        Some(values.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect())
    }
}
