//! A run as a report shows it: its results, and what its trials' folders hold besides.

use std::collections::BTreeMap;
use std::path::Path;

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
            let path = folder.join("trials").join(&trial.id).join("metrics.jsonl");
            if path.is_file() {
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
