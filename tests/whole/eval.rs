//! `neutral eval` against lm-evaluation-harness' own answers in float64 (`scripts/verify-eval --save`), and tasks
//! in an experiment.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use neutral_torch::{load_tensors, save_tensors};
use serde_json::Value;
use tch::Device;

use crate::command::{Sandbox, assert_code, root, words};

fn fixtures() -> PathBuf {
    root().join("tests/fixtures")
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            std::fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
        }
    }
}

/// The fixtures' task files and documents.
fn sandbox() -> Sandbox {
    let sandbox = Sandbox::new();
    for folder in ["cases", "data"] {
        copy(&fixtures().join("tasks").join(folder), &sandbox.path(folder));
    }
    // A continuation of it has no tokens.
    std::fs::rename(sandbox.path("cases/led_by_template.yaml"), sandbox.path("led.yaml")).unwrap();
    sandbox
}

fn eval(sandbox: &Sandbox, tasks: &str, more: &[&str]) -> Output {
    eval_in("fp32", sandbox, tasks, more)
}

fn eval_in(precision: &str, sandbox: &Sandbox, tasks: &str, more: &[&str]) -> Output {
    command(precision, sandbox, tasks, more).output().unwrap()
}

fn command(precision: &str, sandbox: &Sandbox, tasks: &str, more: &[&str]) -> Command {
    let model = fixtures().join("eval/model");
    let model = model.to_str().unwrap();
    let mut arguments = vec!["eval", "--model", model, "--tasks", tasks, "--precision", precision];
    arguments.extend(["--include-path", "cases", "--device", "cpu"]);
    arguments.extend(more);
    sandbox.neutral(&arguments)
}

/// The results that a run wrote, and the folder of its files.
fn results(sandbox: &Sandbox, out: &str) -> (Value, PathBuf) {
    let model = std::fs::read_dir(sandbox.path(out)).unwrap().next().unwrap().unwrap().path();
    let files = std::fs::read_dir(&model).unwrap().map(|entry| entry.unwrap().path());
    let named = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with("results");
    let file = files.into_iter().find(named).unwrap();
    (serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap(), model)
}

