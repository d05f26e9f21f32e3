//! What templates, columns and `fewshot_config` give. Expected values are those of lm-evaluation-harness 0.4.13
//! for the same files, and so Jinja's and Python 3.11's.

#![expect(clippy::unwrap_used, reason = "in tests a panic is the report")]

use neutral_tasks::{Example, Request, RequestOptions, Response, Task};

const FEW: &str = "task: t\ndataset_path: json\ndataset_kwargs: {data_files: {test: d.jsonl}}\n\
    test_split: test\noutput_type: multiple_choice\ndoc_to_choice: [x, y]\n";
const DOCUMENTS: &str = r#"{"q": "one", "a": "x", "b": false}
{"q": "two", "a": "y", "b": true}
"#;

fn examples(task: &str, documents: &str) -> Result<(Task, Vec<Example>), String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.yaml");
    std::fs::write(&path, task).unwrap();
    std::fs::write(folder.path().join("d.jsonl"), documents).unwrap();
    let made = Task::load(&path).and_then(|task| {
        let splits = task.dataset().load(folder.path())?;
        let examples = task.examples(&splits, &RequestOptions::default())?;
        Ok((task, examples))
    });
    made.map_err(|error| error.to_string())
}

/// What a template of the column `q` renders.
fn rendered(template: &str, q: &str) -> Result<String, String> {
    let text = serde_json::to_string(template).unwrap();
    let task = format!("{FEW}doc_to_target: a\ndoc_to_text: {text}\n");
    let document = serde_json::json!({"q": q, "a": "x"}).to_string();
    let (_, examples) = examples(&task, &document)?;
    match &examples[0].requests[0] {
        Request::LogLikelihood { context, .. } => Ok(context.clone()),
        Request::Rolling { text } => Err(text.clone()),
    }
}

fn replaced(text: &str, pattern: &str, replacement: &str) -> Result<String, String> {
    let [pattern, replacement] = [pattern, replacement].map(|text| text.replace('\\', "\\\\"));
    rendered(&format!("{{{{ q | regex_replace('{pattern}', '{replacement}') }}}}"), text)
}

#[test]
fn regex_replace_is_pythons() {
    let cases = [
        ("5 7", r"(\d+)", r"\1kg", "5kg 7kg"),
        ("a b", r"(\w)", r"<\1>", "<a> <b>"),
        ("ab", "(?P<first>a)", r"[\g<first>\g<1>$1]", "[aa$1]b"),
        ("a b", " ", r"\n\\", "a\n\\b"),
        ("abxd", "x*", "-", "-a-b--d-"),
        ("abx", "x*", "-", "-a-b--"),
        ("a\u{1c}b", r"\s", "_", "a_b"),
        ("e\u{301}x", r"\W", "_", "e_x"),
        ("ab$", r"b\$$", "c", "ac"),
        ("a]b[c", "[]]", "_", "a_b[c"),
        ("a1", "(a)(1)?(2)?", r"\3\2\1", "1a"),
        ("abcdefghijk", "(a)(b)(c)(d)(e)(f)(g)(h)(i)(j)(k)", r"\11\2", "kb"),
    ];
    for (text, pattern, replacement, expected) in cases {
        assert_eq!(replaced(text, pattern, replacement).unwrap(), expected, "{pattern}");
    }
}

#[test]
fn what_regex_replace_would_do_otherwise_is_refused() {
    let cases = [
        ("a\n", "$", "!", "the $ of $ matches before the last end of line"),
        ("a", "|a", "-", "|a matches nothing, and has |"),
        ("a", "a*?", "-", "lazy repetition"),
        ("a", "[[a]", "-", r"write \[ between brackets"),
        ("a", "(a)", r"\2", "the group 2, which the pattern has not"),
        ("a", "(a)", r"\g<b>", "no group of the name b"),
        ("a", "a", r"\x", "an escape that is not supported"),
        ("a", "a", r"\101", "the number of a character"),
    ];
    for (text, pattern, replacement, part) in cases {
        let error = replaced(text, pattern, replacement).unwrap_err();
        assert!(error.contains("regex_replace") && error.contains(part), "{part:?}: {error}");
    }
}

