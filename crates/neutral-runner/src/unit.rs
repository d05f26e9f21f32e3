//! The units of a run that processes of their own can do: what is shared, one trial, the results.

use std::fmt;
use std::str::FromStr;

/// `--only`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Data, tokenizer, base, the base's scores.
    Prepare,
    /// A trial by its id, with all that is measured of it.
    Trial(String),
    /// `results.json` and its tables from the trials that are there.
    Collect,
}

impl FromStr for Unit {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match (text, text.strip_prefix("trial:")) {
            ("prepare", _) => Ok(Self::Prepare),
            ("collect", _) => Ok(Self::Collect),
            (_, Some(id)) if !id.is_empty() => Ok(Self::Trial(id.to_owned())),
            _ => Err("expected prepare, trial:ID or collect".to_owned()),
        }
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Prepare => f.write_str("prepare"),
            Self::Trial(id) => write!(f, "trial:{id}"),
            Self::Collect => f.write_str("collect"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_read_and_written() {
        for text in ["prepare", "trial:lora-s0", "collect"] {
            assert_eq!(text.parse::<Unit>().unwrap().to_string(), text);
        }
        for text in ["", "trial:", "trial", "lora-s0"] {
            assert!(text.parse::<Unit>().is_err(), "{text}");
        }
    }
}
