//! Trained models beside their base, from the run to the report.

use serde_json::Value;

use crate::command::{Sandbox, assert_code, root, words};

/// An adapter and a neutral residue, with few steps.
fn experiment(last_line: &str) -> String {
    let smoke = std::fs::read_to_string(root().join("experiments/smoke.yaml")).unwrap();
    let (before, rest) = smoke.split_once("methods:\n").unwrap();
    let (_, evaluation) = rest.split_once("evaluation:\n").unwrap();
    let methods = "methods:
  - method: { kind: finetune }
    training: { learning_rate: 1.0e-3 }
  - method: { kind: neutral_residues, budget: 20%, local_loss: { kind: l1, weight: 10 } }
";
    let evaluation = evaluation.replace("max_bytes", &format!("{last_line}\n  max_bytes"));
    format!("{before}{methods}\nevaluation:\n{evaluation}")
}

/// The results without what was measured beside the base.
fn without(mut results: Value) -> Value {
    for trial in results["trials"].as_array_mut().unwrap() {
        trial.as_object_mut().unwrap().remove("against_base");
    }
    results
}

#[test]
fn a_trial_is_compared_with_its_base_and_again_without_being_trained_again() {
    let sandbox = Sandbox::new();
    let run = |last_line: &str| {
        let output = sandbox.run(&sandbox.write("few.yaml", &experiment(last_line)), "out");
        assert_code(&output, 0);
        (words(&output), sandbox.results("out"))
    };
    let (_, first) = run("");
    let [tuned, neutral] = first["trials"].as_array().unwrap().as_slice() else { panic!() };
    let (tuned, neutral) = (&tuned["against_base"], &neutral["against_base"]);
    for domain in ["original", "new"] {
        for (corpus, found) in neutral["divergence"][domain].as_object().unwrap() {
            assert_eq!(found["neutral_prefixes"]["violations"], 0, "{corpus}");
            assert!(found["kl_nats"]["mean"].as_f64().unwrap() > 0.0, "{corpus}");
            assert_eq!(found["gates"].as_array().unwrap().len(), 2);
        }
        for sample in neutral["samples"][domain].as_object().unwrap().values() {
            let tokens = sample["text"].as_array().unwrap().len();
            assert!(tokens > 10 && sample["kl_nats"].as_array().unwrap().len() == tokens);
        }
    }
    let kl = |of: &Value| of["divergence"]["original"]["synthetic/a"]["kl_nats"]["mean"].as_f64();
    assert!(kl(tuned).unwrap() > kl(neutral).unwrap());
    assert!(tuned.get("samples").is_none() && tuned["singular_values"].is_null());
    assert_eq!(neutral["singular_values"].as_array().unwrap().len(), 2 * 3);

    // On less text, after a file was lost, and not at all: no trial runs again.
    let record = "out/trials/neutral-residues-s0/neutrality.json";
    std::fs::remove_file(sandbox.path(record)).unwrap();
    let (said, again) = run("");
    assert_eq!((said.matches("finished earlier, kept").count(), &again), (2, &first));
    let (said, less) = run("neutrality_tokens: 100");
    assert_eq!(said.matches("finished earlier, kept").count(), 2);
    let found = &less["trials"][1]["against_base"]["divergence"]["new"]["synthetic/b"];
    assert_eq!((&found["tokens"], without(less.clone())), (&100.into(), without(first.clone())));
    let (_, none) = run("neutrality_tokens: 0");
    assert_eq!(none, without(first));

    // What cannot be compared any more is no success.
    let weights = "out/trials/neutral-residues-s0/extension.safetensors";
    std::fs::remove_file(sandbox.path(weights)).unwrap();
    let file = sandbox.write("few.yaml", &experiment("neutrality_tokens: 200"));
    let output = sandbox.run(&file, "out");
    assert_code(&output, 1);
    let said = words(&output);
    assert!(said.contains("1 of 2 trials have not been compared with their base"), "{said}");
    assert_eq!(sandbox.results("out")["trials"][1]["status"], "finished");
}

#[test]
fn a_report_and_an_inspection_say_what_the_results_say() {
    let sandbox = Sandbox::new();
    let file = sandbox.write("few.yaml", &experiment("neutrality_tokens: 200"));
    assert_code(&sandbox.run(&file, "out"), 0);
    let neutral = |arguments: &[&str]| sandbox.neutral(arguments).output().unwrap();
    assert_code(&neutral(&["report", "out"]), 0);
    let page = std::fs::read_to_string(sandbox.path("out/report.html")).unwrap();
    for part in ["Loss, new domain", "Gates that are exactly zero", "class=\"sample\""] {
        assert!(page.contains(part), "{part}");
    }
    assert_code(&neutral(&["report", "out", "out"]), 2);
    let output = neutral(&["report", "cache"]);
    assert_code(&output, 2);
    assert!(words(&output).contains("cache has no results.json"), "{}", words(&output));

    // The trial's own sample, read again from a file.
    let results = sandbox.results("out");
    let trial = &results["trials"][1]["against_base"];
    let sample = &trial["samples"]["new"]["synthetic/b"];
    let pieces = sample["text"].as_array().unwrap();
    let text: String = pieces.iter().map(|piece| piece.as_str().unwrap()).collect();
    sandbox.write("b.txt", &text);
    let trial = "out/trials/neutral-residues-s0";
    let arguments = ["inspect", trial, "--on", "b.txt", "--window", "64", "--json"];
    let output = neutral(&arguments);
    assert_code(&output, 0);
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(found["sample"]["text"], sample["text"]);
    let kl = |sample: &Value| sample["kl_nats"][5].as_f64().unwrap();
    assert!((kl(&found["sample"]) / kl(sample) - 1.0).abs() < 1e-2);
    // An exported extension is the trial.
    assert_code(&neutral(&["export", trial, "--format", "neutral", "--out", "exported"]), 0);
    assert_code(&neutral(&["inspect", "exported", "--on", "b.txt"]), 2);
    let base = std::fs::read_dir(sandbox.path("cache/bases")).unwrap().next().unwrap().unwrap();
    let model = base.path().display().to_string();
    let output = neutral(&[
        "inspect", "exported", "--model", &model, "--on", "b.txt", "--window", "64", "--json",
    ]);
    assert_code(&output, 0);
    let exported: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(exported["divergence"], found["divergence"]);
}
