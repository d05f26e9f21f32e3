//! What a file says of itself, for people to read.

use std::path::Path;

use serde::Serialize;

use crate::error::GgufError;
use crate::gguf::Gguf;

/// A file's header, in words.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Description {
    /// Version of the format.
    pub version: u32,
    /// Keys and their values, sorted by key; of an array its length and kind, of a long string its
    /// beginning.
    pub metadata: Vec<(String, String)>,
    /// Tensors in the order of their bytes.
    pub tensors: Vec<TensorDescription>,
}

/// A tensor, in words.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TensorDescription {
    /// Its name in the file.
    pub name: String,
    /// Its encoding, as llama.cpp calls it: `Q4_K`.
    pub tensor_type: String,
    /// Its shape, outermost dimension first.
    pub shape: Vec<u64>,
}

/// Characters of a value that are shown.
const SHOWN: usize = 200;

/// Reads the header of a file, of any architecture and with tensors of any type.
///
/// # Errors
/// [`GgufError::Store`] if it cannot be read, [`GgufError::Malformed`] if it is damaged.
pub fn describe(path: &Path) -> Result<Description, GgufError> {
    let gguf = Gguf::open(path)?;
    let shorten = |value: String| match value.char_indices().nth(SHOWN) {
        Some((at, _)) => format!("{}…", &value[..at]),
        None => value,
    };
    let metadata = gguf.metadata().iter();
    let metadata = metadata.map(|(key, value)| (key.clone(), shorten(value.to_string()))).collect();
    let mut tensors: Vec<_> = gguf.tensors().values().collect();
    tensors.sort_by_key(|tensor| tensor.offset);
    let describe = |tensor: &crate::TensorInfo| TensorDescription {
        name: tensor.name.clone(),
        tensor_type: tensor.tensor_type.to_string(),
        shape: tensor.shape.clone(),
    };
    let tensors = tensors.into_iter().map(describe).collect();
    Ok(Description { version: gguf.version(), metadata, tensors })
}
