//! What can be wrong with a method and its size, or with the files of an extension.

use std::path::PathBuf;

use neutral_store::StoreError;
use neutral_torch::TorchError;

/// An extension that cannot be built, read or written.
#[derive(Debug, thiserror::Error)]
pub enum AdapterError {
    /// The size leaves nothing to build, or gives something to a method that adds nothing.
    #[error("the size of method `{method}` is {found} units, expected {expected}")]
    Units {
        /// The method's kind.
        method: &'static str,
        /// The rank or width that was given.
        found: usize,
        /// What would be right.
        expected: &'static str,
    },
    /// The plan's count of weights and the real one differ.
    #[error(
        "the extension of method `{method}` has {found} weights, the plan says {expected}; was the plan made for another base?"
    )]
    ParameterCount {
        /// The method's kind.
        method: &'static str,
        /// Weights that were built.
        found: u64,
        /// Weights that the size announced.
        expected: u64,
    },
    /// LoRA beside nothing.
    #[error("method.targets is empty, expected at least one of q_proj … down_proj")]
    NoTargets,
    /// A gate option without a gate.
    #[error(
        "method.gate.{field} is {found}, but with activation `none` there is no gate that could use it; leave it out"
    )]
    IgnoredGateOption {
        /// The option.
        field: &'static str,
        /// Its value.
        found: String,
    },
    /// A field of an extension's configuration.
    #[error("{}: `{field}` is {found}: {expected}", path.display())]
    ConfigFile {
        /// The file.
        path: PathBuf,
        /// The field.
        field: String,
        /// What it holds.
        found: String,
        /// What would be right.
        expected: String,
    },
    /// A folder that holds no extension.
    #[error("{}: {message}", path.display())]
    Folder {
        /// The folder or file.
        path: PathBuf,
        /// What is wrong, and what would be right.
        message: String,
    },
    /// Another file.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A tensor's name is taken, or a file's tensors are not those that they should be.
    #[error(transparent)]
    Torch(#[from] TorchError),
}
