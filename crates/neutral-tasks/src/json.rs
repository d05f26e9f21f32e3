//! JSON as Python's `json.dumps` writes it with `ensure_ascii=False`, for lines and hashes that must be
//! equal.

use crate::python;
use crate::value::Value;

/// A value, indented by so many spaces if asked.
pub(crate) fn dumps(value: &Value, indent: Option<usize>) -> String {
    let mut out = String::new();
    write(value, indent, 0, &mut out);
    out
}

fn write(value: &Value, indent: Option<usize>, depth: usize, out: &mut String) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(flag) => out.push_str(if *flag { "true" } else { "false" }),
        Value::Int(n) => out.push_str(&n.to_string()),
        Value::Float(x) if x.is_nan() => out.push_str("NaN"),
        Value::Float(x) if x.is_infinite() => {
            out.push_str(if *x > 0.0 { "Infinity" } else { "-Infinity" });
        }
        Value::Float(x) => out.push_str(&python::float(*x)),
        Value::Text(text) => out.push_str(&quoted(text)),
        Value::List(items) => {
            let item = |item: &Value, out: &mut String| write(item, indent, depth + 1, out);
            sequence(['[', ']'], items.iter(), indent, depth, out, item);
        }
        Value::Map(map) => {
            let pair = |(key, value): (&String, &Value), out: &mut String| {
                out.push_str(&quoted(key));
                out.push_str(": ");
                write(value, indent, depth + 1, out);
            };
            sequence(['{', '}'], map.iter(), indent, depth, out, pair);
        }
    }
}

fn sequence<T>(
    [open, close]: [char; 2],
    items: impl ExactSizeIterator<Item = T>,
    indent: Option<usize>,
    depth: usize,
    out: &mut String,
    item: impl Fn(T, &mut String),
) {
    out.push(open);
    let empty = items.len() == 0;
    let line = |depth: usize, out: &mut String| {
        if let Some(indent) = indent {
            out.push('\n');
            out.extend(std::iter::repeat_n(' ', indent * depth));
        }
    };
    for (i, x) in items.enumerate() {
        if i > 0 {
            out.push_str(if indent.is_some() { "," } else { ", " });
        }
        line(depth + 1, out);
        item(x, out);
    }
    if !empty {
        line(depth, out);
    }
    out.push(close);
}

/// Serde escapes what Python escapes.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Written by Python 3.11.
    #[test]
    fn a_value_is_written_as_python_does() {
        let json = r#"{"a": [1, 2.0, 1e-07, null, true], "b": {}, "ö\n\u0001\u007f": [], "c": [{"d": "\"/"}]}"#;
        let value: Value = serde_json::from_str(json).unwrap();
        let line = "{\"a\": [1, 2.0, 1e-07, null, true], \"b\": {}, \"ö\\n\\u0001\u{7f}\": [], \"c\": [{\"d\": \"\\\"/\"}]}";
        assert_eq!(dumps(&value, None), line);
        let indented = "{\n  \"a\": [\n    1,\n    2.0,\n    1e-07,\n    null,\n    true\n  ],\n  \"b\": {},\n  \"ö\\n\\u0001\u{7f}\": [],\n  \"c\": [\n    {\n      \"d\": \"\\\"/\"\n    }\n  ]\n}";
        assert_eq!(dumps(&value, Some(2)), indented);
    }

    /// Written by Python 3.11.
    #[test]
    fn numbers_that_are_not_finite_have_the_names_that_python_gives_them() {
        let numbers = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY].map(Value::Float).to_vec();
        assert_eq!(dumps(&Value::List(numbers), None), "[NaN, Infinity, -Infinity]");
    }
}
