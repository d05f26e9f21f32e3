//! Gemma 3, text alone: Gemma 2 with norms of queries and keys in place of the cap on scores, and
//! another rotation where attention slides.

use super::{Fields, gemma, plain_gemma, rope};
use crate::ModelError;
use crate::config::TransformerConfig;

pub(super) fn read(fields: &Fields) -> Result<TransformerConfig, ModelError> {
    let [full, sliding] = rope::read_by_attention(fields, [1e6, 1e4])?;
    let mut config = plain_gemma(fields, full)?;
    gemma::set_head_dim(fields, &mut config)?;
    config.post_norms = true;
    config.qk_norm = true;
    config.attention_scale = gemma::attention_scale(fields)?;
    fields.only("attn_logit_softcapping", &[])?;
    config.logit_softcap = fields.number_if_any("final_logit_softcapping")?;
    let layers = config.n_layers();
    let pattern = fields.size_or("sliding_window_pattern", 6)?;
    let kinds = fields.sliding(layers)?;
    let kinds = kinds.unwrap_or_else(|| (1..=layers).map(|i| !i.is_multiple_of(pattern)).collect());
    let window = fields
        .window()?
        .ok_or_else(|| fields.wrong("sliding_window", "expected a number of tokens"))?;
    for (block, slides) in config.blocks.iter_mut().zip(kinds) {
        if slides {
            block.window = Some(window);
            block.rotary = sliding;
        }
    }
    Ok(config)
}
