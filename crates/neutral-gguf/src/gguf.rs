//! The file as a whole: its header, checked, and its tensors' bytes on demand.
//!
//! Format: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>, versions 2 and 3,
//! little-endian:
//!
//! ```text
//! "GGUF"  version u32  tensors u64  keys u64
//! keys ×    { key string, kind u32, value }
//! tensors × { name string, n_dims u32, dims u64 × n_dims, type u32, offset u64 }
//! padding to `general.alignment`, then the data that the offsets count into
//! ```

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use neutral_store::StoreError;

use crate::error::GgufError;
use crate::header::{Header, Stop};
use crate::source::Source;
use crate::tensor::{TensorInfo, TensorType};
use crate::value::Value;

/// The most keys, and the most tensors, that a header may have: some hundred times what models do.
const MAX_ENTRIES: usize = 1 << 16;
const MAX_DIMENSIONS: u32 = 4;
const DEFAULT_ALIGNMENT: u64 = 32;

/// A GGUF file whose header has been read and checked.
#[derive(Debug)]
pub struct Gguf<S> {
    path: PathBuf,
    source: S,
    version: u32,
    metadata: BTreeMap<String, Value>,
    tensors: BTreeMap<String, TensorInfo>,
}

impl Gguf<File> {
    /// Opens a file and reads its header.
    ///
    /// # Errors
    /// [`GgufError::Store`] if it cannot be read, else as [`Gguf::read`].
    pub fn open(path: &Path) -> Result<Self, GgufError> {
        let file = File::open(path).map_err(|e| StoreError::io("read", path, e))?;
        Self::read(path, file)
    }
}

impl<S: Source> Gguf<S> {
    /// Reads and checks the header of `source`; errors call it `path`.
    ///
    /// Afterwards, names are unique, and every tensor of an understood type lies within the file,
    /// aligned, on bytes that no other tensor has.
    ///
    /// # Errors
    /// [`GgufError::Malformed`] says where the bytes contradict the format.
    pub fn read(path: &Path, source: S) -> Result<Self, GgufError> {
        let length = source.length().map_err(|e| StoreError::io("read", path, e))?;
        let parsed = parse(&mut Header::new(&source, length), length);
        let (version, metadata, tensors) = parsed.map_err(|(field, stop)| match stop {
            Stop::Io(cause) => StoreError::io("read", path, cause).into(),
            Stop::Found(found) => GgufError::Malformed { path: path.to_owned(), field, found },
        })?;
        Ok(Self { path: path.to_owned(), source, version, metadata, tensors })
    }

    /// What errors call the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Version of the format, 2 or 3.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// All keys with their values.
    pub fn metadata(&self) -> &BTreeMap<String, Value> {
        &self.metadata
    }

    /// All tensors by name.
    pub fn tensors(&self) -> &BTreeMap<String, TensorInfo> {
        &self.tensors
    }

    /// Fills `buffer` with the file's bytes from `offset` on.
    pub(crate) fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> Result<(), GgufError> {
        let read = self.source.read_exact_at(buffer, offset);
        Ok(read.map_err(|e| StoreError::io("read", &self.path, e))?)
    }

    pub(crate) fn unsupported(&self, field: &str, found: impl Into<String>) -> GgufError {
        let path = self.path.clone();
        GgufError::Unsupported { path, field: field.to_owned(), found: found.into() }
    }

    /// The value of a key, if it is there; an error if `read` says that it is of another kind.
    pub(crate) fn get<'a, T>(
        &'a self,
        key: &str,
        expected: &str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, GgufError> {
        let Some(value) = self.metadata.get(key) else { return Ok(None) };
        match read(value) {
            Some(read) => Ok(Some(read)),
            None => Err(self.unsupported(key, format!("is {value}; it would be {expected}"))),
        }
    }

    /// The value of a key that must be there.
    pub(crate) fn require<'a, T>(
        &'a self,
        key: &str,
        expected: &str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<T, GgufError> {
        let value = self.get(key, expected, read)?;
        value.ok_or_else(|| self.unsupported(key, format!("is missing; it would be {expected}")))
    }

    pub(crate) fn get_size(&self, key: &str) -> Result<Option<usize>, GgufError> {
        self.get(key, "a whole number", |v| usize::try_from(v.as_unsigned()?).ok())
    }

    pub(crate) fn get_f32(&self, key: &str) -> Result<Option<f32>, GgufError> {
        self.get(key, "a 32-bit float", |v| match v {
            Value::F32(x) if x.is_finite() => Some(*x),
            _ => None,
        })
    }

    pub(crate) fn get_bool(&self, key: &str) -> Result<Option<bool>, GgufError> {
        self.get(key, "true or false", |v| match v {
            Value::Bool(b) => Some(*b),
            _ => None,
        })
    }

    pub(crate) fn get_string(&self, key: &str) -> Result<Option<&str>, GgufError> {
        self.get(key, "a string", |v| match v {
            Value::String(s) => Some(s.as_str()),
            _ => None,
        })
    }
}

type Parsed = (u32, BTreeMap<String, Value>, BTreeMap<String, TensorInfo>);

/// Where in the file something stopped the parser, and what did.
type Failure = (String, Stop);

fn at(field: impl Into<String>) -> impl FnOnce(Stop) -> Failure {
    let field = field.into();
    |stop| (field, stop)
}

fn found(field: impl Into<String>, found: impl Into<String>) -> Failure {
    (field.into(), Stop::Found(found.into()))
}

