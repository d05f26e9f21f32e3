//! A run as a report shows it: its results, and what its trials' folders hold besides.

use std::collections::BTreeMap;
use std::path::Path;

use neutral_store::{Fingerprint, StoreError, read_json};
use serde::Deserialize;

use crate::results::Results;
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
            // A folder of another training than the row has no curves of it.
            let is_its = trial.fingerprint.is_none() || made_from(&folder)? == trial.fingerprint;
            if path.is_file() && is_its {
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

/// Which training the trial in a folder is of, as [`crate::TrialResult::fingerprint`] has it: of all that determines its
/// result, and its very weights. None if it has not finished, or an earlier version made it.
///
/// # Errors
/// If its record is there and cannot be read.
pub fn made_from(folder: &Path) -> Result<Option<Fingerprint>, StoreError> {
    #[derive(Deserialize)]
    struct Record {
        fingerprint: Fingerprint,
        weights: Option<String>,
    }
    let record = folder.join("record.json");
    if !record.is_file() {
        return Ok(None);
    }
    let Record { fingerprint, weights } = read_json(&record)?;
    Ok(weights.map(|weights| Fingerprint::of(&(fingerprint, weights))))
}
