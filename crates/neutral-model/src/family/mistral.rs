//! Mistral: Llama with sliding windows in every block, or in none.

use super::{Fields, plain, rope};
use crate::ModelError;
use crate::config::{Activation, TransformerConfig};

pub(super) fn read(fields: &Fields) -> Result<TransformerConfig, ModelError> {
    let activation = fields.activation_or("hidden_act", Activation::Silu)?;
    let mut config = plain(fields, rope::read(fields, 1e4)?, activation)?;
    let window = if fields.has("sliding_window") {
        fields.get("sliding_window").is_some().then(|| fields.size("sliding_window")).transpose()?
    } else {
        // What the field's absence means to transformers.
        Some(4096)
    };
    for block in &mut config.blocks {
        block.window = window;
    }
    Ok(config)
}
