//! Pretrained models through the command: a GGUF file that is extended, and text from one.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use serde_json::Value;

use crate::baselines::only_folder;
use crate::command::{Sandbox, assert_code, root, words};

fn gguf(name: &str) -> String {
    root().join("tests/fixtures/gguf").join(name).display().to_string()
}

fn experiment(path: &str) -> String {
    format!(
        "experiment: loaded
question: Does a model from a file go through a run?
seeds: [0]
precision: fp32
tokenizer: {{ kind: base }}
base: {{ kind: load, source: {{ kind: path, path: {path:?} }} }}
data: {{ original: [synthetic/a], new: [synthetic/b], original_fraction: 0.25 }}
training:
  tokens: 2_048
  sequence_length: 32
  batch_size: 8
  learning_rate: 5.0e-3
  schedule: {{ kind: cosine, warmup_fraction: 0.1, final_fraction: 0.1 }}
methods:
  - method: {{ kind: finetune }}
  - method: {{ kind: lora, budget: 20% }}
  - method: {{ kind: neutral_residues, budget: 20% }}
evaluation: {{ original: [synthetic/a], new: [synthetic/b], max_bytes: 4_000 }}
"
    )
}

#[test]
fn a_gguf_file_is_extended_with_its_own_tokenizer() {
    let sandbox = Sandbox::new();
    let file = sandbox.write("loaded.yaml", &experiment(&gguf("byte_level_smollm.gguf")));
    let output = sandbox.run(&file, "out");
    assert_code(&output, 0);
    let results = sandbox.results("out");
    assert_eq!(results["base"]["parameters"], 30_784);
    for trial in results["trials"].as_array().unwrap() {
        assert_eq!(trial["status"], "finished", "{trial}");
        assert!(trial["learning"]["synthetic/b"].as_f64().unwrap() > 0.0, "{trial}");
    }
    let long = "positions (`max_position_embeddings`)";
    assert!(!words(&output).contains(long), "{}", words(&output));
    let longer = experiment(&gguf("byte_level_smollm.gguf"))
        .replace("sequence_length: 32", "sequence_length: 128");
    let longer = sandbox.run(&sandbox.write("longer.yaml", &longer), "longer");
    assert!(words(&longer).contains(&format!("knows 64 {long}")), "{}", words(&longer));
    // Turned into a model folder once.
    let again = sandbox.run(&file, "again");
    assert_code(&again, 0);
    assert!(!words(&again).contains("30784 weights"), "{}", words(&again));
}

#[test]
fn a_misspelt_corpus_is_told_before_the_base_is_fetched() {
    let sandbox = Sandbox::new();
    let text = experiment("nowhere.gguf").replacen("[synthetic/a]", "[synthetic/aa]", 1);
    let output = sandbox.run(&sandbox.write("loaded.yaml", &text), "out");
    assert_code(&output, 2);
    let words = words(&output);
    assert!(words.contains("loaded.yaml:7: data.original[0]: unknown corpus"), "{words}");
    assert!(!words.contains("nowhere.gguf"), "{words}");
}

/// Exports and tasks go by the base's own, so that another one would train what they do not read.
#[test]
fn a_loaded_tokenizer_is_the_bases_own_however_it_is_written() {
    let sandbox = Sandbox::new();
    let text = experiment(&gguf("byte_level_smollm.gguf"));
    let manifests = root().join("data-manifests");
    let dry_run = |text: &str| {
        let file = sandbox.write("loaded.yaml", text);
        let mut command = sandbox.neutral(&["run", "--dry-run", "--manifests"]);
        command.arg(&manifests).arg(file).output().unwrap()
    };
    assert_code(&dry_run(&text), 0);
    let own = only_folder(&sandbox.path("cache/models")).join("tokenizer.json");
    let mut tokenizer: Value =
        serde_json::from_str(&std::fs::read_to_string(own).unwrap()).unwrap();
    let load = text.replace("{ kind: base }\n", "{ kind: load, path: other.json }\n");
    assert_ne!(load, text);
    sandbox.write("other.json", &serde_json::to_string(&tokenizer).unwrap());
    assert_code(&dry_run(&load), 0);

    let vocabulary = tokenizer["model"]["vocab"].as_object_mut().unwrap();
    let [a, b] = ["a", "b"].map(|token| vocabulary[token].clone());
    vocabulary["a"] = b;
    vocabulary["b"] = a;
    sandbox.write("other.json", &serde_json::to_string(&tokenizer).unwrap());
    let output = dry_run(&load);
    assert_code(&output, 2);
    assert!(words(&output).contains("other.json is not the tokenizer in"), "{}", words(&output));
}

