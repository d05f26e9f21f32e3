//! What was made from the same is the same, and is taken from where it has been made: whole trials from other
//! runs, and the training of WiSE-FT from the fine-tuning beside it.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use neutral_model::Transformer;
use neutral_spec::{Method, Trial};
use neutral_store::{Fingerprint, StoreError, copy_file, read_json, write_json};
use neutral_train::TrainSummary;
use serde::Deserialize;

use crate::run_file::RunFile;
use crate::trial::{CHECKPOINT, RECORD, Shared, TrialRecord};
use crate::trial_file::weights_name;

/// The folders of finished trials, by the fingerprint of everything that determines their results.
pub(crate) struct FinishedElsewhere(HashMap<Fingerprint, Vec<PathBuf>>);

impl FinishedElsewhere {
    /// Those of other runs' folders. A folder that is no run's is an error, one without a finished trial is not.
    pub(crate) fn of(runs: &[PathBuf]) -> anyhow::Result<Self> {
        #[derive(Deserialize)]
        struct Record {
            fingerprint: Fingerprint,
        }
        let mut found: HashMap<_, Vec<_>> = HashMap::new();
        for run in runs {
            for trial in RunFile::read(run)?.trials {
                let folder = run.join("trials").join(trial.id);
                let record = folder.join(RECORD);
                if record.is_file() {
                    let made = read_json::<Record>(&record)?.fingerprint;
                    found.entry(made).or_default().push(folder);
                }
            }
        }
        Ok(Self(found))
    }
}

impl Shared<'_> {
    /// Gives a trial that has not finished the files of one that has, if there is one made from the same.
    pub(crate) fn take(&self, trial: &Trial, elsewhere: &FinishedElsewhere) -> anyhow::Result<()> {
        let mut from = None;
        for folder in elsewhere.0.get(&self.fingerprint(trial)).into_iter().flatten() {
            if self.stands(trial, folder)? {
                from = Some(folder);
                break;
            }
            let folder = folder.display();
            tracing::warn!("{}: not taken from {folder}, which extends other weights", trial.id);
        }
        let Some(from) = from else { return Ok(()) };
        let Some(_lock) = self.hold(trial)? else { return Ok(()) };
        if self.finished(trial)?.is_some() {
            return Ok(());
        }
        let to = self.folder(trial);
        // A run may be told to reuse itself.
        if std::path::absolute(from).ok() == std::path::absolute(&to).ok() {
            return Ok(());
        }
        self.empty(trial)?;
        // The record comes last: without it a copy that was interrupted is a trial that has not finished.
        copy(from, &to, &|name| name != RECORD)?;
        write_json(&to.join(RECORD), &read_json::<TrialRecord>(&from.join(RECORD))?)?;
        tracing::info!("{}: taken from {}", trial.id, from.display());
        Ok(())
    }

    /// Gives a trial of WiSE-FT the fine-tuned weights that it averages with its base's, and their curves, if
    /// this run has a finished trial that made them: however many shares are asked for, one training does.
    pub(crate) fn take_fine_tuning(
        &self,
        trial: &Trial,
        model: &mut Transformer,
    ) -> anyhow::Result<Option<TrainSummary>> {
        if !matches!(trial.method, Method::WiseFt { .. }) {
            return Ok(None);
        }
        let wanted = self.fingerprint(&Trial { method: Method::Finetune {}, ..trial.clone() });
        let Some(tuned) = self.plan.trials.iter().find(|t| self.fingerprint(t) == wanted) else {
            return Ok(None);
        };
        let from = self.folder(tuned);
        let weights = from.join(weights_name(&tuned.method));
        let Some(record) = self.finished(tuned)?.filter(|_| weights.is_file()) else {
            return Ok(None);
        };
        model.make_trainable();
        model.params_mut().load(&weights)?;
        let of_training = |name: &str| name == "metrics.jsonl" || name.starts_with("events.");
        copy(&from, &self.folder(trial), &of_training)?;
        tracing::info!("{}: trained as {}, whose weights it takes", trial.id, tuned.id);
        Ok(Some(record.training))
    }
}

/// Copies what is to be copied of a folder and of those in it. Locks and unfinished files stay, their names
/// begin with a dot, and so does a checkpoint, which goes as soon as there is a record.
fn copy(from: &Path, to: &Path, wanted: &dyn Fn(&str) -> bool) -> Result<(), StoreError> {
    fs::create_dir_all(to).map_err(|e| StoreError::io("make", to, e))?;
    let entries = fs::read_dir(from).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    for entry in entries.map_err(|e| StoreError::io("read", from, e))? {
        let name = entry.file_name().to_string_lossy().into_owned();
        let (source, target) = (entry.path(), to.join(&name));
        if name.starts_with('.') || name == CHECKPOINT {
            continue;
        }
        if source.is_dir() {
            copy(&source, &target, wanted)?;
        } else if wanted(&name) {
            // Not linked: a trial whose weights turn out damaged is trained again over these files.
            copy_file(&source, &target)?;
        }
    }
    Ok(())
}
