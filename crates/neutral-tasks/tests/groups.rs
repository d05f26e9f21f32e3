//! What a group's names stand for, and what counts how often. Expected values are those of
//! lm-evaluation-harness 0.4.13 (`TaskManager.load`, `Group.aggregate`) for the same files.

#![expect(clippy::unwrap_used, reason = "in tests a panic is the report")]

use indexmap::IndexMap;
use neutral_tasks::{Library, Score, Selection, TaskError, TaskResult};
use tempfile::TempDir;

/// The keys of a task but for its name and tags.
const REST: &str = "dataset_path: json\ndataset_kwargs: {data_files: {test: d.jsonl}}\n\
    test_split: test\noutput_type: multiple_choice\ndoc_to_text: q\ndoc_to_choice: [x, y]\n\
    doc_to_target: a\n";

/// Tasks with their tags, and a group.
fn folder(tasks: &[(&str, &str)], group: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, tags) in tasks {
        let task = format!("task: {name}\ntag: [{tags}]\n{REST}");
        std::fs::write(folder.path().join(format!("{name}.yaml")), task).unwrap();
    }
    std::fs::write(folder.path().join("_group.yaml"), group).unwrap();
    folder
}

fn select(folder: &TempDir, name: &str) -> Result<Selection, TaskError> {
    Library::open(&[folder.path().to_path_buf()])?.select(&[name])
}

/// The harness's `tasks/mela/_mela.yaml`, which lists Arabic twice.
#[test]
fn a_task_that_a_group_lists_twice_counts_once() {
    let languages = ["en", "zh", "it", "ru", "de", "fr", "es", "ja", "ar"];
    let names = languages.map(|language| format!("mela_{language}"));
    let tasks: Vec<_> = names.iter().map(|name| (name.as_str(), "")).collect();
    let group = format!(
        "group: mela\ntask: [{}, mela_ar]\naggregate_metric_list:\n  - metric: mcc\n    \
         weight_by_size: False\nmetadata:\n  version: 1\n",
        names.join(", ")
    );
    let selection = select(&folder(&tasks, &group), "mela").unwrap();
    let (group, below) = &selection.groups["mela"];
    assert_eq!(group.members, names);
    let result = |name: &String| TaskResult {
        name: name.clone(),
        alias: name.clone(),
        sample_len: 2,
        metrics: IndexMap::from([
            ("mcc,none".to_owned(), {
                let place = names.iter().position(|other| other == name).unwrap();
                Score::Number((place + 1) as f64)
            }),
            ("mcc_stderr,none".to_owned(), Score::Number(1.0)),
        ]),
    };
    let results: Vec<_> = below.iter().map(result).collect();
    let mean = group.aggregate(&results.iter().collect::<Vec<_>>());
    assert_eq!(mean.metrics["mcc,none"], Score::Number(5.0));
    assert_eq!(mean.metrics["mcc_stderr,none"], Score::Number(1.0 / 3.0));
    assert_eq!((mean.sample_len, mean.sample_count["mcc,none"]), (Some(18), 18));
}

#[test]
fn members_are_what_names_stand_for() {
    let own = REST.replace('\n', "\n    ");
    let group = format!(
        "group: g\ntask:\n  - one\n  - two\n  - group: sub\n    task: [a, a]\n  - task: own\n    {own}\n  - a\n"
    );
    let folder = folder(&[("a", "one"), ("b", "one, two"), ("c", "two")], &group);
    let selection = select(&folder, "g").unwrap();
    let (group, below) = &selection.groups["g"];
    assert_eq!(group.members, ["a", "b", "c", "g::sub", "g::own"]);
    // What a subgroup has too counts again.
    assert_eq!(below, &["a", "b", "c", "a", "g::own"]);
    assert_eq!(selection.groups["g::sub"].0.members, ["a"]);
    let mut tasks: Vec<_> = selection.tasks.keys().collect();
    tasks.sort();
    assert_eq!(tasks, ["a", "b", "c", "g::own"]);
}

/// The harness takes the second; which tasks were meant is for the file to say.
#[test]
fn a_subgroup_that_is_described_twice_is_refused() {
    let group = "group: g\ntask:\n  - {group: sub, task: [a]}\n  - {group: sub, task: [b]}\n";
    let error = select(&folder(&[("a", ""), ("b", "")], group), "g").unwrap_err().to_string();
    assert!(error.contains("_group.yaml: task lists g::sub twice, with other tasks"), "{error}");
}

/// The harness refuses a second task of a name too; results by name would be of either.
#[test]
fn a_task_that_is_asked_for_with_other_keys_too_is_refused() {
    let of = |keys: &str, names: &[&str]| {
        let group = format!("group: g\ntask:\n  - {{task: a{keys}}}\n  - b\n");
        let folder = folder(&[("a", ""), ("b", "")], &group);
        Library::open(&[folder.path().to_path_buf()]).unwrap().select(names)
    };
    for names in [["g", "a"], ["a", "g"]] {
        let error = of(", num_fewshot: 5", &names).unwrap_err().to_string();
        assert!(error.contains("a.yaml: a is asked for twice, with other keys"), "{error}");
        assert_eq!(of("", &names).unwrap().tasks.len(), 2);
    }
}

/// The harness refuses it by name, as a key that tasks do not have.
#[test]
fn a_member_that_includes_a_file_is_refused() {
    let own = REST.replace('\n', "\n    ");
    let group = format!("group: g\ntask:\n  - task: own\n    include: a.yaml\n    {own}\n");
    let error = select(&folder(&[("a", "")], &group), "g").unwrap_err().to_string();
    assert!(error.contains("_group.yaml: include is not supported"), "{error}");
}

#[test]
fn copies_of_notebooks_and_of_python_are_passed_over() {
    let folder = folder(&[("a", "one")], "group: g\ntask: [a]\n");
    for name in ["__pycache__", ".ipynb_checkpoints"] {
        let copies = folder.path().join(name);
        std::fs::create_dir(&copies).unwrap();
        std::fs::write(copies.join("b.yaml"), format!("task: b\n{REST}")).unwrap();
    }
    let library = Library::open(&[folder.path().to_path_buf()]).unwrap();
    assert_eq!(library.tasks().collect::<Vec<_>>(), ["a"]);
}
