//! What an experiment says of seeds, splits and documents reaches what it is about.

use std::collections::BTreeSet;
use std::path::PathBuf;

use neutral_torch::load_tensors;
use serde_json::Value;
use tch::{Device, Kind, Tensor};

use crate::baselines::experiment;
use crate::command::{Sandbox, assert_code, words};
use crate::interruption::EXPERIMENT;

/// The loss of a trial's first step.
fn first_loss(sandbox: &Sandbox, out: &str, trial: &str) -> f64 {
    let log = sandbox.path(out).join("trials").join(trial).join("metrics.jsonl");
    let log = std::fs::read_to_string(log).unwrap();
    let step: Value = serde_json::from_str(log.lines().next().unwrap()).unwrap();
    step["loss_nats_per_token"].as_f64().unwrap()
}

#[test]
fn seeds_are_of_the_text_and_of_the_start_and_documents_may_be_kept_apart() {
    let methods = "methods:
  - method: { kind: finetune }
  - method: { kind: adapter, budget: 20% }
";
    let text = experiment(methods).replace("seeds: [0]", "seeds: [0, 1]");
    let text = text.replace("tokens: 40960", "tokens: 8192");
    let sandbox = Sandbox::new();
    let apart = text.replace("data: { ", "data: { documents: attend_within, ");
    for (name, text) in [("out", &text), ("apart", &apart)] {
        assert_code(&sandbox.run(&sandbox.write("disturbed.yaml", text), name), 0);
    }
    let loss = |out: &str, trial: &str| first_loss(&sandbox, out, trial);
    let one = loss("out", "finetune-s0");
    assert_ne!(one, loss("out", "finetune-s1"), "the seed's text");
    assert_eq!(one, loss("out", "adapter-s0"), "an adapter adds nothing at first");
    assert_ne!(one, loss("apart", "finetune-s0"), "the same text, read otherwise");

    // Sixteen steps move no weight by more than their rates' sum, 0.08; starts are further apart.
    let w_i = |seed| -> Tensor {
        let file = sandbox.path(&format!("out/trials/adapter-s{seed}/extension.safetensors"));
        load_tensors(&file, Device::Cpu).unwrap().0.remove("layers.0.mlp.adapter.w_i").unwrap()
    };
    let apart = (w_i(0) - w_i(1)).abs().mean(Kind::Double).double_value(&[]);
    assert!(apart > 0.17, "{apart}");
}

#[test]
fn what_is_measured_is_the_split_that_the_experiment_names() {
    let sandbox = Sandbox::new();
    let ids = |split: &str| -> BTreeSet<String> {
        let evaluation = format!("evaluation: {{ split: {split}, ");
        let text = EXPERIMENT.replace("evaluation: { ", &evaluation);
        let experiment = sandbox.write("disturbed.yaml", &text);
        let manifests = crate::command::root().join("data-manifests");
        let arguments =
            ["run", experiment.to_str().unwrap(), "--out", split, "--only", "prepare", "--device"];
        let mut command = sandbox.neutral(&arguments);
        let output = command.args(["cpu", "--manifests"]).arg(manifests).output().unwrap();
        assert_code(&output, 0);
        let base = std::fs::read(sandbox.path(split).join("base.json")).unwrap();
        let base: Value = serde_json::from_slice(&base).unwrap();
        let ids = base["documents"]["original"]["synthetic/a"]["ids"].as_array().unwrap().iter();
        ids.map(|id| id.as_str().unwrap().to_owned()).collect()
    };
    for split in ["valid", "test"] {
        let measured = ids(split);
        assert!(!measured.is_empty());
        let kept: Vec<_> = std::fs::read_dir(sandbox.path("cache/corpora")).unwrap().collect();
        let of_split = |folder: PathBuf| -> BTreeSet<String> {
            let lines = std::fs::read_to_string(folder.join(format!("{split}.jsonl"))).unwrap();
            let ids = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
            ids.map(|document| document["id"].as_str().unwrap().to_owned()).collect()
        };
        let mut corpora = kept.into_iter().map(|entry| of_split(entry.unwrap().path()));
        assert!(corpora.any(|ids| measured.is_subset(&ids)), "{split}: {measured:?}");
    }
}

/// The log has what a training reads: a corpus's share of its domain's sequences over the length of its text.
#[test]
fn a_corpus_with_thrice_the_weight_is_read_thrice_as_often() {
    let own = "name: own
licence: none
description: Little text in the language of the new domain, so that it is read several times.
variants:
  b: { language: none, source: { kind: synthetic, language: b, documents: 30, seed: 2 } }
  c: { language: none, source: { kind: synthetic, language: b, documents: 30, seed: 3 } }
clean: { detect_language: false }
";
    let sandbox = Sandbox::new();
    std::fs::create_dir(sandbox.path("manifests")).unwrap();
    sandbox.write("manifests/own.yaml", own);
    let passes = |b: u32, c: u32| {
        let new = format!("[{{ corpus: own/b, weight: {b} }}, {{ corpus: own/c, weight: {c} }}]");
        let text = experiment("methods: [{ method: { kind: finetune } }]\n");
        let text = text.replacen("new: [synthetic/b]", &format!("new: {new}"), 1);
        let file = sandbox.write("disturbed.yaml", &text);
        let out = format!("out-{b}-{c}");
        let mut command = sandbox.neutral(&["run", file.to_str().unwrap(), "--out", &out]);
        for manifests in [sandbox.path("manifests"), crate::command::root().join("data-manifests")]
        {
            command.arg("--manifests").arg(manifests);
        }
        let output = command.args(["--device", "cpu"]).output().unwrap();
        assert_code(&output, 0);
        let log = words(&output);
        let (_, log) = log.split_once(": reads").expect("what the training reads");
        let of = |corpus: &str| -> f64 {
            let (_, after) = log.split_once(&format!("{corpus} ")).expect("the corpus in the log");
            after.split_once(" times").unwrap().0.parse().unwrap()
        };
        [of("its original text"), of("own/b"), of("own/c")]
    };
    let [original, b, c] = passes(1, 3);
    let [same, more_b, less_c] = passes(3, 1);
    assert_eq!(original, same, "weights leave the share of the domains alone");
    // Printed to two digits.
    assert!((more_b / b - 3.0).abs() < 0.05, "{b} {more_b}");
    assert!((c / less_c - 3.0).abs() < 0.05, "{c} {less_c}");
}
