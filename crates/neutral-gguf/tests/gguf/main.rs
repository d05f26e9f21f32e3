//! The crate from outside: folders held against fixtures of other people's code, and files that are
//! damaged or say what cannot be converted.

#![expect(clippy::unwrap_used, reason = "in tests a panic is the report")]

mod conversion;
mod fuzzed;
mod malformed;
mod model;
mod real_model;
mod unsupported;

use std::path::PathBuf;

/// A file of the workspace's fixtures.
fn fixture(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures")).join(name)
}
