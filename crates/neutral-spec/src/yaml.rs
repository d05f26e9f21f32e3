//! YAML text to a value that remembers the line of every field.
//!
//! YAML 1.2's core schema, plus `1_000` for whole numbers, and minus what an experiment file does
//! without: anchors, aliases, tags, several documents. A key given twice is an error.

use std::collections::BTreeMap;
use std::path::Path;

use saphyr_parser::{Event, Parser, ScalarStyle, Span, StrInput};
use serde_json::{Map, Number, Value};

use crate::error::{Problem, SpecError};
use crate::field_path::FieldPath;

/// Nesting beyond this is no experiment but an attack on the stack.
const DEEPEST: usize = 64;

/// A file's value and the lines of its fields.
#[derive(Debug)]
pub(crate) struct Document {
    pub(crate) value: Value,
    lines: BTreeMap<FieldPath, usize>,
}

impl Document {
    pub(crate) fn parse(text: &str, file: &Path) -> Result<Self, SpecError> {
        let mut reader =
            Reader { parser: Parser::new_from_str(text), file, lines: BTreeMap::new() };
        let mut value = None;
        loop {
            let (event, span) = reader.next()?;
            match event {
                Event::StreamEnd => break,
                Event::StreamStart | Event::DocumentStart(_) | Event::DocumentEnd => {}
                _ if value.is_some() => {
                    return Err(reader.syntax(span, "a second document, expected one alone"));
                }
                event => value = Some(reader.value(event, span, &FieldPath::default(), 0)?),
            }
        }
        Ok(Self { value: value.unwrap_or(Value::Null), lines: reader.lines })
    }

    /// Where a text stands as a value of its own.
    pub(crate) fn places(&self, text: &str) -> Vec<FieldPath> {
        let mut places = Vec::new();
        collect_places(&self.value, text, &FieldPath::default(), &mut places);
        places
    }

    /// The line of a field, or of the nearest one around it that the file has.
    pub(crate) fn line(&self, path: &FieldPath) -> usize {
        let mut path = path.clone();
        loop {
            if let Some(&line) = self.lines.get(&path) {
                return line;
            }
            match path.parent() {
                Some(parent) => path = parent,
                None => return 1,
            }
        }
    }
}

fn collect_places(value: &Value, text: &str, path: &FieldPath, places: &mut Vec<FieldPath>) {
    match value {
        Value::String(found) if found == text => places.push(path.clone()),
        Value::Array(list) => {
            for (i, value) in list.iter().enumerate() {
                collect_places(value, text, &path.index(i), places);
            }
        }
        Value::Object(map) => {
            for (key, value) in map {
                collect_places(value, text, &path.key(key), places);
            }
        }
        _ => {}
    }
}

struct Reader<'a> {
    parser: Parser<'a, StrInput<'a>>,
    file: &'a Path,
    lines: BTreeMap<FieldPath, usize>,
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Result<(Event<'a>, Span), SpecError> {
        match self.parser.next_event() {
            Some(Ok(event)) => Ok(event),
            Some(Err(error)) => Err(SpecError::Syntax {
                file: self.file.to_path_buf(),
                line: error.marker().line(),
                column: error.marker().col() + 1,
                message: format!("not valid YAML: {}", error.info()),
            }),
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }

    fn syntax(&self, span: Span, message: &str) -> SpecError {
        SpecError::Syntax {
            file: self.file.to_path_buf(),
            line: span.start.line(),
            column: span.start.col() + 1,
            message: format!("found {message}"),
        }
    }

    /// The value that begins with this event; `path` leads to it.
    fn value(
        &mut self,
        event: Event<'a>,
        span: Span,
        path: &FieldPath,
        depth: usize,
    ) -> Result<Value, SpecError> {
        if depth > DEEPEST {
            return Err(self.syntax(span, "a value nested deeper than 64 levels"));
        }
        // The line of a mapping's entry is its key's, noted before.
        self.lines.entry(path.clone()).or_insert(span.start.line());
        match event {
            Event::Alias(_) => Err(self.syntax(span, "an alias (`*name`), expected the value")),
            Event::Scalar(_, _, anchor, tag) if anchor != 0 || tag.is_some() => {
                Err(self.decorated(span))
            }
            Event::SequenceStart(anchor, tag) | Event::MappingStart(anchor, tag)
                if anchor != 0 || tag.is_some() =>
            {
                Err(self.decorated(span))
            }
            Event::Scalar(text, ScalarStyle::Plain, ..) => Ok(plain(&text)),
            Event::Scalar(text, ..) => Ok(Value::String(text.into_owned())),
            Event::SequenceStart(..) => {
                let mut list = Vec::new();
                loop {
                    let (event, span) = self.next()?;
                    if event == Event::SequenceEnd {
                        return Ok(Value::Array(list));
                    }
                    list.push(self.value(event, span, &path.index(list.len()), depth + 1)?);
                }
            }
            Event::MappingStart(..) => self.mapping(path, depth),
            _ => Err(self.syntax(span, "the end of the text, expected a value")),
        }
    }

    fn mapping(&mut self, path: &FieldPath, depth: usize) -> Result<Value, SpecError> {
        let mut map = Map::new();
        loop {
            let (event, span) = self.next()?;
            let key = match event {
                Event::MappingEnd => return Ok(Value::Object(map)),
                Event::Scalar(key, _, 0, None) => key.into_owned(),
                _ => return Err(self.syntax(span, "a key that is not plain text")),
            };
            let path = path.key(&key);
            let line = span.start.line();
            if let Some(first) = self.lines.insert(path.clone(), line) {
                let message = format!("found the key twice, first in line {first}; keep one");
                let problem = Problem {
                    file: Some(self.file.to_path_buf()),
                    line: Some(line),
                    ..Problem::new(path, message)
                };
                return Err(SpecError::Invalid { problems: vec![problem] });
            }
            let (event, span) = self.next()?;
            let value = self.value(event, span, &path, depth + 1)?;
            map.insert(key, value);
        }
    }

    fn decorated(&self, span: Span) -> SpecError {
        self.syntax(span, "an anchor or a tag (`&name`, `!name`), expected a plain value")
    }
}

