//! What was made from the same is the same, and is taken from where it has been made: whole trials from other
//! runs, and the training of WiSE-FT from the fine-tuning beside it.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use neutral_model::Transformer;
use neutral_spec::Trial;
use neutral_store::{Fingerprint, StoreError, copy_file, read_json, write_json};
use neutral_train::TrainSummary;
use serde::Deserialize;

use crate::run_file::RunFile;
use crate::trial::{
    ANSWERS, CHECKPOINT, MARK, NEUTRALITY, RECORD, Shared, TASKS, TRAINING, TrialRecord,
};
use crate::trial_file::weights_name;

/// The folders of trials, by the fingerprint of what their files were made from.
pub(crate) struct Elsewhere {
    /// Of everything that determines their results.
    finished: ByFingerprint,
    /// Of what determines their weights.
    trained: ByFingerprint,
}

type ByFingerprint = HashMap<Fingerprint, Vec<PathBuf>>;

impl Elsewhere {
    /// Those of some runs' folders, whatever their experiments call them now. A folder that is no run's is an error,
    /// one without a finished trial is not.
    pub(crate) fn of<'a>(runs: impl IntoIterator<Item = &'a Path>) -> anyhow::Result<Self> {
        #[derive(Deserialize)]
        struct Made {
            fingerprint: Fingerprint,
        }
        let (mut finished, mut trained) = (ByFingerprint::new(), ByFingerprint::new());
        for run in runs {
            RunFile::read(run)?;
            for folder in folders(&run.join("trials"))? {
                for (name, found) in [(RECORD, &mut finished), (TRAINING, &mut trained)] {
                    let file = folder.join(name);
                    match file.is_file().then(|| read_json::<Made>(&file)) {
                        Some(Ok(made)) => {
                            found.entry(made.fingerprint).or_default().push(folder.clone());
                        }
                        // Whoever needs it says what is to be done.
                        Some(Err(error)) => tracing::warn!("not taken: {error}"),
                        None => {}
                    }
                }
            }
        }
        Ok(Self { finished, trained })
    }
}

/// The folders in a folder, sorted; none if it is not there.
fn folders(path: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let read = |e| StoreError::io("read", path, e);
    let entries = match fs::read_dir(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(read)?,
    };
    let entries: Vec<_> = entries.collect::<Result<_, _>>().map_err(read)?;
    let mut folders: Vec<_> = entries.into_iter().map(|entry| entry.path()).collect();
    folders.retain(|folder| folder.is_dir());
    folders.sort();
    Ok(folders)
}

