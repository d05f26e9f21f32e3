//! Qwen 3, dense: Llama with norms of queries and keys.

use super::{Fields, plain, qwen2, rope};
use crate::ModelError;
use crate::config::{Activation, Biases, TransformerConfig};

pub(super) fn read(fields: &Fields) -> Result<TransformerConfig, ModelError> {
    let bias = fields.flag_or("attention_bias", false)?;
    let activation = fields.activation_or("hidden_act", Activation::Silu)?;
    let mut config = plain(fields, rope::read(fields, 1e4)?, activation)?;
    config.head_dim = fields.size_or("head_dim", 128)?;
    config.attention_scale = 1.0 / (config.head_dim as f64).sqrt();
    config.biases = Biases { qkv: bias, o: bias, mlp: false };
    config.qk_norm = true;
    qwen2::set_windows(fields, &mut config)?;
    Ok(config)
}
