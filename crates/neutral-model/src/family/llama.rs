//! Llama 2 and 3, `SmolLM2`, and what else calls itself `llama`.

use serde_json::Value;

use super::{Fields, plain, rope};
use crate::ModelError;
use crate::config::{Activation, Biases, TransformerConfig};

pub(super) fn read(fields: &Fields) -> Result<TransformerConfig, ModelError> {
    let attention = fields.flag_or("attention_bias", false)?;
    let mlp = fields.flag_or("mlp_bias", false)?;
    fields.only("rope_interleaved", &[Value::Bool(false)])?;
    let activation = fields.activation_or("hidden_act", Activation::Silu)?;
    Ok(TransformerConfig {
        biases: Biases { qkv: attention, o: attention, mlp },
        ..plain(fields, rope::read(fields, 1e4)?, activation)?
    })
}
