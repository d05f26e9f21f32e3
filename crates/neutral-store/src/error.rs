//! What can go wrong with files, each with the path it happened to.

use std::path::{Path, PathBuf};

/// An error of the file system, or a file that does not hold what it should.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The operating system refused an operation.
    #[error("cannot {action} {}: {cause}{}", path.display(), hint(cause))]
    Io {
        /// What was tried, as a verb: `read`, `write`, `create`.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The operating system's answer. It is part of the message, so it is no `source`, which
        /// would have it said twice.
        cause: std::io::Error,
    },
    /// A file is not the JSON it should be.
    #[error("{} is not the JSON that is expected there: {cause}; if neutral wrote it, delete it to have it made again", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// What serde found.
        cause: serde_json::Error,
    },
    /// A file of the cache is not what was put there, or is gone.
    #[error("{} is damaged: {found}; delete its folder to have it made again", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What was found.
        found: String,
    },
    /// Something is there already that would have to be replaced.
    #[error("{} {why}; choose another folder with --out", path.display())]
    Taken {
        /// The folder or file.
        path: PathBuf,
        /// Why it cannot be.
        why: &'static str,
    },
    /// Nothing says where the cache is to be.
    #[error(
        "none of NEUTRAL_CACHE, XDG_CACHE_HOME and HOME is set; set NEUTRAL_CACHE to a folder for what is fetched and kept"
    )]
    NoCache,
    /// Another process works in the folder.
    #[error("{} is in use by another process (pid {owner}); wait for it, or give a run another folder with --out", path.display())]
    Locked {
        /// The lock file.
        path: PathBuf,
        /// What the owner wrote into the lock file: its process id.
        owner: String,
    },
}

impl StoreError {
    /// Wraps an I/O error with what was tried and where.
    pub fn io(action: &'static str, path: &Path, cause: std::io::Error) -> Self {
        Self::Io { action, path: path.to_path_buf(), cause }
    }
}

/// Whether a file could not be written for want of room.
pub fn is_full(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded)
}

fn hint(cause: &std::io::Error) -> &'static str {
    match cause.kind() {
        _ if is_full(cause) => {
            "; free some space, or move the cache with NEUTRAL_CACHE or the run with --out, then run the same command again: it goes on where it stopped"
        }
        std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem => {
            "; choose a folder that can be written with --out or NEUTRAL_CACHE"
        }
        _ => "",
    }
}
