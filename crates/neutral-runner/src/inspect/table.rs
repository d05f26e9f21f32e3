//! Text in columns.

use serde_json::Value;

/// Characters of a value that are shown.
const SHOWN: usize = 80;

/// Rows in columns; those that are `right` stand flush right.
pub(super) fn aligned(rows: &[Vec<String>], right: &[bool]) -> String {
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max()
    };
    let widths: Vec<usize> = (0..right.len()).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for ((cell, width), right) in row.iter().zip(&widths).zip(right) {
            let space = " ".repeat(width - cell.chars().count());
            let (before, after) = if *right { (&*space, "") } else { ("", &*space) };
            line += &format!("{before}{cell}{after}  ");
        }
        text += line.trim_end();
        text.push('\n');
    }
    text
}

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
        Value::String(text) => rows.push(vec![name.to_owned(), shorten(text)]),
        Value::Array(all) if all.is_empty() => {}
        other => rows.push(vec![name.to_owned(), shorten(&other.to_string())]),
    }
}

/// One line of at most so many characters.
fn shorten(text: &str) -> String {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    match line.char_indices().nth(SHOWN) {
        Some((at, _)) => format!("{}…", &line[..at]),
        None => line,
    }
}

/// `614,400`.
pub(super) fn thousands(n: u64) -> String {
    let digits = n.to_string();
    let groups: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().filter_map(|g| std::str::from_utf8(g).ok()).collect();
    groups.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let rows = [["a", "1"], ["bcd", "1,000"]].map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(aligned(&rows, &[false, true]), "a        1\nbcd  1,000\n");
        assert_eq!([0, 999, 1000, 1_234_567].map(thousands), ["0", "999", "1,000", "1,234,567"]);
    }

    #[test]
    fn facts_are_paths_and_values() {
        let config = serde_json::json!({"a": {"b": 1, "c": null}, "d": [], "e": "x\ny"});
        assert_eq!(facts(&config), [["a.b", "1"], ["e", "x y"]]);
    }
}
