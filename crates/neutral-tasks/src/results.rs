//! Results in the schema of the harness (`lm_eval/result_schema.py`).

use indexmap::IndexMap;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A number, or `"N/A"`; one that is not finite is written as if there were none.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Score {
    /// A number.
    Number(f64),
    /// There is none.
    NotAvailable,
}

impl Score {
    /// The number, if there is one.
    pub fn number(self) -> Option<f64> {
        if let Self::Number(number) = self { Some(number) } else { None }
    }
}

impl From<Option<f64>> for Score {
    fn from(number: Option<f64>) -> Self {
        number.map_or(Self::NotAvailable, Self::Number)
    }
}

impl Serialize for Score {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Number(number) if number.is_finite() => serializer.serialize_f64(*number),
            // JSON has no infinity, which a perplexity by word is of a script without spaces.
            Self::Number(_) | Self::NotAvailable => serializer.serialize_str("N/A"),
        }
    }
}

impl<'de> Deserialize<'de> for Score {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Either {
            Number(f64),
            Text(String),
        }
        match Either::deserialize(deserializer)? {
            Either::Number(number) => Ok(Self::Number(number)),
            Either::Text(text) if text == "N/A" => Ok(Self::NotAvailable),
            Either::Text(text) => Err(D::Error::custom(format!("{text:?} is no number, nor N/A"))),
        }
    }
}

/// `results[task]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskResult {
    /// The task.
    pub name: String,
    /// What tables call it.
    pub alias: String,
    /// How many documents were evaluated.
    pub sample_len: usize,
    /// `METRIC,FILTER` and `METRIC_stderr,FILTER`; the filter is `none` where the file has no other.
    #[serde(flatten)]
    pub metrics: IndexMap<String, Score>,
}

/// `groups[group]`, which `results` has too.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GroupResult {
    /// What tables call it.
    pub alias: String,
    /// The group.
    pub name: String,
    /// How many documents all its tasks have; a group that measures nothing has no number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sample_len: Option<usize>,
    /// How many documents each metric was taken over.
    #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
    pub sample_count: IndexMap<String, usize>,
    /// As a task's.
    #[serde(flatten)]
    pub metrics: IndexMap<String, Score>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Aggregation, Items};

    #[test]
    fn a_number_that_json_cannot_hold_is_not_available() {
        // 800 nats a word.
        let overflown = Aggregation::WeightedPerplexity.of(&Items::Weighted(vec![(-800.0, 1.0)]));
        let text = serde_json::to_string(&Score::Number(overflown)).unwrap();
        assert_eq!(text, "\"N/A\"");
        assert_eq!(serde_json::from_str::<Score>(&text).unwrap(), Score::NotAvailable);
    }
}
