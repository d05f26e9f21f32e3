//! A badge.

use serde_json::{Value, json};

use crate::{Check, Verdict};

/// The JSON that shields.io's endpoint badges are drawn from.
///
/// Source: <https://shields.io/badges/endpoint-badge>
pub fn badge(check: &Check) -> Value {
    let (message, color) = match check.verdict {
        Verdict::Pass => ("within margin", "brightgreen"),
        Verdict::Inconclusive => ("inconclusive", "yellow"),
        Verdict::Fail => ("beyond margin", "red"),
    };
    json!({ "schemaVersion": 1, "label": "forgetting", "message": message, "color": color })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    #[test]
    fn a_failed_check_is_red() {
        let badge = badge(&sample::checked());
        assert_eq!((&badge["color"], &badge["schemaVersion"]), (&json!("red"), &json!(1)));
    }
}
