//! From text to tokens: how a request is split, and cut to a window.
//!
//! `TemplateLM._encode_pair` and `loglikelihood` of `lm_eval/api/model.py`.

use crate::python;

/// Tokens that are given and tokens that are scored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    /// What is given.
    pub context: Vec<u32>,
    /// What is scored, token by token.
    pub continuation: Vec<u32>,
}

impl Split {
    /// What a model of windows of `max_length` reads: all tokens but the last, cut from the left. The last
    /// `continuation.len()` of its logits score the continuation.
    pub fn input(&self, max_length: usize) -> Vec<u32> {
        let whole = self.context.iter().chain(&self.continuation);
        let length = self.context.len() + self.continuation.len();
        let first = length.saturating_sub(max_length + 1);
        whole.copied().take(length.saturating_sub(1)).skip(first).collect()
    }
}

/// Splits a request into tokens.
///
/// White space at the end of the context moves to the continuation, since words are tokenised with the
/// space before them. Then context and whole are tokenised, and what the whole has after as many tokens
/// as the context has is the continuation.
///
/// An empty context is the prefix token (BOS, or EOS where there is none), unless the continuation begins
/// with it, which then is the context. Context and whole go through `encode`, which adds what the
/// model's policy adds; a continuation without context goes through `encode_plain`, which adds nothing.
/// A context of nothing but white space leaves no text to tokenise, and there may be no context then.
pub fn split_context_continuation(
    context: &str,
    continuation: &str,
    encode: impl Fn(&str) -> Vec<u32>,
    encode_plain: impl Fn(&str) -> Vec<u32>,
    prefix_token: u32,
) -> Split {
    if context.is_empty() {
        let mut tokens = encode_plain(continuation);
        if tokens.first() == Some(&prefix_token) {
            let continuation = tokens.split_off(1);
            return Split { context: tokens, continuation };
        }
        return Split { context: vec![prefix_token], continuation: tokens };
    }
    let kept = context.trim_end_matches(python::is_space);
    let mut whole = encode(&format!("{context}{continuation}"));
    let context = encode(kept);
    let continuation = whole.split_off(context.len().min(whole.len()));
    Split { context, continuation }
}
