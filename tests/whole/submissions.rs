//! `--executor slurm` beside stand-ins for SLURM's commands: what is submitted, what is not submitted twice,
//! what is cancelled. On a real SLURM: `scripts/test-slurm`.

use std::process::{Output, Stdio};

use serde_json::Value;

use crate::command::{Sandbox, assert_code, root, words};
use crate::interruption::{EXPERIMENT, lasting};

const SBATCH: &str = r#"#!/bin/sh
case "$*" in *--array*) kind=array ;; *) kind=job ;; esac
[ ! -e "$SANDBOX/refuse" ] && [ ! -e "$SANDBOX/refuse-$kind" ] || { echo "sbatch: error: invalid partition specified: gpu" >&2; exit 1; }
echo "$*" >>"$SANDBOX/sbatch.log"
wc -l <"$SANDBOX/sbatch.log"
"#;

struct Cluster {
    sandbox: Sandbox,
    path: String,
}

impl Cluster {
    fn new() -> Self {
        let sandbox = Sandbox::new();
        sandbox.write("e.yaml", EXPERIMENT);
        sandbox.program("sbatch", SBATCH);
        sandbox.program("squeue", "#!/bin/sh\ncat \"$SANDBOX/queue\"\n");
        let path =
            sandbox.program("scancel", "#!/bin/sh\necho \"$*\" >>\"$SANDBOX/scancel.log\"\n");
        sandbox.write("queue", "");
        Self { sandbox, path }
    }

    fn call(&self, arguments: &[&str]) -> Output {
        let mut command = self.sandbox.neutral(arguments);
        command.env("PATH", &self.path).env("SANDBOX", self.sandbox.path(""));
        command.stdin(Stdio::null()).output().unwrap()
    }

    fn run(&self, more: &[&str]) -> Output {
        let manifests = root().join("data-manifests");
        let manifests = manifests.to_str().unwrap();
        let arguments = ["run", "e.yaml", "--out", "out", "--manifests", manifests];
        let slurm = ["--device", "cpu", "--executor", "slurm", "--detach"];
        self.call(&[&arguments, slurm.as_slice(), more].concat())
    }

