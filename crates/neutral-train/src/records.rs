//! What a training tells of its steps: the log, TensorBoard's events and the bar.

use std::path::Path;

use indicatif::ProgressBar;
use neutral_store::StoreError;

use crate::TrainError;
use crate::metrics::{MetricsLog, StepRecord};
use crate::tensorboard::EventWriter;

/// Steps between two points in TensorBoard.
const TENSORBOARD_EVERY: u64 = 10;

/// The records of one training.
#[derive(Debug)]
pub(crate) struct Records<'a> {
    metrics: MetricsLog,
    events: EventWriter,
    progress: &'a ProgressBar,
    steps: u64,
}

impl<'a> Records<'a> {
    /// Opens the files in a folder, which is made if need be, after `step` of `steps`.
    pub(crate) fn open(
        folder: &Path,
        progress: &'a ProgressBar,
        step: u64,
        steps: u64,
    ) -> Result<Self, TrainError> {
        std::fs::create_dir_all(folder).map_err(|e| StoreError::io("create", folder, e))?;
        let metrics = MetricsLog::open(folder, step)?;
        let events = EventWriter::create(&folder.join("tensorboard"), step)?;
        progress.set_length(steps);
        progress.set_position(step);
        Ok(Self { metrics, events, progress, steps })
    }

    pub(crate) fn add(&mut self, record: &StepRecord, mean_loss: f64) -> Result<(), TrainError> {
        self.metrics.append(record)?;
        let step = record.step;
        if step == 1 || step == self.steps || step.is_multiple_of(TENSORBOARD_EVERY) {
            self.events.scalars(step, &record.scalars())?;
        }
        self.progress.set_position(step);
        self.progress
            .set_message(format!("loss {mean_loss:.3}, {:.0} tokens/s", record.tokens_per_second));
        Ok(())
    }

    pub(crate) fn flush(&mut self) -> Result<(), TrainError> {
        self.metrics.flush()?;
        self.events.flush()
    }
}
