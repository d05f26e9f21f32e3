//! What a training hands back.

use serde::{Deserialize, Serialize};

/// How a training ended.
#[derive(Clone, Debug, PartialEq)]
pub enum TrainOutcome {
    /// All steps are done; the weights are in the model or the extension.
    Finished(TrainSummary),
    /// It was asked to stop, and did so, after a checkpoint if it writes any.
    Interrupted {
        /// Steps done; 0 too where it stopped before it looked for a checkpoint.
        step: u64,
    },
}

/// The cost and the end of a finished training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainSummary {
    /// Optimizer steps.
    pub steps: u64,
    /// Tokens trained on.
    pub tokens: u64,
    /// Time spent in steps, summed over interruptions; checkpoints are not counted.
    pub elapsed_seconds: f64,
    /// `tokens / elapsed_seconds`.
    pub tokens_per_second: f64,
    /// Most memory the process held so far, in bytes.
    pub peak_rss_bytes: u64,
    /// Language model loss in nats a token: the exponential mean over about the last 20 steps.
    pub final_loss_nats_per_token: f64,
}
