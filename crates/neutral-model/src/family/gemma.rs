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
