//! The experiment file: its vocabulary, its validation, and the plan that it means.
//!
//! What the user wrote ([`Experiment`]) and what it means ([`Plan`]) are two types, and the way
//! between them runs in one direction. This crate computes no tensors and reads no corpora.

mod budget;
mod corpus_ref;
mod experiment;
mod method;
mod plan;

pub use budget::Budget;
pub use corpus_ref::CorpusRef;
pub use experiment::{
    BaseSpec, DataSpec, DocumentPolicy, EvaluationSpec, EvaluationSplit, Experiment, MethodEntry,
    Precision, Schedule, Shape, Sweep, TokenizerSpec, TrainingOverrides, TrainingSpec,
};
pub use method::{
    GateActivation, GatePer, GateSpec, LinearSite, LocalLossSpec, Method, Placement, Start,
};
pub use plan::{Evaluation, ExtensionSize, Plan, Trial};
