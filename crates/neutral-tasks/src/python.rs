//! What Python does to text and numbers where Rust does something else.

use std::fmt::Write;
use std::sync::LazyLock;

use regex::Regex;

use crate::value::Value;

/// `str.isspace` for a character, which is also what `\s` matches and `strip` strips: Unicode's white
/// space, and the four separators of ASCII.
pub(crate) fn is_space(c: char) -> bool {
    c.is_whitespace() || matches!(c, '\u{1c}'..='\u{1f}')
}

/// `str.isdecimal`: the digits that `int` reads, of any script. `str.isdigit`, which the harness asks, is true of
/// superscripts too, at which it stops; here they are text, as fractions and Chinese numerals are on both sides.
pub(crate) fn is_decimal(text: &str) -> bool {
    static DECIMAL: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"^\p{Nd}+$").expect("a sound pattern"));
    DECIMAL.is_match(text)
}

/// `len(re.split(r"\s+", text))`: one more than the runs of white space, so empty text has one word, and
/// white space at an end adds one.
pub(crate) fn count_words(text: &str) -> usize {
    let mut in_space = false;
    let starts = text.chars().filter(|&c| {
        let start = is_space(c) && !in_space;
        in_space = is_space(c);
        start
    });
    starts.count() + 1
}

/// `str.capitalize`: the first character in title case, all others in lower case.
///
/// Title case is upper case, or its first letter where that has several (`ß` gives `Ss`); the digraphs
/// of Croatian have a title case of their own.
pub(crate) fn capitalize(text: &str) -> String {
    let Some(first) = text.chars().next() else { return String::new() };
    let head = first.to_lowercase().map(char::len_utf8).sum();
    let lower = text.to_lowercase();
    let title = match first {
        'Ǆ' | 'ǅ' | 'ǆ' => "ǅ".to_owned(),
        'Ǉ' | 'ǈ' | 'ǉ' => "ǈ".to_owned(),
        'Ǌ' | 'ǋ' | 'ǌ' => "ǋ".to_owned(),
        'Ǳ' | 'ǲ' | 'ǳ' => "ǲ".to_owned(),
        'ŉ' => "ʼN".to_owned(),
        _ => {
            let mut upper = first.to_uppercase();
            let mut title: String = upper.next().into_iter().collect();
            title.extend(upper.flat_map(char::to_lowercase));
            title
        }
    };
    title + lower.get(head..).unwrap_or_default()
}

/// `repr` of a string: single quotes unless only double ones save escapes; what does not print is
/// escaped.
pub(crate) fn quote(text: &str) -> String {
    // CPython: categories "Other" and "Separator" do not print, but for the space.
    static UNPRINTABLE: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"^[\p{C}\p{Z}]$").expect("a sound pattern"));
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    let mut out = String::from(quote);
    let mut buffer = [0; 4];
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c == quote => out.extend(['\\', c]),
            ' ' => out.push(c),
            c if UNPRINTABLE.is_match(c.encode_utf8(&mut buffer)) => {
                let n = u32::from(c);
                // Writing to a string does not fail.
                let _ = match n {
                    0..=0xff => write!(out, "\\x{n:02x}"),
                    0x100..=0xffff => write!(out, "\\u{n:04x}"),
                    _ => write!(out, "\\U{n:08x}"),
                };
            }
            c => out.push(c),
        }
    }
    out.push(quote);
    out
}

/// `repr` of a float: the shortest digits that give it back, with an exponent below 1e-4 and from 1e16.
pub(crate) fn float(x: f64) -> String {
    if x.is_nan() {
        return "nan".to_owned();
    }
    if x.is_infinite() {
        return if x > 0.0 { "inf" } else { "-inf" }.to_owned();
    }
    if x != 0.0 && !(1e-4..1e16).contains(&x.abs()) {
        let text = format!("{x:e}");
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let exponent: i32 = exponent.parse().unwrap_or_default();
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{digits}e{sign}{:02}", exponent.abs());
    }
    let text = x.to_string();
    if text.contains('.') { text } else { text + ".0" }
}

/// `ast.literal_eval`, for strings, numbers, `True`, `False`, `None`, and lists, tuples and dicts of them;
/// `None` for all else.
pub(crate) fn literal(text: &str) -> Option<Value> {
    let text = text.trim_matches([' ', '\t']);
    let mut reader = Literal { rest: text };
    let value = reader.value()?;
    reader.skip();
    reader.rest.is_empty().then_some(value)
}

struct Literal<'a> {
    rest: &'a str,
}

