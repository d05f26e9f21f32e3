//! What can go wrong when a model is scored.

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
pub enum EvalError {
    /// An option that cannot be used with this model.
    #[error("{field} is {value}, expected {expected}")]
    Option {
        /// The field of the options.
        field: &'static str,
        /// Its value.
        value: String,
        /// What would be right.
        expected: String,
    },
    /// A document whose tokens and bytes contradict each other.
    #[error(
        "document `{id}` has {tokens} tokens for {bytes} bytes of text; it was not tokenised as it should be"
    )]
    Document {
        /// The document.
        id: String,
        /// Its number of tokens.
        tokens: u64,
        /// Its number of bytes.
        bytes: u64,
    },
    /// A token that the model has no embedding for.
    #[error(
        "document `{id}` has token {token}, but the model knows {vocab_size}; it was tokenised with another tokenizer than the model's"
    )]
    Vocabulary {
        /// The document.
        id: String,
        /// The first such token.
        token: u32,
        /// The model's number of tokens.
        vocab_size: usize,
    },
    /// No document has a token.
    #[error("there is no text to score: found no token in {documents} documents")]
    NothingToScore {
        /// Number of documents.
        documents: usize,
    },
    /// A score that is no number.
    #[error(
        "document `{id}` scores {nats} nats; the model's numbers have overflowed, so its training has diverged"
    )]
    NonFinite {
        /// The document.
        id: String,
        /// The sum that came out.
        nats: f64,
    },
    /// A request that cannot be scored.
    #[error("request {request} {found}")]
    Request {
        /// Its place among the requests.
        request: usize,
        /// What is wrong with it.
        found: String,
    },
    /// Scoring was told to stop.
    #[error("interrupted")]
    Interrupted,
    /// A mean loss that has no perplexity.
    #[error(
        "the text scores {nats_per_token} nats a token, whose exponential is no finite number; the model's training has diverged"
    )]
    Perplexity {
        /// The mean loss.
        nats_per_token: f64,
    },
    /// A residue that is no number, or too large for one.
    #[error(
        "the residue of block {block} has mean l1 norm {l1}; the extension's training has diverged"
    )]
    NonFiniteResidue {
        /// The block, from 0.
        block: usize,
        /// The mean that came out.
        l1: f64,
    },
}
