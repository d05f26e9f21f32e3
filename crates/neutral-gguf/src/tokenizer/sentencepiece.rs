//! `llama`: `SentencePiece`'s BPE, as Llama 2 has it. A space is `▁`, a text gets one in front, and a
//! character without a piece becomes its bytes.

use serde_json::{Value as Json, json};

use super::json::{Bpe, Stages, TokenizerJson};
use super::vocabulary::{TokenType, Vocabulary, array};
use crate::error::GgufError;
use crate::gguf::Gguf;
use crate::source::Source;

/// Every cut of every piece is looked up, so their length and what that gives are limited. The
/// longest pieces in use are runs of 16 to 64 spaces; the largest vocabularies give 600,000 merges.
const MAX_PIECE: usize = 256;
const MAX_MERGES: usize = 1 << 22;

/// The tokenizer, and whether llama.cpp puts a `bos` token before texts where the file does not say.
pub(super) fn read<'a, S: Source>(
    gguf: &'a Gguf<S>,
    vocab: Vocabulary<'a>,
) -> Result<(TokenizerJson<'a>, bool), GgufError> {
    let prefix = gguf.get_bool("tokenizer.ggml.add_space_prefix")?.unwrap_or(true);
    let merges = merges(gguf, &vocab)?;
    let unknown = vocab.types.iter().position(|t| *t == TokenType::Unknown);
    let model = Bpe {
        r#type: "BPE",
        dropout: (),
        unk_token: unknown.map(|id| vocab.tokens[id]),
        continuing_subword_prefix: (),
        end_of_word_suffix: (),
        fuse_unk: true,
        byte_fallback: true,
        ignore_merges: false,
        vocab,
        merges,
    };
    // As in Llama 2's `tokenizer.json`. A normalizer works on each stretch between added tokens, so
    // each gets its space, which is what llama.cpp does after special tokens.
    let mut normalizers =
        vec![json!({"type": "Replace", "pattern": {"String": " "}, "content": "▁"})];
    let mut decoders = vec![
        json!({"type": "Replace", "pattern": {"String": "▁"}, "content": " "}),
        json!({"type": "ByteFallback"}),
        json!({"type": "Fuse"}),
    ];
    if prefix {
        normalizers.insert(0, json!({"type": "Prepend", "prepend": "▁"}));
        decoders.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
    }
    let stages = Stages {
        normalizer: json!({"type": "Sequence", "normalizers": normalizers}),
        pre_tokenizer: Json::Null,
        decoder: json!({"type": "Sequence", "decoders": decoders}),
    };
    Ok((TokenizerJson::new(model, stages), true))
}

/// All ways to make a normal piece of two others, those of the highest score first.
///
/// `SentencePiece` joins the two neighbours whose joined piece scores highest; with the merges in this
/// order, and ties as in transformers' `generate_merges` (longer left parts, then longer right parts,
/// then lower ids), BPE joins the same ones.
fn merges<'a, S: Source>(
    gguf: &'a Gguf<S>,
    vocab: &Vocabulary<'a>,
) -> Result<Vec<(&'a str, &'a str)>, GgufError> {
    let key = "tokenizer.ggml.scores";
    let scores = gguf.require(key, "an array of 32-bit floats", |v| array(v)?.floats())?;
    if scores.len() != vocab.tokens.len() {
        let found = format!("has {} scores for {} tokens", scores.len(), vocab.tokens.len());
        return Err(gguf.unsupported(key, found));
    }
    let key = "tokenizer.ggml.tokens";
    let piece = |text: &str| {
        vocab.ids.get(text).copied().filter(|id| vocab.types[*id] == TokenType::Normal)
    };
    let mut found = Vec::new();
    for (id, text) in vocab.tokens.iter().enumerate() {
        if vocab.types[id] != TokenType::Normal {
            continue;
        }
        if text.len() > MAX_PIECE {
            let length = format!("has a token {id} of {} bytes; {MAX_PIECE} at most", text.len());
            return Err(gguf.unsupported(key, length));
        }
        let start = found.len();
        for (cut, _) in text.char_indices().skip(1) {
            let (left, right) = text.split_at(cut);
            if let (Some(left), Some(right)) = (piece(left), piece(right)) {
                found.push((scores[id], left, right));
            }
        }
        found[start..].sort_by_key(|(_, left, right)| (*left, *right));
        if found.len() > MAX_MERGES {
            return Err(gguf.unsupported(key, format!("give more than {MAX_MERGES} merges")));
        }
    }
    let characters: Vec<_> = vocab.tokens.iter().map(|token| token.chars().count()).collect();
    found.sort_by(|(a, a_left, a_right), (b, b_left, b_right)| {
        let sizes = |left: usize, right: usize| (characters[left], characters[right]);
        b.total_cmp(a).then_with(|| sizes(*b_left, *b_right).cmp(&sizes(*a_left, *a_right)))
    });
    let text = |id: usize| vocab.tokens[id];
    Ok(found.into_iter().map(|(_, left, right)| (text(left), text(right))).collect())
}
