//! What can go wrong with a task: where, what was found, and what would be right.

use std::io::ErrorKind;
use std::path::PathBuf;

use neutral_store::StoreError;

/// A task, or its data, that cannot be read or scored as it is.
#[derive(Debug, thiserror::Error)]
pub enum TaskError {
    /// The operating system refused an operation.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A task file says what is not understood.
    #[error("{}: {field} {found}", path.display())]
    Config {
        /// The task file.
        path: PathBuf,
        /// The key, by its path.
        field: String,
        /// What is there, and what would be right.
        found: String,
    },
    /// A file of documents is damaged, or of another format.
    #[error("{} {found}", path.display())]
    Data {
        /// The file.
        path: PathBuf,
        /// What is there, and what would be right.
        found: String,
    },
    /// A task cannot be evaluated on the documents or answers that it was given.
    #[error("{}: task {task}: {found}", path.display())]
    Task {
        /// The task file.
        path: PathBuf,
        /// The task's name.
        task: String,
        /// What is there, and what would be right.
        found: String,
    },
    /// A task's rules fail on one document.
    #[error("{}: task {task}, document {document} of {split}: {field} {found}", path.display())]
    Document {
        /// The task file.
        path: PathBuf,
        /// The task's name.
        task: Box<str>,
        /// The split that holds the document.
        split: Box<str>,
        /// The document, from 0.
        document: usize,
        /// The rule, a key of the task file.
        field: Box<str>,
        /// What is there, and what would be right.
        found: String,
    },
}

impl TaskError {
    /// Whether the user gave something wrong, rather than that the machine refused.
    pub fn is_input(&self) -> bool {
        match self {
            Self::Store(StoreError::Io { cause, .. }) => cause.kind() == ErrorKind::NotFound,
            Self::Store(_) => false,
            _ => true,
        }
    }
}