    fn log(&self, name: &str) -> Vec<String> {
        let text = std::fs::read_to_string(self.sandbox.path(name)).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// What squeue lists: numbers, states, nodes and kinds of jobs.
    fn queue(&self, jobs: &[(&str, &str, &str, &str)]) {
        let out = std::fs::canonicalize(self.sandbox.path("")).unwrap().join("out");
        let line = |(id, state, node, kind): &(&str, &str, &str, &str)| {
            format!("{id}|{state}|{node}|Dependency|neutral:{kind}:{}\n", out.display())
        };
        let others = "77_0|RUNNING|n9|None|neutral:trial:/another/run\n78|PENDING||None|\n";
        let lines = jobs.iter().map(line).collect::<String>() + others;
        self.sandbox.write("queue", &lines);
    }
}

const ALL: [(&str, &str, &str, &str); 4] = [
    ("1", "RUNNING", "n1", "prepare"),
    ("2_0", "PENDING", "", "trial"),
    ("2_1", "PENDING", "", "trial"),
    ("3", "PENDING", "", "collect"),
];

#[test]
fn three_jobs_are_submitted_and_the_same_command_submits_only_what_is_lost() {
    let cluster = Cluster::new();
    let options =
        ["--partition", "gpu", "--max-parallel", "1", "--threads", "3", "--sbatch=--nice"];
    assert_code(&cluster.run(&options), 0);
    let jobs = cluster.log("sbatch.log");
    let has = |job: usize, words: &str| words.split(' ').all(|word| jobs[job].contains(word));
    assert_eq!(jobs.len(), 3);
    assert!(jobs.iter().all(|job| job.contains("--partition=gpu --cpus-per-task=3 --nice")));
    assert!(has(0, "--job-name=disturbed-prepare --requeue") && !has(0, "--dependency"));
    assert!(has(1, "--array=0-1%1 --dependency=afterok:1 --kill-on-invalid-dep=yes"));
    assert!(has(2, "--dependency=afterany:1:2"));

    cluster.queue(&ALL);
    let again = cluster.run(&options);
    assert_code(&again, 0);
    assert!(words(&again).contains("all jobs are under way"), "{}", words(&again));
    // Its own file may be lost too: the process was killed between a submission and its note.
    std::fs::remove_file(cluster.sandbox.path("out/executor/executor.json")).unwrap();
    assert_code(&cluster.run(&options), 0);
    assert_eq!(cluster.log("sbatch.log").len(), 3);

    cluster.queue(&[("2_0", "RUNNING", "n1", "trial"), ("3", "PENDING", "", "collect")]);
    cluster.sandbox.write("out/executor/prepared", "");
    assert_code(&cluster.run(&options), 0);
    let jobs = cluster.log("sbatch.log");
    assert_eq!(jobs.len(), 5);
    assert!(jobs[3].contains("--array=1%1") && !jobs[3].contains("--dependency"), "{}", jobs[3]);
    assert!(jobs[4].contains("--dependency=afterany:2:4"), "{}", jobs[4]);
    assert_eq!(cluster.log("scancel.log"), ["3"]);
}

#[test]
fn status_shows_the_queue_and_cancel_empties_it() {
    let cluster = Cluster::new();
    assert_code(&cluster.run(&[]), 0);
    let mut jobs = ALL;
    jobs[1] = ("2_0", "RUNNING", "n7", "trial");
    cluster.queue(&jobs);
    let output = cluster.call(&["status", "out", "--json"]);
    assert_code(&output, 0);
    let status: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(status["executor"], "slurm, jobs 1, 2, 3");
    let trial = |index: usize, key: &str| status["trials"][index][key].clone();
    assert_eq!((trial(0, "state"), trial(0, "node")), ("running".into(), "n7".into()));
    assert_eq!((trial(1, "state"), trial(1, "node")), ("queued".into(), Value::Null));
    assert_eq!(status["shared"]["prepare"], "RUNNING on n1");
    assert_eq!(status["shared"]["collect"], "PENDING (Dependency)");

    let output = cluster.call(&["cancel", "out"]);
    assert_code(&output, 0);
    assert!(String::from_utf8_lossy(&output.stdout).contains("jobs 1, 2, 3 are cancelled"));
    assert_eq!(cluster.log("scancel.log"), ["1 2 3"]);
    let early = cluster.run(&[]);
    assert_code(&early, 2);
    assert!(words(&early).contains("are being cancelled"), "{}", words(&early));
    // Once they are gone, everything begins anew.
    cluster.queue(&[]);
    let output = cluster.call(&["cancel", "out"]);
    assert!(String::from_utf8_lossy(&output.stdout).contains("nothing of out is running"));
    assert_code(&cluster.run(&[]), 0);
    assert_eq!(cluster.log("sbatch.log").len(), 6);
    assert!(!cluster.sandbox.path("out/executor/cancelled").exists());
}

#[test]
fn what_slurm_refuses_and_what_has_changed_is_bad_input() {
    let cluster = Cluster::new();
    cluster.sandbox.write("refuse", "");
    let refused = cluster.run(&["--partition", "gpu"]);
    assert_code(&refused, 2);
    assert!(words(&refused).contains("invalid partition specified: gpu"), "{}", words(&refused));
    std::fs::remove_file(cluster.sandbox.path("refuse")).unwrap();
    // What is never collected would compute in vain.
    cluster.sandbox.write("refuse-array", "");
    assert_code(&cluster.run(&[]), 2);
    assert_eq!(cluster.log("scancel.log"), ["1"]);
    std::fs::remove_file(cluster.sandbox.path("refuse-array")).unwrap();
    assert_code(&cluster.run(&[]), 0);
    cluster.queue(&ALL);
    let changes = [
        ("budget: 20%", "budget: 30%"),
        ("kind: finetune }", "kind: finetune }\n    label: other"),
    ];
    for (before, after) in changes {
        cluster.sandbox.write("e.yaml", &EXPERIMENT.replace(before, after));
        // Their own file may be lost.
        for lost in [false, true] {
            if lost {
                std::fs::remove_file(cluster.sandbox.path("out/executor/executor.json")).unwrap();
            }
            let changed = cluster.run(&[]);
            assert_code(&changed, 2);
            let said = words(&changed);
            assert!(said.contains("`neutral cancel` them first"), "{said}");
        }
        cluster.sandbox.write("e.yaml", EXPERIMENT);
        assert_code(&cluster.run(&[]), 0);
    }
}

#[test]
fn a_run_whose_jobs_are_under_way_is_worked_on_in_no_other_way() {
    let cluster = Cluster::new();
    assert_code(&cluster.run(&[]), 0);
    let manifests = root().join("data-manifests");
    let manifests = manifests.to_str().unwrap();
    let run = ["run", "e.yaml", "--out", "out", "--device", "cpu", "--manifests", manifests];
    cluster.queue(&ALL);
    for way in [["--executor", "in-process"].as_slice(), &["--executor", "local", "--jobs", "2"]] {
        let refused = cluster.call(&[&run, way].concat());
        assert_code(&refused, 2);
        assert!(words(&refused).contains("its jobs are under way"), "{}", words(&refused));
    }
    cluster.queue(&[]);
    assert_code(&cluster.call(&run), 0);
}

#[test]
fn the_jobs_one_by_one_give_the_results_of_a_whole_run() {
    let cluster = Cluster::new();
    assert_code(&cluster.run(&["--threads", "1"]), 0);
    let job = |unit: &str, task: &str| {
        let mut command = std::process::Command::new("bash");
        command.arg(cluster.sandbox.path("out/executor/job.sh")).arg(unit);
        command.current_dir(cluster.sandbox.path(""));
        for (name, value) in [
            ("SLURM_JOB_ID", "2"),
            ("SLURM_ARRAY_JOB_ID", "2"),
            ("SLURM_ARRAY_TASK_ID", task),
            ("SLURM_CPUS_PER_TASK", "1"),
            ("SLURMD_NODENAME", "n1"),
        ] {
            command.env(name, value);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).status().unwrap().code()
    };
    let log = |name: &str| {
        let path = cluster.sandbox.path("out/logs").join(format!("{name}.log"));
        std::fs::read_to_string(path).unwrap_or_default()
    };
    assert_eq!(job("prepare", ""), Some(0), "{}", log("prepare"));
    assert_eq!(job("trial", "1"), Some(0), "{}", log("neutral-residues-s0"));
    assert_eq!(job("trial", "0"), Some(0), "{}", log("finetune-s0"));
    assert_eq!(job("collect", ""), Some(0), "{}", log("collect"));
    let manifests = root().join("data-manifests");
    let manifests = manifests.to_str().unwrap();
    let whole = ["run", "e.yaml", "--out", "whole", "--device", "cpu", "--threads", "1"];
    assert_code(&cluster.call(&[&whole, ["--manifests", manifests].as_slice()].concat()), 0);
    assert_eq!(lasting(cluster.sandbox.results("out")), lasting(cluster.sandbox.results("whole")));

    // What has finished needs no job, unless other pages are to be scored.
    let jobs = || cluster.log("sbatch.log").into_iter().skip(3).collect::<Vec<_>>();
    assert_code(&cluster.run(&["--threads", "1"]), 0);
    assert!(jobs().len() == 2 && !jobs().iter().any(|job| job.contains("--array")), "{:?}", jobs());
    cluster.sandbox.write("e.yaml", &EXPERIMENT.replace("max_bytes: 5000", "max_bytes: 4000"));
    // Nor is that forgotten when it cannot be submitted at once.
    cluster.sandbox.write("refuse", "");
    assert_code(&cluster.run(&["--threads", "1"]), 2);
    std::fs::remove_file(cluster.sandbox.path("refuse")).unwrap();
    assert_code(&cluster.run(&["--threads", "1"]), 0);
    assert!(jobs()[3].contains("--array=0-1"), "{:?}", jobs());
}
