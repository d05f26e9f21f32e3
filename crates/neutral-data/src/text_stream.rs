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
}

impl<'a> TextStream<'a> {
    pub(crate) fn new(tokenizer: &'a Tokenizer) -> Self {
        Self { tokenizer, ids: Vec::new(), given: 0 }
    }

    /// The text that one more token completes, if it does.
    ///
    /// # Errors
    /// If the decoder of a loaded tokenizer fails.
    pub fn next(&mut self, id: u32) -> Result<Option<String>, DataError> {
        self.ids.push(id);
        let waiting = self.ids.len() - self.given < LONGEST_CHARACTER;
        let text = self.tokenizer.decode(&self.ids)?;
        if waiting && text.ends_with(char::REPLACEMENT_CHARACTER) {
            return Ok(None);
        }
        let piece = self.piece(&text)?;
        self.ids.drain(..self.given);
        self.given = self.ids.len();
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

    /// The text less what has been given of it.
    fn piece(&self, text: &str) -> Result<String, DataError> {
        let given = self.tokenizer.decode(&self.ids[..self.given])?;
        let same = text.chars().zip(given.chars()).take_while(|(new, old)| new == old);
        let same: usize = same.map(|(c, _)| c.len_utf8()).sum();
        Ok(text[same..].to_owned())
    }
}

#[cfg(test)]
mod tests {
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
}
