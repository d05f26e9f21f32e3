//! The cache: folders named after what they were made from, shared by runs and checkouts.

use std::fs;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use crate::atomic::{made_in, sync};
use crate::{Fingerprint, Lock, StoreError, read_json};

/// A folder of finished things, `<root>/<kind>/<fingerprint>/`.
///
/// An entry is either absent or whole: it is made in a folder beside and renamed into place.
#[derive(Clone, Debug)]
pub struct Cache {
    root: PathBuf,
}

impl Cache {
    /// A cache at a given place.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// `$NEUTRAL_CACHE`, else `$XDG_CACHE_HOME/neutral`, else `~/.cache/neutral`, from the root of the file system:
    /// clients that fill it work in other folders.
    ///
    /// # Errors
    /// [`StoreError::NoCache`] if none of the three variables is set, as in some containers and services; if a
    /// relative one cannot be made absolute.
    pub fn from_env() -> Result<Self, StoreError> {
        let var = |name| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        let root = var("NEUTRAL_CACHE")
            .or_else(|| var("XDG_CACHE_HOME").map(|d| d.join("neutral")))
            .or_else(|| var("HOME").map(|d| d.join(".cache/neutral")))
            .ok_or(StoreError::NoCache)?;
        let root = std::path::absolute(&root).map_err(|e| StoreError::io("find", &root, e))?;
        Ok(Self { root })
    }

    /// The folder that holds everything.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where an entry stands or would stand.
    pub fn path(&self, kind: &str, fingerprint: &Fingerprint) -> PathBuf {
        self.root.join(kind).join(fingerprint.as_str())
    }

    /// A place for work in progress on an entry that outlives this process (checkpoints of a
    /// pretraining), held by this process alone until the lock is dropped. While another process makes the same
    /// entry, `goes_on` is asked as [`Lock::wait`] does.
    ///
    /// # Errors
    /// As [`Lock::wait`].
    pub fn workspace<E: From<StoreError>>(
        &self,
        kind: &str,
        fingerprint: &Fingerprint,
        goes_on: impl FnMut(&str) -> Result<bool, E>,
    ) -> Result<Option<(PathBuf, Lock)>, E> {
        let folder = self.workspace_path(kind, fingerprint);
        let lock = Lock::wait(&folder, goes_on)?;
        Ok(lock.map(|lock| (folder, lock)))
    }

    /// Removes what any process has left of its work on an entry that is there now. A failure costs
    /// disk space, not correctness.
    pub fn clear_workspace(&self, kind: &str, fingerprint: &Fingerprint) {
        let _ = fs::remove_dir_all(self.workspace_path(kind, fingerprint));
    }

    fn workspace_path(&self, kind: &str, fingerprint: &Fingerprint) -> PathBuf {
        self.root.join(kind).join(format!("{fingerprint}.partial"))
    }

    /// The entry's folder; `make` fills it if it is not there yet.
    ///
    /// `make` gets an empty folder. If two processes make the same entry, the first one to finish
    /// wins and the other's work is dropped: both made the same.
    ///
    /// # Errors
    /// Whatever `make` returns; nothing is left behind then.
    pub fn get_or_make<E: From<StoreError>>(
        &self,
        kind: &str,
        fingerprint: &Fingerprint,
        make: impl FnOnce(&Path) -> Result<(), E>,
    ) -> Result<PathBuf, E> {
        let place = self.path(kind, fingerprint);
        if place.is_dir() {
            return Ok(place);
        }
        let parent = self.root.join(kind);
        let (work, _held) = made_in(&parent, make)?;
        match fs::rename(work.path(), &place) {
            Ok(()) => {
                let _ = work.keep();
                sync(&parent)?;
            }
            Err(_) if place.is_dir() => {}
            Err(e) => return Err(StoreError::io("create", &place, e).into()),
        }
        Ok(place)
    }
}

/// Reads a value that [`crate::write_json`] put into an entry.
///
/// # Errors
/// [`StoreError::Damaged`] if the file is not what it was, or gone: then the whole entry must be made
/// again. Any error of the file system.
pub fn read_entry<T: DeserializeOwned>(entry: &Path, name: &str) -> Result<T, StoreError> {
    read_json(&entry.join(name)).map_err(|error| match error {
        StoreError::Json { path, cause } => StoreError::Damaged { path, found: cause.to_string() },
        StoreError::Io { path, cause, .. } if cause.kind() == std::io::ErrorKind::NotFound => {
            StoreError::Damaged { path, found: cause.to_string() }
        }
        error => error,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_without_its_file_or_with_half_of_it_is_damaged() {
        let entry = tempfile::tempdir().unwrap();
        crate::write_json(&entry.path().join("a.json"), &[1, 2]).unwrap();
        assert_eq!(read_entry::<Vec<i32>>(entry.path(), "a.json").unwrap(), [1, 2]);
        fs::write(entry.path().join("a.json"), "[1").unwrap();
        for name in ["a.json", "b.json"] {
            let message = read_entry::<Vec<i32>>(entry.path(), name).unwrap_err().to_string();
            let said = message.contains(name) && message.contains("delete its folder");
            assert!(said, "{message}");
        }
    }

    #[test]
    fn an_entry_is_made_once_and_appears_whole() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path());
        let key = Fingerprint::of(&"key");
        let failed: Result<_, StoreError> = cache.get_or_make("kind", &key, |dir| {
            fs::write(dir.join("half"), "x").unwrap();
            Err(StoreError::io("write", dir, std::io::Error::other("stop")))
        });
        assert!(failed.is_err());
        assert!(!cache.path("kind", &key).exists());

        let make = |dir: &Path| {
            fs::write(dir.join("whole"), "x").unwrap();
            Ok::<_, StoreError>(())
        };
        let place = cache.get_or_make("kind", &key, make).unwrap();
        assert!(place.join("whole").exists());
        let again =
            cache.get_or_make("kind", &key, |_| -> Result<(), StoreError> { panic!("made twice") });
        assert_eq!(again.unwrap(), place);
        assert_eq!(fs::read_dir(folder.path().join("kind")).unwrap().count(), 1);
    }
}
