//! `--reuse`: what another run has finished is taken from it, and nothing else is.

use std::path::Path;
use std::process::Output;

use neutral_torch::{load_tensors, save_tensors};
use tch::Device;

use crate::baselines::{experiment, only_folder};
use crate::command::{Sandbox, assert_code, root, words};
use crate::control::trial;
use crate::interruption::lasting;

const FIRST: &str = "methods:
  - method: { kind: adapter, budget: 20% }
  - method: { kind: lora, budget: 20% }
";

/// The first's adapter under another label and something upon it; a LoRA of another size.
const SECOND: &str = "methods:
  - label: the same
    method: { kind: adapter, budget: 20% }
  - label: then
    after: the same
    method: { kind: lora, budget: 10% }
  - method: { kind: lora, budget: 10% }
";

#[test]
fn a_trial_made_from_the_same_is_taken_from_another_run() {
    let sandbox = Sandbox::new();
    assert_code(&sandbox.run(&sandbox.write("first.yaml", &experiment(FIRST)), "first"), 0);
    let file = sandbox.write("second.yaml", &experiment(SECOND));
    let manifests = root().join("data-manifests");
    let run = |out: &str, more: &[&str]| {
        let mut command = sandbox.neutral(&["run", "--out", out, "--device", "cpu", "--reuse"]);
        command.args(more).arg(&file).arg("--manifests").arg(&manifests);
        command.output().unwrap()
    };
    let record = |path: &str| std::fs::read(sandbox.path(path).join("record.json")).unwrap();
    let taken = |output: &Output| words(output).matches("-s0: taken from ").count();
    let output = run("here", &["first"]);
    assert_code(&output, 0);
    assert_eq!(taken(&output), 1, "{}", words(&output));
    assert!(words(&output).contains("the-same-s0: taken from "), "{}", words(&output));
    // Not trained again: its times are the first's too.
    assert_eq!(record("here/trials/the-same-s0"), record("first/trials/adapter-s0"));
    let (here, first) = (sandbox.results("here"), sandbox.results("first"));
    assert_eq!(trial(&here, "the-same-s0")["metrics"], trial(&first, "adapter-s0")["metrics"]);
    for id in ["then-s0", "lora-s0"] {
        assert_eq!(trial(&here, id)["status"], "finished");
    }

    // All of them, one of which goes on from another, by an executor.
    let executor = ["--executor", "local", "--jobs", "1", "--threads", "2"];
    let output = run("apart", &[&["here"], &executor[..]].concat());
    assert_code(&output, 0);
    assert_eq!(taken(&output), 3, "{}", words(&output));
    for id in ["the-same-s0", "then-s0", "lora-s0"] {
        let [there, here] = ["apart", "here"].map(|run| record(&format!("{run}/trials/{id}")));
        assert_eq!(there, here);
    }

    // Gone from there, the trial is still whole here.
    std::fs::remove_dir_all(sandbox.path("first")).unwrap();
    let output = run("here", &["apart"]);
    assert_code(&output, 0);
    assert_eq!(words(&output).matches("finished earlier, kept").count(), 3);
    let output = run("here", &["first"]);
    assert_code(&output, 2);
    assert!(words(&output).contains("first has no run.json"), "{}", words(&output));
    assert_code(&run("here", &["first", "--dry-run"]), 2);
}

#[test]
fn a_trial_under_another_name_or_scored_otherwise_is_not_trained_again() {
    let sandbox = Sandbox::new();
    let text = experiment("methods:\n  - method: { kind: adapter, budget: 20% }\n");
    assert_code(&sandbox.run(&sandbox.write("file.yaml", &text), "out"), 0);
    let record = |id: &str| std::fs::read(sandbox.path(&format!("out/trials/{id}/record.json")));
    let first = record("adapter-s0").unwrap();

    let renamed =
        text.replace("method: { kind: adapter", "label: renamed\n    method: { kind: adapter");
    let file = sandbox.write("file.yaml", &renamed);
    let output = sandbox.run(&file, "out");
    assert_code(&output, 0);
    assert!(words(&output).contains("renamed-s0: taken from "), "{}", words(&output));
    assert_eq!(record("renamed-s0").unwrap(), first);
    assert_eq!(sandbox.results("out")["trials"].as_array().unwrap().len(), 1);

    let otherwise = sandbox.write("file.yaml", &text.replace("max_bytes: 5000", "max_bytes: 4000"));
    let manifests = root().join("data-manifests");
    let mut command =
        sandbox.neutral(&["run", "--out", "other", "--device", "cpu", "--reuse", "out"]);
    let output = command.arg(&otherwise).arg("--manifests").arg(&manifests).output().unwrap();
    assert_code(&output, 0);
    let said = words(&output);
    assert!(said.contains("adapter-s0: its training is taken from "), "{said}");
    assert!(said.contains("adapter-s0: trained earlier, scored anew"), "{said}");
    // With a cache of its own.
    let apart = Sandbox::new();
    assert_code(&apart.run(&otherwise, "fresh"), 0);
    let [other, fresh] = [sandbox.results("other"), apart.results("fresh")].map(lasting);
    assert_eq!(other["trials"], fresh["trials"]);
}

