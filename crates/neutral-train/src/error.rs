//! What can go wrong in a training.

use std::path::PathBuf;

use neutral_store::StoreError;
use neutral_torch::TorchError;

/// A training that cannot start, go on or be resumed.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// The loss or the gradient left the range in which training makes sense.
    #[error(
        "training diverged at step {step}: {reason} (loss {loss} nats/token); try a lower learning rate or a longer warm-up"
    )]
    Diverged {
        /// The step, counted from 1.
        step: u64,
        /// Its language model loss, in nats a token.
        loss: f64,
        /// Which rule it broke.
        reason: String,
    },
    /// A tensor that should train is not reached by the loss.
    #[error(
        "`{tensor}` had no gradient by step {step}, so it would never train; it is not part of the forward pass, or what follows it is cut off"
    )]
    NoGradient {
        /// Its name.
        tensor: String,
        /// The step, counted from 1.
        step: u64,
    },
    /// A weight of the base takes part in training an extension.
    #[error("`{tensor}` belongs to the frozen base but requires a gradient")]
    BaseNotFrozen {
        /// Its name.
        tensor: String,
    },
    /// Text of another tokenizer than the model's.
    #[error(
        "the text has token {token}, but the model knows {vocab_size}; it was tokenised with another tokenizer than the model's"
    )]
    UnknownToken {
        /// Its id.
        token: u32,
        /// Number of ids that the model knows.
        vocab_size: usize,
    },
    /// There is nothing to train.
    #[error("the extension has no weights, so there is nothing to train; train the base instead")]
    NothingToTrain,
    /// Training the base with an extension in place.
    #[error("an extension is given while the base is trained; pass `Extension::none()`")]
    ExtensionOnTrainedBase,
    /// An anchor without a base that trains.
    #[error(
        "an anchor holds the weights of a base that trains, but the extension is trained; pass `Anchor::None`"
    )]
    AnchoredExtension,
    /// It was asked to stop before its first step; [`crate::train`] says [`crate::TrainOutcome::Interrupted`].
    #[error("stopped before the first step")]
    Stopped,
    /// An anchor that nothing feeds.
    #[error(
        "`{anchor}` measures what the original domain needs, but the mix has none; raise data.original_fraction"
    )]
    NoOriginalText {
        /// The method's kind as written in YAML.
        anchor: &'static str,
    },
    /// A local loss that nothing feeds.
    #[error("local loss `{kind}` cannot be computed: {reason}; set it to `none`")]
    LocalLoss {
        /// Its kind as written in YAML.
        kind: &'static str,
        /// What is missing.
        reason: &'static str,
    },
    /// A training value that makes no sense.
    #[error("training.{field} is {value}; {problem}")]
    Spec {
        /// The field of the training block.
        field: &'static str,
        /// Its value.
        value: String,
        /// What would be right.
        problem: &'static str,
    },
    /// A checkpoint that cannot be used.
    #[error(
        "checkpoint {} cannot be used: {problem}; delete it to start this training over", path.display()
    )]
    Checkpoint {
        /// The file.
        path: PathBuf,
        /// What was found.
        problem: String,
    },
    /// A checkpoint of another training.
    #[error(
        "checkpoint {} belongs to another training (fingerprint {found}, this one has {expected}); choose another folder, or delete it to start over", path.display()
    )]
    OtherTraining {
        /// The file.
        path: PathBuf,
        /// The fingerprint in the file.
        found: String,
        /// This training's.
        expected: String,
    },
    /// A log that does not go with the checkpoint.
    #[error(
        "{} has {found} lines but the checkpoint is at step {step}; delete the checkpoint beside it to start this training over", path.display()
    )]
    Metrics {
        /// The file.
        path: PathBuf,
        /// Whole lines in it.
        found: u64,
        /// Steps that it should cover.
        step: u64,
    },
    /// Processes that do not train the same.
    #[error(
        "rank {rank} has another {what} than rank 0: {found}, and not {expected}; start every process with the same program, experiment and files"
    )]
    RanksDiffer {
        /// The first that differs.
        rank: usize,
        /// In what.
        what: &'static str,
        /// What it has.
        found: String,
        /// What rank 0 has.
        expected: String,
    },
    /// Rank 0 could not begin.
    #[error("rank 0 could not begin the training, so this process does not either: {reason}")]
    Leader {
        /// Its error.
        reason: String,
    },
    /// Tensors and their files.
    #[error(transparent)]
    Torch(#[from] TorchError),
    /// Files.
    #[error(transparent)]
    Store(#[from] StoreError),
}
