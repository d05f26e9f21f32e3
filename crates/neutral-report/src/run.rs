//! A run as a report shows it: its results, and what its trials' folders hold besides.

use std::collections::BTreeMap;
use std::path::Path;

use neutral_store::{Fingerprint, read_json};
use serde::Deserialize;

use crate::results::{Results, TrialResult};
use crate::step::{Step, read_steps};
use crate::{ReportError, read};

/// A run to be reported.
#[derive(Clone, Debug)]
pub struct Run {
    /// What came out.
    pub results: Results,
    /// The steps of each trial whose folder is there, by the trial's id.
    pub steps: BTreeMap<String, Vec<Step>>,
}

impl Run {
    /// Reads `results.json` in a folder, and `trials/*/metrics.jsonl` where they are.
    ///
    /// # Errors
    /// If the results cannot be read, or a trial's metrics are there and cannot, or are not all there.
    pub fn read(folder: &Path) -> Result<Self, ReportError> {
        let results = read(&folder.join("results.json"))?;
        let mut steps = BTreeMap::new();
        for trial in &results.trials {
            let folder = folder.join("trials").join(&trial.id);
            let path = folder.join("metrics.jsonl");
            if path.is_file() && !is_made_anew(&folder, trial)? {
                let read = read_steps(&path)?;
                let found = read.last().map_or(0, |step| step.tokens);
                if let Some(tokens) = trial.tokens.filter(|&tokens| tokens != found) {
                    return Err(ReportError::ShortMetrics { path, found, tokens });
                }
                steps.insert(trial.id.clone(), read);
            }
        }
        Ok(Self { results, steps })
    }
}

/// Whether a trial's folder is of another training than its row, which then has no curves.
fn is_made_anew(folder: &Path, trial: &TrialResult) -> Result<bool, ReportError> {
    #[derive(Deserialize)]
    struct Record {
        fingerprint: Fingerprint,
    }
    let path = folder.join("record.json");
    match &trial.fingerprint {
        Some(made) if path.is_file() => Ok(read_json::<Record>(&path)?.fingerprint != *made),
        Some(_) => Ok(true),
        None => Ok(false),
    }
}
