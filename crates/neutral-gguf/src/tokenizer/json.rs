//! The form of `tokenizer.json`, as far as byte-pair encodings need it.
//!
//! There is no written schema: the fields are those that the `tokenizers` library itself writes.

use serde::Serialize;
use serde_json::{Value as Json, json};

use super::vocabulary::{TokenType, Vocabulary};

#[derive(Debug, Serialize)]
pub(crate) struct TokenizerJson<'a> {
    version: &'static str,
    truncation: (),
    padding: (),
    added_tokens: Vec<AddedToken<'a>>,
    normalizer: Json,
    pre_tokenizer: Json,
    post_processor: Json,
    decoder: Json,
    pub(super) model: Bpe<'a>,
}

/// A token that is found in the text before anything else is done with it.
#[derive(Debug, Serialize)]
struct AddedToken<'a> {
    id: usize,
    content: &'a str,
    single_word: bool,
    lstrip: bool,
    rstrip: bool,
    normalized: bool,
    special: bool,
}

/// The model `BPE`.
#[derive(Debug, Serialize)]
pub(super) struct Bpe<'a> {
    pub(super) r#type: &'static str,
    pub(super) dropout: (),
    pub(super) unk_token: Option<&'a str>,
    pub(super) continuing_subword_prefix: (),
    pub(super) end_of_word_suffix: (),
    pub(super) fuse_unk: bool,
    pub(super) byte_fallback: bool,
    pub(super) ignore_merges: bool,
    pub(super) vocab: Vocabulary<'a>,
    pub(super) merges: Vec<(&'a str, &'a str)>,
}

/// What is done with text before the model, and with tokens after it.
pub(super) struct Stages {
    pub(super) normalizer: Json,
    pub(super) pre_tokenizer: Json,
    pub(super) decoder: Json,
}

impl<'a> TokenizerJson<'a> {
    pub(super) fn new(model: Bpe<'a>, stages: Stages) -> Self {
        let tokens = model.vocab.tokens.iter().zip(&model.vocab.types).enumerate();
        let added_tokens = tokens
            .filter_map(|(id, (content, token_type))| {
                let special = match token_type {
                    TokenType::Control | TokenType::Unknown => true,
                    TokenType::UserDefined => false,
                    TokenType::Normal | TokenType::Unused | TokenType::Byte => return None,
                };
                let (single_word, lstrip, rstrip, normalized) = (false, false, false, false);
                let token =
                    AddedToken { id, content, single_word, lstrip, rstrip, normalized, special };
                (!content.is_empty()).then_some(token)
            })
            .collect();
        let Stages { normalizer, pre_tokenizer, decoder } = stages;
        Self {
            version: "1.0",
            truncation: (),
            padding: (),
            added_tokens,
            normalizer,
            pre_tokenizer,
            post_processor: Json::Null,
            decoder,
            model,
        }
    }

    /// Puts tokens before and after every text.
    pub(super) fn surround(&mut self, bos: Option<usize>, eos: Option<usize>) {
        if bos.is_none() && eos.is_none() {
            return;
        }
        let tokens = &self.model.vocab.tokens;
        let template = |text: &str, type_id: usize| {
            let special =
                |id: usize| json!({"SpecialToken": {"id": tokens[id], "type_id": type_id}});
            let text = json!({"Sequence": {"id": text, "type_id": type_id}});
            bos.map(special).into_iter().chain([text]).chain(eos.map(special)).collect::<Vec<_>>()
        };
        let special_tokens: serde_json::Map<_, _> = bos
            .into_iter()
            .chain(eos)
            .map(|id| {
                let token = tokens[id];
                (token.to_owned(), json!({"id": token, "ids": [id], "tokens": [token]}))
            })
            .collect();
        let pair = [template("A", 0), template("B", 1)].concat();
        self.post_processor = json!({
            "type": "TemplateProcessing",
            "single": template("A", 0),
            "pair": pair,
            "special_tokens": special_tokens,
        });
    }
}
