//! Training: one optimizer step, the loop around it, and coming back after a stop.
//!
//! [`train`] takes a model, an extension, a deterministic stream of batches and a
//! [`neutral_spec::TrainingSpec`], and trains either the base's weights or the extension's, never
//! both. The loss is the paper's `ℓ = ℓ_LM + weight · ℓ_local` ([`local_loss`],
//! [`gate_losses`]); a base
//! that trains may be held near where it began ([`anchor`]), or averaged with it afterwards
//! ([`average_weights`]). The optimizer is
//! an `AdamW` of our own whose state is saved ([`optimizer`]); a checkpoint is one file, so it is
//! never inconsistent ([`checkpoint`]). On a CPU, N steps, a stop, and M steps equal N + M steps
//! bit for bit. Several processes may share a training, and are then one ([`ranks`]).
//!
//! What it is not: it knows no method (a method is an [`neutral_model::Extension`], made elsewhere),
//! keeps no final weights (they stay in the model or the extension; the caller saves them), and
//! evaluates nothing.

pub mod anchor;
mod average;
pub mod checkpoint;
pub mod clip;
mod error;
pub mod gate_losses;
pub mod local_loss;
pub mod metrics;
pub mod optimizer;
pub mod ranks;
mod records;
pub mod schedule;
pub mod step;
mod summary;
pub mod tensorboard;
mod trainer;
mod watch;

#[cfg(test)]
mod anchored_tests;
#[cfg(test)]
mod ranks_tests;
#[cfg(test)]
mod step_tests;
#[cfg(test)]
mod test_support;
#[cfg(test)]
mod trainer_tests;

pub use anchor::Anchor;
pub use average::average_weights;
pub use error::TrainError;
pub use summary::{TrainOutcome, TrainSummary};
pub use trainer::{TrainJob, Trained, train};
