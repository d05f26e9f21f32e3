//! Tensor files: safetensors, written whole or not at all, read with suspicion.
//!
//! The header is written here and not by the `safetensors` crate, so that the same tensors always
//! give the same bytes (names sorted, metadata sorted) and nothing is held twice in memory.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use neutral_store::{StoreError, write_atomic};
use safetensors::Dtype;
use safetensors::tensor::Metadata;
use tch::{Device, Kind, Tensor};

use crate::TorchError;
use crate::element::bytes_mut;

/// No header of a real model comes near; a larger one is not read.
const LARGEST_HEADER: u64 = 100 << 20;

/// Writes tensors and some text about them to a safetensors file, atomically and deterministically.
///
/// # Errors
/// If the file cannot be written, or a tensor's kind has no place in it.
pub fn save_tensors(
    path: &Path,
    tensors: &BTreeMap<String, Tensor>,
    metadata: &BTreeMap<String, String>,
) -> Result<(), TorchError> {
    save(path, tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)), metadata)
}

/// As [`save_tensors`]; the names must come sorted.
pub(crate) fn save<'a>(
    path: &Path,
    tensors: impl Iterator<Item = (&'a str, &'a Tensor)> + Clone,
    metadata: &BTreeMap<String, String>,
) -> Result<(), TorchError> {
    let mut header = BTreeMap::new();
    if !metadata.is_empty() {
        header.insert("__metadata__", serde_json::json!(metadata));
    }
    let mut end = 0;
    for (name, tensor) in tensors.clone() {
        let dtype = dtype_name(tensor.kind()).ok_or_else(|| TorchError::UnsupportedKind {
            path: path.to_path_buf(),
            name: name.to_owned(),
            kind: format!("{:?}", tensor.kind()),
        })?;
        let start = end;
        end += bytes_of(tensor);
        let entry = serde_json::json!({
            "dtype": dtype, "shape": tensor.size(), "data_offsets": [start, end],
        });
        header.insert(name, entry);
    }
    let mut header = serde_json::json!(header).to_string().into_bytes();
    // The format wants the data aligned to 8 bytes.
    header.resize(header.len().next_multiple_of(8), b' ');
    write_atomic(path, |file| {
        file.write_all(&(header.len() as u64).to_le_bytes())?;
        file.write_all(&header)?;
        for (_, tensor) in tensors {
            file.write_all(&contents(tensor).map_err(std::io::Error::other)?)?;
        }
        Ok(())
    })?;
    Ok(())
}

/// A safetensors file whose header has been read; tensors are read one at a time.
///
/// The numbers go from the file straight into the tensor's memory: a model takes its own size and
/// nothing more. The file is not mapped, so that one that is cut short while it is read is an error
/// and no crash.
#[derive(Debug)]
pub struct TensorFile {
    path: PathBuf,
    file: File,
    header: Metadata,
    data_start: u64,
}

