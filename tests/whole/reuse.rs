//! `--reuse`: what another run has finished is taken from it, and nothing else is.

use std::process::Output;

use crate::baselines::experiment;
use crate::command::{Sandbox, assert_code, root, words};
use crate::control::trial;

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
