//! Text out of JSON files: the strings under a key, or XML written as JSON.

use std::fmt;
use std::path::Path;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::{files, html};
use crate::DataError;

/// Every string under `key`, at any depth, in the file's order.
pub(super) fn strings(path: &Path, key: &str, is_html: bool) -> Result<Vec<String>, DataError> {
    let mut found = Vec::new();
    let text = files::read_text(path)?;
    let mut deserializer = serde_json::Deserializer::from_str(&text);
    Collect { key, wanted: false, found: &mut found }
        .deserialize(&mut deserializer)
        .map_err(|e| DataError::extract(path, e))?;
    if is_html {
        found = found.iter().flat_map(|text| html::fragment(text)).collect();
    }
    Ok(found)
}

/// Goes through any JSON without keeping it, which also keeps the order that a map would lose.
struct Collect<'a> {
    key: &'a str,
    /// Whether the value at hand stands under the key.
    wanted: bool,
    found: &'a mut Vec<String>,
}

impl<'de> DeserializeSeed<'de> for Collect<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Collect<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        if self.wanted {
            self.found.push(text.to_owned());
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            let wanted = key == self.key;
            map.next_value_seed(Collect { key: self.key, wanted, found: self.found })?;
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let Self { key, wanted, found } = self;
        while seq.next_element_seed(Collect { key, wanted, found: &mut *found })?.is_some() {}
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

/// An element, or a text; what else it says is not read.
#[derive(Deserialize)]
struct Element {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    text: Option<String>,
    #[serde(default)]
    children: Vec<Element>,
    #[serde(default, rename = "attributes")]
    _attributes: IgnoredAny,
}

/// The text of each element whose name is in `blocks`, in order.
pub(super) fn elements(
    path: &Path,
    blocks: &[String],
    drop: &[String],
) -> Result<Vec<String>, DataError> {
    let text = files::read_text(path)?;
    // The reader refuses to nest deeper than 128, so recursion is safe.
    let root: Element = serde_json::from_str(&text).map_err(|e| DataError::extract(path, e))?;
    let mut walk = Walk { blocks, drop, found: Vec::new(), block: String::new() };
    walk.element(&root, false);
    Ok(walk.found)
}

struct Walk<'a> {
    blocks: &'a [String],
    drop: &'a [String],
    found: Vec<String>,
    block: String,
}

impl Walk<'_> {
    fn element(&mut self, element: &Element, within: bool) {
        let is = |names: &[String]| element.name.as_ref().is_some_and(|n| names.contains(n));
        if is(self.drop) {
            return;
        }
        let begins = is(self.blocks);
        if begins {
            self.flush();
        }
        if let (Some(text), true) = (&element.text, within) {
            self.block.push_str(text);
        }
        for child in &element.children {
            self.element(child, within || begins);
        }
        if begins {
            self.flush();
        }
    }

    fn flush(&mut self) {
        if !self.block.is_empty() {
            self.found.push(std::mem::take(&mut self.block));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    }

    #[test]
    fn strings_under_a_key_come_in_the_files_order() {
        let json = r#"{"z": {"text": "first", "n": 1.5}, "a": [{"text": "<p>second <b>b</b></p><br>third"},
            {"text": {"text": "fourth"}}, {"text": ["fifth", null, true, -1]}], "other": "no"}"#;
        let all = strings(file(json).path(), "text", true).unwrap();
        assert_eq!(all, ["first", "second b", "third", "fourth", "fifth"]);
        assert!(strings(file("{").path(), "text", false).is_err());
    }

    #[test]
    fn elements_are_blocks_by_name() {
        let json = r#"{"id": "F1", "children": [{"type": "element", "name": "Texte", "children": [
            {"type": "text", "text": "no block"},
            {"type": "element", "name": "Paragraphe", "attributes": {"x": "y"}, "children": [
                {"type": "text", "text": "one "},
                {"type": "element", "name": "Lien", "children": [{"type": "text", "text": "link"}]},
                {"type": "element", "name": "Note", "children": [{"type": "text", "text": "gone"}]}]},
            {"type": "element", "name": "Paragraphe", "children": [{"type": "text", "text": "two"}]}]}]}"#;
        let all = elements(file(json).path(), &["Paragraphe".into()], &["Note".into()]).unwrap();
        assert_eq!(all, ["one link", "two"]);
        let deep = format!("{}{}", "{\"children\":[".repeat(9999), "]}".repeat(9999));
        assert!(elements(file(&deep).path(), &[], &[]).is_err());
    }
}
