//! Gemma 1: norms with `1 + w`, embeddings times `√d`, a GLU with GELU.

use super::{Fields, plain_gemma, rope};
use crate::ModelError;
use crate::config::TransformerConfig;

pub(super) fn read(fields: &Fields) -> Result<TransformerConfig, ModelError> {
    let mut config = plain_gemma(fields, rope::read(fields, 1e4)?)?;
    set_head_dim(fields, &mut config)?;
    Ok(config)
}

/// Gemma's heads are 256 wide unless the file says otherwise, whatever `d / heads` is.
pub(super) fn set_head_dim(
    fields: &Fields,
    config: &mut TransformerConfig,
) -> Result<(), ModelError> {
    config.head_dim = fields.size_or("head_dim", 256)?;
    config.attention_scale = 1.0 / (config.head_dim as f64).sqrt();
    Ok(())
}

/// `1 / √` of what the file of a later Gemma gives for it.
pub(super) fn attention_scale(fields: &Fields) -> Result<f64, ModelError> {
    let name = "query_pre_attn_scalar";
    let scalar = fields.number_or(name, 256.0)?;
    if scalar > 0.0 {
        Ok(1.0 / scalar.sqrt())
    } else {
        Err(fields.wrong(name, "expected a number above 0"))
    }
}
