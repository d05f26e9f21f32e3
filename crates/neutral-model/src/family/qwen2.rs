//! Qwen 2 and 2.5: Llama with biases on queries, keys and values.

use super::{Fields, plain, rope};
use crate::ModelError;
use crate::config::{Activation, Biases, TransformerConfig};

pub(super) fn read(fields: &Fields) -> Result<TransformerConfig, ModelError> {
    let activation = fields.activation_or("hidden_act", Activation::Silu)?;
    let mut config = plain(fields, rope::read(fields, 1e4)?, activation)?;
    config.biases = Biases { qkv: true, ..Biases::default() };
    set_windows(fields, &mut config)?;
    Ok(config)
}

/// The later blocks slide, from `max_window_layers` on, if the model slides at all.
pub(super) fn set_windows(
    fields: &Fields,
    config: &mut TransformerConfig,
) -> Result<(), ModelError> {
    let window = fields.window()?;
    let slides = fields.flag_or("use_sliding_window", false)? && window.is_some();
    let first = match fields.get("max_window_layers") {
        None => 28,
        Some(value) => value
            .as_u64()
            .ok_or_else(|| fields.wrong("max_window_layers", "expected a number of layers"))?
            as usize,
    };
    let layers = config.n_layers();
    let kinds = fields.sliding(layers)?;
    let kinds = kinds.unwrap_or_else(|| (0..layers).map(|i| slides && i >= first).collect());
    if !slides && kinds.contains(&true) {
        return Err(fields.wrong(
            "layer_types",
            "expected full_attention alone: use_sliding_window is not true, or sliding_window null",
        ));
    }
    for (block, slides) in config.blocks.iter_mut().zip(kinds) {
        block.window = window.filter(|_| slides);
    }
    Ok(())
}