/// What a scalar without quotes is.
fn plain(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" => Value::Bool(true),
        "false" | "False" | "FALSE" => Value::Bool(false),
        _ => number(text).map_or_else(|| Value::String(text.to_owned()), Value::Number),
    }
}

fn number(text: &str) -> Option<Number> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let groups: Vec<_> = digits.split('_').collect();
    if groups.iter().all(|g| !g.is_empty() && g.bytes().all(|b| b.is_ascii_digit())) {
        let whole = text.replace('_', "");
        let whole = whole.strip_prefix('+').unwrap_or(&whole);
        if let Ok(n) = whole.parse::<u64>() {
            return Some(n.into());
        }
        if let Ok(n) = whole.parse::<i64>() {
            return Some(n.into());
        }
        return Number::from_f64(whole.parse().ok()?);
    }
    // Rust would also read `inf` and `nan`, which no field of an experiment may be.
    if !digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return None;
    }
    Number::from_f64(text.parse().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parse(text: &str) -> Result<Document, String> {
        Document::parse(text, Path::new("x.yaml")).map_err(|e| e.to_string())
    }

    #[test]
    fn scalars_are_those_of_yaml_1_2_and_grouped_digits() {
        let text = "[1, -1, +1, 1_000_000, 1e-3, .5, 2.0, 18446744073709551615, yes, '1', 20%, 1_, 0x1, .inf, nan, ~, true]";
        let expected = json!([
            1,
            -1,
            1,
            1_000_000,
            1e-3,
            0.5,
            2.0,
            u64::MAX,
            "yes",
            "1",
            "20%",
            "1_",
            "0x1",
            ".inf",
            "nan",
            null,
            true
        ]);
        assert_eq!(parse(text).unwrap().value, expected);
    }

    #[test]
    fn every_field_knows_its_line() {
        let document = parse("# head\na:\n  - b: 1\n    c: [1,\n        2]\nd: 3\n").unwrap();
        let item = FieldPath::dotted("a").index(0);
        assert_eq!(document.line(&item.key("b")), 3);
        assert_eq!(document.line(&item.key("c")), 4);
        assert_eq!(document.line(&item.key("c").index(1)), 5);
        assert_eq!(document.line(&FieldPath::dotted("d.no.such")), 6);
        assert_eq!(document.line(&FieldPath::dotted("a")), 2);
    }

    #[test]
    fn a_name_is_found_wherever_it_is_a_value_and_nowhere_else() {
        let document = parse("a: x/y\nb: [z, {x/y: 1, c: [x/y]}]\nd: in x/y").unwrap();
        let places: Vec<_> = document.places("x/y").iter().map(FieldPath::to_string).collect();
        assert_eq!(places, ["a", "b[1].c[0]"]);
    }

    #[test]
    fn what_an_experiment_does_without_is_an_error_with_its_place() {
        for (text, start) in [
            ("a: 1\nb: 2\na: 3", "x.yaml:3: a: found the key twice, first in line 1"),
            ("a: &x 1", "x.yaml:1:4: found an anchor"),
            ("a: !!str 1", "x.yaml:1:4: found an anchor or a tag"),
            ("a: 1\n---\nb: 2", "x.yaml:3:1: found a second document"),
            ("[a]: 1", "x.yaml:1:1: found a key that is not plain text"),
            ("a: [1, 2", "x.yaml:"),
            ("a:\n\t- b", "x.yaml:2:"),
        ] {
            let message = parse(text).unwrap_err();
            assert!(message.starts_with(start), "{text:?}: {message}");
        }
        let deep = parse(&format!("{}{}", "[".repeat(70), "]".repeat(70))).unwrap_err();
        assert!(deep.contains("nested deeper than 64 levels"), "{deep}");
        assert!(parse(&"[".repeat(100_000)).is_err());
    }
}
