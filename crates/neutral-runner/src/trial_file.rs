//! `trial.json`: what a trial is and stands on, so that its folder can be used without its run.

use std::path::{Path, PathBuf};

use neutral_model::{Extension, ModelFolder, Transformer};
use neutral_report::{BaseResult, TrialResult};
use neutral_spec::{BaseSpec, Method, ModelSource, Precision, Trial};
use neutral_store::{Fingerprint, read_json};
use neutral_torch::TensorFile;
use serde::{Deserialize, Serialize};
use tch::Device;

use crate::exit::BadInput;
use crate::trial::TrialRecord;

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
    /// The base that it extends.
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

    /// What other tools load it by: the repository, or the folder.
    pub(crate) fn name(&self) -> String {
        self.repository().map_or_else(|| self.path.display().to_string(), str::to_owned)
    }
}

/// A trial's model from the weights in its folder, frozen: base and extension, or the base with the
/// trained weights.
pub(crate) fn trained(
    trial: &Trial,
    folder: &Path,
    base: &ModelFolder,
    device: Device,
    precision: Precision,
) -> anyhow::Result<(Transformer, Extension)> {
    let mut model = base.load(device, precision)?;
    let Trial { method, size, .. } = trial;
    let weights = folder.join(weights_name(method));
    let extension = if method.trains_base() {
        model.make_trainable();
        model.params_mut().load(&weights)?;
        Extension::none()
    } else {
        let file = TensorFile::open(&weights)?;
        neutral_adapters::restore(method, size.units, base.config(), &file, device)?
    };
    model.freeze();
    Ok((model, extension))
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
        if !folder.join("record.json").is_file() {
            return Err(wrong(format!(
                "{shown} has no record.json: the trial has not finished; run its experiment again, which goes on with it"
            )));
        }
        if !folder.join(TRIAL_FILE).is_file() {
            return Err(wrong(format!(
                "{shown} has no {TRIAL_FILE}: it was made by an earlier version; run its experiment again, which keeps the trial and adds the file"
            )));
        }
        let file: TrialFile = read_json(&folder.join(TRIAL_FILE))?;
        let record: TrialRecord = read_json(&folder.join("record.json"))?;
        if record.fingerprint != file.fingerprint {
            return Err(wrong(format!(
                "{shown} is being made anew; run its experiment to the end first"
            )));
        }
        Ok(Self { folder, file, record })
    }

    /// The folder that a path means, if it is a trial's.
    pub(crate) fn folder(path: &Path) -> Option<PathBuf> {
        let within = path.parent().zip(path.file_name());
        let within = within.map(|(run, trial)| run.join("trials").join(trial));
        let is_trial = |folder: &PathBuf| {
            folder.join("fingerprint.json").is_file() || folder.join("record.json").is_file()
        };
        [Some(path.to_path_buf()), within].into_iter().flatten().find(is_trial)
    }

    /// The base, which must still be the one that was extended.
    pub(crate) fn base(&self) -> anyhow::Result<ModelFolder> {
        let TrialBase { path, digest, .. } = &self.file.base;
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

    /// The trial's own model: base and extension, or the base with the trained weights.
    pub(crate) fn model(
        &self,
        base: &ModelFolder,
        device: Device,
        precision: Precision,
    ) -> anyhow::Result<(Transformer, Extension)> {
        trained(&self.file.trial, &self.folder, base, device, precision)
    }

    /// The base's and the trial's rows of the run's results, if the folder still lies in its run.
    pub(crate) fn results(&self) -> anyhow::Result<Option<(BaseResult, TrialResult)>> {
        let run = self.folder.parent().and_then(Path::parent);
        let Some(path) = run.map(|run| run.join("results.json")).filter(|path| path.is_file())
        else {
            return Ok(None);
        };
        let results = neutral_report::read(&path)?;
        let id = &self.file.trial.id;
        let trial = results.trials.into_iter().find(|t| t.id == *id && t.finished().is_some());
        Ok(trial.map(|trial| (results.base, trial)))
    }
}
