//! What a task says of its data set: what to fetch from the hub, and how the files are read that came.

#![expect(clippy::unwrap_used, reason = "in tests a panic is the report")]

use indexmap::IndexMap;
use neutral_tasks::{HubDataset, Task, Value};

/// A task with these lines on its data set.
fn task(lines: &str) -> Task {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.yaml");
    let rest = "task: t\ntest_split: test\noutput_type: multiple_choice\ndoc_to_text: q\n\
        doc_to_choice: [x, y]\ndoc_to_target: 0\n";
    std::fs::write(&path, format!("{rest}{lines}")).unwrap();
    Task::load(&path).unwrap()
}

fn hub(lines: &str) -> HubDataset {
    task(lines).dataset().hub().unwrap()
}

fn files(pairs: &[(&str, &str)]) -> IndexMap<String, Vec<String>> {
    pairs.iter().map(|(split, file)| ((*split).to_owned(), vec![(*file).to_owned()])).collect()
}

#[test]
fn a_data_set_on_the_hub_says_what_to_fetch() {
    let set = hub("dataset_path: us/set\ndataset_name: fr\n");
    assert_eq!((set.repo.as_str(), set.name.as_deref()), ("us/set", Some("fr")));
    assert!(set.revision.is_none() && set.files.is_empty());

    let set =
        hub("dataset_path: us/set\ndataset_kwargs: {revision: v1, data_files: {test: a.csv}}\n");
    assert_eq!((set.revision.as_deref(), set.files), (Some("v1"), files(&[("test", "a.csv")])));

    let by_url = "dataset_path: json\ndataset_kwargs: {data_files: {test: 'hf://datasets/us/set@v2/d/a.jsonl'}}\n";
    let set = hub(by_url);
    assert_eq!((set.repo.as_str(), set.revision.as_deref()), ("us/set", Some("v2")));
    assert_eq!((set.name, set.files), (None, files(&[("test", "d/a.jsonl")])));
    let error = task(by_url).dataset().load(std::path::Path::new(".")).unwrap_err();
    assert!(error.to_string().contains("to be fetched first"), "{error}");
}

#[test]
fn files_on_disk_are_not_fetched() {
    let task = task("dataset_path: json\ndataset_kwargs: {data_files: a.jsonl}\n");
    assert!(task.dataset().is_local());
    assert_eq!(task.dataset().hub(), None);
}

#[test]
fn fetched_files_are_read_by_their_names() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let (json, csv) = (write("a.jsonl", "{\"q\": \"one\"}\n"), write("b.csv", "q\ntwo\n"));
    let splits = IndexMap::from([("test".to_owned(), vec![json, csv])]);
    let read = task("dataset_path: us/set\n").dataset().read_files(&splits).unwrap();
    let column = |splits: &neutral_tasks::Splits, name: &str| {
        splits["test"].iter().map(|document| document[name].clone()).collect::<Vec<_>>()
    };
    let texts = |texts: &[&str]| {
        texts.iter().map(|text| Value::Text((*text).to_owned())).collect::<Vec<_>>()
    };
    assert_eq!(column(&read, "q"), texts(&["one", "two"]));

    let bare = write("c.csv", "one,1\ntwo,2\n");
    let splits = IndexMap::from([("test".to_owned(), vec![bare])]);
    let named = task("dataset_path: us/set\ndataset_kwargs: {column_names: [q, n]}\n");
    assert_eq!(column(&named.dataset().read_files(&splits).unwrap(), "q"), texts(&["one", "two"]));

    let other = IndexMap::from([("test".to_owned(), vec![write("d.txt", "")])]);
    let error = named.dataset().read_files(&other).unwrap_err().to_string();
    assert!(error.contains("d.txt") && error.contains("JSON, CSV or Parquet"), "{error}");
}

/// As `datasets` reads the same files: within a split a place with fractions has no whole numbers, and the first
/// split's numbers are what those of all splits become.
#[test]
fn numbers_in_one_place_are_of_one_type() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    let load = |test: &str| {
        let files = format!("{{data_files: {{train: a.jsonl, test: {test}}}}}");
        task(&format!("dataset_path: json\ndataset_kwargs: {files}\n"))
            .dataset()
            .load(folder.path())
    };
    let first = "{\"n\": [1, 2.5], \"s\": {\"k\": 1}, \"f\": 0.5, \"i\": 1}\n\
        {\"n\": [3], \"s\": {\"k\": 1.5}, \"f\": 2, \"i\": 2}\n";
    write("a.jsonl", first);
    write("b.jsonl", "{\"n\": [1, 2], \"s\": {\"k\": 1}, \"f\": 1, \"i\": 3.0}\n");
    let read = load("b.jsonl").unwrap();
    let written = |split: &str| {
        let documents =
            read[split].iter().cloned().map(|document| Value::Map(document).to_string());
        documents.collect::<Vec<_>>()
    };
    let train_read = [
        "{'n': [1.0, 2.5], 's': {'k': 1.0}, 'f': 0.5, 'i': 1}",
        "{'n': [3.0], 's': {'k': 1.5}, 'f': 2.0, 'i': 2}",
    ];
    assert_eq!(written("train"), train_read);
    assert_eq!(written("test"), ["{'n': [1.0, 2.0], 's': {'k': 1.0}, 'f': 1.0, 'i': 3}"]);

    write("c.jsonl", "{\"i\": 0.5}\n");
    let error = load("c.jsonl").unwrap_err();
    assert!(error.to_string().contains("has 0.5 at i in the split test"), "{error}");
}
