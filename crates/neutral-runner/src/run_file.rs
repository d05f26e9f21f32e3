//! `run.json`: what a run is to do, for those who look at its folder while it works.

use std::path::Path;

use neutral_spec::{Plan, Trial};
use neutral_store::{Fingerprint, read_json, write_json};
use serde::{Deserialize, Serialize};

use crate::exit::BadInput;

/// `run.json`.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct RunFile {
    pub experiment: String,
    /// The plan's fingerprint.
    pub plan: Fingerprint,
    /// The trials in the order of the plan.
    pub trials: Vec<PlannedTrial>,
}

/// A trial of a run.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct PlannedTrial {
    pub id: String,
    /// The trial's own fingerprint, without the data's and the base's.
    pub fingerprint: Fingerprint,
    /// Optimizer steps.
    pub steps: u64,
    pub tokens_per_step: u64,
}

impl RunFile {
    pub(crate) fn new(plan: &Plan) -> Self {
        let trial = |trial: &Trial| PlannedTrial {
            id: trial.id.clone(),
            fingerprint: trial.fingerprint(),
            steps: trial.training.steps(),
            tokens_per_step: trial.training.tokens_per_step(),
        };
        Self {
            experiment: plan.experiment.clone(),
            plan: plan.fingerprint(),
            trials: plan.trials.iter().map(trial).collect(),
        }
    }

    /// Writes it into the run's folder, unless that is another experiment's: its finished trials would be lost.
    pub(crate) fn write(&self, out: &Path) -> anyhow::Result<()> {
        let path = out.join("run.json");
        #[derive(Deserialize)]
        struct Named {
            experiment: String,
        }
        if path.is_file()
            && let Named { experiment } = read_json(&path)?
            && experiment != self.experiment
        {
            let message = format!(
                "{} holds a run of the experiment `{experiment}`, not of `{}`; choose another folder with --out, or remove it",
                out.display(),
                self.experiment
            );
            return Err(BadInput(message).into());
        }
        Ok(write_json(&path, self)?)
    }

    /// Reads that of a run's folder.
    pub(crate) fn read(out: &Path) -> anyhow::Result<Self> {
        let path = out.join("run.json");
        if !path.is_file() {
            let message = format!(
                "{} has no run.json: it is no run's folder, or an earlier version's; `neutral run` with --out {} begins a run or goes on with it",
                out.display(),
                out.display()
            );
            return Err(BadInput(message).into());
        }
        Ok(read_json(&path)?)
    }
}

impl PlannedTrial {
    /// Whether the trial has finished, by its files alone. Only a process that has the data and the base can
    /// tell whether its record still holds; that removes one that does not.
    pub(crate) fn has_finished(&self, out: &Path) -> bool {
        let folder = out.join("trials").join(&self.id);
        #[derive(Deserialize)]
        struct Described {
            trial: Trial,
        }
        let described = read_json::<Described>(&folder.join(crate::trial_file::TRIAL_FILE));
        folder.join("record.json").is_file()
            && described.is_ok_and(|found| found.trial.fingerprint() == self.fingerprint)
    }
}
