//! `failure.json`: why a trial failed, in its folder, so that another process can state it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use anyhow::anyhow;
use neutral_eval::EvalError;
use neutral_report::Status;
use neutral_store::{Fingerprint, StoreError, is_full, read_json, write_json};
use neutral_torch::TorchError;
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
        let status = if has_diverged(error) { Status::Diverged } else { Status::Failed };
        Self { fingerprint, status, error: format!("{error:#}") }
    }

    /// That of a trial which goes on from this one's, and cannot.
    pub(crate) fn of_next(&self, before: &str, fingerprint: Fingerprint) -> Self {
        let error = format!("goes on from {before}, which failed: {}", self.error);
        Self { fingerprint, status: self.status, error }
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

/// Whether it says so: a training does while it runs, and scoring of what its last steps have made.
pub(crate) fn has_diverged(error: &anyhow::Error) -> bool {
    use EvalError::{NonFinite, NonFiniteResidue, Perplexity};
    error.chain().any(|cause| {
        matches!(cause.downcast_ref(), Some(TrainError::Diverged { .. }))
            || matches!(
                cause.downcast_ref(),
                Some(NonFinite { .. } | NonFiniteResidue { .. } | Perplexity { .. })
            )
    })
}

/// A full disk: every trial that follows would meet it too, once it has trained up to its first checkpoint.
pub(crate) fn is_full_disk(error: &anyhow::Error) -> bool {
    fn of_torch(error: &TorchError) -> Option<&StoreError> {
        if let TorchError::Store(error) = error { Some(error) } else { None }
    }
    fn of_training(error: &TrainError) -> Option<&StoreError> {
        match error {
            TrainError::Store(error) => Some(error),
            TrainError::Torch(error) => of_torch(error),
            _ => None,
        }
    }
    error.chain().any(|cause| {
        let store = cause.downcast_ref::<StoreError>();
        let store = store.or_else(|| cause.downcast_ref().and_then(of_torch));
        let store = store.or_else(|| cause.downcast_ref().and_then(of_training));
        matches!(store, Some(StoreError::Io { cause, .. }) if is_full(cause))
    })
}

/// A panic as an error: libtorch finds no memory by one, which must not take the trials that follow with it.
pub(crate) fn caught<T>(run: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
    // An earlier one may have unwound what would have switched gradients on again.
    let run = || tch::with_grad(run);
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
        // As tch writes it: libtorch's message quoted, its lines escaped, addresses from the second one on.
        let said = text.split_once("Torch(\"").map_or(text, |(_, said)| said);
        let first = said.split("\\n").next().unwrap_or(said);
        Err(anyhow!("stopped by a panic: {first}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind, Tensor, no_grad};

    #[test]
    fn what_finds_no_memory_is_an_error_and_gradients_are_on_afterwards() {
        let options = (Kind::Float, Device::Cpu);
        let more_than_there_is = || Ok(no_grad(|| Tensor::zeros([1 << 50], options)));
        let message = caught(more_than_there_is).unwrap_err().to_string();
        assert!(message.contains("allocate") && !message.contains("\\n"), "{message}");
        let tracked = caught(|| {
            let x = Tensor::ones([1], options).set_requires_grad(true);
            Ok((x * 2.0).requires_grad())
        });
        assert!(tracked.unwrap());
    }

    #[test]
    fn errors_are_handed_on_and_a_panic_is_named() {
        assert_eq!(caught(|| Ok(3)).unwrap(), 3);
        assert_eq!(
            caught::<()>(|| Err(anyhow!("as it was"))).unwrap_err().to_string(),
            "as it was"
        );
        let message = caught::<()>(|| panic!("at trial {}", 2)).unwrap_err().to_string();
        assert_eq!(message, "stopped by a panic: at trial 2");
    }

    #[test]
    fn a_full_disk_is_known_whoever_meets_it_and_a_missing_file_is_none() {
        let of = |kind| StoreError::io("write", Path::new("x"), std::io::Error::from(kind));
        let full = || of(std::io::ErrorKind::StorageFull);
        let errors: [anyhow::Error; 4] = [
            full().into(),
            TorchError::Store(full()).into(),
            TrainError::Store(full()).into(),
            anyhow::Error::from(TrainError::Torch(TorchError::Store(full()))).context("a trial"),
        ];
        assert!(errors.iter().all(is_full_disk));
        assert!(!is_full_disk(&TrainError::Store(of(std::io::ErrorKind::NotFound)).into()));
    }

    #[test]
    fn a_divergence_is_one_whoever_finds_it_and_carries_over_to_what_goes_on_from_it() {
        let made_from = || Fingerprint::of(&1);
        let of = |error: anyhow::Error| Failure::new(made_from(), &error);
        let scored = EvalError::NonFinite { id: "a".to_owned(), nats: f64::NAN };
        let diverged = of(anyhow::Error::from(scored).context("scoring"));
        assert_eq!(diverged.status, Status::Diverged);
        let l1 = f64::INFINITY;
        assert_eq!(
            of(EvalError::NonFiniteResidue { block: 0, l1 }.into()).status,
            Status::Diverged
        );
        assert_eq!(of(anyhow!("no memory")).status, Status::Failed);
        let next = diverged.of_next("first-s0", Fingerprint::of(&2));
        assert_eq!((next.status, next.fingerprint), (Status::Diverged, Fingerprint::of(&2)));
        assert!(
            next.error.contains("first-s0") && next.error.contains("scoring"),
            "{}",
            next.error
        );
    }
}
