//! The crate's README has every key of an experiment.

use std::collections::BTreeSet;

use serde_json::Value;

fn keys<'a>(schema: &'a Value, found: &mut BTreeSet<&'a str>) {
    match schema {
        Value::Object(map) => {
            let properties = map.get("properties").and_then(Value::as_object);
            found.extend(properties.into_iter().flat_map(|p| p.keys()).map(String::as_str));
            map.values().for_each(|value| keys(value, found));
        }
        Value::Array(list) => list.iter().for_each(|value| keys(value, found)),
        _ => {}
    }
}

#[test]
fn every_key_stands_in_the_readme() {
    let schema = neutral_spec::json_schema();
    let mut all = BTreeSet::new();
    keys(&schema, &mut all);
    assert!(all.len() > 80, "{}", all.len());
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words: BTreeSet<_> = include_str!("../README.md").split(|c| !is_word(c)).collect();
    let missing: Vec<_> = all.difference(&words).collect();
    assert!(missing.is_empty(), "{missing:?}");
}
