//! A run whose trials are processes of their own, on this machine, gives the results of a run in one process;
//! its units, its failures, what is shown of it and how it is stopped.

use std::process::{Child, Command, Output, Stdio};
use std::time::SystemTime;

use serde_json::Value;

use crate::command::{Sandbox, assert_code, root, terminate, wait_for, words};
use crate::interruption::{EXPERIMENT, lasting};

/// The experiment with a third method.
const THREE: &str = "
  - method: { kind: lora, budget: 20% }
evaluation:";

/// `neutral run` of an experiment into a folder of the sandbox.
fn run(sandbox: &Sandbox, experiment: &str, out: &str, more: &[&str]) -> Command {
    let manifests = root().join("data-manifests");
    let mut command = sandbox.neutral(&["run", experiment, "--out", out, "--device", "cpu"]);
    command.arg("--manifests").arg(manifests).args(more);
    command
}

fn ended(mut command: Command) -> Output {
    command.stdin(Stdio::null()).output().unwrap()
}

fn quiet(mut command: Command) -> Child {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

fn status(sandbox: &Sandbox, out: &str) -> Value {
    let output = sandbox.neutral(&["status", out, "--json"]).output().unwrap();
    assert_code(&output, 0);
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A trial's state, its steps done and all its steps.
fn state(status: &Value, trial: &str) -> (String, u64, u64) {
    let rows = status["trials"].as_array().unwrap();
    let row = rows.iter().find(|row| row["trial"] == trial).unwrap();
    let number = |key: &str| row[key].as_u64().unwrap();
    (row["state"].as_str().unwrap().to_owned(), number("step"), number("steps"))
}

const TWO_JOBS: [&str; 6] = ["--executor", "local", "--jobs", "2", "--threads", "2"];

#[test]
fn two_processes_at_a_time_give_the_results_of_one() {
    let sandbox = Sandbox::new();
    let smoke = root().join("experiments/smoke.yaml");
    let smoke = smoke.to_str().unwrap();
    // The base comes from the cache of the first: its own training may use all threads there are.
    assert_code(&ended(run(&sandbox, smoke, "one", &["--threads", "1"])), 0);
    let output = ended(run(&sandbox, smoke, "two", &TWO_JOBS));
    assert_code(&output, 0);
    let (one, two) = (sandbox.results("one"), sandbox.results("two"));
    assert_eq!(lasting(two), lasting(one.clone()));
    let read = |path: &str| std::fs::read(sandbox.path(path)).unwrap();
    assert_eq!(read("one/base.json"), read("two/base.json"));
    for trial in one["trials"].as_array().unwrap() {
        let id = trial["id"].as_str().unwrap();
        assert!(words(&output).contains(&format!("{id}: done")), "{}", words(&output));
        let folder = |run: &str| sandbox.path(run).join("trials").join(id);
        let files = |run: &str| {
            let names = std::fs::read_dir(folder(run)).unwrap();
            let mut names: Vec<_> = names.map(|e| e.unwrap().file_name()).collect();
            names.sort();
            names
        };
        assert_eq!(files("one"), files("two"), "{id}");
        let weights =
            files("one").into_iter().find(|name| name.to_str().unwrap().ends_with("tensors"));
        let weights = weights.unwrap();
        let read = |run: &str| std::fs::read(folder(run).join(&weights)).unwrap();
        assert!(read("one") == read("two"), "{id}: other weights");
    }
    // The table that a run in one process prints.
    let table = |output: &Output| String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(table(&output).contains("results.json"), "{}", table(&output));

    let found = status(&sandbox, "two");
    assert_eq!(state(&found, "lora-s0"), ("finished".to_owned(), 40, 40));
    assert!(found["executor"].as_str().unwrap().starts_with("local"), "{found}");
    let shown = sandbox.neutral(&["status", "one"]).output().unwrap();
    assert_code(&shown, 0);
    let shown = table(&shown);
    assert!(shown.starts_with("smoke: 8 trials, 8 finished\n"), "{shown}");

    // Nothing is left to do, and nothing is done twice.
    let again = ended(run(&sandbox, smoke, "two", &TWO_JOBS));
    assert_code(&again, 0);
    assert!(words(&again).contains("8 of 8 trials finished earlier, kept"), "{}", words(&again));

    // What is still to be measured of a finished trial is a process's, and not left to the last one.
    let measured = sandbox.path("two/trials/lora-s0/neutrality.json");
    std::fs::remove_file(&measured).unwrap();
    let again = ended(run(&sandbox, smoke, "two", &TWO_JOBS));
    assert_code(&again, 0);
    assert!(words(&again).contains("7 of 8 trials finished earlier, kept"), "{}", words(&again));
    let log = std::fs::read_to_string(sandbox.path("two/logs/lora-s0.log")).unwrap();
    assert!(log.contains("lora-s0: finished earlier, kept") && measured.is_file(), "{log}");

    // Of a run that is being stopped nothing is measured any more.
    std::fs::remove_file(&measured).unwrap();
    let stopped = ended(run(&sandbox, smoke, "two", &["--only", "collect", "--stopped"]));
    assert_code(&stopped, 130);
    assert!(!measured.exists());

    // What is measured otherwise now is measured by processes side by side, and not by the last one.
    let text = std::fs::read_to_string(smoke).unwrap();
    let otherwise = text.replace("\nevaluation:\n", "\nevaluation:\n  neutrality_tokens: 512\n");
    assert_ne!(otherwise, text);
    let otherwise = sandbox.write("smoke.yaml", &otherwise);
    let again = ended(run(&sandbox, otherwise.to_str().unwrap(), "two", &TWO_JOBS));
    assert_code(&again, 0);
    assert!(!words(&again).contains("finished earlier, kept"), "{}", words(&again));
    assert!(words(&again).contains("finetune-s0: done"), "{}", words(&again));
    assert!(measured.is_file());
}

#[test]
fn units_done_one_by_one_give_the_results_of_a_whole_run() {
    let sandbox = Sandbox::new();
    sandbox.write("e.yaml", EXPERIMENT);
    let unit = |unit: &str| ended(run(&sandbox, "e.yaml", "units", &["--only", unit]));
    assert_code(&unit("prepare"), 0);
    // Trials find all of their text tokenised, and do not each do it.
    let tokens = || std::fs::read_dir(sandbox.path("cache/tokens")).unwrap().count();
    assert_eq!(tokens(), 2);
    assert_code(&ended(run(&sandbox, "e.yaml", "whole", &[])), 0);
    assert_eq!(tokens(), 2);
    assert!(sandbox.path("units/base.json").exists());
    assert_eq!(state(&status(&sandbox, "units"), "finetune-s0").0, "waiting");
    assert_code(&unit("trial:neutral-residues-s0"), 0);
    let early = unit("collect");
    assert_code(&early, 1);
    assert!(words(&early).contains("1 of 2 trials have not finished"), "{}", words(&early));
    assert_eq!(sandbox.results("units")["trials"][0]["status"], "interrupted");
    assert_code(&unit("trial:finetune-s0"), 0);
    let again = unit("trial:finetune-s0");
    assert_code(&again, 0);
    assert!(words(&again).contains("finished earlier, kept"), "{}", words(&again));
    assert_code(&unit("collect"), 0);
    assert_eq!(lasting(sandbox.results("units")), lasting(sandbox.results("whole")));

    // A record that does not hold any more is seen by who has the data, and then by who has not.
    let record = sandbox.path("units/trials/finetune-s0/record.json");
    let text = std::fs::read_to_string(&record).unwrap();
    let begin = text.find(": \"").unwrap() + 3;
    std::fs::write(&record, format!("{}0000{}", &text[..begin], &text[begin + 4..])).unwrap();
    assert_eq!(state(&status(&sandbox, "units"), "finetune-s0").0, "finished");
    let failure = sandbox.path("units/trials/finetune-s0/failure.json");
    let of_another =
        r#"{"fingerprint": "0000000000000000", "status": "diverged", "error": "before"}"#;
    std::fs::write(&failure, of_another).unwrap();
    assert_code(&unit("prepare"), 0);
    assert_eq!(state(&status(&sandbox, "units"), "finetune-s0").0, "stopped");
    assert!(!failure.exists());
    // So is what was measured on other text.
    let measured = sandbox.path("units/trials/neutral-residues-s0/neutrality.json");
    assert_code(&unit("prepare"), 0);
    assert!(measured.is_file());
    let otherwise =
        EXPERIMENT.replace("max_bytes: 5000", "max_bytes: 5000, neutrality_tokens: 512");
    assert_ne!(otherwise, EXPERIMENT);
    sandbox.write("e.yaml", &otherwise);
    assert_code(&unit("prepare"), 0);
    assert!(!measured.exists());
    assert_eq!(state(&status(&sandbox, "units"), "neutral-residues-s0").0, "finished");
}

#[test]
fn nothing_that_has_finished_is_lost_to_another_run_in_its_folder() {
    let sandbox = Sandbox::new();
    sandbox.write("e.yaml", EXPERIMENT);
    assert_code(&ended(run(&sandbox, "e.yaml", "out", &TWO_JOBS)), 0);
    let files = || {
        ["results.json", "trials/finetune-s0/record.json", "trials/finetune-s0/model.safetensors"]
            .map(|file| std::fs::read(sandbox.path("out").join(file)).unwrap())
    };
    let before = files();

    sandbox.write("other.yaml", &EXPERIMENT.replace("disturbed", "other"));
    let ways: [&[&str]; 4] =
        [&[], &TWO_JOBS, &["--only", "trial:finetune-s0"], &["--only", "collect"]];
    for more in ways {
        let output = ended(run(&sandbox, "other.yaml", "out", more));
        assert_code(&output, 2);
        let said = words(&output);
        assert!(said.contains("holds a run of the experiment `disturbed`"), "{more:?}: {said}");
    }
    // Results are collected of what there is; to train anew is not their business.
    sandbox.write("pages.yaml", &EXPERIMENT.replace("max_bytes: 5000", "max_bytes: 4000"));
    assert_code(&ended(run(&sandbox, "pages.yaml", "out", &["--only", "collect"])), 1);
    assert_eq!(files()[1..], before[1..]);
    // An executor that works there has the trials.
    let executor = neutral_store::Lock::acquire(&sandbox.path("out/executor")).unwrap();
    let output = ended(run(&sandbox, "e.yaml", "out", &[]));
    assert_code(&output, 2);
    assert!(words(&output).contains("in use by another process"), "{}", words(&output));
    drop(executor);
    assert!(sandbox.path("out/executor/judged.json").is_file());
    assert_code(&ended(run(&sandbox, "e.yaml", "out", &[])), 0);
    assert_eq!(files()[1..], before[1..]);
    // What an executor knew of the records may not hold any more.
    assert!(!sandbox.path("out/executor/judged.json").exists());
}

#[test]
fn a_trial_that_fails_leaves_the_others_alone_and_its_error_is_stated() {
    let sandbox = Sandbox::new();
    let text = EXPERIMENT.replace("\nevaluation:", THREE);
    let text = text.replace(
        "{ kind: finetune }",
        "{ kind: finetune }\n    training: { learning_rate: 1.0e+30 }",
    );
    sandbox.write("e.yaml", &text);
    let output = ended(run(&sandbox, "e.yaml", "out", &TWO_JOBS));
    assert_code(&output, 1);
    let results = sandbox.results("out");
    let trials = results["trials"].as_array().unwrap();
    let found: Vec<_> = trials.iter().map(|trial| trial["status"].as_str().unwrap()).collect();
    assert_eq!(found, ["diverged", "finished", "finished"]);
    let error = trials[0]["error"].as_str().unwrap();
    assert!(words(&output).contains(error), "{}", words(&output));
    assert_eq!(state(&status(&sandbox, "out"), "finetune-s0").0, "diverged");
    // In one process it says the same.
    assert_code(&ended(run(&sandbox, "e.yaml", "one", &["--threads", "1"])), 1);
    assert_eq!(lasting(sandbox.results("one"))["trials"][0]["error"], error);
}

#[test]
fn a_trial_that_the_system_kills_is_stated_as_such() {
    let sandbox = Sandbox::new();
    let long = "{ kind: finetune }\n    training: { tokens: 4096000 }";
    sandbox.write("e.yaml", &EXPERIMENT.replace("{ kind: finetune }", long));
    let mut child = quiet(run(&sandbox, "e.yaml", "out", &TWO_JOBS));
    let state = sandbox.path("out/trials/finetune-s0/checkpoint/state.safetensors");
    assert!(wait_for(&mut child, || state.exists()), "it ended before it was killed");
    let of_the_trial = |pid: &&str| {
        let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline"));
        line.is_ok_and(|line| line.contains("trial:finetune-s0"))
    };
    let id = child.id();
    let children = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap();
    let trial = children.split_whitespace().find(of_the_trial).unwrap();
    assert!(Command::new("kill").args(["-s", "KILL", trial]).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(1));
    let results = sandbox.results("out");
    let stated = |trial: usize, key: &str| results["trials"][trial][key].clone();
    assert_eq!((stated(0, "status"), stated(1, "status")), ("failed".into(), "finished".into()));
    let error = stated(0, "error");
    assert!(error.as_str().unwrap().contains("was killed (exit code 137)"), "{error}");
}

#[test]
fn a_stop_reaches_every_process_and_the_same_command_goes_on() {
    let sandbox = Sandbox::new();
    let long = EXPERIMENT.replacen("  tokens: 40960\n  seq", "  tokens: 4096000\n  seq", 1);
    assert_ne!(long, EXPERIMENT);
    sandbox.write("e.yaml", &long);
    for cancelled in [false, true] {
        let started = SystemTime::now();
        let mut child = quiet(run(&sandbox, "e.yaml", "out", &TWO_JOBS));
        // Not the checkpoint that the run before was stopped with.
        let begun = |trial: &str| {
            let file = sandbox.path("out/trials").join(trial).join("checkpoint/state.safetensors");
            let written = file.metadata().and_then(|about| about.modified());
            written.is_ok_and(|written| written > started)
        };
        let both = || begun("finetune-s0") && begun("neutral-residues-s0");
        assert!(wait_for(&mut child, both), "it ended before it was stopped");
        let found = status(&sandbox, "out");
        for trial in ["finetune-s0", "neutral-residues-s0"] {
            let (is, step, steps) = state(&found, trial);
            assert_eq!((is.as_str(), steps), ("running", 8000), "{trial}");
            assert!(step > 0, "{trial}");
        }
        let second = ended(run(&sandbox, "e.yaml", "out", &TWO_JOBS));
        assert_code(&second, 2);
        assert!(words(&second).contains("in use by another process"), "{}", words(&second));
        if cancelled {
            let output = sandbox.neutral(&["cancel", "out"]).output().unwrap();
            assert_code(&output, 0);
            let said = String::from_utf8_lossy(&output.stdout);
            assert!(said.contains(&child.id().to_string()), "{said}");
        } else {
            terminate(&child);
        }
        assert_eq!(child.wait().unwrap().code(), Some(130));
        // What there is of a stopped run can be read: its base's scores here.
        let results = sandbox.results("out");
        let shown: Vec<_> =
            results["trials"].as_array().unwrap().iter().map(|t| &t["status"]).collect();
        assert_eq!(shown, ["interrupted"; 2]);
        let found = status(&sandbox, "out");
        for trial in ["finetune-s0", "neutral-residues-s0"] {
            assert_eq!(state(&found, trial).0, "stopped", "{trial}");
            let log =
                std::fs::read_to_string(sandbox.path("out/logs").join(format!("{trial}.log")));
            let log = log.unwrap();
            assert!(log.contains("interrupted"), "{log}");
            let again = log.contains("goes on from its checkpoint");
            assert_eq!(again, cancelled, "{trial}: {log}");
        }
    }
    let output = sandbox.neutral(&["cancel", "out"]).output().unwrap();
    assert_code(&output, 0);
    assert!(String::from_utf8_lossy(&output.stdout).contains("nothing of out is running"));
}

#[test]
fn trials_end_with_the_process_that_started_them_however_it_ends() {
    let sandbox = Sandbox::new();
    sandbox.write(
        "e.yaml",
        &EXPERIMENT.replacen("  tokens: 40960\n  seq", "  tokens: 4096000\n  seq", 1),
    );
    let mut child = quiet(run(&sandbox, "e.yaml", "out", &TWO_JOBS));
    let log =
        || std::fs::read_to_string(sandbox.path("out/logs/finetune-s0.log")).unwrap_or_default();
    let begun = || sandbox.path("out/trials/finetune-s0/checkpoint/state.safetensors").exists();
    assert!(wait_for(&mut child, begun));
    child.kill().unwrap();
    child.wait().unwrap();
    let begin = std::time::Instant::now();
    while !log().contains("interrupted") {
        assert!(begin.elapsed().as_secs() < 30, "it goes on without its parent: {}", log());
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}

#[test]
fn options_that_would_be_ignored_and_folders_that_are_no_runs_are_errors() {
    let sandbox = Sandbox::new();
    sandbox.write("e.yaml", EXPERIMENT);
    let cases: [(&[&str], &str); 9] = [
        (&["--only", "collect", "--jobs", "2"], "cannot be used with"),
        (&["--jobs", "2"], "--jobs is an option of --executor local"),
        (&["--executor", "local"], "needs --jobs"),
        (
            &["--executor", "local", "--jobs", "2", "--time", "9"],
            "--time is an option of --executor slurm",
        ),
        (&["--executor", "slurm", "--jobs", "2"], "--jobs is an option of --executor local"),
        (&["--executor", "pbs"], "possible values: in-process, local, slurm"),
        (&["--only", "everything"], "expected prepare, trial:ID or collect"),
        (&["--only", "trial:none-s0"], "it has finetune-s0, neutral-residues-s0"),
        (&["--only", "collect", "--plan", "0123"], "has changed since its jobs were submitted"),
    ];
    for (more, expected) in cases {
        let output = ended(run(&sandbox, "e.yaml", "out", more));
        assert_code(&output, 2);
        assert!(words(&output).contains(expected), "{more:?}: {}", words(&output));
    }
    let mut slurm = run(&sandbox, "e.yaml", "out", &["--executor", "slurm"]);
    slurm.env("PATH", sandbox.path("no-bin"));
    let output = ended(slurm);
    assert_code(&output, 2);
    assert!(words(&output).contains("squeue is not on this machine"), "{}", words(&output));
    for command in ["status", "cancel"] {
        let output = sandbox.neutral(&[command, "nowhere"]).output().unwrap();
        assert_code(&output, 2);
        assert!(words(&output).contains("nowhere has no run.json"), "{}", words(&output));
    }
}
