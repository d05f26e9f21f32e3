//! The wording of what was found and of what a schema expects.

use serde_json::Value;

use crate::budget::Budget;
use crate::corpus_ref::CorpusRef;
use crate::schema::type_of;

/// `the string "fast"`.
pub(crate) fn describe(value: &Value) -> String {
    match value {
        Value::Null => "nothing".to_owned(),
        Value::Bool(b) => b.to_string(),
        Value::Number(n) => format!("the number {n}"),
        Value::String(text) => {
            let mut short: String = text.chars().take(60).collect();
            if short.len() < text.len() {
                short.push('…');
            }
            format!("the string {short:?}")
        }
        Value::Array(list) if list.is_empty() => "an empty list".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "a mapping".to_owned(),
    }
}

/// `a number from 0 to 1`: what a schema asks for, with a hint that suits what was found.
pub(crate) fn expected(schema: &Value, found: &Value) -> String {
    if let Some(kinds) = schema.get("oneOf").and_then(Value::as_array) {
        return one_of(kinds);
    }
    match (type_of(schema), schema.get("format").and_then(Value::as_str)) {
        ("number", _) => format!("a number{}", range(schema)),
        ("integer", _) => format!("a whole number{}", range(schema)),
        ("boolean", _) => "true or false".to_owned(),
        ("string", Some("budget")) => {
            "a share such as `20%`, or a number such as `16 units`".to_owned()
        }
        ("string", Some("corpus")) => "a corpus such as `libreoffice-help/fr`".to_owned(),
        // Not all of its digits may be left: 1.10 is the number 1.1.
        ("string", _) if found.is_f64() => "a string; in quotes what you wrote is one".to_owned(),
        ("string", _) if found.is_number() || found.is_boolean() => {
            format!("a string; in quotes it is one: \"{found}\"")
        }
        ("string", _) => "a string that is not empty".to_owned(),
        ("array", _) => match found.as_str() {
            Some(text) => format!("a list; in brackets it is one: [{text}]"),
            None => "a list".to_owned(),
        },
        _ => "a mapping of keys to values".to_owned(),
    }
}

/// `` `bf16` or `fp32` ``; of mappings, their kinds.
fn one_of(kinds: &[Value]) -> String {
    let named = |key: &str| {
        kinds
            .iter()
            .map(|kind| kind.pointer(key).and_then(Value::as_str).map(|name| format!("`{name}`")))
            .collect::<Option<Vec<_>>>()
            .map(|names| names.join(" or "))
    };
    let of_mappings =
        || Some(format!("a mapping with the kind {}", named("/properties/kind/const")?));
    named("/const").or_else(of_mappings).unwrap_or_else(|| "one of its kinds".to_owned())
}

fn range(schema: &Value) -> String {
    let bound = |name: &str| schema.get(name).and_then(Value::as_f64);
    let above = bound("exclusiveMinimum").map(|b| format!(" above {b}"));
    let least = bound("minimum").map(|b| format!(" from {b}"));
    let below = bound("exclusiveMaximum").map(|b| format!(" to below {b}"));
    let most = bound("maximum").map(|b| format!(" to {b}"));
    match (above.or(least), below.or(most)) {
        (Some(low), None) if low.starts_with(" from") => format!(" of{} or more", &low[5..]),
        (low, high) => low.unwrap_or_default() + &high.unwrap_or_default(),
    }
}

/// What is wrong with a text of one of our own formats.
pub(crate) fn format_problem(schema: &Value, text: &str) -> Option<String> {
    match schema.get("format")?.as_str()? {
        "budget" => text.parse::<Budget>().err(),
        "corpus" => CorpusRef::try_from(text.to_owned()).err(),
        "experiment-name" => {
            let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
            let good = !text.is_empty() && text.bytes().all(fits);
            (!good).then(|| {
                format!("found {text:?}, expected a name of lowercase letters, digits and hyphens such as `quick-tuning`")
            })
        }
        "sha256" => (!neutral_store::is_sha256(text))
            .then(|| format!("found {text:?}, expected 64 hexadecimal digits in lowercase")),
        _ => None,
    }
}

/// The candidate that a misspelt word most likely stands for.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let distance = |c: &str| strsim::damerau_levenshtein(&word.to_lowercase(), c);
    let (best, candidate) = candidates.into_iter().map(|c| (distance(c), c)).min()?;
    (best <= (candidate.len() / 3).max(1)).then_some(candidate)
}

/// What PEFT's and transformers' names are here.
pub(crate) fn elsewhere_called(key: &str) -> Option<&'static str> {
    match key {
        "r" | "rank" => Some("`budget: 16 units`"),
        "target_modules" => Some("`targets`"),
        "lr" => Some("`learning_rate`"),
        "warmup_steps" | "warmup_ratio" => Some("`schedule: { …, warmup_fraction: 0.05 }`"),
        "max_steps" | "num_train_epochs" | "epochs" => Some("`tokens`"),
        "max_grad_norm" => Some("`gradient_clip`"),
        "per_device_train_batch_size" => Some("`batch_size`"),
        _ => None,
    }
}

/// `` `a`, `b`, `c` ``.
pub(crate) fn quoted(names: &[&str]) -> String {
    names.iter().map(|n| format!("`{n}`")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_misspelt_word_finds_its_neighbour_and_a_strange_one_finds_none() {
        let keys = ["tokens", "learning_rate", "batch_size"];
        assert_eq!(nearest("learning_rat", keys), Some("learning_rate"));
        assert_eq!(nearest("learningrate", keys), Some("learning_rate"));
        assert_eq!(nearest("Tokesn", keys), Some("tokens"));
        assert_eq!(nearest("dropout", keys), None);
    }

    #[test]
    fn ranges_read_as_words() {
        let text = |schema| expected(&schema, &Value::Null);
        assert_eq!(text(json!({"type": "number", "exclusiveMinimum": 0})), "a number above 0");
        assert_eq!(
            text(json!({"type": "number", "minimum": 0, "exclusiveMaximum": 1})),
            "a number from 0 to below 1"
        );
        assert_eq!(
            text(json!({"type": ["integer", "null"], "minimum": 1})),
            "a whole number of 1 or more"
        );
    }

    #[test]
    fn a_checksum_has_all_its_digits() {
        let problem = |text: &str| format_problem(&json!({"format": "sha256"}), text);
        assert_eq!(problem(&"0a".repeat(32)), None);
        for bad in ["", "0a", &"0A".repeat(32), &"0g".repeat(32)] {
            assert!(problem(bad).unwrap().contains("64 hexadecimal digits"), "{bad}");
        }
    }

    #[test]
    fn kinds_are_named() {
        let text = |kinds| expected(&json!({ "oneOf": kinds }), &Value::Null);
        assert_eq!(text(json!([{"const": "bf16"}, {"const": "fp32"}])), "`bf16` or `fp32`");
        let kind = |name| json!({"type": "object", "properties": {"kind": {"const": name}}});
        assert_eq!(
            text(json!([kind("train"), kind("load")])),
            "a mapping with the kind `train` or `load`"
        );
        assert_eq!(text(json!([kind("train"), {"type": "null"}])), "one of its kinds");
    }
}
