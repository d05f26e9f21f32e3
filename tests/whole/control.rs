//! Forgetting from a control: the base trained on original text alone.

use serde_json::Value;

use crate::command::{Sandbox, assert_code, words};
use crate::interruption::EXPERIMENT;

const CONTROL: &str = "  - label: text a alone
    method: { kind: finetune }
    data: { original_fraction: 1 }
";

/// Two seeds of an adapter and of the control, which comes last or first.
fn experiment(control_last: bool) -> String {
    let (head, _) = EXPERIMENT.split_once("methods:").unwrap();
    let (_, tail) = EXPERIMENT.split_once("evaluation:").unwrap();
    let adapter = "  - method: { kind: adapter, budget: 20% }\n";
    let methods =
        if control_last { [adapter, CONTROL].concat() } else { [CONTROL, adapter].concat() };
    format!("{head}methods:\n{methods}control: text a alone\nevaluation:{tail}")
        .replace("seeds: [0]", "seeds: [0, 1]")
        .replace("tokens: 40960", "tokens: 8192")
}

/// A trial of `results.json` by its id.
pub(crate) fn trial<'a>(results: &'a Value, id: &str) -> &'a Value {
    results["trials"].as_array().unwrap().iter().find(|t| t["id"] == id).unwrap()
}

fn bits(trial: &Value) -> f64 {
    trial["metrics"]["original"]["synthetic/a"]["bits_per_byte"].as_f64().unwrap()
}

#[test]
fn forgetting_from_a_control_is_measured_from_that_of_the_same_seed_whatever_their_order() {
    let sandbox = Sandbox::new();
    let last = sandbox.run(&sandbox.write("disturbed.yaml", &experiment(true)), "out");
    assert_code(&last, 0);
    let results = sandbox.results("out");
    assert_eq!(results["control"], "text a alone");
    for seed in [0, 1] {
        let control = trial(&results, &format!("text-a-alone-s{seed}"));
        assert!(control.get("forgetting_from_control").is_none(), "{control}");
        let adapter = trial(&results, &format!("adapter-s{seed}"));
        let found = adapter["forgetting_from_control"]["synthetic/a"].as_f64().unwrap();
        let expected = bits(adapter) - bits(control);
        assert!((found - expected).abs() < 1e-12, "seed {seed}: {found}, {expected}");
    }
    let report = std::fs::read_to_string(sandbox.path("out").join("report.md")).unwrap();
    assert!(report.contains("**from control**: bits/byte"), "{report}");

    // The control reads original text alone, at every step.
    let metrics = sandbox.path("out").join("trials/text-a-alone-s0/metrics.jsonl");
    for line in std::fs::read_to_string(metrics).unwrap().lines() {
        let step: Value = serde_json::from_str(line).unwrap();
        let [original, new] =
            ["original", "new"].map(|domain| &step[format!("loss_nats_per_token_{domain}")]);
        assert!(original.is_number() && new.is_null(), "{line}");
    }

    // All four are loaded from their records, the control first.
    let first = sandbox.run(&sandbox.write("disturbed.yaml", &experiment(false)), "out");
    assert_code(&first, 0);
    assert_eq!(words(&first).matches("finished earlier, kept").count(), 4);
    let again = sandbox.results("out");
    for result in results["trials"].as_array().unwrap() {
        assert_eq!(trial(&again, result["id"].as_str().unwrap()), result);
    }
}
