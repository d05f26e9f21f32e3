//! `gpt2`: byte-level BPE. Text is cut into words by regular expressions, each byte is spelled as one
//! printable character, and the merges of the file do the rest.

use serde_json::{Value as Json, json};

use super::json::{Bpe, Stages, TokenizerJson};
use super::vocabulary::{Vocabulary, array};
use crate::error::GgufError;
use crate::gguf::Gguf;
use crate::source::Source;

/// Llama 3's words, from its `tokenizer.json`.
const LLAMA_3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// llama.cpp's words for files that name no pre-tokenizer (`llama-vocab.cpp`): each expression cuts
/// what the ones before it left.
const DEFAULT: [&str; 4] = [
    r"[\p{P}\$\+<=>\^~\|]+",
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)",
    r"\p{N}+",
    r"[0-9][0-9][0-9]",
];

/// The tokenizer, and whether llama.cpp puts a `bos` token before texts where the file does not say.
pub(super) fn read<'a, S: Source>(
    gguf: &'a Gguf<S>,
    vocab: Vocabulary<'a>,
) -> Result<(TokenizerJson<'a>, bool), GgufError> {
    let key = "tokenizer.ggml.pre";
    let pre = gguf.get_string(key)?.unwrap_or("default");
    let is_llama_3 = matches!(pre, "llama-bpe" | "llama3" | "llama-v3");
    let pre_tokenizer = match pre {
        // GPT-2's expression is the one that `ByteLevel` has built in.
        "gpt-2" => byte_level(true),
        "smollm" => {
            sequence(&[json!({"type": "Digits", "individual_digits": true}), byte_level(true)])
        }
        _ if is_llama_3 => sequence(&[split(LLAMA_3), byte_level(false)]),
        "default" => {
            let [a, b, c, d] = DEFAULT.map(split);
            sequence(&[a, b, c, d, byte_level(false)])
        }
        other => {
            let found = format!(
                "is {other:?}; \"smollm\", \"gpt-2\", \"llama-bpe\" and \"default\" are converted"
            );
            return Err(gguf.unsupported(key, found));
        }
    };
    let merges = merges(gguf, &vocab)?;
    let model = Bpe {
        r#type: "BPE",
        dropout: (),
        unk_token: None,
        continuing_subword_prefix: (),
        end_of_word_suffix: (),
        fuse_unk: false,
        byte_fallback: false,
        // Llama 3 has words in its vocabulary that its merges do not reach.
        ignore_merges: is_llama_3,
        vocab,
        merges,
    };
    let decoder = json!({
        "type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true
    });
    let stages = Stages { normalizer: Json::Null, pre_tokenizer, decoder };
    Ok((TokenizerJson::new(model, stages), is_llama_3))
}

fn byte_level(use_regex: bool) -> Json {
    json!({
        "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": use_regex
    })
}

fn split(regex: &str) -> Json {
    json!({"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": false})
}

fn sequence(pre_tokenizers: &[Json]) -> Json {
    json!({"type": "Sequence", "pretokenizers": pre_tokenizers})
}

/// `"left right"` of the file, in its order. Left, right and the two joined must be tokens.
fn merges<'a, S: Source>(
    gguf: &'a Gguf<S>,
    vocab: &Vocabulary<'a>,
) -> Result<Vec<(&'a str, &'a str)>, GgufError> {
    let key = "tokenizer.ggml.merges";
    let merges = gguf.require(key, "an array of strings", |v| array(v)?.strings())?;
    let mut joined = String::new();
    let pairs = merges.iter().enumerate().map(|(i, merge)| {
        let pair = merge.split_once(' ').filter(|(left, right)| {
            joined.clear();
            joined.push_str(left);
            joined.push_str(right);
            [left, right, joined.as_str()].iter().all(|token| vocab.ids.contains_key(token))
        });
        let found =
            || format!("has {merge:?} as number {i}, which does not join two tokens to one");
        pair.ok_or_else(|| gguf.unsupported(key, found()))
    });
    pairs.collect()
}
