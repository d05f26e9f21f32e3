//! A configuration as names and values.

use serde_json::Value;

/// Characters of a value that are shown.
const SHOWN: usize = 80;

/// A configuration as names and values, objects within it by their paths; what is empty is left out.
pub(super) fn facts(config: &Value) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    push(&mut rows, "", config);
    rows
}

fn push(rows: &mut Vec<Vec<String>>, name: &str, value: &Value) {
    match value {
        Value::Null => {}
        Value::Object(fields) => {
            for (field, value) in fields {
                let path = if name.is_empty() { field.clone() } else { format!("{name}.{field}") };
                push(rows, &path, value);
            }
        }
        Value::String(text) => rows.push(vec![shorten(name), shorten(text)]),
        Value::Array(all) if all.is_empty() => {}
        other => rows.push(vec![shorten(name), shorten(&other.to_string())]),
    }
}

/// One line of at most so many characters; other people's files may not steer a terminal.
pub(super) fn shorten(text: &str) -> String {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    match line.char_indices().nth(SHOWN) {
        Some((at, _)) => format!("{}…", &line[..at]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_are_paths_and_values() {
        let config = serde_json::json!({"a": {"b": 1, "c": null}, "d": [], "e": "x\ny"});
        assert_eq!(facts(&config), [["a.b", "1"], ["e", "x y"]]);
        assert_eq!(facts(&serde_json::json!({"a\u{1b}b": 1})), [["a b", "1"]]);
    }
}
