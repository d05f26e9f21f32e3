//! What cannot be evaluated as it stands is refused, with file, task, and key or document.

#![expect(clippy::unwrap_used, reason = "in tests a panic is the report")]

use neutral_tasks::{Example, Library, RequestOptions, Response, Task};

const SOUND: &str = "task: t\ndataset_path: json\ndataset_kwargs: {data_files: {test: d.jsonl}}\n\
    test_split: test\noutput_type: multiple_choice\ndoc_to_text: '{{q}}'\ndoc_to_choice: [x, y]\n\
    doc_to_target: a\n";

/// The examples of a task file with documents, or the error, from which the file's folder is cut.
fn examples(task: &str, documents: &str) -> Result<Vec<Example>, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.yaml");
    std::fs::write(&path, task).unwrap();
    std::fs::write(folder.path().join("d.jsonl"), documents).unwrap();
    let made = Task::load(&path).and_then(|task| {
        task.examples(&task.dataset().load(folder.path())?, &RequestOptions::default())
    });
    made.map_err(|error| error.to_string().replace(&format!("{}/", folder.path().display()), ""))
}

#[track_caller]
fn refuses(task: &str, documents: &str, parts: &[&str]) {
    let error = examples(task, documents).unwrap_err();
    for part in parts {
        assert!(error.contains(part), "{part:?} is not in: {error}");
    }
}

#[test]
fn a_sound_task_is_not_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.yaml");
    std::fs::write(&path, SOUND).unwrap();
    assert_eq!(Task::load(&path).unwrap().name(), "t");
}

#[test]
fn python_and_keys_that_would_change_results_are_named() {
    let with = |line: &str| format!("{SOUND}{line}\n");
    let cases: [(&str, &[&str]); 11] = [
        ("process_docs: !function utils.mine", &["t.yaml: process_docs", "utils.mine"]),
        ("description: !function utils.mine", &["t.yaml: description", "utils.mine"]),
        ("process_results: !function utils.mine", &["t.yaml: process_results", "utils.mine"]),
        ("use_prompt: 'all'", &["t.yaml: use_prompt", "not supported"]),
        (
            "filter_list: [{name: n, filter: [{function: regex}]}]",
            &["filter_list[0].filter[0].function is 'regex'", "take_first"],
        ),
        ("metric_list: [{metric: acc, aggregation: f1}]", &["aggregation is f1; mean", "with acc"]),
        ("fewshot_config: {sampler: balanced}", &["fewshot_config.sampler is balanced", "first_n"]),
        ("fewshot_config: {fewshot_indices: [1]}", &["fewshot_config.fewshot_indices"]),
        (
            "metric_list: [{metric: perplexity}]",
            &["metric_list[0].metric is perplexity", "acc_norm"],
        ),
        ("num_fewshot: -1", &["num_fewshot is -1"]),
        ("tag: !python x", &["!python"]),
    ];
    for (line, parts) in cases {
        refuses(&with(line), "", parts);
    }
    refuses(
        &SOUND.replace("multiple_choice", "generate_until"),
        "",
        &["output_type", "generate_until"],
    );
    refuses(&SOUND.replace("{{q}}", "{{q"), "", &["t.yaml: doc_to_text fails"]);
    refuses(&with("include: t.yaml"), "", &["include", "back to the file itself"]);
}

