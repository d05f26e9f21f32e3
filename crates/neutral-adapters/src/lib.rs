//! What extends a frozen model: LoRA, `DoRA`, parallel adapters, new blocks and **neutral residues**.
//!
//! A model that was pretrained on one domain is extended to a new one. Its weights stay as they are;
//! every block gets something beside it (paper, section 3):
//!
//! ```text
//! FFN'(x) = FFN(x) + g(x) · A(x)          neutral residue
//! A(x)    = W_o (SiLU(W_g x) ⊙ (W_i x))    the adapter, a GLU like the base's own
//! g(x)    = ReLU(w · x)                    the block gate: exactly zero when it is off
//! ```
//!
//! The gate learns to close on the original domain, because the local loss there pulls
//! `‖g(x)·A(x)‖₁` to zero: the block is then *neutral*, its output the base's to the last bit.
//! Without gate and local loss the same is a vanilla adapter, the paper's closest competitor.
//!
//! [`build`] turns a method of the experiment file and its solved size into a
//! [`neutral_model::Extension`], which the model takes as an argument. One file a part:
//!
//! - [`GluAdapter`], `A(x)`: vanilla adapters as they are, and the inside of neutral residues
//! - [`BlockGate`], `g(x)`, and [`NeutralResidue`], the product
//! - [`LoraDelta`], a low-rank product beside a linear layer; [`DoraDelta`], the same with rows of a
//!   trained length
//! - block expansion, whole new blocks that begin as copies of the ones below
//! - [`start_variance`] and the random stream of every weight
//! - extensions in folders: [`save_extension`] and [`load_extension`] in a format of our own,
//!   [`read_peft`] and [`write_peft`] for `LoRA` and `DoRA` as PEFT has them; [`merge_lora`] into the base's weights,
//!   [`merge_adapters`] into its feed-forward layers
//!
//! Whatever the method, the extended model starts as the base, bit for bit: `W_o = 0`, `B = 0`, `W_down = 0`.
//!
//! The crate does not train: the local loss is a function of the residues that a forward pass hands
//! out, and lives with the other losses. Nor does it turn budgets into sizes, which the spec does.

mod block_expansion;
mod build;
mod dora;
mod error;
mod files;
mod gate;
mod glu_adapter;
mod lora;
mod neutral_residue;
mod peft;
mod saved;
mod start;

pub use build::{adapter_activation, build, restore};
pub use dora::DoraDelta;
pub use error::AdapterError;
pub use files::{ExtensionFolder, open_extension};
pub use gate::BlockGate;
pub use glu_adapter::{GluAdapter, merge_adapters, merges_adapters};
pub use lora::{LoraDelta, LoraLayer, merge_lora};
pub use neutral_residue::NeutralResidue;
pub use peft::{PeftLora, read_peft, write_peft};
pub use saved::{
    ExtensionConfig, SavedBase, load_extension, read_extension_config, save_extension,
};
pub use start::start_variance;
