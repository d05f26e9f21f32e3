//! Why nothing can be checked. All of it is the user's to mend.

use std::path::PathBuf;

use neutral_report::ReportError;
use neutral_stats::StatsError;
use neutral_store::StoreError;

/// A run, baseline or policy that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// A file could not be written or read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// `results.json`.
    #[error(transparent)]
    Report(#[from] ReportError),
    /// A folder lacks a file of a finished run.
    #[error("{} has no {file}: {advice}", folder.display())]
    Missing {
        /// The folder.
        folder: PathBuf,
        /// What it lacks.
        file: String,
        /// What to do.
        advice: &'static str,
    },
    /// A trial has not ended.
    #[error("{}: trial {trial} is {status}; run the experiment again, which goes on with it", run.display())]
    Unfinished {
        /// The run.
        run: PathBuf,
        /// The trial's id.
        trial: String,
        /// How it stands.
        status: &'static str,
    },
    /// Two sets of scores are of different things.
    #[error(
        "cannot compare: the {what} differs, {baseline} in the baseline and {run} in the run{advice}"
    )]
    NotComparable {
        /// What has another fingerprint.
        what: String,
        /// The baseline's.
        baseline: String,
        /// The run's.
        run: String,
        /// What to do, after a semicolon; may be empty.
        advice: &'static str,
    },
    /// The documents of a corpus are not those of the base or baseline.
    #[error(
        "{corpus}: document {at} is {found}, expected {expected}; both must be scored on the same documents"
    )]
    Documents {
        /// The corpus.
        corpus: String,
        /// The place among its documents, from 0.
        at: usize,
        /// What stands there.
        found: String,
        /// What should.
        expected: String,
    },
    /// No baseline is made of this run.
    #[error("{}: no baseline is written: {reason}", run.display())]
    NoBaseline {
        /// The run.
        run: PathBuf,
        /// Why.
        reason: String,
    },
    /// The baseline is of another version.
    #[error("{}: schema is {found}, this version reads {}; write the baseline again", path.display(), crate::BASELINE_SCHEMA)]
    Schema {
        /// The file.
        path: PathBuf,
        /// Its number.
        found: u64,
    },
    /// The policy is not what a policy may be.
    #[error("{file}: {field}: {message}")]
    Policy {
        /// The file, or `the policy`.
        file: String,
        /// The field.
        field: String,
        /// What was found and what would be right.
        message: String,
    },
    /// Nothing can be calibrated with these runs.
    #[error("cannot calibrate: {0}")]
    Calibration(String),
    /// Scores that allow no statement, of a kind that is no matter of their number.
    #[error("{row}: {cause}")]
    Statistics {
        /// Trial, metric and corpus.
        row: String,
        /// What is wrong with them. Part of the message, so no `source`.
        cause: StatsError,
    },
}
