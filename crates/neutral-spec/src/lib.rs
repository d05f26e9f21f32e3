//! The experiment file: its vocabulary, its validation, and the plan that it means.
//!
//! What the user wrote ([`Experiment`]) and what it means ([`Plan`]) are two types, and the way
//! between them runs in one direction:
//!
//! 1. YAML to a value that knows the line of every field;
//! 2. the value against the JSON Schema, which is made from the types: keys, types, ranges;
//! 3. the value to an [`Experiment`], and the rules between its fields;
//! 4. [`resolve()`]: methods × sweeps × seeds, each a fully explicit [`Trial`] with its budget solved
//!    into a rank or width.
//!
//! Every mistake is told with file, line and field, all of one step at once.
//!
//! This crate computes no tensors, reads no corpora and loads no tokenizer.

mod base;
mod budget;
mod corpus_ref;
mod cost;
mod domains;
mod draft;
mod error;
mod evaluation;
mod executor;
mod experiment;
mod field_path;
mod gate;
mod local_loss;
mod method;
mod mixed_corpus;
mod paper;
mod plan;
mod read;
mod resolve;
mod say;
mod schema;
mod sequence;
mod size;
mod sweep;
mod validate;
mod yaml;

pub use base::{BaseSpec, ModelSource, Shape};
pub use budget::Budget;
pub use corpus_ref::CorpusRef;
pub use cost::{CostEstimate, LOGITS_FROZEN, LOGITS_TRAINED, training_cost};
pub use error::{Problem, SpecError};
pub use evaluation::{EvaluationSpec, EvaluationSplit, TasksSpec};
pub use executor::ExecutorSpec;
pub use experiment::{
    BosPolicy, DataOverrides, DataSpec, DocumentPolicy, Experiment, MethodEntry, Precision,
    Schedule, Sweep, TokenizerSpec, TrainingOverrides, TrainingSpec,
};
pub use field_path::FieldPath;
pub use gate::{GateActivation, GatePer, GateSpec};
pub use local_loss::LocalLossSpec;
pub use method::{BranchPlacement, GluActivation, LinearSite, Method, Placement, Start};
pub use mixed_corpus::MixedCorpus;
pub use paper::{PaperFigureSpec, PaperSpec};
pub use plan::{After, Evaluation, ExtensionSize, Plan, Trial};
pub use resolve::{Loaded, corpora, model_size, resolve};
pub use say::nearest;
pub use schema::json_schema;
pub use size::{ModelSize, extension_size};
