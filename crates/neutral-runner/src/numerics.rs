//! The version of everything that computes a number.

/// Part of every fingerprint: results of two versions are never mixed or reused.
///
/// Raise it whenever the goldens of the smoke run change, in the same commit.
pub(crate) const NUMERICS_VERSION: u32 = 2;
