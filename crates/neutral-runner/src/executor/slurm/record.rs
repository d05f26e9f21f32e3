//! `executor/executor.json` of SLURM: which jobs a run has, how they are, and how they are stopped.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, absolute};

use neutral_store::{Fingerprint, write_atomic};
use serde::{Deserialize, Serialize};

use super::alive::Alive;
use super::queue::{self, Job};
use crate::executor::{Started, UnderWay, folder};
use crate::run_file::RunFile;

/// What is kept of it in the run's folder.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct SlurmRecord {
    /// The [`crate::executor::form`] of the plan that was submitted.
    pub(super) plan: Fingerprint,
    /// The jobs, in the order of their submission.
    pub(super) jobs: Vec<Submitted>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Submitted {
    pub(super) id: String,
    /// `prepare`, `trial` or `collect`.
    pub(super) kind: String,
}

impl SlurmRecord {
    /// Whether any of the run's jobs is.
    pub(crate) fn is_under_way(&self, out: &Path) -> anyhow::Result<bool> {
        Ok(!Alive::among(queue::jobs()?, &absolute(out)?, &self.jobs).is_empty())
    }
}

impl Started for SlurmRecord {
    fn describe(&self) -> String {
        let jobs: Vec<_> = self.jobs.iter().map(|job| job.id.as_str()).collect();
        format!("slurm, jobs {}", jobs.join(", "))
    }

    fn under_way(&self, run: &RunFile, out: &Path) -> anyhow::Result<BTreeMap<String, UnderWay>> {
        let alive = Alive::among(queue::jobs()?, &absolute(out)?, &self.jobs);
        let unit = |(kind, job): (String, Job)| {
            let name = match job.task {
                Some(index) => run.trials.get(index)?.id.clone(),
                None => kind,
            };
            let reason = Some(&job.reason).filter(|reason| !job.runs() && *reason != "None");
            let state = match reason {
                Some(reason) => format!("{} ({reason})", job.state),
                None => job.state.clone(),
            };
            Some((name, UnderWay { runs: job.runs(), node: job.node, state }))
        };
        Ok(alive.jobs.into_iter().filter_map(unit).collect())
    }

    fn cancel(&self, out: &Path) -> anyhow::Result<Option<String>> {
        let out = absolute(out)?;
        let alive = Alive::among(queue::jobs()?, &out, &self.jobs);
        if alive.is_empty() {
            return Ok(None);
        }
        // A job that is stopped would queue itself again.
        write_atomic(&folder(&out).join("cancelled"), |_| Ok(()))?;
        let ids: BTreeSet<String> = alive.jobs.into_iter().map(|(_, job)| job.id).collect();
        let ids: Vec<String> = ids.into_iter().collect();
        queue::cancel(&ids)?;
        Ok(Some(format!(
            "jobs {} are cancelled; those that train leave a checkpoint",
            ids.join(", ")
        )))
    }
}