/// Whose weights the user has removed: a copy would be trained anew, and be put over the trial's own checkpoint at every
/// start.
#[test]
fn a_training_without_its_weights_is_not_taken() {
    let sandbox = Sandbox::new();
    let text = experiment("methods:\n  - method: { kind: adapter, budget: 20% }\n");
    assert_code(&sandbox.run(&sandbox.write("file.yaml", &text), "out"), 0);
    std::fs::remove_file(sandbox.path("out/trials/adapter-s0/extension.safetensors")).unwrap();
    let otherwise = sandbox.write("file.yaml", &text.replace("max_bytes: 5000", "max_bytes: 4000"));
    let mut command =
        sandbox.neutral(&["run", "--out", "other", "--device", "cpu", "--reuse", "out"]);
    command.arg(&otherwise).arg("--manifests").arg(root().join("data-manifests"));
    let output = command.output().unwrap();
    assert_code(&output, 0);
    let said = words(&output);
    assert!(said.contains("adapter-s0: not taken from out/trials/adapter-s0, which"), "{said}");
    assert!(!said.contains("is taken from"), "{said}");
}

#[test]
fn two_trials_that_change_names_keep_their_training() {
    let sandbox = Sandbox::new();
    let methods = |adapter: &str, lora: &str| {
        experiment(&format!(
            "methods:\n  - {{ label: {adapter}, method: {{ kind: adapter, budget: 20% }} }}\n  \
             - {{ label: {lora}, method: {{ kind: lora, budget: 20% }} }}\n"
        ))
    };
    let record = |id: &str| std::fs::read(sandbox.path(&format!("out/trials/{id}/record.json")));
    let file = sandbox.write("file.yaml", &methods("one", "two"));
    assert_code(&sandbox.run(&file, "out"), 0);
    let (adapter, lora) = (record("one-s0").unwrap(), record("two-s0").unwrap());
    // Exchanged, exchanged again, and moved up by one.
    for (now, names) in [(["two", "one"], 2), (["one", "two"], 2), (["two", "three"], 2)] {
        let file = sandbox.write("file.yaml", &methods(now[0], now[1]));
        let output = sandbox.run(&file, "out");
        assert_code(&output, 0);
        let said = words(&output);
        assert_eq!(said.matches("-s0: taken from ").count(), names, "{now:?}: {said}");
        assert!(!said.contains("run anew"), "{now:?}: {said}");
        let found = now.map(|name| record(&format!("{name}-s0")).unwrap());
        assert!(found == [adapter.clone(), lora.clone()], "{now:?}");
    }
    // As a run that was killed after it had moved one aside would leave it.
    let folder = sandbox.path("out/trials/three-s0");
    let mark = std::fs::read_to_string(folder.join("fingerprint.json")).unwrap();
    let made: String = serde_json::from_str(&mark).unwrap();
    let aside = folder.with_file_name(format!("three-s0.{made}"));
    std::fs::rename(&folder, &aside).unwrap();
    let output = sandbox.run(&sandbox.write("file.yaml", &methods("two", "three")), "out");
    assert_code(&output, 0);
    assert_eq!(record("three-s0").unwrap(), lora);
    assert!(!aside.exists());
}

/// Run anew in the same folder, with the same cache: what is left of before must not stand in for what the
/// file says now.
#[test]
fn what_was_made_with_other_settings_is_not_kept() {
    let sandbox = Sandbox::new();
    let first = experiment("methods:\n  - method: { kind: adapter, budget: 20% }\n");
    let scored_apart = first.replace("max_bytes: 5000", "max_bytes: 5000, window: 32");
    let in_bf16 = first.replace("precision: fp32", "precision: bf16");
    // What is scored otherwise is not trained again.
    for (text, kept, scored) in [
        (&first, 0, 0),
        (&first, 1, 0),
        (&scored_apart, 0, 1),
        (&first, 0, 1),
        (&in_bf16, 0, 0),
        (&first, 0, 0),
    ] {
        let output = sandbox.run(&sandbox.write("file.yaml", text), "out");
        assert_code(&output, 0);
        let said = words(&output);
        assert_eq!(said.matches("finished earlier, kept").count(), kept, "{text}\n{said}");
        assert_eq!(said.matches("trained earlier, scored anew").count(), scored, "{text}\n{said}");
        // With a cache of its own.
        let apart = Sandbox::new();
        assert_code(&apart.run(&apart.write("file.yaml", text), "fresh"), 0);
        let [here, there] = [sandbox.results("out"), apart.results("fresh")].map(lasting);
        assert_eq!(here["trials"], there["trials"]);
        assert_eq!(here["base"]["metrics"], there["base"]["metrics"]);
    }
}

