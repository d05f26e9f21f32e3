//! A run by several processes gives the results of a run by one, goes on with another number of them, and ends
//! with the first that fails.

use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;

use crate::command::{Sandbox, assert_code, root, terminate, wait_for, words};
use crate::interruption::EXPERIMENT;

/// Of losses and scores: every process sums its share of a step's gradients, and the shares are summed then, so that
/// fp32's rounding differs. It moved the losses of the smoke experiment by less than 1e-7, and gets room. What is
/// trained at a high rate may amplify it a thousand times in ten steps, a base that begins from nothing above all: runs
/// that are compared here have one base, and those of a smaller model low rates.
const ROUNDING: f64 = 1e-5;

/// Seconds that processes wait for each other.
const TIMEOUT: Duration = Duration::from_secs(20);

/// `neutral run`, alone or by several processes.
fn run(sandbox: &Sandbox, processes: usize, experiment: &str, out: &str, more: &[&str]) -> Command {
    let (timeout, number) = (TIMEOUT.as_secs().to_string(), processes.to_string());
    let launch = ["launch", "--processes", &number, "--timeout", &timeout, "--"];
    let mut words = if processes > 1 { launch.to_vec() } else { Vec::new() };
    words.extend(["run", experiment, "--out", out, "--device", "cpu"]);
    if processes == 1 {
        words.extend(["--threads", "1"]);
    }
    let mut command = sandbox.neutral(&words);
    command.arg("--manifests").arg(root().join("data-manifests")).args(more).stdin(Stdio::null());
    command
}

