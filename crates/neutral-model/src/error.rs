//! What can go wrong when a model is made.

use neutral_torch::TorchError;

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
    /// A store or file of weights.
    #[error(transparent)]
    Torch(#[from] TorchError),
}
