//! What can be wrong with a method and its size, or with the files of an extension.

use neutral_model::ModelError;
use neutral_store::StoreError;
use neutral_torch::TorchError;

use crate::gate::WINDOWS;

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
    /// A weight that what is written has no place for.
    #[error("`{tensor}` has no place in {target}, which would compute something else without it")]
    LeftOver {
        /// Its name.
        tensor: String,
        /// What is written.
        target: &'static str,
    },
    /// A gate that reads too few tokens, or more than any text has.
    #[error("method.gate.window is {found}, expected {} to {} tokens", WINDOWS.start(), WINDOWS.end())]
    Window {
        /// The tokens.
        found: usize,
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
    /// An extension's folder or configuration, or the model.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// Another file.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A tensor's name is taken, or a file's tensors are not those that they should be.
    #[error(transparent)]
    Torch(#[from] TorchError),
}

impl AdapterError {
    /// Whether the user gave something wrong, rather than that the machine refused.
    pub fn is_input(&self) -> bool {
        match self {
            Self::Model(error) => error.is_input(),
            Self::Store(_) => false,
            Self::Torch(error) => !matches!(error, TorchError::Store(_) | TorchError::Torch { .. }),
            _ => true,
        }
    }
}
