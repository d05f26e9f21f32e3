//! Tensor files: safetensors, written whole or not at all, read with suspicion.
//!
//! The header is written here and not by the `safetensors` crate, so that the same tensors always
//! give the same bytes (names sorted, metadata sorted) and nothing is held twice in memory.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use neutral_store::{StoreError, write_atomic};
use safetensors::{Dtype, SafeTensors};
use tch::{Device, Kind, Tensor};

use crate::TorchError;

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

/// Reads every tensor of a safetensors file, and the text about them.
///
/// # Errors
/// If the file cannot be read, is cut short, or its header lies in any way; the file is named.
pub fn load_tensors(
    path: &Path,
    device: Device,
) -> Result<(BTreeMap<String, Tensor>, BTreeMap<String, String>), TorchError> {
    let bytes = std::fs::read(path).map_err(|e| StoreError::io("read", path, e))?;
    // The crate checks the header's length, every offset, every overflow and the file's length.
    let file = SafeTensors::deserialize(&bytes).map_err(|e| TorchError::corrupt(path, e))?;
    let (_, header) =
        SafeTensors::read_metadata(&bytes).map_err(|e| TorchError::corrupt(path, e))?;
    let metadata = header.metadata().iter().flatten();
    let metadata = metadata.map(|(key, value)| (key.clone(), value.clone())).collect();
    let mut tensors = BTreeMap::new();
    for (name, view) in file.tensors() {
        let kind = kind_of_dtype(view.dtype()).ok_or_else(|| TorchError::UnsupportedKind {
            path: path.to_path_buf(),
            name: name.clone(),
            kind: format!("{:?}", view.dtype()),
        })?;
        let shape: Result<Vec<i64>, _> = view.shape().iter().map(|&n| i64::try_from(n)).collect();
        let shape =
            shape.map_err(|_| TorchError::corrupt(path, format!("shape of `{name}` overflows")))?;
        let tensor = Tensor::f_from_data_size(view.data(), &shape, kind)
            .and_then(|tensor| tensor.f_to_device(device))
            .map_err(|e| TorchError::corrupt(path, format!("`{name}`: {e}")))?;
        tensors.insert(name, tensor);
    }
    Ok((tensors, metadata))
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
