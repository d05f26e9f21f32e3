//! A run that is killed or stopped anywhere gives the results of an undisturbed one, bit for bit.

use std::path::Path;
use std::process::{Child, Stdio};

use serde_json::Value;

use crate::command::{Sandbox, assert_code, root, terminate, wait_for, words};

/// A base and two methods, in a second or two.
pub(crate) const EXPERIMENT: &str = "
experiment: disturbed
question: Does a run survive being killed?
seeds: [0]
precision: fp32
tokenizer: { kind: train, vocab_size: 320, corpora: [synthetic/a] }
base:
  kind: pretrain
  shape: { d_model: 32, n_layers: 2, n_heads: 2, n_kv_heads: 1, d_ff: 64 }
  corpora: [synthetic/a]
  training:
    tokens: 40960
    sequence_length: 64
    batch_size: 8
    learning_rate: 5.0e-3
    schedule: { kind: cosine, warmup_fraction: 0.1, final_fraction: 0.1 }
data: { original: [synthetic/a], new: [synthetic/b], original_fraction: 0.1 }
training:
  tokens: 40960
  sequence_length: 64
  batch_size: 8
  learning_rate: 5.0e-3
  schedule: { kind: cosine, warmup_fraction: 0.1, final_fraction: 0.1 }
methods:
  - method: { kind: finetune }
  - method: { kind: neutral_residues, budget: 20% }
evaluation: { original: [synthetic/a], new: [synthetic/b], max_bytes: 5000 }
checkpoint_every_steps: 7
";

/// The part of the results that computing again must give again: all but times and memory.
pub(crate) fn lasting(mut results: Value) -> Value {
    for trial in results["trials"].as_array_mut().unwrap() {
        let trial = trial.as_object_mut().unwrap();
        for of_the_moment in ["tokens_per_second", "peak_rss_bytes", "elapsed_seconds"] {
            assert!(trial.remove(of_the_moment).is_some());
        }
    }
    results
}

fn start(sandbox: &Sandbox, experiment: &Path) -> Child {
    let manifests = root().join("data-manifests");
    let arguments = [
        "run",
        experiment.to_str().unwrap(),
        "--device",
        "cpu",
        "--out",
        "out",
        "--manifests",
        manifests.to_str().unwrap(),
    ];
    sandbox.neutral(&arguments).stderr(Stdio::null()).stdout(Stdio::null()).spawn().unwrap()
}

fn exists_below(folder: &Path, name: &str) -> bool {
    let Ok(entries) = std::fs::read_dir(folder) else { return false };
    entries.flatten().any(|e| e.file_name() == name || exists_below(&e.path(), name))
}

#[test]
fn killed_three_times_and_stopped_once_the_results_are_the_same() {
    // In the precision of real runs; the tests of neutral-train are mostly in fp32.
    let text = EXPERIMENT.replace("precision: fp32", "precision: bf16");
    let calm = Sandbox::new();
    assert_code(&calm.run(&calm.write("disturbed.yaml", &text), "out"), 0);

    let sandbox = Sandbox::new();
    let experiment = sandbox.write("disturbed.yaml", &text);
    let out = sandbox.path("out");
    let signs: [&dyn Fn() -> bool; 4] = [
        &|| exists_below(&sandbox.path("cache"), "tokenizers"),
        &|| exists_below(&sandbox.path("cache").join("bases"), "checkpoint"),
        &|| exists_below(&out.join("trials"), "checkpoint"),
        &|| out.join("results.json").exists(),
    ];
    let mut killed = 0;
    for sign in signs {
        let mut child = start(&sandbox, &experiment);
        if wait_for(&mut child, sign) {
            // SIGKILL: the process gets no chance to tidy up.
            child.kill().unwrap();
            killed += 1;
        }
        child.wait().unwrap();
    }
    assert!(killed >= 2, "the run was too fast to be killed");
    // Whatever there is of results names all trials, those that were not begun too.
    assert_eq!(sandbox.results("out")["trials"].as_array().unwrap().len(), 2);

    // The last trial is begun anew if it ends before it is stopped.
    let last = out.join("trials/neutral-residues-s0");
    let stopped = (0..20).any(|_| {
        let _ = std::fs::remove_dir_all(&last);
        let mut child = start(&sandbox, &experiment);
        wait_for(&mut child, || last.join("metrics.jsonl").exists());
        terminate(&child);
        let code = child.wait().unwrap().code();
        assert!(matches!(code, Some(130 | 0)), "{code:?}");
        last.join("checkpoint").exists()
    });
    assert!(stopped, "the run was too fast to be stopped");

    let resumed = sandbox.run(&experiment, "out");
    assert_code(&resumed, 0);
    assert!(words(&resumed).contains("goes on from its checkpoint"), "{}", words(&resumed));
    assert_eq!(lasting(sandbox.results("out")), lasting(calm.results("out")));
}

#[test]
fn a_second_process_on_the_same_run_is_refused() {
    let sandbox = Sandbox::new();
    let experiment = sandbox.write("disturbed.yaml", EXPERIMENT);
    let mut first = start(&sandbox, &experiment);
    wait_for(&mut first, || sandbox.path("out").join(".lock").exists());
    let second = sandbox.run(&experiment, "out");
    first.kill().unwrap();
    first.wait().unwrap();
    assert_code(&second, 2);
    assert!(words(&second).contains("in use by another process"), "{}", words(&second));
}
