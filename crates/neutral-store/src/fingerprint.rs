//! Names made from content: SHA-256 of files, and fingerprints of values.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::StoreError;

/// The first 16 hexadecimal digits of the SHA-256 of a value's canonical JSON (sorted keys).
///
/// Two values with equal fingerprints are the same value; 64 bits leave no room for an accident
/// among the few million things that one user ever makes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Fingerprint(String);

impl Fingerprint {
    /// The fingerprint of anything that serde can turn into JSON.
    ///
    /// # Panics
    /// If the value has a map whose keys are not strings, which is a mistake of the caller's type.
    pub fn of(value: &impl Serialize) -> Self {
        // `serde_json::Value` keeps its keys sorted, which makes the text canonical.
        let value = serde_json::to_value(value).expect("a value with string keys");
        let mut hex = sha256_bytes(value.to_string().as_bytes());
        hex.truncate(16);
        Self(hex)
    }

    /// The digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether a text is the SHA-256 of something as it is written here: 64 hexadecimal digits in lowercase.
pub fn is_sha256(text: &str) -> bool {
    let digit = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    text.len() == 64 && text.bytes().all(digit)
}

/// SHA-256 of some bytes, as 64 hexadecimal digits.
pub fn sha256_bytes(bytes: &[u8]) -> String {
    format!("{:x}", Sha256::digest(bytes))
}

/// SHA-256 of a file, as 64 hexadecimal digits, in constant memory.
///
/// # Errors
/// If the file cannot be read.
pub fn sha256_file(path: &Path) -> Result<String, StoreError> {
    let mut file = File::open(path).map_err(|e| StoreError::io("read", path, e))?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        let n = file.read(&mut buffer).map_err(|e| StoreError::io("read", path, e))?;
        if n == 0 {
            return Ok(format!("{:x}", hasher.finalize()));
        }
        hasher.update(&buffer[..n]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    #[test]
    fn the_order_of_keys_does_not_matter_and_values_do() {
        let a: HashMap<_, _> = (0..50).map(|i| (i.to_string(), i)).collect();
        let b: HashMap<_, _> = (0..50).rev().map(|i| (i.to_string(), i)).collect();
        assert_eq!(Fingerprint::of(&a), Fingerprint::of(&b));
        assert_ne!(Fingerprint::of(&1), Fingerprint::of(&2));
    }

    #[test]
    fn sha256_is_the_standard_one() {
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(sha256_bytes(b"abc"), abc);
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "abc").unwrap();
        assert_eq!(sha256_file(file.path()).unwrap(), abc);
    }
}
