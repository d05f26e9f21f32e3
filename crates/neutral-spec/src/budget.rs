//! How large an extension is: `20%`, as a share of the base's weights, or `16 units`.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The size of an extension: a share of the base's weights, written with a per cent sign (`20%`, `2.5%`), or a number of
/// units (`16 units`), which are LoRA's rank, an adapter's width or new blocks.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Budget(Size);

#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
enum Size {
    Percent(f64),
    Units(u64),
}

/// No tensor comes near.
const MOST_UNITS: u64 = 1 << 20;

impl Budget {
    /// A budget of so many per cent.
    ///
    /// # Errors
    /// If it is not within 0 (exclusive) and 1000 per cent.
    pub fn from_percent(percent: f64) -> Result<Self, String> {
        if percent > 0.0 && percent <= 1000.0 {
            Ok(Self(Size::Percent(percent)))
        } else {
            Err(format!("budget {percent}% is not within 0% (exclusive) and 1000%"))
        }
    }

    /// A budget of so many units.
    ///
    /// # Errors
    /// If it is not within 1 and 1048576.
    pub fn from_units(units: u64) -> Result<Self, String> {
        if (1..=MOST_UNITS).contains(&units) {
            Ok(Self(Size::Units(units)))
        } else {
            Err(format!("budget {units} units is not within 1 and {MOST_UNITS}"))
        }
    }

    /// The number of weights that it stands for, for a base of so many, if it is a share.
    pub fn of(self, base_parameters: u64) -> Option<u64> {
        match self.0 {
            Size::Percent(percent) => {
                Some((percent * base_parameters as f64 / 100.0).round() as u64)
            }
            Size::Units(_) => None,
        }
    }

    /// The units, if it names them.
    pub fn units(self) -> Option<u64> {
        match self.0 {
            Size::Percent(_) => None,
            Size::Units(units) => Some(units),
        }
    }
}

impl FromStr for Budget {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let number = |unit| text.strip_suffix(unit).map(str::trim);
        if let Some(units) = number("units").or(number("unit")).and_then(|n| n.parse().ok()) {
            return Self::from_units(units);
        }
        let percent = number("%").and_then(|n| n.parse().ok()).ok_or_else(|| {
            format!(
                "`{text}` is not a budget; write a share of the base's weights such as `20%`, or a number such as `16 units`"
            )
        })?;
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
        match self.0 {
            Size::Percent(percent) => write!(f, "{percent}%"),
            Size::Units(1) => write!(f, "1 unit"),
            Size::Units(units) => write!(f, "{units} units"),
        }
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
            "pattern": r"^([0-9.]+ *%|[0-9]+ *units?)$",
            "description": "A share of the base's weights, such as `20%`, or a number of units, such as `16 units`: LoRA's rank, an adapter's width, new blocks."
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_a_percentage_of_the_base() {
        let budget: Budget = "2.5%".parse().unwrap();
        assert_eq!((budget.of(1_000), budget.units()), (Some(25), None));
        assert_eq!(budget.to_string(), "2.5%");
    }

    #[test]
    fn or_a_number_of_units() {
        for text in ["16 units", "1 unit"] {
            let budget: Budget = text.parse().unwrap();
            assert_eq!((budget.of(1_000), budget.to_string()), (None, text.to_owned()));
        }
        assert_eq!("16units".parse::<Budget>().unwrap().units(), Some(16));
    }

    #[test]
    fn and_nothing_else() {
        let percentages = ["20", "0%", "-1%", "nan%", "1001%", "%", ""];
        let units = ["0 units", "-1 units", "1.5 units", "1048577 units", "units", "16 weights"];
        for bad in percentages.into_iter().chain(units) {
            assert!(bad.parse::<Budget>().is_err(), "{bad}");
        }
    }
}
