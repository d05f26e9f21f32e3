//! Text that comes a token at a time, as generating gives it.

use crate::{DataError, Tokenizer};

/// What is not the beginning of a character after so many tokens is no character.
const LONGEST_CHARACTER: usize = 4;

/// Tokens to text, as soon as the bytes so far are whole characters.
///
/// Decoders look at what stands before a token: one drops the space that begins a text. So the tokens
/// of the last piece are decoded again with the new ones, and what they gave is taken off.
#[derive(Debug)]
pub struct TextStream<'a> {
    tokenizer: &'a Tokenizer,
    /// Tokens of the last piece, then those whose text has not been given.
    ids: Vec<u32>,
    given: usize,
    /// Bytes of their text that are whole characters, and the token that brought the last of those.
    whole: (usize, usize),
}

impl<'a> TextStream<'a> {
    pub(crate) fn new(tokenizer: &'a Tokenizer) -> Self {
        Self { tokenizer, ids: Vec::new(), given: 0, whole: (0, 0) }
    }

    /// The text that one more token completes, if it does.
    ///
    /// # Errors
    /// If the decoder of a loaded tokenizer fails.
    pub fn next(&mut self, id: u32) -> Result<Option<String>, DataError> {
        self.ids.push(id);
        let text = self.tokenizer.decode(&self.ids)?;
        let whole = text.trim_end_matches(char::REPLACEMENT_CHARACTER).len();
        if whole > self.whole.0 {
            // A token may end a character and begin the next.
            self.whole = (whole, self.ids.len() - 1);
        }
        let waiting = self.ids.len() - self.whole.1 < LONGEST_CHARACTER;
        if waiting && whole < text.len() {
            return Ok(None);
        }
        let piece = self.piece(&text)?;
        self.ids.drain(..self.given);
        self.given = self.ids.len();
        self.whole = (self.tokenizer.decode(&self.ids)?.len(), self.given);
        Ok(Some(piece))
    }

    /// What is left: the beginning of a character that did not come.
    ///
    /// # Errors
    /// As [`TextStream::next`].
    pub fn finish(self) -> Result<String, DataError> {
        let text = self.tokenizer.decode(&self.ids)?;
        self.piece(&text)
    }

    /// The text less what has been given of it. Where the new tokens change that, as bytes that are no character do to
    /// those before them in some decoders, they are decoded alone.
    fn piece(&self, text: &str) -> Result<String, DataError> {
        let given = self.tokenizer.decode(&self.ids[..self.given])?;
        match text.strip_prefix(&*given) {
            Some(piece) => Ok(piece.to_owned()),
            None => self.tokenizer.decode(&self.ids[self.given..]),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::tokenizer::tests::tokenizer;

    fn pieces(tokenizer: &Tokenizer, ids: &[u32]) -> Vec<String> {
        let mut stream = tokenizer.text_stream();
        let mut pieces: Vec<String> =
            ids.iter().filter_map(|&id| stream.next(id).unwrap()).collect();
        pieces.push(stream.finish().unwrap());
        pieces
    }

    #[test]
    fn the_pieces_are_whole_characters_and_together_the_text() {
        let tokenizer = tokenizer(300);
        let text = "déjà vu, 日本 👍🏽 end";
        let pieces = pieces(&tokenizer, &tokenizer.encode(text).unwrap());
        assert!(pieces.len() > 10 && pieces.iter().all(|p| !p.contains('\u{fffd}')), "{pieces:?}");
        assert_eq!(pieces.concat(), text);
    }

    #[test]
    fn bytes_that_are_no_character_are_marked_and_hold_nothing_up() {
        let tokenizer = tokenizer(300);
        let ids = tokenizer.encode("日").unwrap();
        let broken = [&ids[..1], &ids[..1], &ids[1..2], &tokenizer.encode("ok then").unwrap()];
        let pieces = pieces(&tokenizer, &broken.concat());
        assert!(pieces.concat().ends_with("ok then"), "{pieces:?}");
        assert!(pieces.concat().contains('\u{fffd}'), "{pieces:?}");
        let pieces = self::pieces(&tokenizer, &ids[..1]);
        assert_eq!(pieces, ["\u{fffd}"], "a beginning that did not go on");
    }

    /// A loaded tokenizer of these tokens, numbered in their order.
    fn of(tokens: &[&str], decoder: &Value) -> Tokenizer {
        let vocab: serde_json::Map<String, Value> =
            tokens.iter().zip(0..).map(|(token, id)| ((*token).to_owned(), id.into())).collect();
        let json = json!({
            "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
            "pre_tokenizer": null, "post_processor": null, "decoder": decoder,
            "model": { "type": "BPE", "vocab": vocab, "merges": [], "byte_fallback": true },
        });
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokenizer.json");
        std::fs::write(&path, json.to_string()).unwrap();
        Tokenizer::load(&path).unwrap()
    }

    #[test]
    fn a_token_that_ends_a_character_and_begins_another_is_waited_for() {
        // Letters of GPT-2 for the bytes E6 A1, BB E5, 98 and BB.
        let tokenizer = of(
            &["æ¡", "»å", "ĺ", "»", "</s>"],
            &json!({
                "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false
            }),
        );
        assert_eq!(pieces(&tokenizer, &[0, 1, 2, 1, 2, 3]).concat(), "桻嘻嘻");
    }

    #[test]
    fn bytes_that_undo_a_character_before_them_do_not_repeat_it() {
        let tokens = ["<0xF0>", "<0x9F>", "<0x91>", "<0x8D>", " ok", "</s>"];
        let tokenizer = of(&tokens, &json!({ "type": "ByteFallback" }));
        assert_eq!(pieces(&tokenizer, &[0, 1, 2, 3, 0, 4]).concat(), "👍\u{fffd} ok");
    }
}
