//! `config.json`: the architecture's metadata under Hugging Face's names.
//!
//! Every `llama.*` key that is not known here is refused: a key changes what the model computes, and
//! a folder that leaves it out would hold another model.

use serde::Serialize;

use crate::error::GgufError;
use crate::gguf::Gguf;
use crate::rope::{self, Rope};
use crate::source::Source;

/// The keys of the architecture that are read, or that change nothing.
const KNOWN: [&str; 17] = [
    "llama.vocab_size",
    "llama.context_length",
    "llama.embedding_length",
    "llama.block_count",
    "llama.feed_forward_length",
    "llama.attention.head_count",
    "llama.attention.head_count_kv",
    "llama.attention.key_length",
    "llama.attention.value_length",
    "llama.attention.layer_norm_rms_epsilon",
    "llama.rope.dimension_count",
    "llama.rope.freq_base",
    "llama.rope.scaling.type",
    "llama.rope.scaling.factor",
    "llama.rope.scaling.original_context_length",
    "llama.rope.scaling.finetuned",
    "llama.tensor_data_layout",
];

/// A Hugging Face configuration of a Llama, complete: nothing is left to a reader's defaults.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Config {
    architectures: [&'static str; 1],
    model_type: &'static str,
    pub(crate) vocab_size: usize,
    pub(crate) hidden_size: usize,
    pub(crate) intermediate_size: usize,
    pub(crate) num_hidden_layers: usize,
    pub(crate) num_attention_heads: usize,
    pub(crate) num_key_value_heads: usize,
    pub(crate) head_dim: usize,
    hidden_act: &'static str,
    pub(crate) max_position_embeddings: usize,
    rms_norm_eps: f32,
    /// As readers before transformers 5 want it.
    rope_theta: f32,
    #[serde(skip_serializing_if = "Rope::is_default")]
    rope_scaling: Rope,
    /// As readers since transformers 5 want it.
    rope_parameters: RopeParameters,
    pub(crate) tie_word_embeddings: bool,
    attention_bias: bool,
    mlp_bias: bool,
    torch_dtype: &'static str,
    dtype: &'static str,
    pub(crate) bos_token_id: Option<usize>,
    pub(crate) eos_token_id: Option<usize>,
    pub(crate) pad_token_id: Option<usize>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct RopeParameters {
    rope_theta: f32,
    #[serde(flatten)]
    rope: Rope,
}

impl Config {
    /// Reads the configuration out of a file's metadata.
    ///
    /// # Errors
    /// [`GgufError::Unsupported`] names the key that is missing, of another kind, or says what a
    /// Llama's configuration cannot.
    pub(crate) fn of<S: Source>(gguf: &Gguf<S>) -> Result<Self, GgufError> {
        refuse_others(gguf)?;
        let size = |key: &str| match gguf.get_size(key)? {
            Some(n) if n > 0 => Ok(n),
            Some(_) => Err(gguf.unsupported(key, "is 0; it would be positive")),
            None => Err(gguf.unsupported(key, "is missing; it would be a positive number")),
        };
        let hidden_size = size("llama.embedding_length")?;
        let num_attention_heads = size("llama.attention.head_count")?;
        let key = "llama.attention.head_count_kv";
        let num_key_value_heads = match gguf.get_size(key)? {
            None => num_attention_heads,
            Some(n) if n > 0 && num_attention_heads.is_multiple_of(n) => n,
            Some(n) => {
                let heads = format!("is {n}; it would divide the {num_attention_heads} heads");
                return Err(gguf.unsupported(key, heads));
            }
        };
        let head_dim = head_dim(gguf, hidden_size, num_attention_heads)?;
        let key = "llama.attention.layer_norm_rms_epsilon";
        let rms_norm_eps = match gguf.get_f32(key)? {
            Some(x) if x > 0.0 => x,
            Some(x) => return Err(gguf.unsupported(key, format!("is {x}; it would be positive"))),
            None => return Err(gguf.unsupported(key, "is missing; it would be a 32-bit float")),
        };
        let key = "llama.rope.freq_base";
        let rope_theta = match gguf.get_f32(key)? {
            None => 10_000.0,
            Some(x) if x > 0.0 => x,
            Some(x) => return Err(gguf.unsupported(key, format!("is {x}; it would be positive"))),
        };
        let rope_scaling = rope::scaling(gguf, rope_theta, head_dim)?;
        let vocab_size = vocab_size(gguf)?;
        let id = |key: &str| match gguf.get_size(key)? {
            Some(id) if id >= vocab_size => {
                Err(gguf.unsupported(key, format!("is {id}, but there are {vocab_size} tokens")))
            }
            id => Ok(id),
        };
        Ok(Self {
            architectures: ["LlamaForCausalLM"],
            model_type: "llama",
            vocab_size,
            hidden_size,
            intermediate_size: size("llama.feed_forward_length")?,
            num_hidden_layers: size("llama.block_count")?,
            num_attention_heads,
            num_key_value_heads,
            head_dim,
            hidden_act: "silu",
            max_position_embeddings: size("llama.context_length")?,
            rms_norm_eps,
            rope_theta,
            rope_parameters: RopeParameters { rope_theta, rope: rope_scaling.clone() },
            rope_scaling,
            tie_word_embeddings: !gguf.tensors().contains_key("output.weight"),
            attention_bias: false,
            mlp_bias: false,
            torch_dtype: "bfloat16",
            dtype: "bfloat16",
            bos_token_id: id("tokenizer.ggml.bos_token_id")?,
            eos_token_id: id("tokenizer.ggml.eos_token_id")?,
            pad_token_id: id("tokenizer.ggml.padding_token_id")?,
        })
    }
}

fn refuse_others<S: Source>(gguf: &Gguf<S>) -> Result<(), GgufError> {
    let expected = [("general.architecture", "llama", true), ("general.type", "model", false)];
    for (key, right, required) in expected {
        match gguf.get_string(key)? {
            Some(found) if found != right => {
                return Err(gguf.unsupported(key, format!("is {found:?}; {right:?} is converted")));
            }
            None if required => {
                return Err(gguf.unsupported(key, format!("is missing; it would be {right:?}")));
            }
            _ => {}
        }
    }
    for key in gguf.metadata().keys() {
        if key.starts_with("llama.") && !KNOWN.contains(&key.as_str()) {
            return Err(gguf.unsupported(key, "is not understood, and may change the model"));
        }
    }
    match gguf.get_size("split.count")? {
        Some(n) if n > 1 => {
            let found = format!("is {n}: merge the parts into one file first (gguf-split --merge)");
            Err(gguf.unsupported("split.count", found))
        }
        _ => Ok(()),
    }
}

/// Keys, values and rotations must have one width.
fn head_dim<S: Source>(gguf: &Gguf<S>, hidden: usize, heads: usize) -> Result<usize, GgufError> {
    let head_dim = match gguf.get_size("llama.attention.key_length")? {
        Some(n) => n,
        None if hidden.is_multiple_of(heads) => hidden / heads,
        None => {
            let found = format!("is {hidden}; it would be a multiple of the {heads} heads");
            return Err(gguf.unsupported("llama.embedding_length", found));
        }
    };
    if head_dim == 0 || !head_dim.is_multiple_of(2) {
        let found = format!("is {head_dim}; rotations need an even number");
        return Err(gguf.unsupported("llama.attention.key_length", found));
    }
    for key in ["llama.attention.value_length", "llama.rope.dimension_count"] {
        if let Some(n) = gguf.get_size(key)?
            && n != head_dim
        {
            let found = format!("is {n}; it would be the keys' width, {head_dim}");
            return Err(gguf.unsupported(key, found));
        }
    }
    Ok(head_dim)
}

fn vocab_size<S: Source>(gguf: &Gguf<S>) -> Result<usize, GgufError> {
    let name = "token_embd.weight";
    let tensor = gguf.tensors().get(name).ok_or_else(|| gguf.unsupported(name, "is missing"))?;
    let rows = tensor.shape[0];
    let key = "llama.vocab_size";
    if let Some(n) = gguf.get_size(key)?
        && n as u64 != rows
    {
        let found = format!("is {n}, but token_embd.weight has {rows} rows");
        return Err(gguf.unsupported(key, found));
    }
    usize::try_from(rows).map_err(|_| gguf.unsupported(name, format!("has {rows} rows")))
}
