//! The variants of neutral residues and block expansion, from the file to the table.

use serde_json::Value;

use crate::baselines::experiment;
use crate::command::{Sandbox, assert_code, words};

const METHODS: &str = "methods:
  - label: free
    method: { kind: neutral_residues, budget: 20%, local_loss: { kind: none } }
  - label: gate_l1
    method: { kind: neutral_residues, budget: 20%, local_loss: { kind: gate_l1, weight: 100 } }
  - label: kl
    method: { kind: neutral_residues, budget: 20%, local_loss: { kind: kl, weight: 10 } }
  - label: warm-up
    method: { kind: neutral_residues, budget: 20%, local_loss: { kind: l1, weight: 30, warmup_fraction: 0.3 } }
  - label: shared
    method: { kind: neutral_residues, budget: 20%, gate: { shared: true }, local_loss: { kind: l1, weight: 30 } }
  - label: norm
    method: { kind: neutral_residues, budget: 20%, input_norm: true, local_loss: { kind: l1, weight: 30 } }
  - label: l0
    method: { kind: neutral_residues, budget: 20%, gate: { activation: hard_sigmoid }, local_loss: { kind: l0, weight: 3 } }
  - method: { kind: block_expansion, budget: 50% }
";

#[test]
fn every_variant_learns_and_every_local_loss_holds_the_original_domain() {
    let sandbox = Sandbox::new();
    assert_code(&sandbox.run(&sandbox.write("disturbed.yaml", &experiment(METHODS)), "out"), 0);
    let results = sandbox.results("out");
    let moved = |trial: &Value| {
        let on = &trial["against_base"]["divergence"]["original"]["synthetic/a"];
        on["kl_nats"]["mean"].as_f64().unwrap()
    };
    let trials = results["trials"].as_array().unwrap();
    assert_eq!(trials.len(), 8);
    for trial in trials {
        let learnt = trial["learning"]["synthetic/b"].as_f64().unwrap();
        println!("{}: learning {learnt:.3}, KL {:.4}", trial["id"], moved(trial));
        assert!(learnt > 0.1, "{}: {learnt}", trial["id"]);
    }
    for held in &trials[1..7] {
        let (held_by, free) = (moved(held), moved(&trials[0]));
        assert!(held_by < 0.8 * free, "{}: {held_by} of {free}", held["id"]);
        let id = held["id"].as_str().unwrap();
        let log = sandbox.path("out/trials").join(id).join("metrics.jsonl");
        let log = std::fs::read_to_string(log).unwrap();
        assert!(log.lines().last().unwrap().contains("\"local_loss\":"), "{id}: {log}");
    }
}

#[test]
fn a_loss_without_its_gate_is_refused_before_anything_runs() {
    let sandbox = Sandbox::new();
    for (method, part) in [
        (
            "kind: neutral_residues, budget: 20%, local_loss: { kind: l0, weight: 1 }",
            "hard_sigmoid",
        ),
        (
            "kind: neutral_residues, budget: 20%, gate: { activation: none }, local_loss: { kind: gate_l1, weight: 1 }",
            "there is none",
        ),
        ("kind: block_expansion, budget: 900%", "copied once at most"),
    ] {
        let text = experiment(&format!("methods:\n  - method: {{ {method} }}\n"));
        let output = sandbox.run(&sandbox.write("disturbed.yaml", &text), "out");
        assert_code(&output, 2);
        assert!(words(&output).contains(part), "{}", words(&output));
    }
}
