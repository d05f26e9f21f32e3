//! What can go wrong when a model is made or read.

use std::path::{Path, PathBuf};

use neutral_store::StoreError;
use neutral_torch::TorchError;
use serde_json::Value;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// A size that no such model can have.
    #[error("{field} is {value}, {expected}")]
    Config {
        /// The field of the shape.
        field: &'static str,
        /// Its value.
        value: String,
        /// What would be right.
        expected: String,
    },
    /// A field of a `config.json`, or of a shard's index.
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
    /// A folder that is no model.
    #[error("{}: {message}", path.display())]
    Folder {
        /// The folder or file.
        path: PathBuf,
        /// What is wrong, and what would be right.
        message: String,
    },
    /// Weights that the files lack, have too many of, or have in another shape.
    #[error("{}: {message}", path.display())]
    Weights {
        /// The folder.
        path: PathBuf,
        /// Which weights, and what was expected.
        message: String,
    },
    /// Logits from which nothing can be chosen.
    #[error(
        "the model's logits are not finite numbers, so its weights are wrong or its numbers have overflowed; try --precision fp32"
    )]
    NotFinite,
    /// A store or file of weights.
    #[error(transparent)]
    Torch(#[from] TorchError),
    /// Another file.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl ModelError {
    /// [`ModelError::ConfigFile`] with the field's value, which is cut where it is long.
    pub fn config_file(path: &Path, field: &str, value: Option<&Value>, expected: &str) -> Self {
        let text = value.map_or_else(|| "missing".to_owned(), Value::to_string);
        let cut: String = text.chars().take(60).collect();
        let found = if cut.len() < text.len() { format!("{cut}…") } else { text };
        let (path, field) = (path.to_path_buf(), field.to_owned());
        Self::ConfigFile { path, field, found, expected: expected.to_owned() }
    }

    /// Whether the user gave something wrong, rather than that the machine refused.
    pub fn is_input(&self) -> bool {
        match self {
            Self::Config { .. }
            | Self::ConfigFile { .. }
            | Self::Folder { .. }
            | Self::Weights { .. } => true,
            Self::Torch(error) => {
                matches!(error, TorchError::CorruptFile { .. } | TorchError::UnsupportedKind { .. })
            }
            Self::Store(error) => matches!(error, StoreError::Json { .. }),
            Self::NotFinite => false,
        }
    }
}