impl Literal<'_> {
    fn skip(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn eat(&mut self, token: char) -> bool {
        self.skip();
        let after = self.rest.strip_prefix(token);
        self.rest = after.unwrap_or(self.rest);
        after.is_some()
    }

    fn value(&mut self) -> Option<Value> {
        self.skip();
        match self.rest.chars().next()? {
            '[' => self.items('[', ']').map(|(items, _)| Value::List(items)),
            '(' => {
                let (mut items, comma) = self.items('(', ')')?;
                if items.len() == 1 && !comma { items.pop() } else { Some(Value::List(items)) }
            }
            '{' => self.dict(),
            '\'' | '"' => {
                let mut text = String::new();
                // Strings side by side are one.
                while self.rest.starts_with(['\'', '"']) {
                    text += &self.string()?;
                    self.skip();
                }
                Some(Value::Text(text))
            }
            _ => self.word(),
        }
    }

    /// What is between brackets, and whether a comma ends it.
    fn items(&mut self, open: char, close: char) -> Option<(Vec<Value>, bool)> {
        self.eat(open);
        let (mut items, mut comma) = (Vec::new(), false);
        while !self.eat(close) {
            if !items.is_empty() && !comma {
                return None;
            }
            items.push(self.value()?);
            comma = self.eat(',');
        }
        Some((items, comma))
    }

    fn dict(&mut self) -> Option<Value> {
        self.eat('{');
        let (mut map, mut comma) = (indexmap::IndexMap::new(), true);
        while !self.eat('}') {
            let Value::Text(key) = (if comma { self.value()? } else { return None }) else {
                return None;
            };
            if !self.eat(':') {
                return None;
            }
            map.insert(key, self.value()?);
            comma = self.eat(',');
        }
        Some(Value::Map(map))
    }

    fn word(&mut self) -> Option<Value> {
        let end = self.rest.find([',', ']', ')', '}', ':', ' ', '\n']).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        match word {
            "None" => return Some(Value::Null),
            "True" => return Some(Value::Bool(true)),
            "False" => return Some(Value::Bool(false)),
            _ => {}
        }
        let digits = word.trim_start_matches(['-', '+']);
        if !digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
            return None;
        }
        if digits.bytes().all(|b| b.is_ascii_digit()) {
            // A number with zeros in front is a mistake in Python, zeros alone are zero.
            let zeros = digits.len() > 1 && digits.starts_with('0');
            if zeros && digits.bytes().any(|b| b != b'0') {
                return None;
            }
            return word.parse().ok().map(Value::Int);
        }
        word.parse().ok().map(Value::Float)
    }

    fn string(&mut self) -> Option<String> {
        let mut chars = self.rest.chars();
        let quote = chars.next()?;
        let mut text = String::new();
        loop {
            match chars.next()? {
                c if c == quote => break,
                '\n' => return None,
                '\\' => match chars.next()? {
                    '\n' => {}
                    'n' => text.push('\n'),
                    'r' => text.push('\r'),
                    't' => text.push('\t'),
                    'x' => text.push(code(&mut chars, 2)?),
                    'u' => text.push(code(&mut chars, 4)?),
                    'U' => text.push(code(&mut chars, 8)?),
                    c @ ('\\' | '\'' | '"') => text.push(c),
                    // Octal and named characters are not read; what is no escape stays.
                    '0'..='7' | 'N' | 'a' | 'b' | 'f' | 'v' => return None,
                    c => text.extend(['\\', c]),
                },
                c => text.push(c),
            }
        }
        self.rest = chars.as_str();
        Some(text)
    }
}

/// The character of so many hexadecimal digits.
fn code(chars: &mut std::str::Chars<'_>, digits: usize) -> Option<char> {
    let text: String = chars.take(digits).collect();
    let number = u32::from_str_radix(&text, 16).ok().filter(|_| text.len() == digits)?;
    char::from_u32(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fixture() -> serde_json::Value {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/tasks/python.json");
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
    }

    #[test]
    fn text_and_numbers_are_what_python_makes_of_them() {
        let fixture = fixture();
        for case in fixture["texts"].as_array().unwrap() {
            let text = case["text"].as_str().unwrap();
            assert_eq!(quote(text), case["repr"].as_str().unwrap());
            assert_eq!(capitalize(text), case["capitalize"].as_str().unwrap(), "{text:?}");
            assert_eq!(count_words(text) as u64, case["words"].as_u64().unwrap(), "{text:?}");
        }
        for case in fixture["floats"].as_array().unwrap() {
            assert_eq!(float(case[0].as_f64().unwrap()), case[1].as_str().unwrap());
        }
    }

    #[test]
    fn only_what_int_reads_is_decimal() {
        for (text, is) in [
            ("42", true),
            ("٤٢", true),
            ("", false),
            ("4 2", false),
            ("½", false),
            ("一", false),
            ("²", false),
        ] {
            assert_eq!(is_decimal(text), is, "{text}");
        }
    }

    #[test]
    fn a_literal_is_read_back_from_its_representation() {
        for case in fixture()["texts"].as_array().unwrap() {
            let text = Value::Text(case["text"].as_str().unwrap().to_owned());
            let all =
                Value::List(vec![text.clone(), Value::Int(-3), Value::Null, Value::List(vec![])]);
            assert_eq!(literal(&all.to_string()), Some(all));
            assert_eq!(literal(&text.to_string()), Some(text));
        }
        assert_eq!(literal("('a',)"), Some(Value::List(vec![Value::Text("a".to_owned())])));
        assert_eq!(literal("('a' 'b')"), Some(Value::Text("ab".to_owned())));
        assert_eq!(literal("{'a': 1.5}").unwrap().to_string(), "{'a': 1.5}");
    }

    #[test]
    fn what_python_would_not_read_as_a_literal_is_none() {
        for text in
            ["", "[1", "[1 2]", "name", "'open", "07", "1 + 1", "[,]", "f('x')", "'\\N{DASH}'"]
        {
            assert_eq!(literal(text), None, "{text}");
        }
    }
}
