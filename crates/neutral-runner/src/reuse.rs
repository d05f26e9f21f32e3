//! Trials that other runs have finished: what was made from the same is the same, and is taken from there.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use neutral_spec::Trial;
use neutral_store::{Fingerprint, StoreError, read_json};
use serde::Deserialize;

use crate::run_file::RunFile;
use crate::trial::Shared;

const RECORD: &str = "record.json";

/// The folders of finished trials, by the fingerprint of everything that determines their results.
pub(crate) struct FinishedElsewhere(HashMap<Fingerprint, PathBuf>);

impl FinishedElsewhere {
    /// Those of other runs' folders. A folder that is no run's is an error, one without a finished trial is not.
    pub(crate) fn of(runs: &[PathBuf]) -> anyhow::Result<Self> {
        #[derive(Deserialize)]
        struct Record {
            fingerprint: Fingerprint,
        }
        let mut found = HashMap::new();
        for run in runs {
            for trial in RunFile::read(run)?.trials {
                let folder = run.join("trials").join(trial.id);
                let record = folder.join(RECORD);
                if record.is_file() {
                    found.insert(read_json::<Record>(&record)?.fingerprint, folder);
                }
            }
        }
        Ok(Self(found))
    }
}

impl Shared<'_> {
    /// Gives a trial that has not finished the files of one that has, if there is one made from the same.
    pub(crate) fn take(&self, trial: &Trial, elsewhere: &FinishedElsewhere) -> anyhow::Result<()> {
        let Some(from) = elsewhere.0.get(&self.fingerprint(trial)) else { return Ok(()) };
        let Some(_lock) = self.hold(trial)? else { return Ok(()) };
        if self.finished(trial)?.is_some() {
            return Ok(());
        }
        let to = self.folder(trial);
        self.empty(trial)?;
        // The record comes last: without it a copy that was interrupted is a trial that has not finished.
        copy(from, &to, &|name| name != RECORD)?;
        copy(from, &to, &|name| name == RECORD)?;
        tracing::info!("{}: taken from {}", trial.id, from.display());
        Ok(())
    }
}

/// Copies what is to be copied of a folder and of those in it; locks and unfinished files stay, their names
/// begin with a dot.
fn copy(from: &Path, to: &Path, wanted: &dyn Fn(&str) -> bool) -> Result<(), StoreError> {
    fs::create_dir_all(to).map_err(|e| StoreError::io("make", to, e))?;
    let entries = fs::read_dir(from).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    for entry in entries.map_err(|e| StoreError::io("read", from, e))? {
        let name = entry.file_name().to_string_lossy().into_owned();
        let (source, target) = (entry.path(), to.join(&name));
        if name.starts_with('.') {
            continue;
        }
        if source.is_dir() {
            copy(&source, &target, wanted)?;
        } else if wanted(&name) {
            // Not linked: a trial whose weights turn out damaged is trained again over these files.
            fs::copy(&source, &target).map_err(|e| StoreError::io("copy", &source, e))?;
        }
    }
    Ok(())
}
