//! Whether what an earlier run left in a trial's folder still holds.

use std::path::Path;

use neutral_spec::Trial;
use neutral_store::{StoreError, read_json, sha256_file};
use neutral_torch::{TensorFile, TorchError};
use serde::Deserialize;

use crate::trial::{RECORD, Shared, TRAINING, TrainingRecord, TrialRecord};
use crate::trial_file::{TRIAL_FILE, weights_name};

/// Whether a file is there. One that cannot be looked at may well be, and what it holds would be made again.
fn is_there(path: &Path) -> Result<bool, StoreError> {
    path.try_exists().map_err(|e| StoreError::io("look at", path, e))
}

impl Shared<'_> {
    /// The record of a trial that finished earlier, if there is one and it still holds.
    pub(crate) fn finished(&self, trial: &Trial) -> anyhow::Result<Option<TrialRecord>> {
        let path = self.folder(trial).join(RECORD);
        if !is_there(&path)? {
            return Ok(None);
        }
        let record: TrialRecord = read_json(&path)?;
        if record.fingerprint != self.fingerprint(trial) {
            return Ok(None);
        }
        if !self.stands(trial, &self.folder(trial))? {
            tracing::warn!(
                "{}: what it extends was made anew since, with other weights; trained again",
                trial.id
            );
            return Ok(None);
        }
        if let Some(lack) = self.lack_of_weights(trial, &self.folder(trial))? {
            tracing::warn!("{}: its weights are {lack}; trained again", trial.id);
            return Ok(None);
        }
        self.remove_checkpoint(trial);
        // Where the base lies may have changed, and earlier versions did not write the file.
        self.describe(trial)?;
        Ok(Some(record))
    }

    /// What is wrong with a finished trial's weights in a folder, if anything is. Those that the user has removed are
    /// not missed unless a trial that is still to run goes on from them; half of them would be.
    pub(crate) fn lack_of_weights(
        &self,
        trial: &Trial,
        folder: &Path,
    ) -> anyhow::Result<Option<String>> {
        let weights = folder.join(weights_name(&trial.method));
        if !is_there(&weights)? {
            return Ok(self.is_needed(trial)?.then(|| "gone and needed".to_owned()));
        }
        match TensorFile::open(&weights) {
            Err(TorchError::CorruptFile { reason, .. }) => Ok(Some(format!("damaged: {reason}"))),
            _ => Ok(None),
        }
    }

    /// The training of a trial whose scores do not hold, or which was stopped before it had any.
    pub(crate) fn trained(&self, trial: &Trial) -> anyhow::Result<Option<TrainingRecord>> {
        self.trained_in(trial, &self.folder(trial))
    }

    /// The same of a folder.
    pub(crate) fn trained_in(
        &self,
        trial: &Trial,
        folder: &Path,
    ) -> anyhow::Result<Option<TrainingRecord>> {
        let [path, weights] = [TRAINING, weights_name(&trial.method)].map(|name| folder.join(name));
        if !is_there(&path)? || !is_there(&weights)? {
            return Ok(None);
        }
        let training: TrainingRecord = read_json(&path)?;
        let holds = training.fingerprint == self.training_fingerprint(trial)
            && training.weights == sha256_file(&weights)?;
        Ok(holds.then_some(training))
    }

    /// Whether a trial's files in a folder stand on the very weights of this run's base, and of the trial here that
    /// it goes on from. Earlier versions did not say.
    pub(crate) fn stands(&self, trial: &Trial, folder: &Path) -> anyhow::Result<bool> {
        #[derive(Deserialize)]
        struct StandsOn {
            base: Weights,
            #[serde(default)]
            after_weights: Option<String>,
        }
        #[derive(Deserialize)]
        struct Weights {
            digest: Vec<String>,
        }
        let path = folder.join(TRIAL_FILE);
        if !is_there(&path)? {
            return Ok(true);
        }
        let on: StandsOn = read_json(&path)?;
        let on_before =
            on.after_weights.is_none() || on.after_weights == self.after_weights(trial)?;
        Ok(on_before && on.base.digest == self.base.digest)
    }

    /// The checksum of the weights that a trial goes on from, if they are there.
    pub(crate) fn after_weights(&self, trial: &Trial) -> anyhow::Result<Option<String>> {
        let record = self.before(trial).map(|before| self.folder(before).join(RECORD));
        match record {
            Some(path) if is_there(&path)? => Ok(read_json::<TrialRecord>(&path)?.weights),
            _ => Ok(None),
        }
    }

    /// Whether a trial that has not finished goes on from this one, or from one that does.
    fn is_needed(&self, trial: &Trial) -> anyhow::Result<bool> {
        let on_it = |t: &&Trial| t.after.as_ref().is_some_and(|after| after.trial == trial.id);
        for after in self.plan.trials.iter().filter(on_it) {
            if self.finished(after)?.is_none() || self.is_needed(after)? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
