//! Prompts and requests to tokens. Unlike text to train on, they may name special tokens, and the
//! tokenizer's template may put some around them.

use tokenizers::Tokenizer as HuggingFace;

use crate::{DataError, Tokenizer};

/// A tokenizer that takes the special tokens which a text names for tokens.
#[derive(Debug)]
pub struct PromptTokenizer(HuggingFace);

impl Tokenizer {
    /// A tokenizer for prompts.
    pub fn prompts(&self) -> PromptTokenizer {
        let mut inner = self.inner.clone();
        inner.set_encode_special_tokens(false);
        PromptTokenizer(inner)
    }
}

impl PromptTokenizer {
    /// The tokens of a text, with those that the tokenizer's template puts around one, if asked. Safe to
    /// call from many threads.
    ///
    /// # Errors
    /// If the tokenizer has no token for a part of the text.
    pub fn encode(&self, text: &str, with_template: bool) -> Result<Vec<u32>, DataError> {
        let encoding = self.0.encode_fast(text, with_template);
        let encoding = encoding.map_err(|e| DataError::Tokenizer {
            what: "encoding a prompt".to_owned(),
            message: e.to_string(),
        })?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The id of a token.
    pub fn id(&self, token: &str) -> Option<u32> {
        self.0.token_to_id(token)
    }

    /// The text of a token, special ones by their names.
    pub fn name(&self, id: u32) -> Option<String> {
        self.0.id_to_token(id)
    }
}
