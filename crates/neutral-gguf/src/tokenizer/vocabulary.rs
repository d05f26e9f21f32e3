//! Tokens, their types and their ids.

use std::collections::HashMap;

use serde::{Serialize, Serializer};

use crate::error::GgufError;
use crate::gguf::Gguf;
use crate::source::Source;
use crate::value::{Array, Value};

/// What a token is for, with the numbers that the format gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TokenType {
    /// 1: found by merging.
    Normal,
    /// 2: stands for what cannot be encoded.
    Unknown,
    /// 3: marks a place, such as the end of a text.
    Control,
    /// 4: found in the text as a whole, before merging.
    UserDefined,
    /// 5, or 0: fills the vocabulary up.
    Unused,
    /// 6: `<0x0A>`, one byte.
    Byte,
}

/// All tokens of a file, in the order of their ids.
#[derive(Debug)]
pub(crate) struct Vocabulary<'a> {
    pub(crate) tokens: Vec<&'a str>,
    pub(crate) types: Vec<TokenType>,
    pub(crate) ids: HashMap<&'a str, usize>,
}

impl<'a> Vocabulary<'a> {
    /// Reads `size` tokens.
    pub(super) fn read<S: Source>(gguf: &'a Gguf<S>, size: usize) -> Result<Self, GgufError> {
        let key = "tokenizer.ggml.tokens";
        let tokens = gguf.require(key, "an array of strings", |v| array(v)?.strings())?;
        if tokens.len() != size {
            let found =
                format!("has {} tokens, but token_embd.weight has {size} rows", tokens.len());
            return Err(gguf.unsupported(key, found));
        }
        let mut ids = HashMap::with_capacity(tokens.len());
        for (id, token) in tokens.iter().enumerate() {
            if let Some(first) = ids.insert(*token, id) {
                let found = format!("has {token:?} twice, as {first} and as {id}");
                return Err(gguf.unsupported(key, found));
            }
        }
        let key = "tokenizer.ggml.token_type";
        let types = match gguf.get(key, "an array of whole numbers", |v| array(v)?.integers())? {
            None => vec![TokenType::Normal; size],
            Some(types) if types.len() == size => {
                let known = |n: i64| {
                    let found =
                        || gguf.unsupported(key, format!("has a {n}; types go from 0 to 6"));
                    token_type(n).ok_or_else(found)
                };
                types.into_iter().map(known).collect::<Result<_, _>>()?
            }
            Some(types) => {
                let found = format!("has {} types, but there are {size} tokens", types.len());
                return Err(gguf.unsupported(key, found));
            }
        };
        Ok(Self { tokens, types, ids })
    }
}

/// The array that a value is.
pub(super) fn array(value: &Value) -> Option<&Array> {
    match value {
        Value::Array(array) => Some(array),
        _ => None,
    }
}

fn token_type(number: i64) -> Option<TokenType> {
    Some(match number {
        1 => TokenType::Normal,
        2 => TokenType::Unknown,
        3 => TokenType::Control,
        4 => TokenType::UserDefined,
        0 | 5 => TokenType::Unused,
        6 => TokenType::Byte,
        _ => return None,
    })
}

/// As `{"token": id, …}`, in the order of ids.
impl Serialize for Vocabulary<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.tokens.iter().enumerate().map(|(id, token)| (token, id)))
    }
}
