//! Files that are never half-written.
//!
//! Everything that neutral keeps goes through this crate: a file is written beside its place,
//! synced and renamed, so a reader sees the old one or the whole new one; a folder of the cache
//! appears whole under a name that says what it was made from; a run folder has one writer.
//! It knows nothing of models or data, and every other crate may use it.

mod atomic;
mod cache;
mod error;
mod fingerprint;
mod lock;

pub use atomic::{
    TemporaryFolder, copy_file, read_json, remove_unfinished, write_atomic, write_folder,
    write_json,
};
pub use cache::{Cache, read_entry};
pub use error::{StoreError, is_full};
pub use fingerprint::{Fingerprint, is_sha256, sha256_bytes, sha256_file};
pub use lock::Lock;
