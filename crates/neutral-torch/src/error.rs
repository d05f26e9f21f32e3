//! What can go wrong with devices, names and tensor files.

use std::path::{Path, PathBuf};

use neutral_store::StoreError;
use tch::Kind;

/// An error of this crate, with the file, the tensor and what was found.
#[derive(Debug, thiserror::Error)]
pub enum TorchError {
    /// A device's name that means nothing.
    #[error("`{text}` is not a device; write auto, cpu, cuda or cuda:<index>")]
    UnknownDevice {
        /// What was given.
        text: String,
    },
    /// CUDA was asked for and libtorch's CUDA half is not there or does not load.
    #[error(
        "the device is cuda:{index}, but the CUDA half of libtorch does not load ({reason}); run `scripts/libtorch cuda` and build again, or choose the device cpu"
    )]
    CudaNotLinked {
        /// The device that was asked for.
        index: usize,
        /// The loader's answer.
        reason: &'static str,
    },
    /// CUDA was asked for and the driver shows too few devices.
    #[error(
        "the device is cuda:{index}, but the driver shows {count} CUDA devices; check `nvidia-smi` and CUDA_VISIBLE_DEVICES, or choose another device"
    )]
    CudaDeviceAbsent {
        /// The device that was asked for.
        index: usize,
        /// Devices that there are.
        count: usize,
    },
    /// A second tensor under one name.
    #[error("the tensor `{name}` is in the store already; names are unique")]
    DuplicateName {
        /// The name.
        name: String,
    },
    /// No tensor of that name.
    #[error("no tensor `{name}` in the store of {len} tensors")]
    UnknownName {
        /// The name.
        name: String,
        /// Tensors in the store.
        len: usize,
    },
    /// The file lacks a tensor that the store has.
    #[error("{}: the tensor `{name}` is missing; the file belongs to another model or method", path.display())]
    MissingTensor {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
    },
    /// The file has a tensor that the store lacks.
    #[error("{}: the tensor `{name}` has no place in this model; the file belongs to another model or method", path.display())]
    UnexpectedTensor {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
    },
    /// A tensor of another shape.
    #[error("{}: the tensor `{name}` has shape {found:?}, expected {expected:?}", path.display())]
    ShapeMismatch {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// The file's shape.
        found: Vec<i64>,
        /// The store's shape.
        expected: Vec<i64>,
    },
    /// A tensor of another kind.
    #[error("{}: the tensor `{name}` holds {found:?}, expected {expected:?}", path.display())]
    KindMismatch {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// The file's kind.
        found: Kind,
        /// The store's kind.
        expected: Kind,
    },
    /// The file is not a whole safetensors file.
    #[error("{}: not a whole safetensors file: {reason}; if neutral wrote it, delete it to have it made again, else fetch it anew", path.display())]
    CorruptFile {
        /// The file.
        path: PathBuf,
        /// What was found.
        reason: String,
    },
    /// A kind of number that files cannot hold.
    #[error("{}: the tensor `{name}` holds {kind}, which tensor files of neutral do not; use bool, u8, i32, i64, bf16, f16, f32 or f64", path.display())]
    UnsupportedKind {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// The kind, as libtorch or the file calls it.
        kind: String,
    },
    /// A file that could not be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The processes of one training could not do something together.
    #[error("rank {rank} could not {what}: {reason}")]
    Distributed {
        /// The process that says so, counted from 0.
        rank: usize,
        /// What was tried, as a verb.
        what: &'static str,
        /// c10d's answer, or what was found and what would be right.
        reason: String,
    },
    /// libtorch refused an operation on a tensor.
    #[error("libtorch could not {action} the tensor `{name}`: {source}")]
    Torch {
        /// What was tried, as a verb.
        action: &'static str,
        /// The tensor.
        name: String,
        /// libtorch's answer.
        source: tch::TchError,
    },
}

impl TorchError {
    pub(crate) fn corrupt(path: &Path, reason: impl ToString) -> Self {
        Self::CorruptFile { path: path.to_path_buf(), reason: reason.to_string() }
    }

    pub(crate) fn torch(action: &'static str, name: &str, source: tch::TchError) -> Self {
        Self::Torch { action, name: name.to_owned(), source }
    }
}
