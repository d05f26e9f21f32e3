//! `trial.json`: what a trial is and stands on, so that its folder can be used without its run.

use std::path::{Path, PathBuf};

use neutral_model::{Extension, ModelFolder, Transformer};
use neutral_report::{BaseResult, TrialResult};
use neutral_spec::{After, BaseSpec, Method, ModelSource, Precision, Trial};
use neutral_store::{Fingerprint, read_json, sha256_file};
use neutral_torch::TensorFile;
use serde::{Deserialize, Serialize};
use tch::Device;

use crate::exit::BadInput;
use crate::numerics::forward;
use crate::trial::{MARK, RECORD, TrialRecord};

pub(crate) const TRIAL_FILE: &str = "trial.json";

/// The name of a trial's weights in its folder.
pub(crate) fn weights_name(method: &Method) -> &'static str {
    if method.trains_base() { "model.safetensors" } else { "extension.safetensors" }
}

/// `trial.json`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct TrialFile {
    /// What its result was made from.
    pub fingerprint: Fingerprint,
    /// The experiment's name.
    pub experiment: String,
    /// The resolved trial.
    pub trial: Trial,
    /// The numbers that it was computed in.
    pub precision: Precision,
    /// The [`TrialFile::fingerprint`] of the trial that it goes on from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after_fingerprint: Option<Fingerprint>,
    /// The [`TrialRecord::weights`] of that trial.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after_weights: Option<String>,
    /// The base that it, or the first of those before it, extends.
    pub base: TrialBase,
}

/// The base of a trial.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct TrialBase {
    /// Where it comes from.
    pub source: BaseSpec,
    /// The model folder that was loaded.
    pub path: PathBuf,
    /// What it was made from.
    pub fingerprint: Fingerprint,
    /// Checksums of its files.
    pub digest: Vec<String>,
}

impl TrialBase {
    /// Its repository on the hub, if other tools can load it from there.
    pub(crate) fn repository(&self) -> Option<&str> {
        match &self.source {
            BaseSpec::Load { source: ModelSource::Hub { repo, file: None, .. } } => Some(repo),
            _ => None,
        }
    }

    /// The version of that repository that was extended.
    pub(crate) fn revision(&self) -> Option<&str> {
        match &self.source {
            BaseSpec::Load { source: ModelSource::Hub { revision, file: None, .. } } => {
                Some(revision)
            }
            _ => None,
        }
    }

    /// What other tools load it by: the repository, or the folder.
    pub(crate) fn name(&self) -> String {
        self.repository().map_or_else(|| self.path.display().to_string(), str::to_owned)
    }
}

/// A model with what extends it, both frozen.
pub(crate) type Extended = (Transformer, Extension);

/// How models are loaded.
#[derive(Clone, Copy)]
pub(crate) struct Loading<'a> {
    /// The base of the trials.
    pub base: &'a ModelFolder,
    pub device: Device,
    pub precision: Precision,
}

impl Loading<'_> {
    /// A fresh copy of the base, and nothing beside it.
    pub(crate) fn base(self) -> anyhow::Result<Extended> {
        let mut model = self.base.load(self.device, self.precision)?;
        model.freeze();
        Ok((model, Extension::none()))
    }
}

impl TrialFile {
    /// What the trial made, from the weights in its folder: what it extends, and the extension; or the same with
    /// the trained weights.
    pub(crate) fn after(&self, folder: &Path, loading: Loading) -> anyhow::Result<Extended> {
        let (mut model, below) = self.before(folder, loading)?;
        let Trial { method, size, .. } = &self.trial;
        let weights = folder.join(weights_name(method));
        let own = if method.trains_base() {
            model.make_trainable();
            model.params_mut().load(&weights)?;
            Extension::none()
        } else {
            let file = TensorFile::open(&weights)?;
            neutral_adapters::restore(method, size.units, model.config(), &file, loading.device)?
        };
        model.freeze();
        Ok((model, own.upon(below)))
    }

    /// What the trial extends: the base, or what the trial before it made, whose folder lies beside its own.
    pub(crate) fn before(&self, folder: &Path, loading: Loading) -> anyhow::Result<Extended> {
        let Some(After { trial, .. }) = &self.trial.after else { return loading.base() };
        let before = FinishedTrial::open(&folder.with_file_name(trial))?;
        let other_weights =
            self.after_weights.is_some() && self.after_weights != before.record.weights;
        if Some(&before.file.fingerprint) != self.after_fingerprint.as_ref() || other_weights {
            let message = format!(
                "{} is not the trial that {} goes on from: it has been made anew; run the experiment again",
                before.folder.display(),
                self.trial.id
            );
            return Err(BadInput(message).into());
        }
        before.file.after(&before.folder, loading)
    }

    /// All that makes the model what it is, beside its base.
    pub(crate) fn made_from(&self, folder: &Path) -> anyhow::Result<Vec<String>> {
        let mut all = vec![self.fingerprint.to_string(), forward()];
        all.extend(self.weights_digest(folder)?);
        Ok(all)
    }