impl Shared<'_> {
    /// Moves a trial's files out of a folder that is another trial's by now, as when two labels change places: they would
    /// be lost before the trial that was made from the same could take them. Where they are now.
    pub(crate) fn set_aside(&self) -> anyhow::Result<Vec<PathBuf>> {
        let trials = &self.plan.trials;
        let wanted: HashSet<_> = trials.iter().map(|t| self.training_fingerprint(t)).collect();
        let mut moved = Vec::new();
        for trial in trials {
            let folder = self.folder(trial);
            if !folder.join(MARK).is_file() || !folder.join(RECORD).is_file() {
                continue;
            }
            // Whether a damaged one matters is for whoever trains there to say.
            let Ok(made) = read_json::<Fingerprint>(&folder.join(MARK)) else { continue };
            if made == self.training_fingerprint(trial) || !wanted.contains(&made) {
                continue;
            }
            let Some(_lock) = self.hold(trial)? else { break };
            let aside = folder.with_file_name(format!("{}.{made}", trial.id));
            // It is there if a run was killed between here and the end of what follows.
            if !aside.exists() {
                fs::rename(&folder, &aside).map_err(|e| StoreError::io("move", &folder, e))?;
            }
            moved.push(aside);
        }
        // What a run that was killed before it had taken them has left.
        for folder in folders(&self.out.join("trials"))? {
            let Ok(made) = read_json::<Fingerprint>(&folder.join(MARK)) else { continue };
            let is_aside = folder.extension().is_some_and(|ending| ending == made.as_str());
            // One that no trial here wants is nobody's to remove.
            if is_aside && wanted.contains(&made) && !moved.contains(&folder) {
                moved.push(folder);
            }
        }
        Ok(moved)
    }

    /// Gives a trial that has not finished the files of one that was made from the same; if there is none, those of
    /// one that was trained alike and scored otherwise, so that it has only to be scored.
    pub(crate) fn take(&self, trial: &Trial, elsewhere: &Elsewhere) -> anyhow::Result<()> {
        let finished = elsewhere.finished.get(&self.fingerprint(trial));
        let trained = elsewhere.trained.get(&self.training_fingerprint(trial));
        let has_weights = |folder: &Path| Ok(self.lack_of_weights(trial, folder)?.is_none());
        let is_trained = |folder: &Path| Ok(self.trained_in(trial, folder)?.is_some());
        let (from, whole) = match self.that_stands(trial, finished, &has_weights)? {
            Some(from) => (from, true),
            None => match self.that_stands(trial, trained, &is_trained)? {
                Some(from) => (from, false),
                None => return Ok(()),
            },
        };
        let Some(_lock) = self.hold(trial)? else { return Ok(()) };
        if self.finished(trial)?.is_some() || (!whole && self.trained(trial)?.is_some()) {
            return Ok(());
        }
        let to = self.folder(trial);
        self.empty(trial)?;
        let of_scores = |name: &str| [RECORD, ANSWERS, TASKS, NEUTRALITY].contains(&name);
        if whole {
            // The record comes last: without it a copy that was interrupted is a trial that has not finished.
            copy(from, &to, &|name| name != RECORD)?;
            write_json(&to.join(RECORD), &read_json::<TrialRecord>(&from.join(RECORD))?)?;
            tracing::info!("{}: taken from {}", trial.id, from.display());
        } else {
            copy(from, &to, &|name| !of_scores(name))?;
            tracing::info!("{}: its training is taken from {}", trial.id, from.display());
        }
        Ok(())
    }

    /// Of some folders the first that stands on the very weights of this run's base, is not the trial's own, and has the
    /// weights that are needed: an empty copy would be made again at every start, over the trial's own checkpoint.
    fn that_stands<'a>(
        &self,
        trial: &Trial,
        folders: Option<&'a Vec<PathBuf>>,
        has_weights: &dyn Fn(&Path) -> anyhow::Result<bool>,
    ) -> anyhow::Result<Option<&'a Path>> {
        // A run may be told to reuse itself.
        let own = std::path::absolute(self.folder(trial)).ok();
        for folder in folders.into_iter().flatten() {
            if std::path::absolute(folder).ok() == own {
                continue;
            }
            let lack = if !self.stands(trial, folder)? {
                "extends other weights"
            } else if !has_weights(folder)? {
                "has no whole weights"
            } else {
                return Ok(Some(folder));
            };
            tracing::warn!("{}: not taken from {}, which {lack}", trial.id, folder.display());
        }
        Ok(None)
    }

    /// The fine-tuning in the plan that is also the training of a trial of WiSE-FT.
    pub(crate) fn fine_tuning_of(&self, trial: &Trial) -> Option<&Trial> {
        let wanted = self.fingerprint(&trial.as_fine_tuning()?);
        self.plan.trials.iter().find(|other| self.fingerprint(other) == wanted)
    }

    /// Gives a trial of WiSE-FT the fine-tuned weights that it averages with its base's, and their curves, if
    /// this run has a finished trial that made them: however many shares are asked for, one training does.
    pub(crate) fn take_fine_tuning(
        &self,
        trial: &Trial,
        model: &mut Transformer,
    ) -> anyhow::Result<Option<TrainSummary>> {
        let Some(tuned) = self.fine_tuning_of(trial) else { return Ok(None) };
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
