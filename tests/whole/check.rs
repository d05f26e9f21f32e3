//! `neutral check` on a run of its own: what it says, writes and ends with.

use std::process::Command;

use serde_json::{Value, json};

use crate::command::{Sandbox, assert_code, program, root, words};
use crate::interruption::EXPERIMENT;

fn edit(path: &std::path::Path, change: impl FnOnce(&mut Value)) {
    let mut value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    change(&mut value);
    std::fs::write(path, serde_json::to_vec(&value).unwrap()).unwrap();
}

#[test]
fn a_run_is_checked_from_baseline_to_exit_code() {
    let sandbox = Sandbox::new();
    let text = EXPERIMENT.replace("tokens: 40960", "tokens: 8192").replace("5000", "40000");
    assert_code(&sandbox.run(&sandbox.write("disturbed.yaml", &text), "out"), 0);
    let check = |arguments: &[&str]| {
        let mut command = sandbox.neutral(&["check"]);
        command.args(arguments).env_remove("GITHUB_ACTIONS").env_remove("GITHUB_STEP_SUMMARY");
        command.output().unwrap()
    };
    let commit = |name: &str| {
        edit(&sandbox.path("out/results.json"), |results| {
            results["environment"]["git"] = json!(name);
        });
    };
    let baseline = ["out", "--baseline", "baseline.json"];

    // Nothing to compare with yet, and none is made of a tree that no commit has.
    let absent = check(&baseline);
    assert_code(&absent, 2);
    assert!(words(&absent).contains("--write-baseline"), "{}", words(&absent));
    let write = [&baseline[..], &["--write-baseline"]].concat();
    commit("0123456789ab-dirty");
    let dirty = check(&write);
    assert_code(&dirty, 2);
    assert!(words(&dirty).contains("0123456789ab-dirty"), "{}", words(&dirty));
    // Nor is a tree clean because its results were collected again: each trial knows what it was made by.
    edit(&sandbox.path("out/trials/finetune-s0/record.json"), |record| {
        record["git"] = json!("ba9876543210-dirty");
    });
    assert_code(&sandbox.run(&sandbox.path("disturbed.yaml"), "out"), 0);
    let dirty = check(&write);
    assert_code(&dirty, 2);
    assert!(words(&dirty).contains("ba9876543210-dirty"), "{}", words(&dirty));
    commit("0123456789ab");
    assert_code(&check(&write), 0);

    // The GitHub Action, after its own build; what it was given and what it says.
    let script = std::fs::read_to_string(root().join("action.yml")).unwrap();
    let (_, script) = script.split_once("run: |\n").unwrap();
    let action_on = |experiment: &str, write_baseline: &str, policy: &str, allow: &str| {
        let output = sandbox.write("github-output", "");
        let status = Command::new("bash")
            .args(["-e", "-o", "pipefail", "-c", script])
            .current_dir(sandbox.path(""))
            .envs([("RUN", "out"), ("EXPERIMENT", experiment), ("BASELINE", "by-action.json")])
            .envs([("WRITE_BASELINE", write_baseline), ("POLICY", policy), ("REF", "main")])
            .envs([("ALLOW_INCONCLUSIVE", allow), ("NEUTRAL", program())])
            .env("GITHUB_OUTPUT", &output)
            .env("NEUTRAL_CACHE", sandbox.path("cache"))
            .env_remove("GITHUB_STEP_SUMMARY")
            .status();
        (status.unwrap().code().unwrap(), std::fs::read_to_string(output).unwrap())
    };
    let action = |write_baseline: &str, policy: &str, allow: &str| {
        action_on("", write_baseline, policy, allow)
    };
    let said = |verdict: &str| format!("verdict={verdict}\n");
    assert_eq!(action("false", "", "false"), (2, said("")), "there is no baseline yet");
    assert_eq!(action("true", "", "false"), (0, String::new()));
    assert_eq!(action("false", "", "false"), (0, said("pass")));
    sandbox.write("strict.yaml", "minimum_documents: 1000\n");
    assert_eq!(action("false", "strict.yaml", "false"), (3, said("inconclusive")));
    assert_eq!(action("false", "strict.yaml", "true"), (0, said("inconclusive")));
    // It runs the experiment first; a trial that diverges has forgotten more, which is a verdict.
    std::os::unix::fs::symlink(root().join("data-manifests"), sandbox.path("data-manifests"))
        .unwrap();
    let diverging = text.replace(
        "{ kind: finetune }",
        "{ kind: finetune }\n    training: { learning_rate: 1.0e+30 }",
    );
    assert_ne!(diverging, text);
    sandbox.write("diverging.yaml", &diverging);
    assert_eq!(action_on("diverging.yaml", "false", "", "false"), (1, said("fail")));
    sandbox.write("broken.yaml", "experiment: [");
    assert_eq!(action_on("broken.yaml", "false", "", "false"), (2, String::new()));
    assert_eq!(action_on("disturbed.yaml", "false", "", "false"), (0, said("pass")));
    commit("0123456789ab");

    // Unchanged.
    let outputs = ["--junit", "junit.xml", "--badge", "badge.json", "--summary", "summary.md"];
    sandbox.write("summary.md", "of another step\n");
    let same = check(&[&baseline[..], &outputs, &["--annotations"]].concat());
    assert_code(&same, 0);
    let shown = String::from_utf8(same.stdout).unwrap();
    assert!(shown.contains("neutral-residues") && shown.contains("::notice "), "{shown}");
    let read = |name: &str| std::fs::read_to_string(sandbox.path(name)).unwrap();
    assert!(read("junit.xml").contains("tests=\"4\" failures=\"0\" errors=\"0\""));
    assert!(read("summary.md").starts_with("of another step\n### disturbed: pass"));
    assert!(read("badge.json").contains("brightgreen"));
    let result: Value = serde_json::from_str(&read("out/check.json")).unwrap();
    assert_eq!((&result["verdict"], &result["rows"][0]["worse_by"]), (&json!("pass"), &json!(0.0)));

    // What cannot be written down is no verdict.
    sandbox.write("file", "");
    let unwritten = check(&[&baseline[..], &["--json", "file/check.json"]].concat());
    assert_code(&unwritten, 2);
    assert!(words(&unwritten).contains("file"), "{}", words(&unwritten));

    // Too few documents to tell, by the policy.
    assert_code(&check(&[&baseline[..], &["--policy", "strict.yaml"]].concat()), 3);

    // A baseline that had forgotten less.
    edit(&sandbox.path("baseline.json"), |baseline| {
        for nats in baseline["trials"][0]["nats"]["original"]["synthetic/a"].as_array_mut().unwrap()
        {
            *nats = json!(nats.as_f64().unwrap() * 0.9);
        }
    });
    let worse = check(&baseline);
    assert_code(&worse, 1);
    let shown = String::from_utf8(worse.stdout).unwrap();
    assert!(
        shown.contains("fail") && shown.lines().all(|line| line.chars().count() <= 120),
        "{shown}"
    );

    // A baseline of something else.
    edit(&sandbox.path("baseline.json"), |baseline| {
        baseline["base"]["fingerprints"]["tokenizer"] = json!("0000000000000000");
    });
    let other = check(&baseline);
    assert_code(&other, 2);
    assert!(words(&other).contains("fingerprint of the tokenizer differs, 0000000000000000"));

    // The noise of a setting goes into the policy.
    let calibrate = check(&["calibrate", "out", "out", "--policy", "strict.yaml"]);
    assert_code(&calibrate, 0);
    assert!(read("strict.yaml").starts_with("minimum_documents: 1000\n"));
    assert!(read("strict.yaml").contains("finetune / forgetting / synthetic/a: 0.0"));
    assert_code(&check(&["calibrate", "out", "--policy", "strict.yaml"]), 2);
}