fn quiet(mut command: Command) -> Child {
    command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Lines of a trial's `metrics.jsonl`.
fn metrics(out: &Path, trial: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(out.join("trials").join(trial).join("metrics.jsonl"));
    text.unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[track_caller]
fn assert_near(of: &str, value: &Value, other: &Value) {
    let (value, other) = (value.as_f64().unwrap(), other.as_f64().unwrap());
    assert!((value - other).abs() <= ROUNDING * value.abs().max(1.0), "{of}: {value}, {other}");
}

/// Every trial ended as that of another run, with the losses of each step and its scores.
fn assert_same_results(sandbox: &Sandbox, one: &str, other: &str) {
    let (first, second) = (sandbox.results(one), sandbox.results(other));
    let trials = |results: &Value| results["trials"].as_array().unwrap().clone();
    assert_eq!(trials(&first).len(), trials(&second).len());
    for (trial, same) in trials(&first).iter().zip(&trials(&second)) {
        let id = trial["id"].as_str().unwrap();
        assert_eq!(same["id"], trial["id"]);
        assert_eq!((&same["status"], &same["error"]), (&trial["status"], &trial["error"]));
        let [of_one, of_other] = [one, other].map(|out| metrics(&sandbox.path(out), id));
        assert_eq!(of_one.len(), of_other.len(), "{id}: steps");
        for (step, same) in of_one.iter().zip(&of_other) {
            let of = format!("{id}, step {}", step["step"]);
            assert_near(&of, &step["loss_nats_per_token"], &same["loss_nats_per_token"]);
        }
        for quantity in ["forgetting", "learning"] {
            for (corpus, value) in trial[quantity].as_object().into_iter().flatten() {
                assert_near(
                    &format!("{id}, {quantity} of {corpus}"),
                    value,
                    &same[quantity][corpus],
                );
            }
        }
    }
}

/// The experiment at rates that do not amplify rounding.
fn calm() -> String {
    let text = EXPERIMENT.replace("learning_rate: 5.0e-3", "learning_rate: 1.0e-3");
    assert_ne!(text, EXPERIMENT);
    text
}

/// The experiment with so much to train that it can be disturbed.
fn long() -> String {
    let text = EXPERIMENT.replacen("  tokens: 40960\n  seq", "  tokens: 4096000\n  seq", 1);
    assert_ne!(text, EXPERIMENT);
    text
}

/// Waits until a trial has left a checkpoint that is new.
fn wait_for_checkpoint(child: &mut Child, sandbox: &Sandbox, out: &str) {
    let started = SystemTime::now();
    let file = sandbox.path(out).join("trials/finetune-s0/checkpoint/state.safetensors");
    let new = || {
        let written = file.metadata().and_then(|about| about.modified());
        written.is_ok_and(|written| written > started)
    };
    assert!(wait_for(child, new), "it ended before it was disturbed");
}

/// The processes of a launch, which are its children, in the order of their ranks.
fn ranks(launch: &Child) -> Vec<u32> {
    let id = launch.id();
    let path = format!("/proc/{id}/task/{id}/children");
    let text = std::fs::read_to_string(path).unwrap();
    text.split_whitespace().map(|pid| pid.parse().unwrap()).collect()
}

fn said(child: Child) -> Output {
    child.wait_with_output().unwrap()
}

#[test]
fn two_processes_and_four_give_the_results_of_one() {
    let sandbox = Sandbox::new();
    let smoke = root().join("experiments/smoke.yaml");
    let smoke = smoke.to_str().unwrap();
    assert_code(&run(&sandbox, 1, smoke, "one", &[]).output().unwrap(), 0);
    assert!(sandbox.results("one")["environment"].get("processes").is_none());
    for (processes, out) in [(2, "two"), (4, "four")] {
        let output = run(&sandbox, processes, smoke, out, &[]).output().unwrap();
        assert_code(&output, 0);
        assert!(String::from_utf8_lossy(&output.stdout).contains("results.json"));
        // One process speaks: of what a trial reads, and of how fast.
        let spoken = words(&output).matches("finetune-s0: ").count();
        assert_eq!(spoken, 2, "{}", words(&output));
        assert_same_results(&sandbox, "one", out);
        assert_eq!(sandbox.results(out)["environment"]["processes"], processes);
    }
}

#[test]
fn anchors_and_sequences_are_those_of_one_and_a_divergence_leaves_the_others_alone() {
    let sandbox = Sandbox::new();
    let methods = "methods:
  - method: { kind: finetune }
    training: { learning_rate: 1.0e+30 }
  - method: { kind: kl_to_base, weight: 1.0 }
  - method: { kind: ewc, weight: 1.0, fisher_sequences: 16 }
  - label: first
    method: { kind: lora, budget: 20% }
  - label: second
    method: { kind: neutral_residues, budget: 20% }
    after: first
";
    let calm = calm();
    let (begin, rest) = calm.split_once("methods:\n").unwrap();
    let (_, end) = rest.split_once("evaluation:").unwrap();
    sandbox.write("e.yaml", &format!("{begin}{methods}evaluation:{end}"));
    for (processes, out) in [(1, "one"), (3, "three")] {
        // One of the trials diverges.
        assert_code(&run(&sandbox, processes, "e.yaml", out, &[]).output().unwrap(), 1);
    }
    assert_same_results(&sandbox, "one", "three");
    let three = sandbox.results("three");
    let ends: Vec<_> = three["trials"].as_array().unwrap().iter().map(|t| &t["status"]).collect();
    assert_eq!(ends, ["diverged", "finished", "finished", "finished", "finished"]);
}

#[test]
fn a_run_that_was_stopped_goes_on_with_another_number_of_processes() {
    let sandbox = Sandbox::new();
    // The base is trained by two processes, once for all.
    sandbox.write("e.yaml", &calm());
    assert_code(&run(&sandbox, 2, "e.yaml", "one", &["--only", "prepare"]).output().unwrap(), 0);
    assert_code(&run(&sandbox, 1, "e.yaml", "one", &[]).output().unwrap(), 0);
    // Stopped at once, the first trial is the only one that was begun.
    for (out, before, after) in [("from-2-to-1", 2, 1), ("from-1-to-2", 1, 2)] {
        let trial = sandbox.path(out).join("trials/finetune-s0");
        // Begun anew if it ends before it is stopped.
        let stopped = (0..20).any(|_| {
            let _ = std::fs::remove_dir_all(sandbox.path(out));
            let mut child = quiet(run(&sandbox, before, "e.yaml", out, &[]));
            wait_for(&mut child, || trial.join("metrics.jsonl").exists());
            terminate(&child);
            let stopped = said(child);
            assert!(matches!(stopped.status.code(), Some(130 | 0)), "{}", words(&stopped));
            trial.join("checkpoint").exists()
        });
        assert!(stopped, "the run was too fast to be stopped");
        let resumed = run(&sandbox, after, "e.yaml", out, &[]).output().unwrap();
        assert_code(&resumed, 0);
        assert!(words(&resumed).contains("goes on from its checkpoint"), "{}", words(&resumed));
        assert_same_results(&sandbox, "one", out);
    }
}

#[test]
fn a_stop_is_everybodys_whoever_is_asked_and_leaves_one_checkpoint() {
    let sandbox = Sandbox::new();
    sandbox.write("e.yaml", &long());
    let mut steps = 0;
    for asked in ["the launcher", "rank 0", "rank 1"] {
        let mut child = quiet(run(&sandbox, 2, "e.yaml", "out", &[]));
        wait_for_checkpoint(&mut child, &sandbox, "out");
        let signalled = match asked {
            "the launcher" => child.id(),
            rank => ranks(&child)[usize::from(rank == "rank 1")],
        };
        assert!(Command::new("kill").arg(signalled.to_string()).status().unwrap().success());
        let stopped = said(child);
        assert_code(&stopped, 130);
        let again = words(&stopped).contains("goes on from its checkpoint");
        assert_eq!(again, steps > 0, "{asked}: {}", words(&stopped));
        let done = metrics(&sandbox.path("out"), "finetune-s0").len();
        assert!(done > steps, "{asked}: {done} steps");
        steps = done;
    }
}

#[test]
fn a_process_that_dies_ends_all_in_time_and_is_named() {
    let sandbox = Sandbox::new();
    sandbox.write("e.yaml", &long());
    for dies in [0, 1] {
        let mut child = quiet(run(&sandbox, 2, "e.yaml", "out", &[]));
        wait_for_checkpoint(&mut child, &sandbox, "out");
        let ranks = ranks(&child);
        let begin = Instant::now();
        let killed = Command::new("kill").args(["-KILL", &ranks[dies].to_string()]).status();
        assert!(killed.unwrap().success());
        let ended = said(child);
        assert!(begin.elapsed() < TIMEOUT, "{:?}", begin.elapsed());
        assert_code(&ended, 137);
        let expected = format!("rank {dies} was ended by signal 9");
        assert!(words(&ended).contains(&expected), "{}", words(&ended));
        for pid in ranks {
            assert!(!Path::new(&format!("/proc/{pid}")).exists(), "a process is left");
        }
    }
    // Whatever they left, one process goes on from it.
    let mut child = quiet(run(&sandbox, 1, "e.yaml", "out", &[]));
    wait_for_checkpoint(&mut child, &sandbox, "out");
    terminate(&child);
    let stopped = said(child);
    assert_code(&stopped, 130);
    assert!(words(&stopped).contains("goes on from its checkpoint"), "{}", words(&stopped));
}

#[test]
fn what_several_processes_cannot_do_is_said_once() {
    let sandbox = Sandbox::new();
    sandbox.write("e.yaml", EXPERIMENT);
    let executor = format!("{EXPERIMENT}executor: {{ kind: local, jobs: 2 }}\n");
    sandbox.write("executor.yaml", &executor);
    let (first, last) = EXPERIMENT.split_at(EXPERIMENT.find("methods:").unwrap());
    sandbox.write(
        "small.yaml",
        &format!("{first}sweep: {{ grid: {{ training.batch_size: [8, 1] }} }}\n{last}"),
    );
    let base = EXPERIMENT.replacen("batch_size: 8", "batch_size: 1", 1);
    assert!(base.find("batch_size: 1").unwrap() < base.find("data:").unwrap(), "{base}");
    sandbox.write("base.yaml", &base);
    let cases: [(&str, &[&str], &str); 7] = [
        ("base.yaml", &[], "base: training.batch_size is 1, and each of 2 processes needs"),
        ("small.yaml", &[], "training.batch_size is 1, and each of 2 processes needs a sequence"),
        ("e.yaml", &["--executor", "slurm"], "an executor starts processes of its own"),
        ("executor.yaml", &[], "an executor starts processes of its own"),
        ("e.yaml", &["--dry-run"], "--dry-run trains nothing"),
        ("e.yaml", &["--only", "collect"], "--only collect trains nothing"),
        ("none.yaml", &[], "cannot read none.yaml"),
    ];
    for (experiment, more, expected) in cases {
        let output = run(&sandbox, 2, experiment, "out", more).output().unwrap();
        assert_code(&output, 2);
        assert_eq!(words(&output).matches(expected).count(), 1, "{}", words(&output));
    }
    let output = sandbox.neutral(&["launch", "--processes", "2", "schema"]).output().unwrap();
    assert_code(&output, 2);
    assert!(words(&output).contains("not of `schema`"), "{}", words(&output));
    // An environment that says half of what it must.
    let output = run(&sandbox, 1, "e.yaml", "out", &[]).env("WORLD_SIZE", "2").output().unwrap();
    assert_code(&output, 2);
    assert!(words(&output).contains("WORLD_SIZE is set and RANK is not"), "{}", words(&output));
}
