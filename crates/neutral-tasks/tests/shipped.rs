//! The task files of `experiments/tasks` say what the harness's own files of the same names say
//! (`tests/fixtures/tasks/shipped.json`); `harness.rs` holds the requests of one of each form.

#![expect(clippy::unwrap_used, reason = "in tests a panic is the report")]

use std::collections::BTreeSet;
use std::path::Path;

use neutral_tasks::Library;
use serde_json::{Map, Value, json};

fn shipped() -> Library {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../experiments/tasks");
    let library = Library::open(&[folder]).unwrap();
    assert!(library.broken().is_empty(), "{:?}", library.broken());
    library
}

fn fixture() -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/tasks/shipped.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// Functions without their names, one tag as a list of one.
fn normal(mut keys: Map<String, Value>) -> Map<String, Value> {
    keys.retain(|_, value| !value.is_null());
    for (key, value) in &mut keys {
        match value.as_str() {
            Some(text) if text.starts_with("!function") => *value = json!("!function"),
            Some(tag) if key == "tag" => *value = json!([tag]),
            _ => {}
        }
    }
    keys
}

#[test]
fn every_task_is_the_harness_own() {
    let fixture = fixture();
    let theirs = fixture["tasks"].as_object().unwrap();
    let library = shipped();
    // Perplexities of our corpora are ours alone.
    let names: BTreeSet<_> = library.tasks().filter(|name| !name.starts_with("corpus_")).collect();
    assert_eq!(names, theirs.keys().map(String::as_str).collect());
    assert!(names.len() > 150, "{}", names.len());
    for name in names {
        let selection = library.select(&[name]).unwrap();
        let ours = serde_json::to_value(selection.tasks[name].config()).unwrap();
        let own = theirs[name].as_object().unwrap().clone();
        let form = &fixture["forms"][own["form"].as_u64().unwrap() as usize];
        let mut all = form.as_object().unwrap().clone();
        all.extend(own);
        all.remove("form");
        assert_eq!(normal(ours.as_object().unwrap().clone()), normal(all), "{name}");
    }
}

#[test]
fn every_group_lists_what_the_harness_own_does() {
    let fixture = fixture();
    let library = shipped();
    for (name, theirs) in fixture["groups"].as_object().unwrap() {
        let selection = library.select(&[name]).unwrap();
        let (group, below) = &selection.groups[name];
        let listed = theirs["task"].as_array().unwrap().iter().map(|m| m.as_str().unwrap());
        let members: Vec<String> = listed
            .flat_map(|member| match library.select(&[member]).unwrap() {
                // A group, which comes after those within it.
                found if !found.groups.is_empty() => vec![member.to_owned()],
                // A task, or all of a tag.
                found => found.tasks.into_keys().collect(),
            })
            .collect();
        assert_eq!(group.members, members, "{name}");
        assert_eq!(group.version, theirs["metadata"]["version"].to_string());
        assert_eq!(group.alias, theirs["group_alias"].as_str().unwrap_or(name));
        assert!(!below.is_empty());
    }
    assert_eq!(library.select(&["mmlu"]).unwrap().tasks.len(), 57);
    assert_eq!(library.select(&["blimp"]).unwrap().tasks.len(), 67);
}

#[test]
fn a_suite_of_each_language_lists_the_papers_tasks() {
    let library = shipped();
    let languages = ["english", "french", "german", "danish", "hungarian", "slovak"];
    for language in languages {
        let name = format!("neutral_{language}");
        let selection = library.select(&[&name]).unwrap();
        let (suite, below) = &selection.groups[&name];
        let expected = if language == "english" { (5, 61) } else { (4, 4) };
        assert_eq!((suite.members.len(), below.len()), expected, "{language}");
        assert!(selection.tasks.values().all(|task| task.dataset().hub().is_some()));
    }
}
