//! Bad input ends with exit code 2 and a message that names file, field and remedy.

use crate::command::{Sandbox, assert_code, root, words};

/// The smoke experiment with one line replaced.
fn smoke_with(from: &str, to: &str) -> String {
    let text = std::fs::read_to_string(root().join("experiments/smoke.yaml")).unwrap();
    assert!(text.contains(from), "smoke.yaml has no `{from}`");
    text.replacen(from, to, 1)
}

#[test]
fn mistakes_in_an_experiment_are_named_with_file_line_and_field() {
    let cases = [
        ("seeds: [0]", "seds: [0]", vec!["bad.yaml:", "seds", "seeds"]),
        ("precision: fp32", "precision: fp16", vec!["bad.yaml:", "precision", "fp16", "bf16"]),
        (
            "original: [synthetic/a]",
            "original: [synthetic/aa]",
            vec!["bad.yaml:25: data.original[0]: unknown corpus", "mean `synthetic/a`?"],
        ),
        (
            "original: [synthetic/a]",
            "original: [nowhere/a]",
            vec!["bad.yaml:25: data.original[0]", "nowhere/a", "there are: apache2-doc/en"],
        ),
        (
            "evaluation:",
            "evaluation:\n  tasks: { include_path: [], new: [arc] }",
            vec!["bad.yaml:", "evaluation.tasks.new[0]", "`arc` is no task"],
        ),
        (
            "evaluation:",
            "evaluation:\n  tasks: { include_path: [nowhere], new: [arc] }",
            vec!["bad.yaml:", "evaluation.tasks.include_path[0]", "there is no folder"],
        ),
        (
            "evaluation:",
            "evaluation:\n  tasks: { new: [arc] }",
            vec!["bad.yaml:52: evaluation.tasks.new[0]", "there is no folder", "`include_path`"],
        ),
        (
            "{ kind: lora, budget: 20% }",
            "{ kind: lora, budget: 0.001% }",
            vec!["bad.yaml", "0.001%", "budget"],
        ),
        (
            "{ kind: lora, budget: 20% }",
            "{ kind: lra, budget: 20% }",
            vec!["bad.yaml:", "lra", "lora"],
        ),
        (
            "methods:",
            "control: adaptor\nmethods:",
            vec!["bad.yaml:", "control: no method has the label `adaptor`", "mean `adapter`?"],
        ),
        ("n_heads: 2", "n_heads: 3", vec!["bad.yaml:", "n_heads", "3"]),
        (
            "  original: [synthetic/a]\n  new: [synthetic/b]\n  original_fraction",
            "  original: [synthetic/b]\n  new: [synthetic/a]\n  original_fraction",
            vec!["bad.yaml:", "data.original[0]", "evaluation.new"],
        ),
        (
            "gate: { activation: sigmoid }",
            "gate: { activation: relu }",
            vec!["bad.yaml", "domain_classifier", "sigmoid"],
        ),
    ];
    for (from, to, expected) in cases {
        let sandbox = Sandbox::new();
        let output = sandbox.run(&sandbox.write("bad.yaml", &smoke_with(from, to)), "out");
        assert_code(&output, 2);
        let words = words(&output);
        for part in expected {
            assert!(words.contains(part), "`{to}`: the message lacks `{part}`: {words}");
        }
        assert!(!sandbox.path("out").join("trials").exists(), "`{to}` was found out too late");
    }
}

/// What `split: {test: 0}` leaves, or `{valid: 0, test: 1}` of a corpus that is only scored.
#[test]
fn a_split_without_documents_is_named_before_anything_is_trained() {
    let shipped = std::fs::read_to_string(root().join("data-manifests/synthetic.yaml")).unwrap();
    for (shares, split) in [("{valid: 0.1, test: 0}", "test"), ("{valid: 0.1, test: 0.9}", "train")]
    {
        let sandbox = Sandbox::new();
        // Which text is in which split is in the checksums.
        let lines = shipped.lines().filter(|line| !line.contains("sha256"));
        let text = lines.collect::<Vec<_>>().join("\n").replace("{valid: 0.1, test: 0.1}", shares);
        assert!(text.contains(shares), "{text}");
        std::fs::create_dir(sandbox.path("manifests")).unwrap();
        sandbox.write("manifests/synthetic.yaml", &text);
        let smoke = root().join("experiments/smoke.yaml");
        let arguments = ["run", "--device", "cpu", "--manifests", "manifests"];
        let output = sandbox.neutral(&arguments).arg(smoke).output().unwrap();
        assert!(!output.status.success());
        let said = words(&output);
        assert!(said.contains(&format!("has no text in its {split} split")), "{said}");
        assert!(!sandbox.path("cache/bases").exists(), "{said}");
    }
}

#[test]
fn a_missing_experiment_and_a_missing_device_are_named() {
    let sandbox = Sandbox::new();
    let output = sandbox.run(&sandbox.path("none.yaml"), "out");
    assert_code(&output, 2);
    assert!(words(&output).contains("none.yaml"), "{}", words(&output));

    let smoke = root().join("experiments/smoke.yaml");
    let output = sandbox.neutral(&["run", smoke.to_str().unwrap(), "--device", "cuda:99"]).output();
    let output = output.unwrap();
    assert_code(&output, 2);
    assert!(words(&output).contains("cuda:99"), "{}", words(&output));

    let smoke = ["run", smoke.to_str().unwrap(), "--dry-run"];
    let output = sandbox.neutral(&smoke).args(["--threads", "0"]).output().unwrap();
    assert_code(&output, 2);
    assert!(words(&output).contains("--threads"), "{}", words(&output));
    let mut nowhere = sandbox.neutral(&smoke);
    for variable in ["NEUTRAL_CACHE", "XDG_CACHE_HOME", "HOME"] {
        nowhere.env_remove(variable);
    }
    let output = nowhere.output().unwrap();
    assert_code(&output, 2);
    assert!(words(&output).contains("set NEUTRAL_CACHE"), "{}", words(&output));
}

#[test]
fn damaged_files_are_named_and_nothing_is_lost() {
    let sandbox = Sandbox::new();
    let text = smoke_with("tokens: 60_000", "tokens: 1_000");
    let methods = text.find("\nmethods:").unwrap();
    let evaluation = text.find("\nevaluation:").unwrap();
    let text = format!(
        "{}\nmethods: [{{ method: {{ kind: finetune }}, training: {{ tokens: 1_000 }} }}]\n{}",
        &text[..methods],
        &text[evaluation..]
    );
    let experiment = sandbox.write("small.yaml", &text);
    assert_code(&sandbox.run(&experiment, "out"), 0);
    let whole = sandbox.results("out");

    for kind in ["tokens", "bases"] {
        let file = largest_file(&sandbox.path("cache").join(kind));
        let bytes = std::fs::read(&file).unwrap();
        std::fs::write(&file, &bytes[..bytes.len() / 2]).unwrap();
        let output = sandbox.run(&experiment, "again");
        assert_ne!(output.status.code(), Some(0));
        let name = file.file_name().unwrap().to_str().unwrap();
        assert!(words(&output).contains(name), "{kind}: {}", words(&output));
        std::fs::write(&file, &bytes).unwrap();
        let _ = std::fs::remove_dir_all(sandbox.path("again"));
    }
    assert_code(&sandbox.run(&experiment, "again"), 0);
    assert_eq!(sandbox.results("again")["base"], whole["base"]);
}

fn largest_file(folder: &std::path::Path) -> std::path::PathBuf {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path());
            } else {
                files.push((entry.metadata().unwrap().len(), entry.path()));
            }
        }
    }
    files.into_iter().max().unwrap().1
}