#[test]
fn values_are_written_and_trimmed_as_in_python() {
    let q = "\u{1c} a \u{1f}";
    assert_eq!(rendered("{{ q | trim }}|", q).unwrap(), "a|");
    assert_eq!(rendered("{{ '  x-' | trim('- ') }}|", q).unwrap(), "x|");
    let tuples = "{{ (1, 'a') }} {{ (1,) }} {{ [(q, none)] }}";
    assert_eq!(rendered(tuples, q).unwrap(), "(1, 'a') (1,) [('\\x1c a \\x1f', None)]");
}

#[test]
fn methods_and_filters_that_are_not_pythons_are_refused() {
    for name in ["indent", "e", "escape"] {
        let error = rendered(&format!("{{{{ q | {name} }}}}"), "one").unwrap_err();
        assert!(error.contains("unknown filter") && error.contains(name), "{error}");
    }
    for name in ["title", "isdigit", "isspace"] {
        let error = rendered(&format!("{{{{ q.{name}() }}}}"), "one").unwrap_err();
        assert!(error.contains(&format!("the method {name} of text")), "{error}");
    }
    for missing in [
        "missing | trim",
        "missing | string",
        "missing | join(' ')",
        "[q, missing] | join(' ')",
        "' '.join([q, missing])",
    ] {
        let error = rendered(&format!("{{{{ {missing} }}}}"), "one").unwrap_err();
        assert!(error.contains("undefined"), "{missing}: {error}");
    }
    assert!(rendered("{{ none | join(' ') }}", "one").is_err());
    assert!(rendered("{{ ' '.join([q, 1]) }}", "one").is_err());
    assert_eq!(rendered("{{ ' '.join([q, 'two']) }}", "one").unwrap(), "one two");
}

/// `target_hash` is the SHA-256 of `str(False)`.
#[test]
fn a_target_that_is_a_truth_value_is_logged_as_one_and_picks_a_choice() {
    let task = format!(
        "{FEW}doc_to_text: '{{{{q}}}}'\ndoc_to_target: b\nnum_fewshot: 1\nfewshot_config: {{sampler: first_n}}\n"
    );
    let (task, examples) = examples(&task, DOCUMENTS).unwrap();
    let ask = |context: &str, continuation: &str| Request::LogLikelihood {
        context: context.to_owned(),
        continuation: continuation.to_owned(),
    };
    let two = "one x\n\ntwo";
    assert_eq!(examples[1].requests, [ask(two, " x"), ask(two, " y")]);
    let responses =
        [-2.0, -1.0].map(|log_likelihood| Response { log_likelihood, is_greedy: false });
    let responses = vec![responses.to_vec(); 2];
    let lines: Vec<serde_json::Value> = task
        .samples(&examples, &responses)
        .unwrap()
        .iter()
        .map(|sample| serde_json::from_str(&sample.line).unwrap())
        .collect();
    let of = |key: &str| [&lines[0][key], &lines[1][key]].map(serde_json::Value::to_string);
    assert_eq!(of("target"), ["\"False\"", "\"True\""]);
    assert_eq!(of("acc"), ["0.0", "1.0"]);
    let hash = "60a33e6cf5151f2d52eddae9685cfa270426aa89d8dbc7dfb854606f1d1a40fe";
    assert_eq!(lines[0]["target_hash"], hash);
}

#[test]
fn null_in_fewshot_config_overrides_what_the_task_has() {
    let rest = "doc_to_text: '{{q}}'\ndoc_to_target: a\nnum_fewshot: 1\ngen_prefix: So\nfewshot_split: nowhere\n";
    let nulls =
        "fewshot_config: {sampler: first_n, split: null, gen_prefix: null, doc_to_choice: null}\n";
    let (_, made) = examples(&format!("{FEW}{rest}{nulls}"), DOCUMENTS).unwrap();
    let contexts = made.iter().map(|example| match &example.requests[0] {
        Request::LogLikelihood { context, .. } => context.as_str(),
        Request::Rolling { text } => text.as_str(),
    });
    assert_eq!(contexts.collect::<Vec<_>>(), ["one x\n\none So", "one x\n\ntwo So"]);
    for key in ["sampler", "doc_to_text", "doc_to_target", "target_delimiter", "fewshot_delimiter"]
    {
        let task = format!("{FEW}{rest}fewshot_config: {{{key}: null}}\n");
        let error = examples(&task, DOCUMENTS).unwrap_err();
        assert!(error.contains(&format!("fewshot_config.{key} is null")), "{error}");
    }
}
