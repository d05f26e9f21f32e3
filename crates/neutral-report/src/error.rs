//! What can go wrong with results.

use std::path::PathBuf;

use neutral_store::StoreError;

/// Results that cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// A file could not be written or read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A number that JSON cannot hold, and that no finished trial should have.
    #[error("trial {trial}: {field} is {value}, which is no result; record the trial as diverged")]
    NotFinite {
        /// The trial's id, or `base`.
        trial: String,
        /// Where it stands, as a path within the trial.
        field: String,
        /// The number.
        value: f64,
    },
    /// A line of a trial's `metrics.jsonl`.
    #[error("{}, line {line}: {message}; expected what `neutral run` writes", path.display())]
    Metrics {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        message: String,
    },
    /// A trial's `metrics.jsonl` that is not of its whole training.
    #[error(
        "{} ends at {found} tokens of {tokens}; wait if the trial is being trained, else delete its folder and run the experiment again, which trains it again", path.display()
    )]
    ShortMetrics {
        /// The file.
        path: PathBuf,
        /// Tokens of its last step.
        found: u64,
        /// Tokens that the trial was trained on.
        tokens: u64,
    },
    /// The file was written by another version of neutral.
    #[error("{}: schema is {found}, this version reads {}", path.display(), crate::SCHEMA)]
    Schema {
        /// The file.
        path: PathBuf,
        /// The number it holds.
        found: u32,
    },
}

impl ReportError {
    /// Whether it is a mistake in what was given, not of the machine or the program.
    pub fn is_input(&self) -> bool {
        match self {
            Self::Schema { .. } | Self::Metrics { .. } | Self::ShortMetrics { .. } => true,
            Self::Store(error) => matches!(error, StoreError::Json { .. }),
            Self::NotFinite { .. } => false,
        }
    }
}
