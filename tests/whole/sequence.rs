//! One extension after another: each goes on from what the one before it made.

use neutral_torch::load_tensors;
use serde_json::Value;
use tch::{Device, Kind};

use crate::baselines::experiment;
use crate::command::{Sandbox, assert_code, root, words};
use crate::control::trial;

/// A first extension of two kinds; upon each, methods that hardly move.
const STILL: &str = "methods:
  - label: residues
    method: { kind: neutral_residues, budget: 20%, local_loss: { kind: l1, weight: 1 } }
  - label: residues, adapter
    after: residues
    method: { kind: adapter, budget: 20% }
    training: { learning_rate: 1.0e-12 }
  - label: residues, finetune
    after: residues
    method: { kind: finetune }
    training: { learning_rate: 1.0e-12 }
  - label: residues, finetune, lora
    after: residues, finetune
    method: { kind: lora, budget: 20% }
    training: { learning_rate: 1.0e-12 }
  - method: { kind: lora, budget: 20% }
  - label: lora, lora
    after: lora
    method: { kind: lora, budget: 20% }
    training: { learning_rate: 1.0e-12 }
  - label: lora, wise_ft
    after: lora
    method: { kind: wise_ft, share: 0.5 }
    training: { learning_rate: 1.0e-12 }
  - label: still
    method: { kind: lora, budget: 20% }
    training: { learning_rate: 1.0e-12 }
  - label: still, again
    after: still
    method: { kind: lora, budget: 20% }
    training: { learning_rate: 1.0e-12 }
";

const MOVING: &str = "methods:
  - label: first
    method: { kind: neutral_residues, budget: 20%, local_loss: { kind: l1, weight: 1 } }
    training: { learning_rate: 5.0e-3 }
  - label: second
    after: first
    method: { kind: neutral_residues, budget: 20%, local_loss: { kind: l1, weight: 10 } }
    data: { new: [synthetic/a], original: [synthetic/b] }
";

const THIRD: &str = "  - label: third
    after: second
    method: { kind: adapter, budget: 20% }
";

fn bits(trial: &Value) -> [f64; 2] {
    [("original", "synthetic/a"), ("new", "synthetic/b")]
        .map(|(domain, corpus)| trial["metrics"][domain][corpus]["bits_per_byte"].as_f64().unwrap())
}

#[test]
fn what_hardly_trains_is_what_it_goes_on_from() {
    let sandbox = Sandbox::new();
    assert_code(&sandbox.run(&sandbox.write("disturbed.yaml", &experiment(STILL)), "out"), 0);
    let results = sandbox.results("out");
    for (first, then) in [
        ("residues", "residues-adapter"),
        ("residues", "residues-finetune"),
        ("residues", "residues-finetune-lora"),
        ("lora", "lora-lora"),
        ("lora", "lora-wise-ft"),
    ] {
        let [before, after] =
            [first, then].map(|name| bits(trial(&results, &format!("{name}-s0"))));
        for (before, after) in before.into_iter().zip(after) {
            assert!((before - after).abs() < 1e-5, "{then}: {after}, {first}: {before}");
        }
        // Held beside what it extends, not beside the base that it once was.
        let then = trial(&results, &format!("{then}-s0"));
        let kl = &then["against_base"]["divergence"]["new"]["synthetic/b"]["kl_nats"]["max"];
        assert!(kl.as_f64().unwrap() < 1e-5, "{}: {kl}", then["id"]);
    }
    // Each draws its own start and its own text.
    let of = |trial: &str, file: &str| sandbox.path(&format!("out/trials/{trial}/{file}"));
    let both = ["still-s0", "still-again-s0"];
    let [first, again] =
        both.map(|trial| load_tensors(&of(trial, "extension.safetensors"), Device::Cpu).unwrap().0);
    for (name, drawn) in first.iter().filter(|(name, _)| name.ends_with("lora_a")) {
        let apart = (drawn - &again[name]).abs().mean(Kind::Double).double_value(&[]);
        assert!(apart > 0.01, "{name}: {apart}");
    }
    let [first, again] = both.map(|trial| {
        let steps = std::fs::read_to_string(of(trial, "metrics.jsonl")).unwrap();
        let step: Value = serde_json::from_str(steps.lines().next().unwrap()).unwrap();
        step["loss_nats_per_token"].as_f64().unwrap()
    });
    assert!((first - again).abs() > 1e-4, "{first}, {again}");
    // Both have moved away from the base by then.
    for first in ["residues-s0", "lora-s0"] {
        let learnt = trial(&results, first)["learning"]["synthetic/b"].as_f64().unwrap();
        assert!(learnt > 0.1, "{first}: {learnt}");
    }
}

