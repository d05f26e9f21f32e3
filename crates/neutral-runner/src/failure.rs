//! `failure.json`: why a trial failed, in its folder, so that another process can state it.

use std::path::{Path, PathBuf};

use neutral_report::Status;
use neutral_store::{Fingerprint, StoreError, read_json, write_json};
use neutral_train::TrainError;
use serde::{Deserialize, Serialize};

/// `failure.json`. A trial that is run again begins without it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Failure {
    /// What the trial was made from.
    pub fingerprint: Fingerprint,
    /// [`Status::Failed`], or [`Status::Diverged`], which trying again does not mend.
    pub status: Status,
    /// The error with its causes.
    pub error: String,
}

impl Failure {
    pub(crate) fn new(fingerprint: Fingerprint, error: &anyhow::Error) -> Self {
        let diverged = matches!(error.downcast_ref(), Some(TrainError::Diverged { .. }));
        let status = if diverged { Status::Diverged } else { Status::Failed };
        Self { fingerprint, status, error: format!("{error:#}") }
    }

    fn path(folder: &Path) -> PathBuf {
        folder.join("failure.json")
    }

    /// Keeps it in a trial's folder. That there is no room for it is said; the failure counts more.
    pub(crate) fn keep(&self, folder: &Path) {
        if let Err(error) = write_json(&Self::path(folder), self) {
            tracing::warn!("why the trial failed cannot be kept: {error}");
        }
    }

    /// What a trial's folder has, if there is one.
    pub(crate) fn read(folder: &Path) -> Result<Option<Self>, StoreError> {
        let path = Self::path(folder);
        if path.exists() { read_json(&path).map(Some) } else { Ok(None) }
    }

    /// Forgets it.
    pub(crate) fn clear(folder: &Path) {
        let _ = std::fs::remove_file(Self::path(folder));
    }
}