/// A hub of one model, and the paths that it was asked for.
fn hub() -> (String, Arc<Mutex<Vec<String>>>) {
    let config = root().join("tests/fixtures/families/llama2/config.json");
    let config = std::fs::read_to_string(config).unwrap();
    let files = r#"[{"rfilename": "config.json"}, {"rfilename": "model.safetensors"}]"#;
    let listing = format!(r#"{{"sha": "c0ffee", "siblings": {files}}}"#);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let asked = Arc::new(Mutex::new(Vec::new()));
    let paths = Arc::clone(&asked);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let lines = BufReader::new(stream.try_clone().unwrap()).lines().map(Result::unwrap);
            let head: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
            let path = head[0].split(' ').nth(1).unwrap().to_owned();
            let (status, body) = match path.as_str() {
                "/api/models/us/model/revision/main" | "/api/models/us/model/revision/c0ffee" => {
                    ("200 OK", &listing)
                }
                "/us/model/resolve/c0ffee/config.json" => ("206 Partial Content", &config),
                _ => ("404 Not Found", &path),
            };
            let first = head.iter().any(|line| line.ends_with("bytes=0-0"));
            let (all, body) = (body.len(), if first { &body[..1] } else { body });
            let range = format!("bytes 0-{}/{all}", body.len() - 1);
            let _ = write!(
                stream,
                "HTTP/1.1 {status}\r\nETag: \"e\"\r\nX-Repo-Commit: c0ffee\r\nContent-Range: {range}\r\n\
                 Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
                body.len()
            );
            paths.lock().unwrap().push(path);
        }
    });
    (endpoint, asked)
}

