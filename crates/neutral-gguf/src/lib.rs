//! Llama models in GGUF files, as Hugging Face folders.
//!
//! GGUF is the one-file format of llama.cpp: metadata, a tokenizer, and weights that are mostly
//! quantised. [`convert`] turns such a file into what the rest of neutral reads, and what transformers
//! reads: weights are decoded to bf16, rows that llama.cpp interleaved are put back, and the metadata
//! becomes `config.json` and `tokenizer.json`. [`describe`] says what is in a file.
//!
//! Files are not trusted: no length is believed that the file is too short for, and what is not
//! understood is refused by name, never left out.
//!
//! The parser is our own, some 700 lines. Of those on crates.io, candle-core's and gguf-rs' reserve
//! memory for declared lengths before reading; gguf-rs-lib is as careful as this one, but keeps a
//! value for every element, decodes no quantised weights, and is 13,000 lines.

mod config;
mod convert;
mod dequantize;
mod describe;
mod error;
mod gguf;
mod header;
mod plan;
mod rope;
mod safetensors;
mod source;
mod tensor;
mod tokenizer;
mod value;

pub use convert::{Summary, convert, rehearse};
pub use describe::{Description, TensorDescription, describe};
pub use error::GgufError;
pub use gguf::Gguf;
pub use source::Source;
pub use tensor::{TensorInfo, TensorType};
pub use value::{Array, Kind, Value};
