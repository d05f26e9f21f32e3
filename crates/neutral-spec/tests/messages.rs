//! The messages about bad experiments, all in one snapshot: each is `quick.yaml` with one edit.

use std::fmt::Write;
use std::path::Path;

use neutral_spec::{Experiment, SpecError};

const QUICK: &str = include_str!("quick.yaml");

const RATE: &str = "  learning_rate: 2.0e-3";
const LORA: &str = "{ kind: lora, budget: 20% }";
const OWN_GRID: &str = "        method.gate.bias: [0, 1.0]";

/// What is replaced, by what.
const EDITS: &[(&str, &str)] = &[
    // Keys, types, ranges.
    (RATE, "  learning_rate: fast"),
    (RATE, "  learning_rat: 2.0e-3"),
    (RATE, "  learning_rate: 2.0e-3\n  dropout: 0.1"),
    (RATE, "  learning_rate: 1\n  learning_rate: 2"),
    (RATE, ""),
    (RATE, "  learning_rate: 0"),
    (RATE, "  learning_rate: 1\n  beta2: 1"),
    ("tokens: 400_000", "tokens: 4e5"),
    ("seeds: [0, 1]", "seeds: []"),
    ("seeds: [0, 1]", "seeds: [0, 1, 0]"),
    ("seeds: [0, 1]", "seeds: [-1]"),
    ("precision: fp32", "precision: fp16"),
    ("experiment: quick", "experiment: Quick start"),
    ("vocab_size: 4096", "vocab_size: 100"),
    ("tokenizer:\n  kind: train", "tokenizer:\n  kind: trian"),
    ("tokenizer:\n  kind: train", "tokenizer:"),
    (
        "new: [libreoffice-help/fr]\n  original_fraction",
        "new: libreoffice-help/fr\n  original_fraction",
    ),
    ("new: [libreoffice-help/fr]\n  original_fraction", "new: [french]\n  original_fraction"),
    // Weights of a mix.
    (
        "new: [libreoffice-help/fr]",
        "new: [{ corpus: a/fr, weight: 0 }, { corpus: french, wieght: 1 }]",
    ),
    ("new: [libreoffice-help/fr]", "new: [a/fr, { corpus: b/fr, weight: 1 }, 3]"),
    ("new: [libreoffice-help/fr]", "new: [a/fr, { corpus: b/fr, weight: 1 }]"),
    (
        "new: [libreoffice-help/fr]",
        "new: [{ corpus: a/fr, weight: 1 }, { corpus: a/fr, weight: 2 }, { corpus: b/fr, weight: 1.0e-6 }]",
    ),
    (OWN_GRID, "        data.new: [[a/fr, b/fr], [a/fr, { corpus: b/fr, weight: 1 }]]"),
    (LORA, "{ kind: lora, budget: 20 }"),
    (LORA, "{ kind: lora, budget: 20%, rank: 8 }"),
    (LORA, "{ kind: lora, budget: 20%, targets: [q_proj, vproj] }"),
    (LORA, "{ kind: loar, budget: 20% }"),
    (LORA, "{ kind: block_expansion, budget: 900% }"),
    (LORA, "lora"),
    ("{ kind: l1, weight: 1 }", "{ kind: l1, wieght: 1 }"),
    ("{ kind: l1, weight: 1 }", "{ kind: l1, weight: 0 }"),
    // Several at once.
    ("precision: fp32", "precision: fp64\nseed: 1\ncheckpoint_every_steps: 0"),
    ("precision: fp32", "precision: fp32\nexecutor: { kind: slrum }"),
    ("precision: fp32", "precision: fp32\nexecutor: { kind: local, jobs: 0 }"),
    ("precision: fp32", "precision: fp32\nexecutor: { kind: slurm, jobs: 2, time: 90 }"),
    // Rules between fields.
    ("n_heads: 4,", "n_heads: 5,"),
    ("n_kv_heads: 2", "n_kv_heads: 3"),
    ("batch_size: 16\n  learning_rate", "batch_size: 16\n  micro_batch_size: 3\n  learning_rate"),
    ("original: [libreoffice-help/en]\n  new", "original: []\n  new"),
    ("{ learning_rate: 5.0e-4 }", "{ learning_rate: 5.0e-4 }\n    data: { original_fraction: 2 }"),
    ("{ learning_rate: 5.0e-4 }", "{ learning_rate: 5.0e-4 }\n    data: { new: [] }"),
    ("{ kind: l1, weight: 1 }", "{ kind: l1, weight: 1 }\n    data: { original_fraction: 0 }"),
    // The control.
    ("methods:", "control: fine-tune\nmethods:"),
    ("methods:", "control: the base\nmethods:"),
    ("methods:", "control: neutral_residues\nmethods:"),
    ("methods:", "control: lora\nsweep: { grid: { training.beta1: [0.8] } }\nmethods:"),
    // Sequences.
    (LORA, "{ kind: lora, budget: 20% }\n    after: finetunes"),
    (LORA, "{ kind: lora, budget: 20% }\n    after: adapter"),
    ("{ kind: finetune }", "{ kind: finetune }\n    after: finetune"),
    ("{ kind: adapter, budget: 20% }", "{ kind: dora, budget: 20% }\n    after: lora"),
    ("{ kind: adapter, budget: 20% }", "{ kind: kl_to_base, weight: 1 }\n    after: lora"),
    (
        "{ kind: adapter, budget: 20% }",
        "{ kind: neutral_residues, budget: 20% }\n    label: upon\n    after: lora\n    sweep: { grid: { method.local_loss: [{ kind: l1, weight: 1 }, { kind: kl, weight: 1 }] } }",
    ),
    (
        "evaluation:",
        "  - label: again\n    after: neutral_residues\n    method: { kind: finetune }\nevaluation:",
    ),
    ("original_fraction: 0.1", "original_fraction: 0"),
    (
        "new: [libreoffice-help/fr]\n  original_fraction",
        "new: [libreoffice-help/en]\n  original_fraction",
    ),
    ("{ kind: l1, weight: 1 }", "{ kind: domain_classifier }"),
    ("{ kind: l1, weight: 1 }", "{ kind: l0, weight: 1 }"),
    ("{ kind: l1, weight: 1 }", "{ kind: kl, weight: 1, warmup_fraction: 2 }"),
    ("budget: 20%\n", "budget: 20%\n      gate: { activation: none, per: channel }\n"),
    (LORA, "{ kind: adapter, budget: 10% }"),
    (LORA, "{ kind: lora, budget: 0.01% }"),
    (
        "{ learning_rate: 5.0e-4 }",
        "\n      schedule: { kind: warmup_stable_decay, warmup_fraction: 0.7, decay_fraction: 0.6, final_fraction: 0 }",
    ),
    // Sweeps.
    (OWN_GRID, "        method.gate.bais: [0]"),
    (OWN_GRID, "        training.learning_rate: []"),
    (OWN_GRID, "        training.learning_rate: [1.0e-3, fast]"),
    (OWN_GRID, "        training.batch_size: [16, 8.5]"),
    (OWN_GRID, "        training.batch_size: [16, 16]"),
    (OWN_GRID, "        method.local_loss.kind: [l1, none]"),
    (OWN_GRID, "        method.local_loss: [{ kind: none }]"),
    (
        OWN_GRID,
        "        method.gate.per: [token]\n        method.gate.activation: [relu, none]\n        method.gate.bias: [1]",
    ),
    (OWN_GRID, "        method.budget: [20%, 0.01%]"),
    (OWN_GRID, "        data.original_fraction: [0.1, 0]"),
    (OWN_GRID, "      zip:\n        training.tokens: [1, 2]\n        training.weight_decay: [0]"),
    (OWN_GRID, "      zip:\n        method.local_loss.weight: [3]"),
    ("evaluation:", "sweep: { grid: { method.gate.bias: [1] } }\nevaluation:"),
    ("evaluation:", "sweep: { grid: { training.learning_rate: [1.0e-3] } }\nevaluation:"),
    (
        "{ learning_rate: 5.0e-4 }",
        "{ learning_rate: 5.0e-4 }\n    data: { original_fraction: 1 }\n    sweep: { grid: { data.original_fraction: [0.1] } }",
    ),
    ("evaluation:", "sweep: { grid: { training.dropout: [0.1] } }\nevaluation:"),
    ("evaluation:", "sweep: {}\nevaluation:"),
    // YAML itself.
    ("seeds: [0, 1]", "seeds: [0, 1"),
    ("precision: fp32", "precision: &p fp32"),
    ("precision: fp32", "precision: fp32\n---"),
    (QUICK, ""),
];