impl TensorFile {
    /// Opens a file and checks its header.
    ///
    /// # Errors
    /// If the file cannot be read, is cut short, or its header lies in any way; the file is named.
    pub fn open(path: &Path) -> Result<Self, TorchError> {
        let read = |e| TorchError::from(StoreError::io("read", path, e));
        let file = File::open(path).map_err(read)?;
        let file_len = file.metadata().map_err(read)?.len();
        let mut announced = [0; 8];
        if file_len < 8 {
            return Err(TorchError::corrupt(path, format!("{file_len} bytes are no safetensors")));
        }
        file.read_exact_at(&mut announced, 0).map_err(read)?;
        let header_len = u64::from_le_bytes(announced);
        if header_len > LARGEST_HEADER.min(file_len - 8) {
            let message =
                format!("the header is said to have {header_len} bytes, the file has {file_len}");
            return Err(TorchError::corrupt(path, message));
        }
        let mut bytes = vec![0; header_len as usize];
        file.read_exact_at(&mut bytes, 8).map_err(read)?;
        // The crate checks every offset and every overflow, and that no byte is left over.
        let header: Metadata =
            serde_json::from_slice(&bytes).map_err(|e| TorchError::corrupt(path, e))?;
        let data_start = 8 + header_len;
        let end = data_start + header.data_len() as u64;
        if end != file_len {
            let message = format!("its tensors end at byte {end}, the file at byte {file_len}");
            return Err(TorchError::corrupt(path, message));
        }
        Ok(Self { path: path.to_path_buf(), file, header, data_start })
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The tensors' names, sorted.
    pub fn names(&self) -> Vec<String> {
        let mut names = self.header.offset_keys();
        names.sort();
        names
    }

    /// There is such a tensor.
    pub fn has(&self, name: &str) -> bool {
        self.header.info(name).is_some()
    }

    /// The text about the tensors.
    pub fn metadata(&self) -> BTreeMap<String, String> {
        let metadata = self.header.metadata().iter().flatten();
        metadata.map(|(key, value)| (key.clone(), value.clone())).collect()
    }

    /// A tensor's kind of number and shape.
    ///
    /// # Errors
    /// If there is no such tensor, or libtorch has no such kind.
    pub fn describe(&self, name: &str) -> Result<(Kind, Vec<i64>), TorchError> {
        let info = self.info(name)?;
        let kind = kind_of_dtype(info.dtype).ok_or_else(|| TorchError::UnsupportedKind {
            path: self.path.clone(),
            name: name.to_owned(),
            kind: format!("{:?}", info.dtype),
        })?;
        let overflows = |_| TorchError::corrupt(&self.path, format!("shape of `{name}` overflows"));
        let shape: Result<Vec<i64>, _> = info.shape.iter().map(|&n| i64::try_from(n)).collect();
        Ok((kind, shape.map_err(overflows)?))
    }

    /// Reads a tensor.
    ///
    /// # Errors
    /// As [`TensorFile::describe`]; or if the file cannot be read.
    pub fn read(&self, name: &str, device: Device) -> Result<Tensor, TorchError> {
        let (kind, shape) = self.describe(name)?;
        let (start, end) = self.info(name)?.data_offsets;
        let fail = |e: tch::TchError| TorchError::corrupt(&self.path, format!("`{name}`: {e}"));
        let mut tensor = Tensor::f_empty(&shape, (kind, Device::Cpu)).map_err(fail)?;
        let memory = bytes_mut(&mut tensor);
        if memory.len() != end - start {
            let message = format!("`{name}` has {} bytes, not {}", end - start, memory.len());
            return Err(TorchError::corrupt(&self.path, message));
        }
        self.file
            .read_exact_at(memory, self.data_start + start as u64)
            .map_err(|e| StoreError::io("read", &self.path, e))?;
        if kind == Kind::Bool && memory.iter().any(|byte| *byte > 1) {
            let message = format!("`{name}` is of truths, and has a byte that is neither 0 nor 1");
            return Err(TorchError::corrupt(&self.path, message));
        }
        tensor.f_to_device(device).map_err(fail)
    }

    fn info(&self, name: &str) -> Result<&safetensors::tensor::TensorInfo, TorchError> {
        let missing = || TorchError::corrupt(&self.path, format!("there is no tensor `{name}`"));
        self.header.info(name).ok_or_else(missing)
    }
}

/// Reads every tensor of a safetensors file, and the text about them.
///
/// # Errors
/// As [`TensorFile::open`] and [`TensorFile::read`].
pub fn load_tensors(
    path: &Path,
    device: Device,
) -> Result<(BTreeMap<String, Tensor>, BTreeMap<String, String>), TorchError> {
    let file = TensorFile::open(path)?;
    let tensors = file.names().into_iter().map(|name| {
        let tensor = file.read(&name, device)?;
        Ok((name, tensor))
    });
    Ok((tensors.collect::<Result<_, TorchError>>()?, file.metadata()))
}

fn bytes_of(tensor: &Tensor) -> usize {
    tensor.numel() * tensor.kind().elt_size_in_bytes()
}

/// A tensor's numbers as bytes, row by row, wherever it lives.
pub(crate) fn contents(tensor: &Tensor) -> Result<Vec<u8>, tch::TchError> {
    let tensor = tensor.f_detach()?.f_to_device(Device::Cpu)?.f_contiguous()?;
    let mut bytes = vec![0; bytes_of(&tensor)];
    tensor.f_copy_data_u8(&mut bytes, tensor.numel())?;
    Ok(bytes)
}

fn dtype_name(kind: Kind) -> Option<&'static str> {
    match kind {
        Kind::Bool => Some("BOOL"),
        Kind::Uint8 => Some("U8"),
        Kind::Int => Some("I32"),
        Kind::Int64 => Some("I64"),
        Kind::BFloat16 => Some("BF16"),
        Kind::Half => Some("F16"),
        Kind::Float => Some("F32"),
        Kind::Double => Some("F64"),
        _ => None,
    }
}

