//! A whole run on artificial languages, against its goldens.
//!
//! The goldens are remade with `UPDATE_GOLDENS=1 cargo nextest run --release -p neutral-tests smoke`
//! on a clean tree, together with `NUMERICS_VERSION`, in the commit that changed the numbers.

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::Value;

use crate::command::{Sandbox, assert_code, root, words};

/// Processors differ in the order of sums, and a training amplifies that; how much between AVX2 and
/// AVX-512 is not measured yet, so this is loose: bits/byte, and a share of the value.
const TOLERANCE: (f64, f64) = (0.03, 0.02);

/// `trial/quantity/corpus` to value, for everything that measures a model.
fn numbers(results: &Value) -> BTreeMap<String, f64> {
    let mut numbers = BTreeMap::new();
    let mut add = |name: String, value: &Value| {
        numbers.insert(name, value.as_f64().unwrap());
    };
    for domain in ["original", "new"] {
        for (corpus, metrics) in results["base"]["metrics"][domain].as_object().unwrap() {
            add(format!("base/bits_per_byte/{corpus}"), &metrics["bits_per_byte"]);
        }
    }
    for trial in results["trials"].as_array().unwrap() {
        let id = trial["id"].as_str().unwrap();
        for quantity in ["forgetting", "learning"] {
            for (corpus, value) in trial[quantity].as_object().unwrap() {
                add(format!("{id}/{quantity}/{corpus}"), value);
            }
        }
    }
    numbers
}

#[test]
fn smoke_gives_its_goldens_and_a_second_run_reuses_everything() {
    let sandbox = Sandbox::new();
    let experiment = root().join("experiments/smoke.yaml");
    let first = sandbox.run(&experiment, "out");
    assert_code(&first, 0);
    let results = sandbox.results("out");
    assert_eq!(results["schema"], 1);
    let trials = results["trials"].as_array().unwrap();
    assert!(trials.iter().all(|t| t["status"] == "finished"));
    for file in ["results.csv", "report.md", "tradeoff.svg"] {
        assert!(sandbox.path("out").join(file).metadata().unwrap().len() > 100, "{file}");
    }

    let second = sandbox.run(&experiment, "out");
    assert_code(&second, 0);
    let kept = words(&second).matches("finished earlier, kept").count();
    assert_eq!(kept, trials.len(), "{}", words(&second));
    assert_eq!(sandbox.results("out"), results);

    let golden = root().join("tests/goldens/smoke-cpu.json");
    let seen = numbers(&results);
    if std::env::var_os("UPDATE_GOLDENS").is_some() {
        let status =
            Command::new("git").args(["status", "--porcelain"]).current_dir(root()).output();
        assert!(status.unwrap().stdout.is_empty(), "goldens are remade on a clean tree only");
        std::fs::write(&golden, serde_json::to_string_pretty(&seen).unwrap() + "\n").unwrap();
    }
    let text = std::fs::read_to_string(&golden).unwrap();
    let golden: BTreeMap<String, f64> = serde_json::from_str(&text).unwrap();
    assert_eq!(seen.keys().collect::<Vec<_>>(), golden.keys().collect::<Vec<_>>());
    let near =
        |value: f64, other: f64| (value - other).abs() <= TOLERANCE.0 + TOLERANCE.1 * value.abs();
    let off = golden.iter().filter(|(name, value)| !near(**value, seen[*name]));
    let off: Vec<_> = off.map(|(name, value)| (name, value, seen[name])).collect();
    assert!(off.is_empty(), "golden and seen differ by more than {TOLERANCE:?}: {off:#?}");
}
