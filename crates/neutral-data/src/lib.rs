//! From the name of a corpus to batches of tokens.
//!
//! A *manifest* (`data-manifests/<name>.yaml`) says where text comes from, under which licence, how
//! it is cleaned and split, and what its checksum is. [`prepare`] fetches, cleans and splits it
//! once; the result, a [`CleanCorpus`], stays in the cache. A [`Tokenizer`] turns it into
//! [`TokenShards`], memory-mapped files of token ids, and a [`MixedStream`] serves training
//! sequences of the original and the new domain in an exact ratio, as a pure function of seed and
//! position (paper, section on data: every batch mixes a share p of original text).
//!
//! The crate has no tensors and does not link libtorch. It knows nothing of models or methods. Without its feature
//! `corpora`, on by default, it fetches and cleans nothing, and needs half as many packages.

mod around_text;
mod batch;
#[cfg(feature = "corpora")]
mod clean;
mod control;
mod corpus;
mod error;
mod eval_documents;
#[cfg(feature = "corpora")]
mod extract;
#[cfg(feature = "corpora")]
mod fetch;
#[cfg(feature = "corpora")]
mod manifest;
#[cfg(feature = "corpora")]
mod manifests;
mod mix;
mod permutation;
mod pool;
#[cfg(feature = "corpora")]
mod prepare;
mod progress;
mod prompts;
#[cfg(feature = "corpora")]
mod scramble;
mod shard_writer;
mod shards;
mod special_tokens;
#[cfg(feature = "corpora")]
mod split;
mod synthetic;
mod text_stream;
mod tokenizer;

pub use batch::{Batch, Domain};
pub use control::Control;
pub use corpus::{CleanCorpus, CleanCorpusWriter, Document, Split};
pub use error::DataError;
pub use eval_documents::{EvalDocument, evaluation_documents};
#[cfg(feature = "corpora")]
pub use fetch::{
    DatasetFiles, DatasetSource, ModelFiles, fetch_dataset, fetch_model, fetch_model_description,
    pinned,
};
#[cfg(feature = "corpora")]
pub use manifests::Manifests;
pub use mix::{MixConfig, MixedStream};
#[cfg(feature = "corpora")]
pub use prepare::prepare;
pub use prompts::PromptTokenizer;
pub use shards::TokenShards;
pub use synthetic::{SyntheticLanguage, SyntheticSpec, generate};
pub use text_stream::TextStream;
pub use tokenizer::Tokenizer;
