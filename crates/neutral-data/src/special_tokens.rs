//! The tokens around documents.

use tokenizers::Tokenizer as HuggingFace;

/// The separator of tokenizers that are trained here.
pub(crate) const SEPARATOR: &str = "<|endoftext|>";

/// Names that families of models give to the token that ends a document (EOS), most telling first.
pub(crate) const ENDS: [&str; 5] = [SEPARATOR, "<|end_of_text|>", "</s>", "<eos>", "<|eos|>"];

/// What stands around documents.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SpecialTokens {
    /// Before every document and after the last: what the tokenizer's template begins a text with (BOS), or, if it
    /// begins none with any, what ends a document.
    pub(crate) separator: u32,
    /// The separator is BOS.
    pub(crate) is_bos: bool,
    /// After a document, before the separator, where that is BOS: else nothing would teach that a text ends.
    pub(crate) end: Option<u32>,
}

impl SpecialTokens {
    /// Those of a tokenizer; none, if it has no token for the purpose.
    pub(crate) fn of(tokenizer: &HuggingFace) -> Option<Self> {
        let named = ENDS.iter().find_map(|name| tokenizer.token_to_id(name));
        let begins = begins_with(tokenizer);
        let end = begins.and(named).filter(|end| begins != Some(*end));
        Some(Self { separator: begins.or(named)?, is_bos: begins.is_some(), end })
    }
}

/// A text with what the template puts around it.
pub(crate) fn framed(tokenizer: &HuggingFace) -> Option<Vec<u32>> {
    tokenizer.encode_fast("a", true).ok().map(|encoding| encoding.get_ids().to_vec())
}

/// The first token that a tokenizer's template puts before a text, if it puts one.
fn begins_with(tokenizer: &HuggingFace) -> Option<u32> {
    let (plain, whole) = (tokenizer.encode_fast("a", false).ok()?, framed(tokenizer)?);
    let plain = plain.get_ids();
    let before = (0..whole.len()).find(|&at| whole[at..].starts_with(plain))?;
    whole[..before].first().copied()
}
