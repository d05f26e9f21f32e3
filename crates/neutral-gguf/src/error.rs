//! What can go wrong with a GGUF file: where, what was found, and what would be right.

use std::path::PathBuf;

use neutral_store::StoreError;

/// A file that cannot be read, is no GGUF file, or holds what cannot be converted.
#[derive(Debug, thiserror::Error)]
pub enum GgufError {
    /// The operating system refused an operation.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The bytes contradict the format or each other: the file is damaged, or none.
    #[error("{} is not a sound GGUF file: {field} {found}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The metadata key, the tensor or the part of the file.
        field: String,
        /// What is there, and what would be right.
        found: String,
    },
    /// The file is sound, but says something that the converted folder could not.
    #[error("{} cannot be converted: {field} {found}", path.display())]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// The metadata key or the tensor.
        field: String,
        /// What is there, and what would be right.
        found: String,
    },
}
