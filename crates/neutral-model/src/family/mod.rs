//! Families of models: from a Hugging Face `config.json` to a [`TransformerConfig`].
//!
//! A family is a file here. Each says which fields it reads; a field that nobody reads and that is
//! not known to be without influence is an error, as what it asks for would be left out silently.

mod fields;
mod gemma;
mod gemma2;
mod gemma3;
mod llama;
mod mistral;
mod qwen2;
mod qwen3;
mod rope;
#[cfg(test)]
mod tests;

use std::path::Path;

use serde_json::Value;

use self::fields::Fields;
use crate::config::{Activation, Biases, BlockConfig, TransformerConfig};
use crate::{ModelError, Rotary};

/// Reads the fields of one family.
type Reader = fn(&Fields) -> Result<TransformerConfig, ModelError>;

/// Hugging Face's `model_type` of every family.
const FAMILIES: [(&str, Reader); 7] = [
    ("gemma", gemma::read),
    ("gemma2", gemma2::read),
    ("gemma3_text", gemma3::read),
    ("llama", llama::read),
    ("mistral", mistral::read),
    ("qwen2", qwen2::read),
    ("qwen3", qwen3::read),
];

impl TransformerConfig {
    /// The model that a `config.json` describes; `path` is named in errors.
    ///
    /// # Errors
    /// If the family is none of those known, a field is missing or wrong, or one asks for something
    /// that is not computed here.
    pub fn from_hugging_face(json: &Value, path: &Path) -> Result<Self, ModelError> {
        let fields = Fields::new(json, path)?;
        let family = fields.text("model_type")?;
        let Some((_, read)) = FAMILIES.iter().find(|(name, _)| *name == family) else {
            let known: Vec<_> = FAMILIES.iter().map(|(name, _)| *name).collect();
            return Err(fields.wrong("model_type", format!("one of {}", known.join(", "))));
        };
        let config = read(&fields)?;
        fields.finish()?;
        config.validate().map_err(|error| fields.invalid(error))?;
        Ok(config)
    }
}

/// What all families have, with Llama's features; the blocks have no window.
fn plain(
    fields: &Fields,
    rotary: Rotary,
    activation: Activation,
) -> Result<TransformerConfig, ModelError> {
    fields.only("is_causal", &[Value::Bool(true)])?;
    let d_model = fields.size("hidden_size")?;
    let n_heads = fields.size("num_attention_heads")?;
    let head_dim = fields.size_or("head_dim", d_model / n_heads)?;
    let block = BlockConfig { window: None, rotary };
    Ok(TransformerConfig {
        model_type: fields.text("model_type")?.to_owned(),
        vocab_size: fields.size("vocab_size")?,
        d_model,
        n_heads,
        n_kv_heads: fields.size_or("num_key_value_heads", n_heads)?,
        head_dim,
        d_ff: fields.size("intermediate_size")?,
        tie_embeddings: fields.flag_or("tie_word_embeddings", false)?,
        blocks: vec![block; fields.layers()?],
        norm_epsilon: fields.number_or("rms_norm_eps", 1e-6)?,
        unit_offset: false,
        post_norms: false,
        qk_norm: false,
        biases: Biases::default(),
        activation,
        scale_embeddings: false,
        attention_scale: 1.0 / (head_dim as f64).sqrt(),
        attention_softcap: None,
        logit_softcap: None,
    })
}

/// What Gemma's generations have in common.
fn plain_gemma(fields: &Fields, rotary: Rotary) -> Result<TransformerConfig, ModelError> {
    let bias = fields.flag_or("attention_bias", false)?;
    fields.only("use_bidirectional_attention", &[Value::Bool(false)])?;
    // Their checkpoints say "gelu" in the older field and mean its approximation.
    let activation = fields.activation_or("hidden_activation", Activation::GeluTanh)?;
    fields.only("hidden_act", &["gelu".into(), "gelu_pytorch_tanh".into()])?;
    Ok(TransformerConfig {
        tie_embeddings: fields.flag_or("tie_word_embeddings", true)?,
        unit_offset: true,
        biases: Biases { qkv: bias, o: bias, mlp: false },
        scale_embeddings: true,
        ..plain(fields, rotary, activation)?
    })
}
