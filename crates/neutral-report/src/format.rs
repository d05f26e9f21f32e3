//! Numbers and names as people read them.

use serde_json::Value;

use crate::results::ByCorpus;

/// `614,400`.
pub fn thousands(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A fixed number of decimals, without the minus of a zero.
pub fn decimals(value: f64, places: usize) -> String {
    let text = format!("{value:.places$}");
    match text.strip_prefix('-') {
        Some(rest) if rest.chars().all(|c| c == '0' || c == '.') => rest.to_owned(),
        _ => text,
    }
}

/// A method's kind as the paper writes it: `LoRA` for `lora`.
pub(crate) fn method_name(kind: &str) -> String {
    match kind {
        "finetune" => "fine-tuning".to_owned(),
        "lora" => "LoRA".to_owned(),
        "adapter" => "vanilla adapter".to_owned(),
        "dora" => "DoRA".to_owned(),
        "kl_to_base" => "KL to base".to_owned(),
        "l2_sp" => "L2-SP".to_owned(),
        "ewc" => "EWC".to_owned(),
        "wise_ft" => "WiSE-FT".to_owned(),
        other => other.replace('_', " "),
    }
}

/// At most so many characters, an ellipsis in the middle if some had to go: names that sweeps make differ at their end.
pub fn shorten(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    let kept = most.saturating_sub(1);
    let head: String = text.chars().take(kept.div_ceil(2)).collect();
    let tail: String = text.chars().skip(text.chars().count() - kept / 2).collect();
    format!("{head}…{tail}")
}

/// A value of the spec as text for people: strings without their quotes, lists without their brackets, mappings as an
/// experiment has them.
pub(crate) fn value(value: &Value) -> String {
    match value {
        Value::Array(all) => all.iter().map(self::value).collect::<Vec<_>>().join(" + "),
        Value::Object(all) => {
            let entries = all.iter().map(|(key, value)| format!("{key}: {}", self::value(value)));
            format!("{{ {} }}", entries.collect::<Vec<_>>().join(", "))
        }
        _ => unquoted(value),
    }
}

/// A value of the spec as text for programs: JSON, but for strings, which are without their quotes.
pub(crate) fn unquoted(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// What stands behind a mean of fewer numbers than there are trials; nothing behind the dash of none.
pub(crate) fn of_fewer(numbers: usize, trials: usize) -> String {
    if (1..trials).contains(&numbers) { format!(" (of {numbers})") } else { String::new() }
}

/// How many there are of all, where some are missing: `3`, or `2 of 3`.
pub(crate) fn count(numbers: usize, all: usize) -> String {
    if numbers < all { format!("{numbers} of {all}") } else { numbers.to_string() }
}

/// Mean and sample deviation (n − 1); the deviation of one value is unknown.
pub(crate) fn mean_and_deviation(values: &[f64]) -> (f64, Option<f64>) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let squares: f64 = values.iter().map(|v| (v - mean).powi(2)).sum();
    (mean, (values.len() > 1).then(|| (squares / (n - 1.0)).sqrt()))
}

/// The mean over corpora, each counted once.
pub(crate) fn over_corpora(values: &ByCorpus<f64>) -> Option<f64> {
    let values: Vec<f64> = values.values().copied().collect();
    (!values.is_empty()).then(|| mean_and_deviation(&values).0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_grouped_by_three() {
        let text: Vec<_> = [0, 999, 1000, 1_234_567].map(thousands).into();
        assert_eq!(text, ["0", "999", "1,000", "1,234,567"]);
    }

    #[test]
    fn people_read_lists_without_brackets() {
        let list = serde_json::json!(["manpages/en", "perl-docs/en"]);
        assert_eq!(value(&list), "manpages/en + perl-docs/en");
        assert_eq!(unquoted(&list), r#"["manpages/en","perl-docs/en"]"#);
        let weighted = serde_json::json!(["a/fr", { "corpus": "b/fr", "weight": 3 }]);
        assert_eq!(value(&weighted), "a/fr + { corpus: b/fr, weight: 3 }");
        assert_eq!([value, unquoted].map(|f| f(&serde_json::json!("20%"))), ["20%", "20%"]);
    }

    #[test]
    fn a_zero_has_no_sign() {
        assert_eq!(decimals(-0.00004, 3), "0.000");
        assert_eq!(decimals(-0.0006, 3), "-0.001");
    }

    #[test]
    fn deviation_is_the_samples() {
        let (mean, deviation) = mean_and_deviation(&[1.0, 3.0]);
        assert!((mean - 2.0).abs() < 1e-12);
        assert!((deviation.unwrap() - 2f64.sqrt()).abs() < 1e-12);
        assert_eq!(mean_and_deviation(&[1.0]).1, None);
    }

    #[test]
    fn long_names_lose_their_middle() {
        assert_eq!([shorten("abcdef", 4), shorten("abcdef", 5)], ["ab…f", "ab…ef"]);
        assert_eq!(shorten("abcd", 4), "abcd");
    }
}