    /// Checksums of the weights that make it what it is: its own, and those of the trials that it goes on from.
    /// Those of one fingerprint may differ, by threads or processes.
    pub(crate) fn weights_digest(&self, folder: &Path) -> anyhow::Result<Vec<String>> {
        let mut digests = match &self.trial.after {
            None => Vec::new(),
            Some(After { trial, .. }) => {
                let before = FinishedTrial::open(&folder.with_file_name(trial))?;
                before.file.weights_digest(&before.folder)?
            }
        };
        digests.push(sha256_file(&folder.join(weights_name(&self.trial.method)))?);
        Ok(digests)
    }

    /// What is compared with what the trial made, unless that is the same model without its extension.
    pub(crate) fn pristine(
        &self,
        folder: &Path,
        loading: Loading,
    ) -> anyhow::Result<Option<Extended>> {
        let changed = self.trial.method.trains_base() || self.trial.after.is_some();
        changed.then(|| self.before(folder, loading)).transpose()
    }
}

/// A trial that has finished, as its folder has it.
#[derive(Debug)]
pub(crate) struct FinishedTrial {
    pub folder: PathBuf,
    pub file: TrialFile,
    pub record: TrialRecord,
}

impl FinishedTrial {
    /// Opens `RUN/trials/TRIAL`, which may be called `RUN/TRIAL`.
    pub(crate) fn open(path: &Path) -> anyhow::Result<Self> {
        let wrong = |message: String| anyhow::Error::from(BadInput(message));
        let folder = Self::folder(path).ok_or_else(|| {
            let shown = path.display();
            wrong(format!("{shown} is no trial of a run; trials lie in RUN/trials"))
        })?;
        let shown = folder.display();
        if !folder.join(RECORD).is_file() {
            return Err(wrong(format!(
                "{shown} has no {RECORD}: the trial has not finished; run its experiment again, which goes on with it"
            )));
        }
        if !folder.join(TRIAL_FILE).is_file() {
            return Err(wrong(format!(
                "{shown} has no {TRIAL_FILE}: it was made by an earlier version; run its experiment again, which keeps the trial and adds the file"
            )));
        }
        let file: TrialFile = read_json(&folder.join(TRIAL_FILE))?;
        let record: TrialRecord = read_json(&folder.join(RECORD))?;
        if record.fingerprint != file.fingerprint {
            return Err(wrong(format!(
                "{shown} is being made anew; run its experiment to the end first"
            )));
        }
        Ok(Self { folder, file, record })
    }

    /// The folder that a path means, if it is a trial's.
    pub(crate) fn folder(path: &Path) -> Option<PathBuf> {
        // From within the run too: its results lie above.
        let path = &std::path::absolute(path).ok()?;
        let within = path.parent().zip(path.file_name());
        let within = within.map(|(run, trial)| run.join("trials").join(trial));
        let is_trial =
            |folder: &PathBuf| folder.join(MARK).is_file() || folder.join(RECORD).is_file();
        [Some(path.clone()), within].into_iter().flatten().find(is_trial)
    }

    /// The base, which must still be the one that was extended.
    pub(crate) fn base(&self) -> anyhow::Result<ModelFolder> {
        let TrialBase { path, digest, .. } = &self.file.base;
        if !path.exists() {
            let message = format!(
                "the base that {} extends is gone from {}; run its experiment again, which fetches or makes it",
                self.file.trial.id,
                path.display()
            );
            return Err(BadInput(message).into());
        }
        let folder = ModelFolder::open(path)?;
        if folder.digest()? != *digest {
            let message = format!(
                "{} is not the base that the trial extends: its files have changed; run the experiment again",
                path.display()
            );
            return Err(BadInput(message).into());
        }
        Ok(folder)
    }

    /// What the trial made: see [`TrialFile::after`].
    pub(crate) fn model(&self, loading: Loading) -> anyhow::Result<Extended> {
        self.file.after(&self.folder, loading)
    }

    /// The base's and the trial's rows of the run's results, if the folder still lies in its run and they are
    /// of this record.
    pub(crate) fn results(&self) -> anyhow::Result<Option<(BaseResult, TrialResult)>> {
        let run = self.folder.parent().and_then(Path::parent);
        let Some(path) = run.map(|run| run.join("results.json")).filter(|path| path.is_file())
        else {
            return Ok(None);
        };
        let results = neutral_report::read(&path)?;
        let id = &self.file.trial.id;
        let made = neutral_report::made_from(&self.folder)?;
        let of_this = |t: &TrialResult| t.fingerprint.is_none() || t.fingerprint == made;
        let mut finished = results.trials.into_iter().filter(|t| t.finished().is_some());
        let trial = finished.find(|t| t.id == *id && of_this(t));
        Ok(trial.map(|trial| (results.base, trial)))
    }
}
