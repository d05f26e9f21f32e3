//! Mistral: Llama with sliding windows in every block, or in none.

use super::{Fields, plain, rope};
use crate::ModelError;
use crate::config::{Activation, TransformerConfig};

pub(super) fn read(fields: &Fields) -> Result<TransformerConfig, ModelError> {
    let activation = fields.activation_or("hidden_act", Activation::Silu)?;
    let mut config = plain(fields, rope::read(fields, 1e4)?, activation)?;
    let window = fields.window()?;
    for block in &mut config.blocks {
        block.window = window;
    }
    Ok(config)
}