fn parse<S: Source>(header: &mut Header<S>, length: u64) -> Result<Parsed, Failure> {
    let magic = header.bytes4().map_err(at("the header"))?;
    if &magic != b"GGUF" {
        return Err(found("the header", format!("begins with {magic:?}; it would be \"GGUF\"")));
    }
    let version = header.u32().map_err(at("the header"))?;
    match version {
        2 | 3 => {}
        _ if matches!(version.swap_bytes(), 1..=3) => {
            return Err(found("the header", "is big-endian; only little-endian files are read"));
        }
        _ => return Err(found("the header", format!("is of version {version}; 2 and 3 are read"))),
    }
    // The least that a tensor takes: a name's length, one dimension, a type, an offset.
    let n_tensors = count(header, 8 + 4 + 8 + 4 + 8, "tensors")?;
    let n_keys = count(header, 8 + 4 + 1, "keys")?;

    let mut metadata = BTreeMap::new();
    for i in 0..n_keys {
        let key = name(header, &format!("key {i}"))?;
        let value = header.value().map_err(at(&key))?;
        if metadata.insert(key.clone(), value).is_some() {
            return Err(found(key, "is there twice"));
        }
    }
    let alignment = match metadata.get("general.alignment") {
        None => DEFAULT_ALIGNMENT,
        Some(value) => match value.as_unsigned() {
            Some(n) if n.is_multiple_of(8) && n.is_power_of_two() && n <= 1 << 20 => n,
            _ => {
                let what = format!("is {value}; it would be a power of two from 8 to 2^20");
                return Err(found("general.alignment", what));
            }
        },
    };

    let mut tensors = BTreeMap::new();
    for i in 0..n_tensors {
        let tensor = tensor_info(header, i)?;
        if let Some(first) = tensors.insert(tensor.name.clone(), tensor) {
            return Err(found(first.name, "is there twice"));
        }
    }
    let data = header.offset().next_multiple_of(alignment);
    place(&mut tensors, data, length, alignment)?;
    Ok((version, metadata, tensors))
}

fn count<S: Source>(header: &mut Header<S>, size: usize, what: &str) -> Result<usize, Failure> {
    let n = header.count(size, what).map_err(at("the header"))?;
    if n > MAX_ENTRIES {
        let what = format!("declares {n} {what}; {MAX_ENTRIES} are the most that are read");
        return Err(found("the header", what));
    }
    Ok(n)
}

/// Reads a key or a tensor's name. They are shown to people, so they may not steer a terminal.
fn name<S: Source>(header: &mut Header<S>, field: &str) -> Result<String, Failure> {
    let name = header.string().map_err(at(field))?;
    if name.is_empty() || name.contains(char::is_control) {
        return Err(found(field, format!("is {name:?}; it would be printable")));
    }
    Ok(name)
}

/// Reads a tensor's entry. Its offset still counts from the start of the data.
fn tensor_info<S: Source>(header: &mut Header<S>, i: usize) -> Result<TensorInfo, Failure> {
    let name = name(header, &format!("the name of tensor {i}"))?;
    let n_dims = header.u32().map_err(at(&name))?;
    if !(1..=MAX_DIMENSIONS).contains(&n_dims) {
        return Err(found(name, format!("has {n_dims} dimensions; it would have 1 to 4")));
    }
    let mut shape = Vec::new();
    let mut elements = Some(1_u64);
    for _ in 0..n_dims {
        let dimension = header.u64().map_err(at(&name))?;
        elements = elements.and_then(|n| n.checked_mul(dimension));
        shape.insert(0, dimension);
    }
    match elements {
        Some(n) if n > 0 && i64::try_from(n).is_ok() => {}
        _ => {
            let what = format!("has the shape {shape:?}; it would hold 1 to 2^63 - 1 weights");
            return Err(found(name, what));
        }
    }
    let tensor_type = TensorType::from_number(header.u32().map_err(at(&name))?);
    let offset = header.u64().map_err(at(&name))?;
    let tensor = TensorInfo { name, shape, tensor_type, offset };
    if let Some((weights, _)) = tensor_type.block()
        && !tensor.columns().is_multiple_of(weights as u64)
    {
        let what = format!(
            "is {tensor_type} with rows of {}; they would be multiples of {weights}",
            tensor.columns()
        );
        return Err(found(tensor.name, what));
    }
    Ok(tensor)
}

/// Makes offsets count from the start of the file, where the data begins at `data`.
fn place(
    tensors: &mut BTreeMap<String, TensorInfo>,
    data: u64,
    length: u64,
    alignment: u64,
) -> Result<(), Failure> {
    let mut spans = Vec::new();
    for tensor in tensors.values_mut() {
        if !tensor.offset.is_multiple_of(alignment) {
            let what = format!("begins at {}, no multiple of {alignment}", tensor.offset);
            return Err(found(&tensor.name, what));
        }
        let bytes = tensor.bytes().or_else(|| tensor.tensor_type.block().map_or(Some(0), |_| None));
        let start = tensor.offset.checked_add(data);
        match start.zip(bytes).and_then(|(start, bytes)| Some((start, start.checked_add(bytes)?))) {
            Some((start, end)) if end <= length => {
                tensor.offset = start;
                spans.push((start, end, &tensor.name));
            }
            _ => {
                let what = format!(
                    "is {} of shape {:?} at {} of the data, past the end of the file, which has {length} bytes",
                    tensor.tensor_type, tensor.shape, tensor.offset
                );
                return Err(found(&tensor.name, what));
            }
        }
    }
    spans.sort_unstable();
    for pair in spans.windows(2) {
        let [(_, end, first), (start, _, second)] = pair else { continue };
        if start < end {
            return Err(found(*second, format!("overlaps {first}")));
        }
    }
    Ok(())
}
