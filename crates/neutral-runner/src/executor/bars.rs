//! How far the trials of other processes are, as bars: one for all, one for each that runs.

use std::collections::BTreeMap;
use std::path::Path;

use indicatif::{MultiProgress, ProgressBar};

use crate::progress;
use crate::run_file::RunFile;
use crate::status::progress as progress_of;

/// The bars on the terminal, drawn from the files of the run.
pub(crate) struct Bars<'a> {
    screen: &'a MultiProgress,
    all: ProgressBar,
    running: BTreeMap<String, ProgressBar>,
}

impl<'a> Bars<'a> {
    pub(crate) fn new(screen: &'a MultiProgress, run: &RunFile) -> Self {
        let all = progress::bar(screen, &run.experiment);
        all.set_length(run.trials.len() as u64);
        Self { screen, all, running: BTreeMap::new() }
    }

    /// Shows that so many trials have ended, and how far those are that run.
    pub(crate) fn show(&mut self, run: &RunFile, out: &Path, ended: usize, running: &[&str]) {
        self.all.set_position(ended as u64);
        self.running.retain(|id, bar| {
            let stays = running.contains(&id.as_str());
            if !stays {
                bar.finish_and_clear();
            }
            stays
        });
        for trial in run.trials.iter().filter(|trial| running.contains(&trial.id.as_str())) {
            let bar = self.running.entry(trial.id.clone());
            let bar = bar.or_insert_with(|| progress::bar(self.screen, &trial.id));
            bar.set_length(trial.steps);
            if let Some(found) = progress_of(&trial.folder(out)) {
                bar.set_position(found.step);
                bar.set_message(format!("{:.0} tokens/s", found.tokens_per_second));
            }
        }
    }
}

impl Drop for Bars<'_> {
    fn drop(&mut self) {
        for bar in self.running.values().chain([&self.all]) {
            bar.finish_and_clear();
        }
    }
}
