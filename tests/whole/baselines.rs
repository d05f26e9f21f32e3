//! The baselines that train the base, from the file to the table: each does what it says.

use neutral_torch::load_tensors;
use serde_json::Value;
use tch::{Device, Kind, Tensor};

use crate::command::{Sandbox, assert_code, root, words};
use crate::interruption::EXPERIMENT;

const METHODS: &str = "methods:
  - method: { kind: finetune }
  - method: { kind: wise_ft, share: 0.25 }
  - method: { kind: kl_to_base, weight: 10 }
  - method: { kind: l2_sp, weight: 0.3 }
  - method: { kind: ewc, weight: 100, fisher_sequences: 16 }
";

pub(crate) fn experiment(methods: &str) -> String {
    let (head, _) = EXPERIMENT.split_once("methods:").unwrap();
    let (_, tail) = EXPERIMENT.split_once("evaluation:").unwrap();
    format!("{head}{methods}evaluation:{tail}").replace("fraction: 0.1 }\n", "fraction: 0.3 }\n")
}

pub(crate) fn only_folder(path: &std::path::Path) -> std::path::PathBuf {
    let mut folders: Vec<_> = std::fs::read_dir(path).unwrap().map(|e| e.unwrap().path()).collect();
    assert_eq!(folders.len(), 1, "{folders:?}");
    folders.remove(0)
}

#[test]
fn each_stays_nearer_the_base_than_fine_tuning_and_wise_ft_is_the_mean_of_both_models() {
    let sandbox = Sandbox::new();
    assert_code(&sandbox.run(&sandbox.write("disturbed.yaml", &experiment(METHODS)), "out"), 0);
    let results = sandbox.results("out");
    // A base that learnt for seconds still learns of any text: what it says is compared, not how well.
    let moved = |trial: &Value| {
        trial["against_base"]["divergence"]["original"]["synthetic/a"]["kl_nats"]["mean"]
            .as_f64()
            .unwrap()
    };
    let trials = results["trials"].as_array().unwrap();
    for held in &trials[1..] {
        let (held_by, free) = (moved(held), moved(&trials[0]));
        assert!(held_by < 0.8 * free, "{}: {held_by} of {free}", held["id"]);
        assert_eq!(held["parameters"], trials[0]["parameters"]);
    }

    let load = |path: std::path::PathBuf| load_tensors(&path, Device::Cpu).unwrap().0;
    let base = load(only_folder(&sandbox.path("cache/bases")).join("model.safetensors"));
    let of = |trial: &str| load(sandbox.path("out/trials").join(trial).join("model.safetensors"));
    let (tuned, mean) = (of("finetune-s0"), of("wise-ft-s0"));
    assert_eq!(base.len(), mean.len());
    for (name, base) in &base {
        let expected: Tensor = base * 0.75 + &tuned[name] * 0.25;
        let off = (expected - &mean[name]).abs().max().to_kind(Kind::Double).double_value(&[]);
        assert!(off < 1e-6, "{name} is off by {off:e}");
    }
}

#[test]
fn wise_ft_beside_its_fine_tuning_does_not_train_and_is_the_same_as_alone() {
    let sandbox = Sandbox::new();
    let run = |name: &str, methods: &str| {
        let text = experiment(&format!("methods:\n{methods}"));
        let output = sandbox.run(&sandbox.write("disturbed.yaml", &text), name);
        assert_code(&output, 0);
        words(&output).contains("trained as finetune-s0")
    };
    let wise = "  - method: { kind: wise_ft, share: 0.25 }\n";
    assert!(!run("alone", wise));
    assert!(run("beside", &format!("  - method: {{ kind: finetune }}\n{wise}")));
    let of =
        |run: &str, name: &str| std::fs::read(sandbox.path(run).join("trials").join(name)).unwrap();
    let mean = "wise-ft-s0/model.safetensors";
    assert_eq!(of("alone", mean), of("beside", mean));
    let [own, taken] = ["finetune-s0/metrics.jsonl", "wise-ft-s0/metrics.jsonl"];
    assert_eq!(of("beside", own), of("beside", taken));

    // Processes that begin both at once train once, and whichever is named first.
    let text = experiment(&format!("methods:\n{wise}  - method: {{ kind: finetune }}\n"));
    let file = sandbox.write("disturbed.yaml", &text);
    let mut command = sandbox.neutral(&["run", "--out", "apart", "--device", "cpu", "--executor"]);
    command.args(["local", "--jobs", "2", "--manifests"]).arg(root().join("data-manifests"));
    assert_code(&command.arg(&file).output().unwrap(), 0);
    let log = std::fs::read_to_string(sandbox.path("apart/logs/wise-ft-s0.log")).unwrap();
    assert!(log.contains("trained as finetune-s0"), "{log}");
    assert_eq!(of("apart", own), of("apart", taken));
}

#[test]
fn an_anchor_on_the_original_domain_needs_some_of_it() {
    let sandbox = Sandbox::new();
    for (method, line) in
        [("kl_to_base, weight: 1", "methods[0].method"), ("ewc, weight: 1", "methods[0].method")]
    {
        let methods = format!("methods:\n  - method: {{ kind: {method} }}\n");
        let text = experiment(&methods).replace("original_fraction: 0.3", "original_fraction: 0");
        let output = sandbox.run(&sandbox.write("disturbed.yaml", &text), "out");
        assert_code(&output, 2);
        let message = words(&output);
        assert!(message.contains(line) && message.contains("original_fraction: 0"), "{message}");
    }
}
