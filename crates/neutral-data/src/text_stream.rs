//! Text that comes a token at a time, as generating gives it.

use tokenizers::tokenizer::DecodeStream;
use tokenizers::{
    DecoderWrapper, ModelWrapper, NormalizerWrapper, PostProcessorWrapper, PreTokenizerWrapper,
    Tokenizer,
};

use crate::DataError;

/// Tokens to text, as soon as the bytes so far are whole characters.
pub struct TextStream<'a>(
    DecodeStream<
        'a,
        ModelWrapper,
        NormalizerWrapper,
        PreTokenizerWrapper,
        PostProcessorWrapper,
        DecoderWrapper,
    >,
);

impl<'a> TextStream<'a> {
    pub(crate) fn new(tokenizer: &'a Tokenizer) -> Self {
        Self(tokenizer.decode_stream(false))
    }

    /// The text that one more token completes, if it does.
    ///
    /// # Errors
    /// If the decoder of a loaded tokenizer fails.
    pub fn next(&mut self, id: u32) -> Result<Option<String>, DataError> {
        self.0.step(id).map_err(|e| DataError::Tokenizer {
            what: "decoding".to_owned(),
            message: e.to_string(),
        })
    }
}

#[cfg(test)]
mod tests {
    use crate::tokenizer::tests::tokenizer;

    #[test]
    fn the_pieces_are_whole_characters_and_together_the_text() {
        let tokenizer = tokenizer(300);
        let text = "déjà vu, 日本 👍🏽 end";
        let mut stream = tokenizer.text_stream();
        let mut together = String::new();
        for id in tokenizer.encode(text).unwrap() {
            let piece = stream.next(id).unwrap().unwrap_or_default();
            assert!(!piece.contains('\u{fffd}'), "{piece:?}");
            together.push_str(&piece);
        }
        assert_eq!(together, text);
    }
}
