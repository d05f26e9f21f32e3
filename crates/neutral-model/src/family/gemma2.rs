//! Gemma 2: also norms after the sub-layers, caps on scores and logits, every other block slides.

use super::{Fields, gemma, plain_gemma, rope};
use crate::ModelError;
use crate::config::TransformerConfig;

pub(super) fn read(fields: &Fields) -> Result<TransformerConfig, ModelError> {
    let mut config = plain_gemma(fields, rope::read(fields, 1e4)?)?;
    gemma::set_head_dim(fields, &mut config)?;
    config.post_norms = true;
    config.attention_scale = gemma::attention_scale(fields)?;
    config.attention_softcap = cap(fields, "attn_logit_softcapping", 50.0)?;
    config.logit_softcap = cap(fields, "final_logit_softcapping", 30.0)?;
    // The 9B and 27B have it beside `sliding_window`, which alone is read by transformers.
    let _ = fields.get("sliding_window_size");
    let layers = config.n_layers();
    let kinds = fields.sliding(layers)?;
    let kinds = kinds.unwrap_or_else(|| (0..layers).map(|i| i % 2 == 0).collect());
    let window = fields
        .window()?
        .ok_or_else(|| fields.wrong("sliding_window", "expected a number of tokens"))?;
    for (block, slides) in config.blocks.iter_mut().zip(kinds) {
        block.window = slides.then_some(window);
    }
    Ok(config)
}

/// A cap; `null` is none, and no field at all is the family's own.
fn cap(fields: &Fields, name: &str, default: f64) -> Result<Option<f64>, ModelError> {
    if fields.has(name) { fields.number_if_any(name) } else { Ok(Some(default)) }
}
