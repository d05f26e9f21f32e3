//! How a check ends.

use serde::{Deserialize, Serialize};

/// Of a row, a budget or a whole check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Shown to be within the margin.
    Pass,
    /// Neither is shown.
    Inconclusive,
    /// Shown to be beyond the margin.
    Fail,
}

impl Verdict {
    /// The word in every output.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Inconclusive => "inconclusive",
            Self::Fail => "fail",
        }
    }

    /// The command's exit code.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Pass => 0,
            Self::Fail => 1,
            Self::Inconclusive => 3,
        }
    }

    /// From what two one-sided tests say, each with its p.
    pub(crate) fn of(p_within: f64, p_beyond: f64, level: f64) -> Self {
        if p_beyond <= level {
            Self::Fail
        } else if p_within <= level {
            Self::Pass
        } else {
            Self::Inconclusive
        }
    }
}