fn kind_of_dtype(dtype: Dtype) -> Option<Kind> {
    match dtype {
        Dtype::BOOL => Some(Kind::Bool),
        Dtype::U8 => Some(Kind::Uint8),
        Dtype::I32 => Some(Kind::Int),
        Dtype::I64 => Some(Kind::Int64),
        Dtype::BF16 => Some(Kind::BFloat16),
        Dtype::F16 => Some(Kind::Half),
        Dtype::F32 => Some(Kind::Float),
        Dtype::F64 => Some(Kind::Double),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    fn some_tensors() -> BTreeMap<String, Tensor> {
        let numbers =
            Tensor::from_slice(&[1.5f32, -0.0, f32::NAN, f32::MIN_POSITIVE / 2.0, 1e30, 7.0]);
        let entries = [
            ("a", numbers.shallow_clone()),
            ("bf16", numbers.to_kind(Kind::BFloat16).view([2, 3])),
            ("bool", numbers.gt(0.0)),
            ("empty", Tensor::zeros([0, 4], (Kind::Float, Device::Cpu))),
            ("i64", Tensor::from_slice(&[i64::MIN, -1, i64::MAX])),
            ("scalar", Tensor::from(2.0f64)),
            // Neither contiguous nor at the beginning of its storage.
            ("view", numbers.view([2, 3]).transpose(0, 1).narrow(0, 1, 2)),
        ];
        entries.into_iter().map(|(name, tensor)| (name.to_owned(), tensor)).collect()
    }

    struct Place(tempfile::TempDir);
    impl Place {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }
        fn file(&self) -> PathBuf {
            self.0.path().join("x.safetensors")
        }
    }

    #[test]
    fn what_is_saved_is_loaded_bit_for_bit() {
        let place = Place::new();
        let metadata: BTreeMap<_, _> =
            ["z", "a", "m"].map(|key| (key.to_owned(), format!("{key}\"é"))).into();
        save_tensors(&place.file(), &some_tensors(), &metadata).unwrap();
        let (loaded, text) = load_tensors(&place.file(), Device::Cpu).unwrap();
        assert_eq!(text, metadata);
        assert_eq!(loaded.len(), some_tensors().len());
        for (name, tensor) in some_tensors() {
            let found = &loaded[&name];
            assert_eq!((found.kind(), found.size()), (tensor.kind(), tensor.size()), "{name}");
            assert_eq!(contents(found).unwrap(), contents(&tensor).unwrap(), "{name}");
        }
        let first = std::fs::read(place.file()).unwrap();
        save_tensors(&place.file(), &loaded, &text).unwrap();
        assert_eq!(std::fs::read(place.file()).unwrap(), first, "the bytes are determined");
    }

    #[test]
    fn a_truth_is_a_zero_or_a_one() {
        let place = Place::new();
        let truths = Tensor::from_slice(&[true, false]);
        save_tensors(&place.file(), &[("t".to_owned(), truths)].into(), &BTreeMap::new()).unwrap();
        let mut bytes = std::fs::read(place.file()).unwrap();
        *bytes.last_mut().unwrap() = 2;
        std::fs::write(place.file(), bytes).unwrap();
        let error = load_tensors(&place.file(), Device::Cpu).unwrap_err().to_string();
        assert!(error.contains("neither 0 nor 1"), "{error}");
    }

    #[test]
    fn a_file_cut_short_anywhere_is_an_error_that_names_it() {
        let place = Place::new();
        save_tensors(&place.file(), &some_tensors(), &BTreeMap::new()).unwrap();
        let whole = std::fs::read(place.file()).unwrap();
        for len in 0..whole.len() {
            std::fs::write(place.file(), &whole[..len]).unwrap();
            let message = load_tensors(&place.file(), Device::Cpu).unwrap_err().to_string();
            assert!(message.contains("x.safetensors"), "{message}");
        }
        std::fs::write(place.file(), [whole.as_slice(), b"x"].concat()).unwrap();
        assert!(load_tensors(&place.file(), Device::Cpu).is_err(), "a byte too many");
    }

    #[test]
    fn hostile_headers_are_errors() {
        let place = Place::new();
        let entry = |dtype: &str, shape: &str, offsets: &str| {
            format!(r#"{{"a":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}}}"#)
        };
        let headers = [
            String::new(),
            "{".to_owned(),
            "[]".to_owned(),
            "\u{0}".repeat(8),
            entry("F32", "[2]", "[0,4]"),
            entry("F32", "[1]", "[4,8]"),
            entry("F32", "[1]", "[8,4]"),
            entry("F32", "[-1]", "[0,4]"),
            entry("F32", "[4294967296,4294967296]", "[0,0]"),
            entry("F32", "[0,18446744073709551615]", "[0,0]"),
            entry("F32", "[0,9223372036854775807,9223372036854775807]", "[0,0]"),
            entry("F32", "[1]", "[0,18446744073709551615]"),
            entry("F8_E4M3", "[8]", "[0,8]"),
            entry("F99", "[1]", "[0,4]"),
            format!("{}{}", entry("F32", "[1]", "[0,4]"), "}"),
        ];
        for header in headers {
            for announced in [header.len() as u64, u64::MAX, 1 << 40, header.len() as u64 + 1] {
                let mut bytes = announced.to_le_bytes().to_vec();
                bytes.extend(header.as_bytes());
                bytes.extend([0; 8]);
                std::fs::write(place.file(), bytes).unwrap();
                let message = load_tensors(&place.file(), Device::Cpu).unwrap_err().to_string();
                assert!(message.contains("x.safetensors"), "{header}: {message}");
            }
        }
    }

    #[test]
    fn a_missing_file_and_a_kind_without_a_place_are_named() {
        let place = Place::new();
        let message = load_tensors(&place.file(), Device::Cpu).unwrap_err().to_string();
        assert!(message.contains("x.safetensors"), "{message}");
        let complex = Tensor::zeros([1], (Kind::ComplexFloat, Device::Cpu));
        let tensors = BTreeMap::from([("c".to_owned(), complex)]);
        let error = save_tensors(&place.file(), &tensors, &BTreeMap::new()).unwrap_err();
        assert!(error.to_string().contains("`c` holds ComplexFloat"), "{error}");
        assert!(!place.file().exists());
    }
}
