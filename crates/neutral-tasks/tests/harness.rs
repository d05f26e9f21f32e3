//! Requests, results, tokens and draws are those of lm-evaluation-harness: fixtures that it made itself
//! (`tests/fixtures/make_task_fixtures.py`).

#![expect(clippy::unwrap_used, reason = "in tests a panic is the report")]

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use neutral_tasks::{
    Example, Group, Library, PythonRandom, Request, RequestOptions, Response, Score, Selection,
    TaskResult, split_context_continuation,
};
use serde_json::Value;

/// Sums and products are taken in the same order; exp and roots may differ in the last digits.
const TOLERANCE: f64 = 1e-12;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/tasks")
}

fn json(name: &str) -> Value {
    serde_json::from_str(&std::fs::read_to_string(folder().join(name)).unwrap()).unwrap()
}

/// The fake model of the fixtures.
fn answer(context: &str, continuation: &str) -> Response {
    let digest = neutral_store::sha256_bytes(format!("{context}\0{continuation}").as_bytes());
    let byte = |i: usize| u32::from_str_radix(&digest[2 * i..2 * i + 2], 16).unwrap();
    Response {
        log_likelihood: -f64::from((byte(0) * 256 + byte(1)) % 400) / 8.0,
        is_greedy: byte(2) % 3 == 0,
    }
}

fn respond(example: &Example) -> Vec<Response> {
    let one = |request: &Request| match request {
        Request::LogLikelihood { context, continuation } => answer(context, continuation),
        Request::Rolling { text } => answer("", text),
    };
    example.requests.iter().map(one).collect()
}

fn arguments(request: &Request) -> Vec<&str> {
    match request {
        Request::LogLikelihood { context, continuation } => vec![context, continuation],
        Request::Rolling { text } => vec![text],
    }
}

fn select(run: &Value) -> Selection {
    let names: Vec<_> =
        run["names"].as_array().unwrap().iter().map(|n| n.as_str().unwrap()).collect();
    let library = Library::open(&[folder().join(run["folder"].as_str().unwrap())]).unwrap();
    assert!(library.broken().is_empty(), "{:?}", library.broken());
    library.select(&names).unwrap()
}

fn options(run: &Value) -> RequestOptions {
    let num_fewshot = run["shots"].as_u64().map(|n| n as usize);
    RequestOptions { num_fewshot, ..RequestOptions::default() }
}

#[test]
fn every_request_is_the_harness_own_in_its_order() {
    let text = std::fs::read_to_string(folder().join("requests.jsonl")).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let theirs: HashMap<_, _> = lines
        .iter()
        .map(|line| ((line["run"].as_u64(), line["task"].as_str().unwrap()), &line["requests"]))
        .collect();
    let (mut tasks, mut requests) = (0, 0);
    for (i, run) in json("results.json")["runs"].as_array().unwrap().iter().enumerate() {
        for (name, task) in &select(run).tasks {
            let options = options(run);
            let mut splits = task.dataset().load(&folder()).unwrap();
            // No other splits are read.
            let read = task.splits(&options).unwrap();
            splits.retain(|split, _| read.contains(&split.as_str()));
            let examples = task.examples(&splits, &options).unwrap();
            let ours = examples.iter().flat_map(|e| e.requests.iter().map(|r| (e.id, r)));
            let ours: Vec<_> =
                ours.map(|(id, r)| serde_json::json!({"doc": id, "args": arguments(r)})).collect();
            let theirs = theirs[&(Some(i as u64), name.as_str())];
            for (ours, theirs) in ours.iter().zip(theirs.as_array().unwrap()) {
                assert_eq!(ours, theirs, "{name}");
            }
            assert_eq!(ours.len(), theirs.as_array().unwrap().len(), "{name}");
            requests += ours.len();
            tasks += 1;
        }
    }
    assert!(tasks > 90 && requests > 1500, "{tasks} tasks, {requests} requests");
}

fn same(name: &str, ours: &Value, theirs: &Value) {
    let (ours, theirs) = (ours.as_object().unwrap(), theirs.as_object().unwrap());
    let keys = |map: &serde_json::Map<_, _>| map.keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(ours), keys(theirs), "{name}");
    for (key, theirs) in theirs {
        match (ours[key].as_f64(), theirs.as_f64()) {
            (Some(a), Some(b)) => {
                assert!((a - b).abs() <= TOLERANCE * b.abs(), "{name} {key}: {a}, not {b}");
            }
            _ => assert_eq!(&ours[key], theirs, "{name} {key}"),
        }
    }
}