#[test]
fn a_second_extension_is_made_anew_with_its_first_and_read_with_it() {
    let sandbox = Sandbox::new();
    let run = |text: &str| {
        let output = sandbox.run(&sandbox.write("disturbed.yaml", &experiment(text)), "out");
        assert_code(&output, 0);
        words(&output)
    };
    run(MOVING);
    // Processes side by side wait for what they go on from, or make it.
    let experiment = sandbox.path("disturbed.yaml");
    let manifests = root().join("data-manifests");
    let mut apart =
        sandbox.neutral(&["run", "--out", "apart", "--device", "cpu", "--threads", "2"]);
    apart.args(["--executor", "local", "--jobs", "2"]).arg(experiment);
    assert_code(&apart.arg("--manifests").arg(manifests).output().unwrap(), 0);
    let first = sandbox.results("out");
    let apart = sandbox.results("apart");
    for id in ["first-s0", "second-s0"] {
        assert_eq!(bits(trial(&first, id)), bits(trial(&apart, id)), "{id}");
    }

    let second = trial(&first, "second-s0");
    assert_ne!(bits(second), bits(trial(&first, "first-s0")));
    assert_eq!(run(MOVING).matches("finished earlier, kept").count(), 2);

    // By another number of threads the same recipe may have made other weights: the second is not of those.
    let record = sandbox.path("out/trials/first-s0/record.json");
    let mut first_made: Value = serde_json::from_slice(&std::fs::read(&record).unwrap()).unwrap();
    first_made["weights"] = "others".into();
    std::fs::write(&record, first_made.to_string()).unwrap();
    let said = run(MOVING);
    assert!(said.contains("second-s0: what it extends was made anew"), "{said}");
    assert!(said.contains("first-s0: finished earlier, kept"), "{said}");

    let inspect =
        ["inspect", "out/second-s0", "--on", "disturbed.yaml", "--window", "64", "--json"];
    let shown = sandbox.neutral(&inspect).output().unwrap();
    assert_code(&shown, 0);
    let shown: Value = serde_json::from_slice(&shown.stdout).unwrap();
    assert_eq!(shown["divergence"]["neutral_prefixes"]["violations"], 0, "{shown}");
    let export =
        sandbox.neutral(&["export", "out/second-s0", "--format", "neutral"]).output().unwrap();
    assert_code(&export, 2);
    assert!(words(&export).contains("goes on from first-s0"), "{}", words(&export));

    let faster = run(&MOVING.replace("5.0e-3", "8.0e-3"));
    assert!(!faster.contains("finished earlier, kept"), "{faster}");
    assert_ne!(bits(trial(&sandbox.results("out"), "second-s0")), bits(second));

    // What it stands on is needed to read it.
    let weights = sandbox.path("out/trials/first-s0/extension.safetensors");
    std::fs::remove_file(&weights).unwrap();
    let shown = sandbox.neutral(&inspect).output().unwrap();
    assert!(!shown.status.success());
    assert!(words(&shown).contains("first-s0/extension.safetensors"), "{}", words(&shown));
    // Nobody misses it as long as all that stands on it has finished; then it is made again.
    let faster = MOVING.replace("5.0e-3", "8.0e-3");
    assert_eq!(run(&faster).matches("finished earlier, kept").count(), 2);
    assert!(!weights.exists());
    let heavier = faster.replace("weight: 10", "weight: 20");
    let said = run(&heavier);
    assert!(said.contains("first-s0: its weights are gone and needed"), "{said}");
    assert!(weights.exists());
    // What goes on from the second stands on the first too.
    std::fs::remove_file(&weights).unwrap();
    let said = run(&(heavier + THIRD));
    assert!(said.contains("first-s0: its weights are gone and needed"), "{said}");
    assert!(said.contains("second-s0: finished earlier, kept"), "{said}");
    assert!(weights.exists());
}

#[test]
fn what_goes_on_from_a_divergence_has_diverged_and_neither_is_tried_twice() {
    let sandbox = Sandbox::new();
    let methods = MOVING.replace("learning_rate: 5.0e-3", "learning_rate: 1.0e+30") + THIRD;
    let path = sandbox.write("disturbed.yaml", &experiment(&methods));
    assert_code(&sandbox.run(&path, "here"), 1);
    let manifests = root().join("data-manifests");
    let mut apart =
        sandbox.neutral(&["run", "--out", "apart", "--device", "cpu", "--threads", "2"]);
    apart.args(["--executor", "local", "--jobs", "1"]).arg(&path);
    assert_code(&apart.arg("--manifests").arg(manifests).output().unwrap(), 1);
    for out in ["here", "apart"] {
        let results = sandbox.results(out);
        for id in ["first-s0", "second-s0", "third-s0"] {
            assert_eq!(trial(&results, id)["status"], "diverged", "{out}: {id}");
        }
        let why = trial(&results, "third-s0")["error"].as_str().unwrap();
        assert!(why.contains("second-s0") && why.contains("first-s0"), "{out}: {why}");
    }
    let logs = ["first-s0", "second-s0", "third-s0"]
        .map(|id| std::fs::read_to_string(sandbox.path(&format!("apart/logs/{id}.log"))).unwrap());
    let tried = logs.iter().filter(|log| log.contains("ERROR first-s0:")).count();
    assert_eq!(tried, 1, "{logs:?}");
}
