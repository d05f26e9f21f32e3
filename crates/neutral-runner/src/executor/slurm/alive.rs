//! Which jobs of a run are not over, from what squeue says.

use std::collections::BTreeSet;
use std::path::{Path, absolute};

use super::queue::{self, Job};
use super::{Submitted, script};
use crate::executor::Record;

/// The jobs of a run that are not over.
#[derive(Default)]
pub(super) struct Alive {
    pub prepare: Option<String>,
    /// Job arrays.
    pub arrays: BTreeSet<String>,
    /// Their tasks: indices of trials.
    pub tasks: BTreeSet<usize>,
    /// Those of them that run.
    pub running: BTreeSet<usize>,
    pub collect: Option<String>,
    /// All of them, with their kind.
    pub jobs: Vec<(String, Job)>,
}

impl Alive {
    /// Those of the run in a folder.
    pub(super) fn of(out: &Path) -> anyhow::Result<Self> {
        let recorded = match Record::read(out)? {
            Some(Record::Slurm(record)) => record.jobs,
            _ => Vec::new(),
        };
        Ok(Self::among(queue::jobs()?, &absolute(out)?, &recorded))
    }

    /// Jobs are known by their comment, and by their number where a site replaces comments.
    pub(super) fn among(jobs: Vec<Job>, out: &Path, recorded: &[Submitted]) -> Self {
        let out = out.to_string_lossy();
        let mut alive = Self::default();
        for job in jobs {
            let by_comment = ["prepare", "trial", "collect"]
                .into_iter()
                .find(|kind| job.comment == script::comment(kind, &out));
            let by_id = || recorded.iter().find(|known| known.id == job.id);
            let Some(kind) = by_comment.or_else(|| by_id().map(|known| known.kind.as_str())) else {
                continue;
            };
            match kind {
                "prepare" => alive.prepare = Some(job.id.clone()),
                "collect" => alive.collect = Some(job.id.clone()),
                _ => {
                    alive.arrays.insert(job.id.clone());
                    alive.tasks.extend(job.task);
                    alive.running.extend(job.task.filter(|_| job.runs()));
                }
            }
            alive.jobs.push((kind.to_owned(), job));
        }
        alive
    }

    pub(super) fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(id: &str, task: Option<usize>, state: &str, comment: &str) -> Job {
        Job {
            id: id.to_owned(),
            task,
            state: state.to_owned(),
            node: None,
            reason: String::new(),
            comment: comment.to_owned(),
        }
    }

    #[test]
    fn jobs_are_known_by_their_comment_or_their_number() {
        let recorded = [Submitted { id: "9".to_owned(), kind: "prepare".to_owned() }];
        let jobs = vec![
            job("9", None, "RUNNING", "the site's own words"),
            job("10", Some(0), "RUNNING", "neutral:trial:/runs/a"),
            job("10", Some(2), "PENDING", "neutral:trial:/runs/a"),
            job("11", Some(1), "RUNNING", "neutral:trial:/runs/another"),
            job("12", None, "PENDING", "neutral:collect:/runs/a"),
            job("13", None, "RUNNING", ""),
        ];
        let alive = Alive::among(jobs, Path::new("/runs/a"), &recorded);
        assert_eq!(alive.prepare.as_deref(), Some("9"));
        assert_eq!(alive.collect.as_deref(), Some("12"));
        assert_eq!(alive.arrays, BTreeSet::from(["10".to_owned()]));
        assert_eq!(alive.tasks, BTreeSet::from([0, 2]));
        assert_eq!(alive.running, BTreeSet::from([0]));
        assert_eq!(alive.jobs.len(), 4);
    }
}