#[test]
fn a_document_that_does_not_fit_is_named() {
    let right = r#"{"q": "one", "a": "x"}"#;
    let second = |line: &str| format!("{right}\n{line}\n");
    let place = "task t, document 1 of test: ";
    let label = format!("{place}doc_to_target gives 'z'");
    refuses(SOUND, &second(r#"{"q": "two", "a": "z"}"#), &["t.yaml", &label, "\"x\", \"y\""]);
    let number = SOUND.replace("doc_to_target: a", "doc_to_target: '{{a}}'");
    let outside = format!("{place}doc_to_target gives 2");
    refuses(&number, &second(r#"{"q": "two", "a": "2"}"#), &[&outside, "from 0 to 1"]);
    let lists = SOUND.replace("[x, y]", "'{{c}}'");
    let empty = "{\"q\": \"one\", \"a\": 0, \"c\": []}";
    refuses(&lists, empty, &["document 0 of test: doc_to_choice gives no choices"]);
    let undefined = SOUND.replace("{{q}}", "{{q.inner.deep}}");
    refuses(&undefined, right, &["document 0 of test: doc_to_text fails", "undefined"]);
}

/// The harness passes over choices of which the results know nothing, or stops at an index.
#[test]
fn results_of_other_choices_than_were_asked_are_refused() {
    let own = |function: &str| {
        let task = SOUND
            .replace("[x, y]", "'{{choices}}'")
            .replace("doc_to_target: a", "doc_to_target: 0");
        format!("{task}process_results: !function {function}\n")
    };
    let columns = own("neutral_tasks.agieval_process_results_mcqa");
    let document = |gold: &str, labels: &str| {
        format!(
            "{{\"q\": \"one\", \"choices\": [\"a\", \"b\"], \"gold\": {gold}, \
             \"mc2_targets\": {{\"labels\": {labels}}}}}\n"
        )
    };
    let place = "document 0 of test: process_results ";
    assert_eq!(examples(&columns, &document("[1]", "[]")).unwrap().len(), 1);
    refuses(&columns, &document("[2]", "[]"), &[place, "their places in gold"]);
    let fixed = columns.replace("'{{choices}}'", "[x, y, z]");
    let few = "has 2 texts in the column choices, and doc_to_choice gives 3";
    refuses(&fixed, &document("[1]", "[]"), &[place, few]);
    let mass = own("neutral_tasks.truthfulqa_process_results_mc2");
    assert_eq!(examples(&mass, &document("[1]", "[1, 0]")).unwrap().len(), 1);
    let many = "has 3 labels in the column mc2_targets, and doc_to_choice gives 2";
    refuses(&mass, &document("[1]", "[1, 0, 0]"), &[place, many]);
    let pages = own("neutral_tasks.wikitext_process_results");
    refuses(&pages, &document("[1]", "[]"), &[place, "output_type loglikelihood_rolling"]);
}

#[test]
fn a_target_of_digits_is_a_number_and_one_of_other_numerals_is_text() {
    let task = SOUND.replace("doc_to_target: a", "doc_to_target: '{{a}}'");
    let task = task.replace("[x, y]", "[½, 一]");
    let document = |target: &str| format!("{{\"q\": \"one\", \"a\": \"{target}\"}}\n");
    for (target, read) in [("1", "1"), ("½", "'½'"), ("一", "'一'")] {
        assert_eq!(examples(&task, &document(target)).unwrap()[0].target.to_string(), read);
    }
    refuses(&task, &document("٢"), &["doc_to_target gives ٢, which is no number in Python"]);
}

#[test]
fn missing_splits_documents_and_examples_are_told() {
    let right = "{\"q\": \"one\", \"a\": \"x\"}\n";
    refuses(
        &SOUND.replace("test_split: test", "test_split: dev"),
        right,
        &["no split dev, but test"],
    );
    refuses(&SOUND.replace("test_split: test\n", ""), right, &["test_split is missing"]);
    refuses(SOUND, "", &["the split test has no documents"]);
    refuses(SOUND, "{\"q\": ", &["d.jsonl has no JSON object as document 0"]);
    let shots = format!("{SOUND}num_fewshot: 2\n");
    refuses(&shots, right, &["document 0 of test: num_fewshot needs 2 documents", "there are 1"]);
}

#[test]
fn f1_of_more_than_two_choices_has_to_be_told_how() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.yaml");
    let three = SOUND.replace("[x, y]", "[x, y, z]");
    std::fs::write(&path, format!("{three}metric_list: [{{metric: f1}}]\n")).unwrap();
    std::fs::write(folder.path().join("d.jsonl"), "{\"q\": \"one\", \"a\": \"z\"}\n").unwrap();
    let task = Task::load(&path).unwrap();
    let splits = task.dataset().load(folder.path()).unwrap();
    let examples = task.examples(&splits, &RequestOptions::default()).unwrap();
    let answer = Response { log_likelihood: -1.0, is_greedy: false };
    let error = task.score(&examples, &[vec![answer; 3]], None).unwrap_err().to_string();
    assert!(error.contains("f1") && error.contains("a choice 2"), "{error}");
}

#[test]
fn names_that_are_not_known_get_the_nearest_ones() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["arc_easy", "arc_challenge", "hellaswag"] {
        let task = SOUND.replace("task: t", &format!("task: {name}"));
        std::fs::write(folder.path().join(format!("{name}.yaml")), task).unwrap();
    }
    let library = Library::open(&[folder.path().to_path_buf()]).unwrap();
    let error = library.select(&["arc_chalenge"]).unwrap_err().to_string();
    assert!(error.contains("arc_chalenge is no task"), "{error}");
    assert!(error.contains("nearest are arc_challenge, arc_easy"), "{error}");
}
