//! `20%`: how many weights an extension may add, as a share of the base's.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A share of the base's weights, written with a per cent sign: `20%`, `2.5%`.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Budget {
    percent: f64,
}

impl Budget {
    /// A budget of so many per cent.
    ///
    /// # Errors
    /// If it is not within 0 (exclusive) and 1000 per cent.
    pub fn from_percent(percent: f64) -> Result<Self, String> {
        if percent > 0.0 && percent <= 1000.0 {
            Ok(Self { percent })
        } else {
            Err(format!("budget {percent}% is not within 0% (exclusive) and 1000%"))
        }
    }

    /// The share as a fraction: 0.2 for `20%`.
    pub fn fraction(self) -> f64 {
        self.percent / 100.0
    }

    /// The number of weights it stands for, for a base of so many.
    pub fn of(self, base_parameters: u64) -> u64 {
        (self.percent * base_parameters as f64 / 100.0).round() as u64
    }
}

impl FromStr for Budget {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let number = text.strip_suffix('%').and_then(|n| n.trim().parse().ok());
        let percent = number
            .ok_or_else(|| format!("`{text}` is not a budget; write a percentage such as `20%`"))?;
        Self::from_percent(percent)
    }
}

impl TryFrom<String> for Budget {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Budget> for String {
    fn from(budget: Budget) -> Self {
        budget.to_string()
    }
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.percent)
    }
}

impl JsonSchema for Budget {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Budget".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "format": "budget",
            "pattern": r"^[0-9.]+ *%$",
            "description": "A share of the base's weights, such as `20%`."
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_a_percentage_of_the_base() {
        let budget: Budget = "2.5%".parse().unwrap();
        assert_eq!(budget.of(1_000), 25);
        assert_eq!(budget.to_string(), "2.5%");
        for bad in ["20", "0%", "-1%", "nan%", "1001%", "%", ""] {
            assert!(bad.parse::<Budget>().is_err(), "{bad}");
        }
    }
}
