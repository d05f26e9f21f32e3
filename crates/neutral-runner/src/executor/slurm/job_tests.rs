//! The job script, run by bash beside stand-ins for SLURM's commands.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::script;

/// A run's folder and a `PATH` with stand-ins, which log how they are called.
struct Cluster {
    folder: tempfile::TempDir,
}

const SCONTROL: &str = r#"#!/bin/sh
echo "$*" >>"$LOG"
case "$1 $2" in
"show job") echo "JobId=1 JobState=${STATE:-RUNNING} ExcNodeList=${TOLD:-(null)} More=x" ;;
"show hostnames") echo "$3" ;;
esac
"#;

impl Cluster {
    /// One where `neutral` is a line of bash.
    fn new(neutral: &str) -> Self {
        let cluster = Self { folder: tempfile::tempdir().unwrap() };
        let run = cluster.path("run");
        fs::create_dir_all(run.join("executor")).unwrap();
        fs::write(run.join("executor/trials"), "a-s0\nb-s0\nc-s0\n").unwrap();
        let command = ["bash".into(), "-c".into(), neutral.into()];
        let text = script::text(&command, "e", run.to_str().unwrap(), "/cache", 1).unwrap();
        fs::write(cluster.path("job.sh"), text).unwrap();
        fs::create_dir(cluster.path("bin")).unwrap();
        cluster.program("scontrol", SCONTROL);
        cluster.nodes("n1 n2 n3");
        cluster
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn program(&self, name: &str, text: &str) {
        let path = self.path("bin").join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// The nodes that sinfo lists.
    fn nodes(&self, names: &str) {
        self.program("sinfo", &format!("#!/bin/sh\nprintf '%s\\n' {names}\n"));
    }

    fn start(&self, unit: &str, task: usize, node: &str, more: &[(&str, &str)]) -> Child {
        let path = format!("{}:{}", self.path("bin").display(), std::env::var("PATH").unwrap());
        Command::new("bash")
            .arg(self.path("job.sh"))
            .arg(unit)
            .env("PATH", path)
            .env("LOG", self.path("log"))
            .env("RUN", self.path("run"))
            .env("SLURMD_NODENAME", node)
            .env("SLURM_JOB_ID", "12")
            .env("SLURM_ARRAY_JOB_ID", "9")
            .env("SLURM_ARRAY_TASK_ID", task.to_string())
            .env("SLURM_JOB_PARTITION", "main")
            .envs(more.iter().copied())
            .stdin(Stdio::null())
            .spawn()
            .unwrap()
    }

    /// Runs a trial and gives the exit code, and what SLURM was told to change.
    fn trial(&self, task: usize, node: &str, more: &[(&str, &str)]) -> (i32, Vec<String>) {
        let _ = fs::remove_file(self.path("log"));
        let code = self.start("trial", task, node, more).wait().unwrap().code().unwrap();
        let log = fs::read_to_string(self.path("log")).unwrap_or_default();
        let changes = log.lines().filter(|line| !line.starts_with("show"));
        (code, changes.map(str::to_owned).collect())
    }

    /// Names of events, without their time and job.
    fn events(&self, unit: &str, node: &str) -> Vec<String> {
        let folder = self.path("run/executor/attempts").join(unit).join(node);
        let names = fs::read_dir(folder).into_iter().flatten().flatten();
        let names = names.map(|entry| entry.file_name().into_string().unwrap());
        let mut names: Vec<_> =
            names.map(|name| name.rsplitn(3, '-').last().unwrap().to_owned()).collect();
        names.sort();
        names
    }
}

#[test]
fn a_trial_that_is_done_is_written_down_and_nothing_is_asked_of_slurm() {
    let cluster = Cluster::new("[[ $0 == --only && $1 == trial:b-s0 && $2$3 == --threads4 ]]");
    assert_eq!(cluster.trial(1, "n1", &[("SLURM_CPUS_PER_TASK", "4")]), (0, vec![]));
    assert_eq!(cluster.events("b-s0", "n1"), ["done"]);
}

#[test]
fn a_failed_trial_is_tried_again_elsewhere_up_to_the_cap() {
    let cluster = Cluster::new("exit 7");
    let again = |nodes: &str| {
        vec!["requeue 9_0".to_owned(), format!("update jobid=9_0 ExcNodeList={nodes}")]
    };
    assert_eq!(cluster.trial(0, "n1", &[]), (0, again("n1")));
    assert_eq!(cluster.events("a-s0", "n1"), ["failed-7"]);
    assert_eq!(cluster.trial(0, "n2", &[("TOLD", "n1")]), (7, vec![]));
    // Another one where there is no other node, and where the user avoids some.
    cluster.nodes("n1");
    assert_eq!(cluster.trial(1, "n1", &[]), (0, vec!["requeue 9_1".to_owned()]));
    cluster.nodes("n1 n2 n3");
    let (_, changes) = cluster.trial(2, "n2", &[("TOLD", "n3")]);
    assert_eq!(changes[1], "update jobid=9_2 ExcNodeList=n2,n3");
}

#[test]
fn bad_input_and_divergence_are_not_tried_again() {
    let cluster = Cluster::new("exit 2");
    assert_eq!(cluster.trial(0, "n1", &[]), (2, vec![]));
    let cluster = Cluster::new("exit 1");
    let folder = cluster.path("run/trials/a-s0");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("failure.json"), "{\n  \"status\": \"diverged\"\n}").unwrap();
    assert_eq!(cluster.trial(0, "n1", &[]), (1, vec![]));
    assert!(cluster.events("a-s0", "n1").is_empty(), "nor held against the node");
}

#[test]
fn a_node_that_fails_everything_is_avoided_by_all_and_one_success_clears_it() {
    let cluster = Cluster::new("exit 127");
    let excluded = cluster.path("run/executor/excluded/n1");
    for task in [0, 1] {
        cluster.trial(task, "n1", &[]);
        assert!(!excluded.exists());
    }
    let (code, changes) = cluster.trial(2, "n1", &[]);
    assert!(excluded.exists() && code == 0);
    let update = |job: &str| format!("update jobid={job} ExcNodeList=n1");
    assert_eq!(changes, [update("9"), "requeue 9_2".to_owned(), update("9_2")]);
    // One that had been sent there meanwhile does not even try.
    let (code, changes) = cluster.trial(0, "n1", &[]);
    assert_eq!((code, changes[0].as_str()), (0, "requeue 9_0"));
    assert_eq!(cluster.events("a-s0", "n1"), ["failed-127"]);
    // Failures there were not the trial's own: it has its retry still.
    assert_eq!(cluster.trial(0, "n2", &[]).0, 0);
    assert_eq!(cluster.trial(0, "n3", &[]).0, 127);

    let cluster = Cluster::new("[[ $1 == trial:c-s0 ]]");
    for task in [2, 0, 1] {
        cluster.trial(task, "n1", &[]);
    }
    fs::create_dir_all(cluster.path("run/executor/attempts/d-s0/n1")).unwrap();
    fs::write(cluster.path("run/executor/attempts/d-s0/n1/failed-1-1-1"), "").unwrap();
    cluster.trial(0, "n1", &[]);
    assert!(!cluster.path("run/executor/excluded").exists());
}

#[test]
fn a_stop_with_a_checkpoint_queues_the_job_again_unless_slurm_ends_it() {
    let with =
        "mkdir -p $RUN/trials/a-s0/checkpoint; touch $RUN/trials/a-s0/checkpoint/s; exit 130";
    let cluster = Cluster::new(with);
    assert_eq!(cluster.trial(0, "n1", &[]), (0, vec!["requeue 9_0".to_owned()]));
    assert_eq!(cluster.events("a-s0", "n1"), ["stopped"]);
    assert_eq!(cluster.trial(0, "n1", &[("STATE", "COMPLETING")]), (130, vec![]));
    fs::write(cluster.path("run/executor/cancelled"), "").unwrap();
    assert_eq!(cluster.trial(0, "n1", &[]), (130, vec![]));
    assert_eq!(cluster.events("a-s0", "n1"), ["stopped"]);
    // One that has trained to its end, and is scored, has no checkpoint any more.
    let cluster =
        Cluster::new("mkdir -p $RUN/trials/a-s0; touch $RUN/trials/a-s0/record.json; exit 130");
    assert_eq!(cluster.trial(0, "n1", &[]), (0, vec!["requeue 9_0".to_owned()]));
    assert_eq!(cluster.events("a-s0", "n1"), ["stopped"]);
    // Stops that bring nothing forward count, or they would go on for ever.
    let cluster = Cluster::new("exit 130");
    assert_eq!(cluster.trial(0, "n1", &[]), (0, vec!["requeue 9_0".to_owned()]));
    assert_eq!(cluster.trial(0, "n1", &[]), (130, vec![]));
    assert_eq!(cluster.events("a-s0", "n1").len(), 2);
}

#[test]
fn signals_reach_the_trial_and_its_exit_code_is_waited_for() {
    let neutral = "trap 'sleep 0.3; mkdir -p $RUN/trials/a-s0/checkpoint/s; exit 130' TERM; \
                   touch $RUN/begun; while :; do sleep 0.05; done";
    for signal in ["TERM", "USR1"] {
        let cluster = Cluster::new(neutral);
        let mut child = cluster.start("trial", 0, "n1", &[]);
        let begin = Instant::now();
        while !cluster.path("run/begun").exists() {
            assert!(begin.elapsed() < Duration::from_secs(20));
            std::thread::sleep(Duration::from_millis(10));
        }
        let kill = Command::new("kill").args(["-s", signal, &child.id().to_string()]).status();
        assert!(kill.unwrap().success());
        assert_eq!(child.wait().unwrap().code(), Some(0));
        assert_eq!(cluster.events("a-s0", "n1"), ["stopped"], "{signal}");
    }
}

#[test]
fn results_are_collected_of_what_was_prepared_alone() {
    // Later than the job's own beginning, as far as clocks of file systems can tell.
    let neutral = "[[ -z ${WRITES:-} ]] || { sleep 0.1; : >$RUN/results.json; }; exit ${CODE:-0}";
    let cluster = Cluster::new(neutral);
    let with = |unit: &str, variables: &[(&str, &str)]| {
        cluster.start(unit, 0, "n1", variables).wait().unwrap().code().unwrap()
    };
    let code = |unit: &str, code: &str| with(unit, &[("CODE", code)]);
    let collected =
        || fs::read_to_string(cluster.path("run/executor/collected")).unwrap_or_default();
    assert_eq!(code("collect", "0"), 1);
    assert_eq!(collected(), "");
    assert_eq!(code("prepare", "0"), 0);
    // Results of an earlier time are not those of a job that wrote none.
    fs::write(cluster.path("run/results.json"), "{}").unwrap();
    assert_eq!(code("collect", "1"), 0, "queued again");
    assert_eq!(collected(), "");
    // That trials failed is said by the results.
    assert_eq!(with("collect", &[("CODE", "1"), ("WRITES", "1")]), 1);
    assert_eq!(collected(), "1\n");
}