/// The samples of a task, a line each.
fn samples(folder: &Path, task: &str) -> Vec<Value> {
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let start = format!("samples_{task}_20");
    let named = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with(&start);
    let text = std::fs::read_to_string(files.into_iter().find(named).unwrap()).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn number(text: &Value) -> f64 {
    text.as_str().unwrap().parse().unwrap()
}

/// Runs the fixtures' tasks; every answer and every score is within `bound` of the harness', relative. The scores,
/// ours and the harness'.
fn beside_the_harness(precision: &str, bound: f64) -> Vec<(String, f64, f64)> {
    let sandbox = sandbox();
    let theirs = std::fs::read_to_string(fixtures().join("eval/theirs.json")).unwrap();
    let theirs: Value = serde_json::from_str(&theirs).unwrap();
    let bootstraps = theirs["bootstrap_iters"].to_string();
    let more = ["--output-path", "out", "--log-samples", "--bootstrap-iters", &bootstraps];
    assert_code(&eval_in(precision, &sandbox, "cases", &more), 0);
    let (ours, folder) = results(&sandbox, "out");
    let near = |a: f64, b: f64| (a - b).abs() <= bound * b.abs();
    let (mut absent, mut scores) = (Vec::new(), Vec::new());
    for (task, lines) in theirs["answers"].as_object().unwrap() {
        if !ours["results"][task].is_object() {
            absent.push(task.as_str());
            continue;
        }
        let (samples, lines) = (samples(&folder, task), lines.as_array().unwrap());
        assert_eq!(samples.len(), lines.len(), "{task}: lines");
        for (line, (ours, theirs)) in samples.iter().zip(lines).enumerate() {
            let ours = ours["filtered_resps"].as_array().unwrap();
            let theirs = theirs.as_array().unwrap();
            assert_eq!(ours.len(), theirs.len(), "{task} line {line}: answers");
            for (ours, theirs) in ours.iter().zip(theirs) {
                let alone = theirs.is_string();
                let (a, b) = if alone { (ours, theirs) } else { (&ours[0], &theirs[0]) };
                let (a, b) = (number(a), number(b));
                assert!(near(a, b), "{task} line {line}: {a} and {b}");
                assert_eq!(ours[1], theirs[1], "{task} line {line}: greedy");
            }
        }
        for (key, theirs) in theirs["results"][task].as_object().unwrap() {
            let ours = &ours["results"][task][key];
            match theirs.as_f64() {
                Some(b) => {
                    let a = ours.as_f64().unwrap();
                    assert!(near(a, b), "{task} {key}: {a} and {b}");
                    scores.push((format!("{task} {key}"), a, b));
                }
                None => assert_eq!(ours, theirs, "{task} {key}"),
            }
        }
    }
    // Of a fixture of their own, for the pages that `scripts/verify-eval` writes.
    assert_eq!(absent, ["letters", "ties"]);
    scores
}

#[test]
fn every_answer_and_every_score_is_the_harness_own_but_for_rounding() {
    beside_the_harness("fp32", 1e-4);
}

#[test]
fn in_fp64_every_score_is_the_harness_own_to_the_printed_digit() {
    // Sums in another order move the last of 16 digits; perplexities are exponentials of them.
    for (place, ours, theirs) in beside_the_harness("fp64", 1e-12) {
        assert_eq!(format!("{ours:.4}"), format!("{theirs:.4}"), "{place}");
    }
}

#[test]
fn a_request_alone_has_a_score_of_its_own_and_answers_are_kept() {
    let sandbox = sandbox();
    let read = |out: &str, tasks: &str, more: &[&str]| {
        let arguments = [&["--output-path", out, "--log-samples"], more].concat();
        assert_code(&eval(&sandbox, tasks, &arguments), 0);
        samples(&results(&sandbox, out).1, "minimal_pairs")
    };
    let exact = read("a", "minimal_pairs", &["--batch-size", "1"]);
    let kept = || -> Vec<PathBuf> {
        let entries = std::fs::read_dir(sandbox.path("cache/task-scores")).unwrap();
        entries.map(|entry| entry.unwrap().path().join("scores.json")).collect()
    };
    let before = kept();
    assert_eq!(exact, read("b", "minimal_pairs,rolling", &["--batch-size", "1", "--no-cache"]));
    assert_eq!(kept(), before);
    assert_eq!(exact, read("c", "minimal_pairs", &["--batch-size", "1"]));
    assert_eq!(kept(), before);
    read("d", "minimal_pairs", &["--add-bos-token", "false"]);
    assert_eq!(kept().len(), before.len() + 1, "other tokens have answers of their own");
    // What is kept is what is read.
    let [file] = before.as_slice() else { panic!("{before:?}") };
    let mut answers: Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    answers[0]["log_likelihood"] = (-1.25).into();
    std::fs::write(file, answers.to_string()).unwrap();
    assert_ne!(exact, read("e", "minimal_pairs", &["--batch-size", "1"]));
}

#[test]
fn a_task_that_fails_does_not_take_the_others_with_it() {
    let sandbox = sandbox();
    std::fs::write(
        sandbox.path("cases/lost.yaml"),
        std::fs::read_to_string(sandbox.path("cases/rolling.yaml"))
            .unwrap()
            .replace("task: rolling", "task: lost")
            .replace("data/pages.json", "data/nowhere.json"),
    )
    .unwrap();
    std::fs::rename(sandbox.path("led.yaml"), sandbox.path("cases/led.yaml")).unwrap();
    let tasks = "lost,led_by_template,minimal_pairs";
    let output = eval(&sandbox, tasks, &["--output-path", "out"]);
    assert_code(&output, 2);
    assert!(words(&output).contains("nowhere.json"), "{}", words(&output));
    let empty = "document 3: a request has an empty continuation";
    assert!(words(&output).contains(empty), "{}", words(&output));
    let results = results(&sandbox, "out").0;
    assert!(results["results"]["minimal_pairs"]["acc,none"].is_number());
    assert!(results["results"]["lost"].is_null());
    assert!(results["neutral"]["failed"]["lost"].as_str().unwrap().contains("nowhere.json"));
}

#[test]
fn results_are_written_though_nobody_reads_the_table() {
    let sandbox = sandbox();
    let mut command = command("fp32", &sandbox, "minimal_pairs", &["--output-path", "out"]);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    assert!(!command.stdout(writer).output().unwrap().status.success());
    assert!(results(&sandbox, "out").0["results"]["minimal_pairs"]["acc,none"].is_number());
}

#[test]
fn what_cannot_be_meant_is_refused() {
    let sandbox = sandbox();
    for (tasks, more, said) in [
        ("minimal_pair", &[][..], "minimal_pairs"),
        ("minimal_pairs", &["--batch-size", "0"], "from 1 on"),
        ("minimal_pairs", &["--limit=-1"], "--limit"),
        ("minimal_pairs", &["--max-length", "0"], "--max-length"),
        ("minimal_pairs", &["--max-length", "3"], "document 0"),
        ("minimal_pairs", &["--log-samples"], "--output-path"),
        ("minimal_pairs", &["--extension", "nowhere"], "nowhere"),
    ] {
        let output = eval(&sandbox, tasks, more);
        assert_code(&output, 2);
        assert!(words(&output).contains(said), "{more:?}: {}", words(&output));
    }
}

#[test]
fn an_experiment_scores_tasks_of_each_domain_before_and_after() {
    let sandbox = sandbox();
    let smoke = std::fs::read_to_string(root().join("experiments/smoke.yaml")).unwrap();
    let (before, rest) = smoke.split_once("methods:\n").unwrap();
    let (_, evaluation) = rest.split_once("evaluation:\n").unwrap();
    let before = before.replace("tokens: 60_000", "tokens: 10_240").replace("20_480", "10_240");
    let methods = "methods:\n  - method: { kind: lora, budget: 20%, lora_alpha: 24 }\n";
    let tasks = "  tasks:
    include_path: [cases]
    original: [minimal_pairs, own_split_first]
    new: [mutual_information]
    limit: 5
";
    let text = format!("{before}{methods}\nevaluation:\n{tasks}{evaluation}");
    let file = sandbox.write("tasks.yaml", &text);
    let output = sandbox.run(&file, "out");
    assert_code(&output, 0);
    let first = sandbox.results("out");
    let (base, trial) = (&first["base"]["tasks"], &first["trials"][0]["tasks"]);
    for tasks in [base, trial] {
        assert_eq!(tasks["original"]["minimal_pairs"]["metric"], "acc");
        assert_eq!(tasks["new"]["mutual_information"]["metric"], "acc_norm");
        assert_eq!(tasks["new"]["mutual_information"]["documents"], 5);
        // Of shares the standard error is known without bootstraps: of k right of n, √(k/n · (1 − k/n) / (n − 1)).
        let task = &tasks["original"]["minimal_pairs"];
        let share = task["value"].as_f64().unwrap();
        let expected = (share * (1.0 - share) / 4.0).sqrt();
        assert!((task["stderr"].as_f64().unwrap() - expected).abs() < 1e-12, "{task}");
    }
    // What stood before the texts is said.
    let setting = &first["setting"];
    let rules = &setting["task_tokens"];
    assert_eq!(
        (&rules["add_bos_token"], &rules["rolling_prefix"]),
        (&Value::Null, &"harness".into())
    );
    assert_eq!(rules["texts_begin_with_prefix"], false, "smoke's tokenizer puts none");
    assert_eq!(rules["prefix_text"], setting["document_separator"]);
    let bos = text.replace("    limit: 5\n", "    limit: 5\n    add_bos_token: true\n");
    assert_code(&sandbox.run(&sandbox.write("bos.yaml", &bos), "bos"), 0);
    let rules = &sandbox.results("bos")["setting"]["task_tokens"];
    assert_eq!(
        (&rules["add_bos_token"], &rules["texts_begin_with_prefix"]),
        (&true.into(), &true.into())
    );

    let report = std::fs::read_to_string(sandbox.path("out/report.md")).unwrap();
    assert!(report.contains("## Tasks") && report.contains("mean, original"), "{report}");

    // The trial by itself says the same, and the run says it again.
    let arguments = [
        &["eval", "--model", "out/trials/lora-s0", "--include-path", "cases", "--tasks"][..],
        &["minimal_pairs", "--limit", "5", "--precision", "fp32", "--output-path", "alone"],
    ];
    assert_code(&sandbox.neutral(&arguments.concat()).output().unwrap(), 0);
    let alone = &results(&sandbox, "alone").0["results"]["minimal_pairs"]["acc,none"];
    assert_eq!(alone, &trial["original"]["minimal_pairs"]["value"]);
    assert_code(&sandbox.run(&file, "out"), 0);
    assert_eq!(sandbox.results("out")["trials"][0]["tasks"], *trial);

    // Answers are of weights: a trial of the same fingerprint with others is asked anew.
    let kept = || std::fs::read_dir(sandbox.path("cache/task-scores")).unwrap().count();
    let before = kept();
    assert_code(&sandbox.neutral(&arguments.concat()).output().unwrap(), 0);
    assert_eq!(kept(), before);
    let weights = sandbox.path("out/trials/lora-s0/extension.safetensors");
    let whole = std::fs::read(&weights).unwrap();
    let (tensors, metadata) = load_tensors(&weights, Device::Cpu).unwrap();
    let halved = tensors.into_iter().map(|(name, tensor)| (name, tensor * 0.5)).collect();
    save_tensors(&weights, &halved, &metadata).unwrap();
    assert_code(&sandbox.neutral(&arguments.concat()).output().unwrap(), 0);
    assert!(kept() > before, "other weights have answers of their own");
    std::fs::write(&weights, whole).unwrap();

    // Its answers can be held against a baseline, of the same questions.
    let text_of = |name: &str| std::fs::read_to_string(sandbox.path(name)).unwrap();
    let answers: Value = serde_json::from_str(&text_of("out/trials/lora-s0/answers.json")).unwrap();
    let right = answers["new"]["mutual_information"]["right"].as_str().unwrap();
    let share = right.matches('1').count() as f64 / 5.0;
    assert_eq!(
        (right.len(), Some(share)),
        (5, trial["new"]["mutual_information"]["value"].as_f64())
    );
    let results = text_of("out/results.json");
    let git = sandbox.results("out")["environment"]["git"].clone();
    let committed = results.replace(&git.to_string(), "\"0123456789ab\"");
    sandbox.write("out/results.json", &committed);
    sandbox.write("policy.yaml", "margins: { forgetting.accuracy: 0.1 }\nminimum_documents: 5\n");
    let arguments = ["check", "out", "--baseline", "baseline.json"];
    let check = |more: &[&str]| {
        let mut command = sandbox.neutral(&[&arguments[..], more].concat());
        command.env_remove("GITHUB_ACTIONS").env_remove("GITHUB_STEP_SUMMARY").output().unwrap()
    };
    assert_code(&check(&["--write-baseline"]), 0);
    let same = check(&["--policy", "policy.yaml"]);
    // Five questions, though answered alike, bound no difference by a tenth.
    assert_code(&same, 3);
    assert!(String::from_utf8_lossy(&same.stdout).contains("accuracy, minimal_pairs"));
    sandbox.write("policy.yaml", "margins: { forgetting.accuracy: 0.6 }\nminimum_documents: 5\n");
    assert_code(&check(&["--policy", "policy.yaml"]), 0);
    let questions = answers["original"]["minimal_pairs"]["questions"].as_str().unwrap();
    let other = text_of("baseline.json").replace(questions, "0000000000000000");
    sandbox.write("baseline.json", &other);
    let refused = check(&["--policy", "policy.yaml"]);
    assert_code(&refused, 2);
    assert!(words(&refused).contains("questions of minimal_pairs"), "{}", words(&refused));

    // What it scored is kept without its weights, also by a run that is being stopped.
    std::fs::remove_file(sandbox.path("out/trials/lora-s0/extension.safetensors")).unwrap();
    assert_code(&sandbox.run(&file, "out"), 0);
    assert_eq!(sandbox.results("out")["trials"][0]["tasks"], *trial);
    let manifests = root().join("data-manifests");
    let mut collect = sandbox.neutral(&["run", "--out", "out", "--only", "collect", "--stopped"]);
    let stopped =
        collect.args(["--device", "cpu", "--manifests"]).arg(manifests).arg(&file).output();
    assert_code(&stopped.unwrap(), 130);
    assert_eq!(sandbox.results("out")["trials"][0]["tasks"], *trial);

    // A trial that cannot be scored on other documents any more is kept, and said to lack them.
    let file = sandbox.write("tasks.yaml", &text.replace("limit: 5", "limit: 4"));
    let output = sandbox.run(&file, "out");
    assert_code(&output, 1);
    assert!(words(&output).contains("lora-s0: no scores on tasks"), "{}", words(&output));
    assert!(words(&output).contains("1 of 1 trials have no answers"), "{}", words(&output));
    let kept = &sandbox.results("out")["trials"][0];
    assert_eq!((&kept["status"], kept["tasks"].is_null()), (&"finished".into(), true));

    // A task that cannot be read ends the run before it trains anything.
    let file = sandbox.write("none.yaml", &text.replace("own_split_first", "own_split_frist"));
    let output = sandbox.run(&file, "other");
    assert_code(&output, 2);
    assert!(words(&output).contains("own_split_first"), "{}", words(&output));
    assert!(!sandbox.path("other/trials").exists());
}
