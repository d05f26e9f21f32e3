//! SLURM's commands. Accounting is not needed: all is asked of squeue, which knows what is not over.

use std::io::ErrorKind;
use std::process::Command;

use crate::exit::BadInput;

/// What squeue is asked for; the comment comes last, as it may hold anything.
const FORMAT: &str = "%i|%T|%N|%r|%k";

/// A job, or a task of a job array, that waits or runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Job {
    /// The job, of an array the whole of it.
    pub id: String,
    /// Which task of an array.
    pub task: Option<usize>,
    pub state: String,
    pub node: Option<String>,
    pub reason: String,
    pub comment: String,
}

impl Job {
    fn parse(line: &str) -> Option<Self> {
        let mut parts = line.trim().splitn(5, '|');
        let mut next = || parts.next().map(str::to_owned);
        let (id, state, node, reason, comment) = (next()?, next()?, next()?, next()?, next()?);
        let (id, task) = match id.split_once('_') {
            Some((id, task)) => (id.to_owned(), task.parse().ok()),
            None => (id, None),
        };
        let node = Some(node).filter(|node| !node.is_empty());
        Some(Self { id, task, state, node, reason, comment })
    }

    /// It is on a node; when it has just been queued again, it still may be.
    pub(super) fn runs(&self) -> bool {
        ["RUNNING", "COMPLETING", "SUSPENDED"].contains(&self.state.as_str())
    }
}

/// All of this user's jobs that are not over.
pub(super) fn jobs() -> anyhow::Result<Vec<Job>> {
    let said = call("squeue", &["--me", "--noheader", "--array", &format!("--format={FORMAT}")])?;
    Ok(said.lines().filter_map(Job::parse).collect())
}

/// Submits a job and gives its number.
pub(super) fn submit(arguments: &[String]) -> anyhow::Result<String> {
    let said = call("sbatch", arguments)?;
    // With several clusters it is `number;cluster`.
    let id = said.trim().split(';').next().unwrap_or_default();
    if id.is_empty() || !id.bytes().all(|byte| byte.is_ascii_digit()) {
        anyhow::bail!("sbatch answered `{}`, which is no job's number", said.trim());
    }
    Ok(id.to_owned())
}

/// Cancels jobs; those that are over are none to SLURM either.
pub(super) fn cancel(ids: &[String]) -> anyhow::Result<()> {
    if !ids.is_empty() {
        call("scancel", ids)?;
    }
    Ok(())
}

fn call<S: AsRef<str>>(program: &str, arguments: &[S]) -> anyhow::Result<String> {
    let arguments = arguments.iter().map(AsRef::as_ref);
    let output = Command::new(program).args(arguments).output().map_err(|error| {
        let message = match error.kind() {
            ErrorKind::NotFound => {
                format!("{program} is not on this machine: --executor slurm needs a host from which jobs can be submitted")
            }
            _ => format!("{program} does not start: {error}"),
        };
        BadInput(message)
    })?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let message = format!("{program} failed ({}): {}", output.status, said.trim());
    // What it was asked for may not exist there; that a controller does not answer is no mistake of the user's.
    if program == "sbatch" && !said.contains("contact slurm controller") {
        return Err(BadInput(message).into());
    }
    anyhow::bail!(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_squeue_are_read() {
        let job = Job::parse("12_3|RUNNING|node7|None|neutral:trial:/runs/a|b").unwrap();
        assert_eq!((job.id.as_str(), job.task), ("12", Some(3)));
        assert_eq!(job.node.as_deref(), Some("node7"));
        assert_eq!(job.comment, "neutral:trial:/runs/a|b");
        assert!(job.runs());
        let job = Job::parse("13|PENDING||Dependency|neutral:collect:/runs/a\n").unwrap();
        assert_eq!((job.task, job.node.clone(), job.runs()), (None, None, false));
        assert_eq!(Job::parse("slurm_load_jobs error: …"), None);
    }
}
