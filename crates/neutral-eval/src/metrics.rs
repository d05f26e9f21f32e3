//! What the loss over a text is called, and which of its names to compare.
//!
//! Not here: multiple-choice accuracy.

use serde::{Deserialize, Serialize};

use crate::EvalError;

/// How well a text is predicted, from one sum: `N = Σ −ln p(token | tokens before it)`, in nats.
///
/// | metric | formula |
/// |---|---|
/// | `bits_per_byte` | `N / (ln 2 · bytes)` |
/// | `nats_per_token` | `N / tokens` |
/// | `perplexity` | `exp(N / tokens)` |
///
/// All three are ratios of sums over the corpus, not means of the documents' ratios, so a long
/// document counts for as much as it says.
///
/// **Compare bits per byte.** A token is whatever the tokenizer makes of the text: with a larger
/// vocabulary, or one trained on the language, there are fewer of them, each harder to predict, and
/// nats a token and perplexity rise although the model is no worse. The same holds between languages
/// under one tokenizer. Bytes are the text's own; `N / ln 2` is the size in bits to which the model
/// would compress it, and bits per byte is that size over the original one.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Metrics {
    /// Compressed bits a byte of UTF-8 text.
    pub bits_per_byte: f64,
    /// Mean loss a token; comparable only under the same tokenizer.
    pub nats_per_token: f64,
    /// `exp(nats_per_token)`; comparable only under the same tokenizer.
    pub perplexity: f64,
    /// Scored tokens.
    pub tokens: u64,
    /// UTF-8 bytes of the text.
    pub bytes: u64,
}

impl Metrics {
    /// The metrics of a text of so many nats; both counts above 0.
    ///
    /// # Errors
    /// [`EvalError::Perplexity`] if the mean loss is above 709 nats a token, or no number.
    pub(crate) fn new(nats: f64, tokens: u64, bytes: u64) -> Result<Self, EvalError> {
        let nats_per_token = nats / tokens as f64;
        let perplexity = nats_per_token.exp();
        if !perplexity.is_finite() {
            return Err(EvalError::Perplexity { nats_per_token });
        }
        let bits_per_byte = nats / (std::f64::consts::LN_2 * bytes as f64);
        Ok(Self { bits_per_byte, nats_per_token, perplexity, tokens, bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand() {
        // Six tokens of probability 1/4 are 12 bits; over 8 bytes that is 1.5 bits a byte.
        let metrics = Metrics::new(6.0 * 4_f64.ln(), 6, 8).unwrap();
        assert!((metrics.bits_per_byte - 1.5).abs() < 1e-12);
        assert!((metrics.nats_per_token - 1.386_294_361_119_890_6).abs() < 1e-12);
        assert!((metrics.perplexity - 4.0).abs() < 1e-12);
        assert_eq!((metrics.tokens, metrics.bytes), (6, 8));
    }

    #[test]
    fn the_same_model_of_bytes_has_the_same_bits_per_byte_under_any_tokenizer() {
        // 12 bits over 8 bytes, as 6 tokens or as 2: only bits per byte stays.
        let nats = 12.0 * std::f64::consts::LN_2;
        let [six, two] = [6, 2].map(|tokens| Metrics::new(nats, tokens, 8).unwrap());
        assert!((six.bits_per_byte - two.bits_per_byte).abs() < 1e-12);
        assert!((two.perplexity - six.perplexity.powi(3)).abs() < 1e-9);
    }

    #[test]
    fn a_perplexity_beyond_numbers_is_an_error() {
        assert!(Metrics::new(709.0, 1, 1).is_ok());
        for nats in [710.0, f64::INFINITY, f64::NAN] {
            assert!(matches!(Metrics::new(nats, 1, 1), Err(EvalError::Perplexity { .. })));
        }
    }
}
