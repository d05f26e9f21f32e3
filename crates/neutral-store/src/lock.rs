//! One writer a folder, by the operating system's own file lock, which dies with its process.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read, Seek, Write};
use std::path::Path;
use std::time::Duration;

use crate::StoreError;

/// How often a lock is tried again.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Holds a folder for this process until dropped.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Takes `<folder>/.lock`, creating the folder if need be.
    ///
    /// # Errors
    /// [`StoreError::Locked`] with the owner's process id if another process holds it.
    pub fn acquire(folder: &Path) -> Result<Self, StoreError> {
        std::fs::create_dir_all(folder).map_err(|e| StoreError::io("create", folder, e))?;
        let path = folder.join(".lock");
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(|e| StoreError::io("open", &path, e))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut owner = String::new();
                // Best effort: the owner may not have written its number yet.
                let _ = file.read_to_string(&mut owner);
                return Err(StoreError::Locked { path, owner: owner.trim().to_owned() });
            }
            Err(TryLockError::Error(e)) => return Err(StoreError::io("lock", &path, e)),
        }
        file.set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| writeln!(file, "{}", std::process::id()))
            .map_err(|e| StoreError::io("write", &path, e))?;
        Ok(Self { _file: file })
    }

    /// As [`Lock::acquire`], again and again while another process holds it. `goes_on`, which is told that process's number,
    /// says how long; none if it ends the wait.
    ///
    /// # Errors
    /// Those of `goes_on`, and any of the file system.
    pub fn wait<E: From<StoreError>>(
        folder: &Path,
        mut goes_on: impl FnMut(&str) -> Result<bool, E>,
    ) -> Result<Option<Self>, E> {
        loop {
            match Self::acquire(folder) {
                Err(StoreError::Locked { owner, .. }) => {
                    if !goes_on(&owner)? {
                        return Ok(None);
                    }
                }
                held => return Ok(Some(held?)),
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// The number of the process that holds a folder, as that process knows itself; none if nobody does.
    ///
    /// # Errors
    /// Any error of the file system but that there is no lock yet.
    pub fn owner(folder: &Path) -> Result<Option<String>, StoreError> {
        let path = folder.join(".lock");
        let mut file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(StoreError::io("open", &path, error)),
        };
        // A shared lock, so that two that look do not take each other for the owner.
        match file.try_lock_shared() {
            Ok(()) => Ok(None),
            Err(TryLockError::WouldBlock) => {
                let mut owner = String::new();
                let _ = file.read_to_string(&mut owner);
                Ok(Some(owner.trim().to_owned()))
            }
            Err(TryLockError::Error(e)) => Err(StoreError::io("lock", &path, e)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_owner_is_refused_until_the_first_lets_go() {
        let folder = tempfile::tempdir().unwrap();
        let first = Lock::acquire(folder.path()).unwrap();
        let refused = Lock::acquire(folder.path()).unwrap_err().to_string();
        let me = std::process::id().to_string();
        assert!(refused.contains(&me), "{refused}");
        assert_eq!(Lock::owner(folder.path()).unwrap(), Some(me));
        drop(first);
        assert_eq!(Lock::owner(folder.path()).unwrap(), None);
        assert_eq!(Lock::owner(&folder.path().join("none")).unwrap(), None);
        Lock::acquire(folder.path()).unwrap();
    }

    #[test]
    fn who_waits_gets_the_folder_or_ends_the_wait() {
        let folder = tempfile::tempdir().unwrap();
        let first = std::cell::Cell::new(Some(Lock::acquire(folder.path()).unwrap()));
        let me = std::process::id().to_string();
        let ends = |owner: &str| {
            assert_eq!(owner, me);
            Ok::<_, StoreError>(false)
        };
        assert!(Lock::wait(folder.path(), ends).unwrap().is_none());
        let mut asked = 0;
        let second = Lock::wait(folder.path(), |_| {
            asked += 1;
            drop(first.take());
            Ok::<_, StoreError>(true)
        });
        assert!(second.unwrap().is_some());
        assert_eq!(asked, 1);
    }
}
