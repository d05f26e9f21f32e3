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
    /// If the tokenizer cannot take the text apart. What it has no token for becomes its unknown token, or nothing.
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

impl Tokenizer {
    /// One more than the largest id that a text or the separator may become. Special tokens that only prompts name,
    /// such as one for images beside a model of text alone, may lie beyond.
    pub fn vocab_size_of_text(&self) -> usize {
        let added = self.inner.get_added_tokens_decoder();
        let is_special = |id: &u32| added.get(id).is_some_and(|token| token.special);
        let ids = self.inner.get_vocab(true).into_values().filter(|id| !is_special(id));
        ids.chain([self.separator_id()]).max().unwrap_or(0) as usize + 1
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::path::Path;

    use serde_json::json;

    use super::*;
    use crate::tokenizer::tests::tokenizer;

    /// A tokenizer with the special tokens `<s>`, 300, and `</s>`, 301, and a template of such and of `A`, the text.
    pub(crate) fn save_with_template(path: &Path, template: &[&str]) {
        tokenizer(300).save(path).unwrap();
        let mut all: serde_json::Value = neutral_store::read_json(path).unwrap();
        for (id, content) in [(300, "<s>"), (301, "</s>")] {
            all["added_tokens"].as_array_mut().unwrap().push(json!({
                "id": id, "content": content, "single_word": false, "lstrip": false,
                "rstrip": false, "normalized": false, "special": true
            }));
        }
        let pieces = template.iter().map(|name| {
            let kind = if *name == "A" { "Sequence" } else { "SpecialToken" };
            json!({kind: {"id": name, "type_id": 0}})
        });
        let pieces: Vec<_> = pieces.collect();
        all["post_processor"] = json!({
            "type": "TemplateProcessing", "single": pieces, "pair": pieces,
            "special_tokens": {"<s>": {"id": "<s>", "ids": [300], "tokens": ["<s>"]}}
        });
        std::fs::write(path, all.to_string()).unwrap();
    }

    #[test]
    fn a_template_that_begins_a_text_gives_the_separator_and_one_that_ends_it_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokenizer.json");
        let plain = tokenizer(300);
        let load = |template: &[&str]| {
            save_with_template(&path, template);
            Tokenizer::load(&path).unwrap()
        };
        let begun = load(&["<s>", "A"]);
        assert_eq!(begun.separator_id(), 300);
        // The text itself has none: whoever joins documents puts it.
        assert_eq!(begun.encode("a b").unwrap(), plain.encode("a b").unwrap());
        let ended = load(&["A", "<s>"]);
        assert_eq!(ended.separator_id(), plain.separator_id());
        // Special tokens that no text becomes need no embedding.
        assert_eq!((begun.vocab_size(), ended.vocab_size()), (302, 302));
        assert_eq!(
            (begun.vocab_size_of_text(), ended.vocab_size_of_text()),
            (301, plain.vocab_size())
        );
    }
}
