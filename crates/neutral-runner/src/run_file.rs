//! `run.json`: what a run is to do, for those who look at its folder while it works.

use std::path::{Path, PathBuf};

use neutral_spec::{Plan, Trial};
use neutral_store::{Fingerprint, read_json, write_json};
use serde::{Deserialize, Serialize};
use tch::Device;

use crate::exit::BadInput;
use crate::trial::{ANSWERS, NEUTRALITY, RECORD};

/// `run.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct RunFile {
    pub experiment: String,
    /// The kind of device that computes; none as long as only the host that submits jobs has seen the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<DeviceKind>,
    /// The trials in the order of the plan.
    pub trials: Vec<PlannedTrial>,
    /// The files that what is measured of a finished trial is kept in.
    #[serde(default)]
    pub measured: Vec<String>,
}

/// What a trial depends on of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum DeviceKind {
    Cpu,
    Cuda,
}

impl DeviceKind {
    pub(crate) fn of(device: Device) -> Self {
        if device.is_cuda() { Self::Cuda } else { Self::Cpu }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
        }
    }
}

/// A trial of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct PlannedTrial {
    pub id: String,
    /// The trial's own fingerprint, without the data's and the base's.
    pub fingerprint: Fingerprint,
    /// Optimizer steps.
    pub steps: u64,
    pub tokens_per_step: u64,
}

impl RunFile {
    pub(crate) fn new(plan: &Plan, device: Option<DeviceKind>) -> Self {
        let trial = |trial: &Trial| PlannedTrial {
            id: trial.id.clone(),
            fingerprint: trial.fingerprint(),
            steps: trial.training.steps(),
            tokens_per_step: trial.training.tokens_per_step(),
        };
        let measured = [(NEUTRALITY, plan.neutrality_tokens > 0), (ANSWERS, plan.tasks.is_some())];
        let measured = measured.into_iter().filter(|(_, is_wanted)| *is_wanted);
        Self {
            experiment: plan.experiment.clone(),
            device,
            trials: plan.trials.iter().map(trial).collect(),
            measured: measured.map(|(name, _)| name.to_owned()).collect(),
        }
    }

    /// Writes it into the run's folder, unless [`RunFile::check`] fails.
    pub(crate) fn write(&self, out: &Path) -> anyhow::Result<()> {
        let device = self.device.or(self.check(out)?);
        Ok(write_json(&out.join("run.json"), &Self { device, ..self.clone() })?)
    }

    /// Fails if a folder's finished trials would be lost, as they are another experiment's or another kind of
    /// device's. The kind of device that has computed there.
    pub(crate) fn check(&self, out: &Path) -> anyhow::Result<Option<DeviceKind>> {
        #[derive(Deserialize)]
        struct Kept {
            experiment: String,
            #[serde(default)]
            device: Option<DeviceKind>,
        }
        let path = out.join("run.json");
        if !path.is_file() {
            return Ok(None);
        }
        let kept: Kept = read_json(&path)?;
        let place = out.display();
        if kept.experiment != self.experiment {
            let message = format!(
                "{place} holds a run of the experiment `{}`, not of `{}`; choose another folder with --out, or remove it",
                kept.experiment, self.experiment
            );
            return Err(BadInput(message).into());
        }
        if let (Some(was), Some(is)) = (kept.device, self.device)
            && was != is
            && self.trials.iter().any(|trial| trial.folder(out).join(RECORD).is_file())
        {
            let (was, is) = (was.name(), is.name());
            let message = format!(
                "the finished trials in {place} were computed on {was} and would be trained anew on {is}; go on with --device {was}, choose another folder with --out, or remove it"
            );
            return Err(BadInput(message).into());
        }
        Ok(kept.device)
    }

    /// Fails if this process computes on another kind of device than the one that prepared the run, such as a node whose driver is
    /// broken. No mistake of the user's: another node may do.
    pub(crate) fn check_unit(
        &self,
        prepared: Option<DeviceKind>,
        out: &Path,
    ) -> anyhow::Result<()> {
        if let (Some(was), Some(is)) = (prepared, self.device)
            && was != is
        {
            let (out, was, is) = (out.display(), was.name(), is.name());
            anyhow::bail!(
                "{out} was prepared on {was}, and this process has found {is} to compute on"
            );
        }
        Ok(())
    }

    /// Whether a process has nothing left to do for a trial, by its files alone: it has finished, and all has been
    /// measured.
    pub(crate) fn is_done(&self, trial: &PlannedTrial, out: &Path) -> bool {
        let folder = trial.folder(out);
        trial.has_finished(out) && self.measured.iter().all(|name| folder.join(name).is_file())
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
    pub(crate) fn folder(&self, out: &Path) -> PathBuf {
        out.join("trials").join(&self.id)
    }

    /// Whether the trial has finished, by its files alone. Only a process that has the data and the base can
    /// tell whether its record still holds; that removes one that does not.
    pub(crate) fn has_finished(&self, out: &Path) -> bool {
        let folder = self.folder(out);
        #[derive(Deserialize)]
        struct Described {
            trial: Trial,
        }
        let described = read_json::<Described>(&folder.join(crate::trial_file::TRIAL_FILE));
        folder.join(RECORD).is_file()
            && described.is_ok_and(|found| found.trial.fingerprint() == self.fingerprint)
    }
}

#[cfg(test)]
mod tests {
    use neutral_store::sha256_bytes;

    use super::*;

    fn file(experiment: &str, device: Option<DeviceKind>) -> RunFile {
        let fingerprint = Fingerprint::of(&sha256_bytes(b"x"));
        let trial =
            PlannedTrial { id: "lora-s0".to_owned(), fingerprint, steps: 1, tokens_per_step: 1 };
        let (experiment, trials) = (experiment.to_owned(), vec![trial]);
        RunFile { experiment, device, trials, measured: Vec::new() }
    }

    #[test]
    fn finished_trials_of_another_experiment_or_device_are_not_lost() {
        let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let out = folder.path();
        let refused = |file: RunFile| file.write(out).unwrap_err().to_string();
        let (cpu, cuda) = (Some(DeviceKind::Cpu), Some(DeviceKind::Cuda));
        file("a", cpu).write(out).unwrap();
        // Nothing would be lost yet.
        file("a", cuda).write(out).unwrap();
        let trial = out.join("trials/lora-s0");
        std::fs::create_dir_all(&trial).unwrap();
        std::fs::write(trial.join(RECORD), "{}").unwrap();
        assert!(refused(file("a", cpu)).contains("go on with --device cuda"));
        assert!(refused(file("b", cuda)).contains("holds a run of the experiment `a`"));
        // A host that only submits jobs does not know, and does not forget.
        file("a", None).write(out).unwrap();
        assert_eq!(RunFile::read(out).unwrap(), file("a", cuda));
        assert_eq!(file("b", None).check(other.path()).unwrap(), None);
    }
}
