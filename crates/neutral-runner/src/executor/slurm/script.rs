//! What SLURM is given: the job script and the arguments of sbatch.

use std::ffi::OsString;
use std::fmt::Write;

use crate::exit::BadInput;

/// The part of the job script that is the same for every run.
const BODY: &str = include_str!("job.sh");

/// What sbatch is asked for; see `neutral_spec::ExecutorSpec::Slurm`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Options {
    pub partition: Option<String>,
    pub time: Option<String>,
    pub gres: Option<String>,
    pub mem: Option<String>,
    pub account: Option<String>,
    pub max_parallel: Option<usize>,
    pub retries: u32,
    pub sbatch: Vec<String>,
    /// CPUs of each job.
    pub threads: Option<usize>,
}

/// A kind of job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum JobKind {
    Prepare,
    /// An array: a task a trial, by its index in the plan.
    Trials(Vec<usize>),
    Collect,
}

impl JobKind {
    /// As the job script and the comments of jobs have it.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Prepare => "prepare",
            Self::Trials(_) => "trial",
            Self::Collect => "collect",
        }
    }
}

/// How a job is known by, whoever submitted it: the comment of SLURM.
pub(super) fn comment(kind: &str, out: &str) -> String {
    format!("neutral:{kind}:{out}")
}

/// The arguments of sbatch for a job; `after` is what it depends on.
pub(super) fn arguments(
    kind: &JobKind,
    options: &Options,
    experiment: &str,
    out: &str,
    after: Option<&str>,
) -> Vec<String> {
    let name = kind.name();
    let mut arguments = vec![
        "--parsable".to_owned(),
        format!("--job-name={experiment}-{name}"),
        format!("--comment={}", comment(name, out)),
        // Where `%` begins a pattern.
        format!("--output={}/logs/slurm.log", out.replace('%', "%%")),
        "--open-mode=append".to_owned(),
        "--requeue".to_owned(),
        "--signal=B:USR1@90".to_owned(),
    ];
    if let JobKind::Trials(indices) = kind {
        let most = options.max_parallel.map(|n| format!("%{n}")).unwrap_or_default();
        arguments.push(format!("--array={}{most}", ranges(indices)));
    }
    if let Some(after) = after {
        arguments.push(format!("--dependency={after}"));
        // What can never run is to go, so that the report is made of what there is.
        arguments.push("--kill-on-invalid-dep=yes".to_owned());
    }
    let given = [
        ("partition", &options.partition),
        ("time", &options.time),
        ("gres", &options.gres),
        ("mem", &options.mem),
        ("account", &options.account),
    ];
    for (option, value) in given {
        arguments.extend(value.as_ref().map(|value| format!("--{option}={value}")));
    }
    arguments.extend(options.threads.map(|n| format!("--cpus-per-task={n}")));
    // The user's own come last, so that they win.
    arguments.extend(options.sbatch.iter().cloned());
    arguments.push(format!("{out}/executor/job.sh"));
    arguments.push(name.to_owned());
    arguments
}

/// `0-2,5`, from sorted numbers.
fn ranges(numbers: &[usize]) -> String {
    let mut parts: Vec<(usize, usize)> = Vec::new();
    for &number in numbers {
        match parts.last_mut() {
            Some((_, end)) if *end + 1 == number => *end = number,
            _ => parts.push((number, number)),
        }
    }
    let part = |(from, to): &(usize, usize)| {
        if from == to { from.to_string() } else { format!("{from}-{to}") }
    };
    parts.iter().map(part).collect::<Vec<_>>().join(",")
}

/// The job script.
pub(super) fn text(
    command: &[OsString],
    experiment: &str,
    out: &str,
    cache: &str,
    retries: u32,
) -> anyhow::Result<String> {
    let mut text = String::from("#!/bin/bash\n");
    let _ = writeln!(
        text,
        "# Jobs of the experiment {experiment}; written by `neutral run --executor slurm`, see docs/clusters.md."
    );
    let _ = writeln!(text, "export NEUTRAL_CACHE={}", quoted(cache));
    let _ = writeln!(text, "run={}", quoted(out));
    let _ = writeln!(text, "retries={retries}");
    let words = command.iter().map(|word| word_of(word).map(|word| quoted(&word)));
    let words = words.collect::<anyhow::Result<Vec<_>>>()?;
    let _ = writeln!(text, "neutral=({})\n", words.join(" "));
    text.push_str(BODY);
    Ok(text)
}

/// A word of a command line as text.
pub(super) fn word_of(word: &OsString) -> anyhow::Result<String> {
    let text = word.to_str().filter(|text| !text.contains('\n'));
    let said = || format!("{} cannot stand in a job script", word.display());
    Ok(text.ok_or_else(|| BadInput(said()))?.to_owned())
}

/// A word as shells read it back.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn indices_become_ranges() {
        assert_eq!(ranges(&[0, 1, 2, 5, 7, 8]), "0-2,5,7-8");
        assert_eq!(ranges(&[3]), "3");
    }

    #[test]
    fn sbatch_is_asked_for_what_was_given_and_the_users_own_options_win() {
        let options = Options {
            partition: Some("gpu".to_owned()),
            time: Some("12:00:00".to_owned()),
            max_parallel: Some(4),
            threads: Some(8),
            sbatch: vec!["--signal=B:USR1@20".to_owned()],
            ..Options::default()
        };
        let kind = JobKind::Trials(vec![0, 1, 3]);
        let words = arguments(&kind, &options, "smoke", "/runs/a", Some("afterok:7"));
        let expected = [
            "--parsable",
            "--job-name=smoke-trial",
            "--comment=neutral:trial:/runs/a",
            "--output=/runs/a/logs/slurm.log",
            "--open-mode=append",
            "--requeue",
            "--signal=B:USR1@90",
            "--array=0-1,3%4",
            "--dependency=afterok:7",
            "--kill-on-invalid-dep=yes",
            "--partition=gpu",
            "--time=12:00:00",
            "--cpus-per-task=8",
            "--signal=B:USR1@20",
            "/runs/a/executor/job.sh",
            "trial",
        ];
        assert_eq!(words, expected);
        let prepare = arguments(&JobKind::Prepare, &Options::default(), "s", "/a", None);
        assert_eq!(prepare.len(), 9, "{prepare:?}");
    }

    #[test]
    fn the_script_is_valid_whatever_the_paths_are() {
        let odd = "/runs/it's $HOME `x` \"y\"";
        let command = ["/bin/neutral".into(), "run".into(), odd.into()];
        let text = text(&command, "smoke", odd, "/cache", 2).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("job.sh");
        std::fs::write(&path, &text).unwrap();
        let output = Command::new("bash").arg("-n").arg(&path).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let head: String = text.split(BODY).next().unwrap().to_owned();
        let shown = Command::new("bash")
            .args(["-c", &format!("{head}\nprintf '%s|' \"$run\" \"${{neutral[@]}}\"")])
            .output()
            .unwrap();
        let shown = String::from_utf8(shown.stdout).unwrap();
        assert_eq!(shown, format!("{odd}|/bin/neutral|run|{odd}|"));
        assert!(word_of(&"a\nb".into()).is_err());
    }
}