/// A base that was made anew, by more threads or processes, may have other weights under the same recipe.
#[test]
fn a_trial_of_a_base_with_other_weights_is_trained_again() {
    let sandbox = Sandbox::new();
    let text = experiment("methods:\n  - method: { kind: adapter, budget: 20% }\n");
    let file = sandbox.write("file.yaml", &text);
    assert_code(&sandbox.run(&file, "out"), 0);
    let first = sandbox.results("out");

    let weights = only_folder(&sandbox.path("cache/bases")).join("model.safetensors");
    move_a_little(&weights);
    let again = sandbox.run(&file, "out");
    assert_code(&again, 0);
    assert!(words(&again).contains("what it extends was made anew"), "{}", words(&again));
    assert_code(&sandbox.run(&file, "fresh"), 0);
    let [again, fresh] = ["out", "fresh"].map(|run| lasting(sandbox.results(run)));
    assert_eq!((&again["base"], &again["trials"]), (&fresh["base"], &fresh["trials"]));
    assert_ne!(again["base"]["metrics"], first["base"]["metrics"]);

    let mut command = sandbox.neutral(&["run", "--out", "other", "--device", "cpu", "--reuse"]);
    let manifests = root().join("data-manifests");
    move_a_little(&weights);
    let output = command.arg("out").arg(&file).arg("--manifests").arg(&manifests).output().unwrap();
    assert_code(&output, 0);
    assert!(words(&output).contains("which extends other weights"), "{}", words(&output));
}

fn move_a_little(weights: &Path) {
    let (tensors, metadata) = load_tensors(weights, Device::Cpu).unwrap();
    let moved = tensors.into_iter().map(|(name, tensor)| (name, tensor * 1.01)).collect();
    save_tensors(weights, &moved, &metadata).unwrap();
}

/// A trial that has been trained anew by itself, of another rate or upon a base with other weights: what the run said
/// of it before is not of it.
#[test]
fn results_of_before_are_not_joined_to_a_trial_that_was_made_anew() {
    let sandbox = Sandbox::new();
    let text = experiment("methods:\n  - method: { kind: finetune }\n");
    let faster =
        text.replace("learning_rate: 5.0e-3\n  schedule", "learning_rate: 1.0e-3\n  schedule");
    assert_ne!(text, faster);
    let export = |out: &str| {
        let arguments = ["export", "out/finetune-s0", "--format", "hf", "--out", out];
        assert_code(&sandbox.neutral(&arguments).output().unwrap(), 0);
        std::fs::read_to_string(sandbox.path(out).join("README.md")).unwrap()
    };
    for (round, then) in [&faster, &text].into_iter().enumerate() {
        let file = sandbox.write("file.yaml", &text);
        assert_code(&sandbox.run(&file, "out"), 0);
        assert!(export(&format!("before-{round}")).contains("## Results"));

        sandbox.write("file.yaml", then);
        if *then == text {
            move_a_little(&only_folder(&sandbox.path("cache/bases")).join("model.safetensors"));
        }
        for unit in ["prepare", "trial:finetune-s0"] {
            let manifests = root().join("data-manifests");
            let arguments =
                ["run", "--out", "out", "--device", "cpu", "--only", unit, "--manifests"];
            let output = sandbox.neutral(&arguments).arg(manifests).arg(&file).output().unwrap();
            assert_code(&output, 0);
        }
        assert!(!export(&format!("after-{round}")).contains("## Results"));
        let check = sandbox.neutral(&["check", "out"]).output().unwrap();
        assert_code(&check, 2);
        assert!(words(&check).contains("finetune-s0 is made anew"), "{}", words(&check));
    }
}

#[test]
fn a_run_does_not_take_over_the_folder_of_another_experiment() {
    let sandbox = Sandbox::new();
    let of = |name: &str| {
        let text = experiment("methods:\n  - method: { kind: lora, budget: 20% }\n");
        text.replace("experiment: disturbed", &format!("experiment: {name}"))
    };
    assert_code(&sandbox.run(&sandbox.write("one.yaml", &of("one")), "out"), 0);
    let record = || std::fs::read(sandbox.path("out/trials/lora-s0/record.json")).unwrap();
    let before = record();
    let output = sandbox.run(&sandbox.write("two.yaml", &of("two")), "out");
    assert_code(&output, 2);
    let message = words(&output);
    assert!(message.contains("the experiment `one`, not of `two`"), "{message}");
    assert!(message.contains("--out"), "{message}");
    assert_eq!(record(), before);
}