fn message(text: &str) -> String {
    match Experiment::from_yaml(text, Path::new("quick.yaml")) {
        Ok(_) => "(accepted)".to_owned(),
        Err(error) => error.to_string(),
    }
}

#[test]
fn every_mistake_is_told_with_its_place_and_what_would_be_right() {
    let mut all = String::new();
    for (old, new) in EDITS {
        assert!(QUICK.contains(old), "{old}");
        let message = message(&QUICK.replacen(old, new, 1));
        assert!(message.lines().all(|line| line.starts_with("quick.yaml:")), "{new}: {message}");
        let edit = if new.is_empty() { old.lines().next().unwrap_or_default() } else { new };
        let sign = if new.is_empty() { "- " } else { "" };
        let told = message.replace('\n', "\n     ");
        writeln!(all, "{sign}{}\n  => {told}\n", edit.trim()).unwrap();
    }
    insta::assert_snapshot!("messages", all);
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let error = Experiment::read(Path::new("no/such.yaml")).unwrap_err();
    assert!(matches!(error, SpecError::Read(_)));
    assert!(error.to_string().starts_with("cannot read no/such.yaml: "), "{error}");
}

#[test]
fn hostile_text_is_an_error_and_never_a_panic() {
    for text in [
        "\u{0}",
        "- - - -",
        "{{{{{{",
        "? ? ?",
        "&a [*a, *a]",
        "experiment: [",
        "\u{feff}seeds: [99999999999999999999]",
        "training: { batch_size: 18446744073709551615, sequence_length: 18446744073709551615 }",
    ] {
        assert_ne!(message(text), "(accepted)", "{text:?}");
    }
    let swept = "        training.tokens: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]
        training.batch_size: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]
        training.beta1: [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
        training.beta2: [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]";
    let many = message(&QUICK.replace(OWN_GRID, swept));
    assert!(many.contains("stands for 40000 trials a method"), "{many}");
}
