//! Tasks of `EleutherAI`'s lm-evaluation-harness (0.4.13): files to requests, log-likelihoods to metrics.
//!
//! A [`Task`] is read from the harness's own YAML; with the documents of its [`Dataset`] it gives
//! [`Example`]s, each with the [`Request`]s that the harness would send, in its order and with its few-shot
//! samples; of the [`Response`]s it makes a [`TaskResult`] in the harness's schema. A [`Library`] finds tasks,
//! groups and tags by name, and a [`Group`] averages its tasks. Between them is a model, of which this crate
//! knows nothing but how the text of a request becomes tokens: [`split_context_continuation`].
//!
//! Python in task files cannot be run. Functions that tasks of the harness use have counterparts here,
//! known by the hash of their file; any other is an error, as is every key that would change results and
//! is not supported.
//!
//! Fixtures come from the harness itself (`tests/fixtures/make_task_fixtures.py`): every request must be
//! equal, and every metric to 1e-12.

mod columns;
mod config;
mod dataset;
mod documents;
mod error;
mod fewshot;
mod field;
mod functions;
mod glob;
mod group;
mod json;
mod labels;
mod library;
mod metric;
mod numbers;
mod process;
mod python;
mod random;
mod request;
mod results;
mod sample;
mod score;
mod scoring;
mod source;
mod substitute;
mod template;
mod tokens;
mod value;
mod writer;
mod yaml;

pub use config::{OutputType, Task};
pub use dataset::{Dataset, HubDataset, Splits};
pub use documents::Format;
pub use error::TaskError;
pub use group::Group;
pub use library::{Library, Selection};
pub use metric::{Aggregation, BOOTSTRAP_ITERATIONS, Items, Metric};
pub use random::PythonRandom;
pub use request::{Example, FEWSHOT_SEED, Request, RequestOptions};
pub use results::{GroupResult, Score, TaskResult};
pub use sample::Sample;
pub use score::{Item, Response};
pub use tokens::{Split, split_context_continuation};
pub use value::{Document, Value};