#[test]
fn a_dry_run_fetches_what_describes_a_model_of_the_hub_and_no_weights() {
    let (sandbox, (endpoint, asked)) = (Sandbox::new(), hub());
    let source = "source: { kind: hub, repo: us/model }";
    let text = experiment("x").replace(r#"source: { kind: path, path: "x" }"#, source);
    assert!(text.contains(source));
    let file = sandbox.write("hub.yaml", &text);
    let run = |options: &[&str]| {
        let mut command = sandbox.neutral(&["run", "--manifests"]);
        command.arg(root().join("data-manifests")).arg(&file).args(options);
        command.env("HF_ENDPOINT", &endpoint).env_remove("HF_HOME").output().unwrap()
    };
    let output = run(&["--dry-run"]);
    assert_code(&output, 0);
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(shown.contains("neutral-residues-s0"), "{shown}");
    let of_weights = || asked.lock().unwrap().iter().any(|path| path.ends_with(".safetensors"));
    assert!(!of_weights() && !asked.lock().unwrap().is_empty());
    // Which this hub does not have.
    assert_code(&run(&["--out", "out"]), 1);
    assert!(of_weights());
}

#[test]
fn a_base_that_cannot_be_loaded_is_refused_before_anything_is_fetched() {
    let sandbox = Sandbox::new();
    let missing = sandbox.write("missing.yaml", &experiment("nowhere.gguf"));
    let output = sandbox.run(&missing, "out");
    assert_code(&output, 2);
    assert!(words(&output).contains("nowhere.gguf does not exist"), "{}", words(&output));

    let damaged = sandbox.path("damaged.gguf");
    let whole = std::fs::read(gguf("byte_level_smollm.gguf")).unwrap();
    std::fs::write(&damaged, &whole[..whole.len() / 2]).unwrap();
    let file = sandbox.write("damaged.yaml", &experiment(damaged.to_str().unwrap()));
    let output = sandbox.run(&file, "out");
    assert_code(&output, 2);
    assert!(words(&output).contains("damaged.gguf"), "{}", words(&output));

    let text = experiment(&gguf("byte_level_smollm.gguf"));
    let text =
        text.replace("{ kind: base }", "{ kind: train, vocab_size: 300, corpora: [synthetic/a] }");
    let file = sandbox.write("trained.yaml", &text);
    let output = sandbox.run(&file, "out");
    assert_code(&output, 2);
    assert!(words(&output).contains("knows its own tokens only"), "{}", words(&output));
}

#[test]
fn text_is_a_function_of_the_seed() {
    let sandbox = Sandbox::new();
    let text = |arguments: &[&str]| {
        let model = gguf("sentencepiece.gguf");
        let always =
            ["generate", "--model", &model, "--prompt", "Hello world", "--max-tokens", "24"];
        let output = sandbox.neutral(&[&always[..], arguments].concat()).output().unwrap();
        assert_code(&output, 0);
        output.stdout
    };
    let greedy = text(&[]);
    assert!(greedy.len() > 10);
    assert_eq!(text(&["--seed", "7"]), greedy, "without temperature nothing is left to chance");
    let warm = text(&["--temperature", "1.5", "--seed", "7"]);
    assert_ne!(warm, greedy);
    assert_eq!(text(&["--temperature", "1.5", "--seed", "7"]), warm);
    assert_ne!(text(&["--temperature", "1.5", "--seed", "8"]), warm);
    assert_eq!(text(&["--temperature", "1.5", "--top-p", "1e-9"]), greedy);
}

#[test]
fn what_cannot_be_generated_is_said() {
    let sandbox = Sandbox::new();
    let model = gguf("sentencepiece.gguf");
    let refused = |arguments: &[&str], stem: &str| {
        let output = sandbox.neutral(&[&["generate"], arguments].concat()).output().unwrap();
        assert_code(&output, 2);
        assert!(words(&output).contains(stem), "{}", words(&output));
    };
    let prompt = ["--prompt", "a"];
    refused(&[&["--model", "nowhere"], &prompt[..]].concat(), "nowhere does not exist");
    let of_model = |more: &[&'static str]| -> Vec<String> {
        ["--model", &model].iter().chain(&prompt).chain(more).map(|&s| s.to_owned()).collect()
    };
    for (more, stem) in [
        (["--temperature=-1", "--seed=0"], "--temperature is -1, expected 0 or more"),
        (["--top-p", "0"], "--top-p is 0, expected above 0"),
        (["--top-p", "0.9"], "--top-p is 0.9, expected a --temperature above 0 beside it"),
        (["--extension", "nowhere"], "is no extension"),
    ] {
        let arguments = of_model(&more);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        refused(&arguments, stem);
    }
}

/// A document of the scored text is longer than a window.
#[test]
fn bos_may_begin_every_sequence_and_is_said_in_the_results() {
    let sandbox = Sandbox::new();
    let model = root().join("tests/fixtures/eval/model").display().to_string();
    let every_document = experiment(&model);
    let every_sequence =
        every_document.replace("{ kind: base }", "{ kind: base, bos: every_sequence }");
    let run = |name: &str, text: &str| {
        assert_code(&sandbox.run(&sandbox.write("loaded.yaml", text), name), 0);
        sandbox.results(name)
    };
    let [plain, begun] = [("plain", &every_document), ("begun", &every_sequence)]
        .map(|(name, text)| run(name, text));
    let score = |results: &Value, of: &str| results.pointer(of).unwrap().as_f64().unwrap();
    for of in
        ["/base/metrics/original/synthetic~1a/bits_per_byte", "/trials/1/learning/synthetic~1b"]
    {
        assert_ne!(score(&plain, of), score(&begun, of), "{of}");
    }
    assert_eq!(begun["setting"]["tokenizer"]["bos"], "every_sequence");
    assert!(plain["setting"]["tokenizer"].get("bos").is_none());
    assert_eq!(plain["setting"]["document_separator"], "<s>");

    let without = experiment(&gguf("byte_level_smollm.gguf"))
        .replace("{ kind: base }", "{ kind: base, bos: every_sequence }");
    let refused = sandbox.run(&sandbox.write("without.yaml", &without), "without");
    assert_code(&refused, 2);
    assert!(words(&refused).contains("tokenizer.bos"), "{}", words(&refused));
}