#[test]
fn every_result_is_the_harness_own() {
    let fixture = json("results.json");
    let bootstraps = fixture["bootstraps"].as_u64().unwrap() as usize;
    let mut compared = 0;
    for run in fixture["runs"].as_array().unwrap() {
        let selection = select(run);
        let found = &run["found"];
        let mut results: HashMap<&str, TaskResult> = HashMap::new();
        for (name, task) in &selection.tasks {
            let options = options(run);
            let examples =
                task.examples(&task.dataset().load(&folder()).unwrap(), &options).unwrap();
            let responses: Vec<_> = examples.iter().map(respond).collect();
            let result = task.score(&examples, &responses, Some(bootstraps)).unwrap();
            same(name, &serde_json::to_value(&result).unwrap(), &found["results"][name]);
            assert_eq!(task.shots(&options) as u64, found["n-shot"][name].as_u64().unwrap());
            assert_eq!(serde_json::to_value(task.version()).unwrap(), found["versions"][name]);
            let better = serde_json::to_value(task.higher_is_better()).unwrap();
            assert_eq!(better, found["higher_is_better"][name], "{name}");
            results.insert(name, result);
            compared += 1;
        }
        for (name, (group, tasks)) in &selection.groups {
            let tasks: Vec<_> = tasks.iter().map(|task| &results[task.as_str()]).collect();
            let ours = serde_json::to_value(Group::aggregate(group, &tasks)).unwrap();
            same(name, &ours, &found["groups"][name]);
            assert_eq!(group.version, found["versions"][name].as_str().unwrap());
            compared += 1;
        }
    }
    assert!(compared > 90, "{compared}");
}

#[test]
fn a_result_is_read_back_as_it_was_written() {
    for run in json("results.json")["runs"].as_array().unwrap() {
        for (name, theirs) in run["found"]["results"].as_object().unwrap() {
            if run["found"]["groups"].get(name).is_none() {
                let read: TaskResult = serde_json::from_value(theirs.clone()).unwrap();
                assert!(read.metrics.values().any(|s| matches!(s, Score::Number(_))));
                assert_eq!(&serde_json::to_value(read).unwrap(), theirs);
            }
        }
    }
}

/// The toy tokenizer of the fixtures: a space belongs to the word after it, words are cut in threes.
fn encode(text: &str) -> Vec<u32> {
    let characters: Vec<char> = text.chars().collect();
    let mut words: Vec<String> = Vec::new();
    let mut i = 0;
    while i < characters.len() {
        let start = i;
        if characters[i] == ' ' && characters.get(i + 1).is_none_or(|c| *c == ' ') {
            while characters.get(i) == Some(&' ') {
                i += 1;
            }
        } else {
            i += 1;
            while characters.get(i).is_some_and(|c| *c != ' ') {
                i += 1;
            }
        }
        words.push(characters[start..i].iter().collect());
    }
    let pieces = words.iter().flat_map(|word| {
        let word: Vec<char> = word.chars().collect();
        word.chunks(3).map(|piece| piece.iter().collect::<String>()).collect::<Vec<_>>()
    });
    let id = |piece: String| {
        let digest = neutral_store::sha256_bytes(piece.as_bytes());
        2 + u32::from_str_radix(&digest[..4], 16).unwrap()
    };
    pieces.map(id).collect()
}

fn numbers(value: &Value) -> Vec<u32> {
    serde_json::from_value(value.clone()).unwrap()
}

#[test]
fn contexts_and_continuations_split_as_in_the_harness() {
    for case in json("tokens.json")["splits"].as_array().unwrap() {
        let text = |key: &str| case[key].as_str().unwrap();
        let prefix = case["prefix"].as_u64().unwrap() as u32;
        let split = split_context_continuation(
            text("context"),
            text("continuation"),
            encode,
            encode,
            prefix,
        );
        assert_eq!(split.context, numbers(&case["given"]), "{case}");
        assert_eq!(split.continuation, numbers(&case["scored"]), "{case}");
        for (length, input) in case["input"].as_object().unwrap() {
            assert_eq!(split.input(length.parse().unwrap()), numbers(input), "{length} of {case}");
        }
    }
}

#[test]
fn draws_are_those_of_python() {
    let fixture = json("random.json");
    let mut streams: HashMap<u64, PythonRandom> = HashMap::new();
    for case in fixture["samples"].as_array().unwrap() {
        let number = |key: &str| case[key].as_u64().unwrap();
        let stream =
            streams.entry(number("seed")).or_insert_with(|| PythonRandom::new(number("seed")));
        let drawn = stream.sample(number("size") as usize, number("count") as usize).unwrap();
        let drawn: Vec<u32> = drawn.into_iter().map(|i| i as u32).collect();
        assert_eq!(drawn, numbers(&case["drawn"]), "{case}");
    }
    let mut stream = PythonRandom::new(3);
    for theirs in numbers(&fixture["choices"]) {
        assert_eq!(stream.choice(1000) as u32, theirs);
    }
    assert_eq!(PythonRandom::new(0).sample(2, 3), None);
}
