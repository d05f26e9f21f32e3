//! The tokenizer that a GGUF file embeds, as the `tokenizer.json` of Hugging Face's `tokenizers`.
//!
//! Two kinds are known, both byte-pair encodings: `gpt2`, over bytes that are spelled as printable
//! characters, with its merges in the file; and `llama`, `SentencePiece`'s over characters, whose
//! merges follow from the pieces' scores.

mod byte_level;
mod json;
mod sentencepiece;
mod vocabulary;

use serde::Serialize;

use crate::config::Config;
use crate::error::GgufError;
use crate::gguf::Gguf;
use crate::source::Source;
pub(crate) use json::TokenizerJson;
use vocabulary::Vocabulary;

/// `tokenizer_config.json`: what `tokenizer.json` has no place for.
#[derive(Debug, Serialize)]
pub(crate) struct TokenizerConfig<'a> {
    tokenizer_class: &'static str,
    clean_up_tokenization_spaces: bool,
    model_max_length: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    bos_token: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    eos_token: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unk_token: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pad_token: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    chat_template: Option<&'a str>,
}

/// Reads the tokenizer of a file.
///
/// # Errors
/// [`GgufError::Unsupported`] names the key that is missing, contradicts another, or asks for a kind
/// of tokenizer that is not known.
pub(crate) fn read<'a, S: Source>(
    gguf: &'a Gguf<S>,
    config: &Config,
) -> Result<(TokenizerJson<'a>, TokenizerConfig<'a>), GgufError> {
    let vocabulary = Vocabulary::read(gguf, config.vocab_size)?;
    let special = |id: Option<usize>| id.map(|id| vocabulary.tokens[id]);
    let key = "tokenizer.ggml.unknown_token_id";
    let unknown = match gguf.get_size(key)? {
        Some(id) if id >= config.vocab_size => {
            let found = format!("is {id}, but there are {} tokens", config.vocab_size);
            return Err(gguf.unsupported(key, found));
        }
        id => special(id),
    };
    let tokenizer_config = TokenizerConfig {
        tokenizer_class: "PreTrainedTokenizerFast",
        clean_up_tokenization_spaces: false,
        model_max_length: config.max_position_embeddings,
        bos_token: special(config.bos_token_id),
        eos_token: special(config.eos_token_id),
        unk_token: unknown,
        pad_token: special(config.pad_token_id),
        chat_template: gguf.get_string("tokenizer.chat_template")?,
    };
    let key = "tokenizer.ggml.model";
    let (mut json, bos_by_default) = match gguf.get_string(key)? {
        Some("gpt2") => byte_level::read(gguf, vocabulary)?,
        Some("llama") => sentencepiece::read(gguf, vocabulary)?,
        Some(other) => {
            let found = format!("is {other:?}; \"gpt2\" and \"llama\" are converted");
            return Err(gguf.unsupported(key, found));
        }
        None => return Err(gguf.unsupported(key, "is missing; it would be a string")),
    };
    let add_bos = gguf.get_bool("tokenizer.ggml.add_bos_token")?.unwrap_or(bos_by_default);
    let add_eos = gguf.get_bool("tokenizer.ggml.add_eos_token")?.unwrap_or(false);
    let wanted = |add: bool, name: &str, id: Option<usize>| match (add, id) {
        (false, _) => Ok(None),
        (true, Some(id)) => Ok(Some(id)),
        (true, None) => {
            let key = format!("tokenizer.ggml.{name}_token_id");
            let found = format!("is missing, but texts get a {name} token");
            Err(gguf.unsupported(&key, found))
        }
    };
    json.surround(
        wanted(add_bos, "bos", config.bos_token_id)?,
        wanted(add_eos, "eos", config.eos_token_id)?,
    );
    Ok((json, tokenizer_config))
}
