//! The backbone: a decoder that takes its extension as an argument.
//!
//! ```text
//! Transformer::forward(&Input, &Extension) -> Output { hidden, residues }
//! ```
//!
//! An extension is passed in, never injected. So the pristine base is [`Extension::none`] by
//! construction, no module hides state between calls, and there are two stores of weights, the
//! base's and the extension's, of which an optimizer gets exactly one.
//!
//! The model knows three points where it can be extended: a [`Branch`] parallel to a sub-layer
//! (adapters, gated or not), a [`LinearDelta`] on a linear layer (`LoRA`), and a whole block above one of its
//! own ([`Extension::add_block`]), which [`deepened`] makes a part of the model, as [`widened`] does units of a
//! feed-forward layer. What the branches added comes back as [`Residue`]s, of which a local loss is a plain function.
//!
//! This crate trains nothing, reads no text and knows no method by name.
//!
//! Tensor names end in their shape: `b` batch, `t` position, `d` model width, `h` query heads,
//! `k` key-value heads, `e` head width, `f` feed-forward width, `v` vocabulary, `n` = b·t rows.

mod attention;
mod before;
mod block;
mod config;
mod deeper;
mod error;
mod extension;
#[cfg(test)]
mod extension_tests;
mod family;
mod feed_forward;
mod folder;
mod generate;
mod linear;
#[cfg(test)]
mod parity;
mod rotary;
mod stream;
mod transformer;
mod weights;
mod wider;

pub use before::Before;
pub use config::{Activation, Biases, BlockConfig, TransformerConfig};
pub use deeper::deepened;
pub use error::ModelError;
pub use extension::{Branch, BranchOutput, Extension, Gate, LinearDelta, Residue, mean_over_gates};
pub use folder::{ModelFolder, write_config, write_model};
pub use generate::{Generation, ReadToken, Sampling};
pub use neutral_torch::fused::PrefixTree;
pub use rotary::{Rotary, RotaryScaling};
pub use transformer::{Attention, Cache, Input, Loss, Output, Transformer};
pub use weights::linear_name;
pub use wider::{Units, widened};
