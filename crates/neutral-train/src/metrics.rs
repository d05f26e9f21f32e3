//! `metrics.jsonl`: one line a step, cut back to the checkpoint when a training is resumed.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use neutral_store::StoreError;
use serde::{Deserialize, Serialize};

use crate::TrainError;
use crate::ranks::Exchange;
use crate::step::StepLosses;

/// One line of `metrics.jsonl`. Numbers that are not finite are written as `null`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepRecord {
    /// The step, counted from 1.
    pub step: u64,
    /// Tokens trained on up to and with this step.
    pub tokens: u64,
    /// Its learning rate.
    pub learning_rate: f64,
    /// Language model loss over all tokens of the step.
    pub loss_nats_per_token: Option<f64>,
    /// The same over original-domain tokens; absent if there were none.
    pub loss_nats_per_token_original: Option<f64>,
    /// The same over new-domain tokens.
    pub loss_nats_per_token_new: Option<f64>,
    /// The local loss before its weight; absent without one.
    pub local_loss: Option<f64>,
    /// The anchor's loss before its weight; left out without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub anchor_loss: Option<f64>,
    /// Share of gate values above 0 on original-domain tokens; absent without gates.
    pub gate_open_fraction_original: Option<f64>,
    /// The same on new-domain tokens.
    pub gate_open_fraction_new: Option<f64>,
    /// Global norm of the gradient before clipping.
    pub gradient_norm: Option<f64>,
    /// Tokens of the step over its duration.
    pub tokens_per_second: f64,
    /// Most memory the process held so far.
    pub peak_rss_bytes: u64,
    /// What went between processes; left out of a training by one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exchange: Option<Exchange>,
}

impl StepRecord {
    /// A record of a step's losses; the caller fills in speed and memory.
    pub(crate) fn new(step: u64, tokens: u64, learning_rate: f64, losses: &StepLosses) -> Self {
        let finite = |x: f64| Some(x).filter(|x| x.is_finite());
        Self {
            step,
            tokens,
            learning_rate,
            loss_nats_per_token: finite(losses.total),
            loss_nats_per_token_original: losses.original.and_then(finite),
            loss_nats_per_token_new: losses.new.and_then(finite),
            local_loss: losses.local.and_then(finite),
            anchor_loss: losses.anchor.and_then(finite),
            gate_open_fraction_original: losses.gate_open_original,
            gate_open_fraction_new: losses.gate_open_new,
            gradient_norm: None,
            tokens_per_second: 0.0,
            peak_rss_bytes: 0,
            exchange: None,
        }
    }

    /// What TensorBoard shows, as tag and value; absent values are left out.
    pub fn scalars(&self) -> Vec<(&'static str, f64)> {
        let all = [
            ("loss/all_nats_per_token", self.loss_nats_per_token),
            ("loss/original_nats_per_token", self.loss_nats_per_token_original),
            ("loss/new_nats_per_token", self.loss_nats_per_token_new),
            ("loss/local", self.local_loss),
            ("loss/anchor", self.anchor_loss),
            ("gate/open_fraction_original", self.gate_open_fraction_original),
            ("gate/open_fraction_new", self.gate_open_fraction_new),
            ("optimizer/gradient_norm", self.gradient_norm),
            ("optimizer/learning_rate", Some(self.learning_rate)),
            ("cost/tokens_per_second", Some(self.tokens_per_second)),
            ("cost/peak_rss_bytes", Some(self.peak_rss_bytes as f64)),
        ];
        all.into_iter().filter_map(|(tag, value)| Some((tag, value?))).collect()
    }
}

/// The file, open for appending.
#[derive(Debug)]
pub struct MetricsLog {
    path: PathBuf,
    file: BufWriter<File>,
}

impl MetricsLog {
    /// Opens `metrics.jsonl` in a folder and cuts it after the line of `step`; 0 empties it.
    ///
    /// # Errors
    /// [`TrainError::Metrics`] if there are fewer lines than that; any error of the file system.
    pub fn open(folder: &Path, step: u64) -> Result<Self, TrainError> {
        let path = folder.join("metrics.jsonl");
        let io = |action, source| StoreError::io(action, &path, source);
        let file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .open(&path)
            .map_err(|e| io("open", e))?;
        let mut reader = BufReader::new(&file);
        let mut kept = 0;
        let mut line = Vec::new();
        for found in 0..step {
            line.clear();
            kept += reader.read_until(b'\n', &mut line).map_err(|e| io("read", e))? as u64;
            if line.last() != Some(&b'\n') {
                return Err(TrainError::Metrics { path, found, step });
            }
        }
        file.set_len(kept).map_err(|e| io("truncate", e))?;
        Ok(Self { path, file: BufWriter::new(file) })
    }

    /// Appends a line; it is on disk after the next [`MetricsLog::flush`].
    ///
    /// # Errors
    /// Any error of the file system.
    pub fn append(&mut self, record: &StepRecord) -> Result<(), TrainError> {
        serde_json::to_writer(&mut self.file, record)
            .map_err(std::io::Error::from)
            .and_then(|()| self.file.write_all(b"\n"))
            .map_err(|e| StoreError::io("write", &self.path, e).into())
    }

    /// Brings all lines to disk, so that a checkpoint written afterwards never is ahead of them.
    ///
    /// # Errors
    /// Any error of the file system.
    pub fn flush(&mut self) -> Result<(), TrainError> {
        self.file
            .flush()
            .and_then(|()| self.file.get_ref().sync_data())
            .map_err(|e| StoreError::io("write", &self.path, e).into())
    }
}

/// The median of timings: of an even number of them the mean of the middle two; NaN of none.
pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        even if even % 2 == 0 => 0.5 * (values[middle - 1] + values[middle]),
        _ => values[middle],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_number_is_between_the_middle_two() {
        assert_eq!(median([4.0, 1.0, 2.0, 9.0]), 3.0);
        assert_eq!(median([4.0, 1.0, 9.0]), 4.0);
        assert!(median([]).is_nan());
    }

    #[test]
    fn a_log_is_cut_to_the_step_and_a_short_one_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let losses = StepLosses { total: f64::NAN, new: Some(1.5), ..StepLosses::default() };
        let record = |step| StepRecord::new(step, step * 10, 0.1, &losses);
        let mut log = MetricsLog::open(folder.path(), 0).unwrap();
        for step in 1..=3 {
            log.append(&record(step)).unwrap();
        }
        log.flush().unwrap();
        drop(log);
        let path = folder.path().join("metrics.jsonl");
        let mut half = OpenOptions::new().append(true).open(&path).unwrap();
        half.write_all(b"{\"step\": 4, \"tok").unwrap();

        let short = MetricsLog::open(folder.path(), 4).unwrap_err().to_string();
        assert!(short.contains("has 3 lines but the checkpoint is at step 4"), "{short}");
        let mut log = MetricsLog::open(folder.path(), 2).unwrap();
        log.append(&record(3)).unwrap();
        log.flush().unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<StepRecord> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines, [record(1), record(2), record(3)]);
        assert_eq!(lines[0].loss_nats_per_token, None, "NaN is null");
        drop(MetricsLog::open(folder.path(), 0).unwrap());
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 0);
    }
}
