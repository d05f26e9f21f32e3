//! Which split a document belongs to: a function of its id alone.
//!
//! Parallel pages have the same id in every language, so a page that is tested on in French was not
//! trained on in English. That no *line* of a test document is in the train split as well is the
//! business of [`crate::clean`].

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::Split;

/// Shares of documents that are held out; the rest, which may be nothing, is trained on.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SplitRules {
    #[serde(default = "tenth")]
    pub(crate) valid: f64,
    #[serde(default = "tenth")]
    pub(crate) test: f64,
}

fn tenth() -> f64 {
    0.1
}

impl Default for SplitRules {
    fn default() -> Self {
        Self { valid: tenth(), test: tenth() }
    }
}

impl SplitRules {
    pub(crate) fn check(&self) -> Result<(), String> {
        if self.valid >= 0.0 && self.test >= 0.0 && self.valid + self.test <= 1.0 {
            return Ok(());
        }
        Err(format!(
            "split: valid is {} and test {}; each is at least 0, and together they are at most 1",
            self.valid, self.test
        ))
    }

    /// The split of a document: `u` = the first 8 bytes of SHA-256(id) as a fraction of 2⁶⁴; test
    /// if `u < test`, valid if `u < test + valid`.
    pub(crate) fn of(&self, id: &str) -> Split {
        let digest = Sha256::digest(id.as_bytes());
        let mut head = [0; 8];
        head.copy_from_slice(&digest[..8]);
        let u = u64::from_be_bytes(head) as f64 / 2f64.powi(64);
        if u < self.test {
            Split::Test
        } else if u < self.test + self.valid {
            Split::Valid
        } else {
            Split::Train
        }
    }

    /// The share that a split should get.
    pub(crate) fn share(&self, split: Split) -> f64 {
        match split {
            // The sum first: it is 1 to the bit where both are written to make it so.
            Split::Train => 1.0 - (self.valid + self.test),
            Split::Valid => self.valid,
            Split::Test => self.test,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counted with Python's hashlib: a changed hash would move pages between the splits of published
    /// results. Expected are 1,000 and 4,000, with standard deviations of 31 and 57.
    #[test]
    fn ids_keep_their_split() {
        let rules = SplitRules { valid: 0.05, test: 0.2 };
        let mut counts = [0; 3];
        for i in 0..20_000 {
            counts[rules.of(&format!("text/{i}.html")) as usize] += 1;
        }
        assert_eq!(counts, [14_996, 1_014, 3_990]);
        let page = |n: &str| SplitRules::default().of(&format!("swriter/main{n}.html"));
        assert_eq!(["0000", "0010", "0017"].map(page), [Split::Train, Split::Test, Split::Valid]);
    }

    #[test]
    fn shares_above_one_are_refused() {
        assert!(SplitRules { valid: 0.6, test: 0.5 }.check().unwrap_err().contains("at most 1"));
        assert!(SplitRules { valid: f64::NAN, test: 0.5 }.check().is_err());
        assert!(SplitRules { valid: 0.0, test: 0.0 }.check().is_ok());
        // Of text that is only scored nothing is trained on.
        let scored = SplitRules { valid: 0.0, test: 1.0 };
        assert!(scored.check().is_ok());
        assert!((0..100).all(|id| scored.of(&id.to_string()) == Split::Test));
        assert_eq!(SplitRules { valid: 0.7, test: 0.3 }.share(Split::Train), 0.0);
    }
}
