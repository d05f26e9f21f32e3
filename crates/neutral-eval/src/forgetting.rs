//! The two axes of the paper's comparison (its introduction and Figure 1): what a model learns of
//! the new domain, and what it forgets of the original one.
//!
//! `base` is the pristine base's score: the same weights before any training, with
//! [`Extension::none`](neutral_model::Extension::none), on the same held-out text. A base that was
//! scored with an extension in place, even an untrained one, is no baseline.
//!
//! Deviation: the paper gives the two as length-normalised log-perplexities; here they are
//! differences in bits per byte, which do not depend on the tokenizer.

use crate::Metrics;

/// `forgetting = after.bits_per_byte − base.bits_per_byte`, on the original domain.
///
/// Above 0 the model got worse; 0 is what neutral residues aim for; below 0 it improved.
///
/// # Panics
/// If the two were measured on texts of different size, and so on different texts.
pub fn forgetting(base: &Metrics, after: &Metrics) -> f64 {
    assert_eq!(base.bytes, after.bytes, "base and model must be measured on the same text");
    after.bits_per_byte - base.bits_per_byte
}

/// `learning = base.bits_per_byte − after.bits_per_byte`, on the new domain; more is better.
///
/// # Panics
/// As [`forgetting`].
pub fn learning(base: &Metrics, after: &Metrics) -> f64 {
    -forgetting(base, after)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bits(bits: f64, bytes: u64) -> Metrics {
        Metrics::new(bits * std::f64::consts::LN_2, 3, bytes).unwrap()
    }

    #[test]
    fn a_model_that_got_worse_has_forgotten_and_one_that_improved_has_learned() {
        let (worse, better) = (bits(20.0, 8), bits(12.0, 8));
        assert!((forgetting(&better, &worse) - 1.0).abs() < 1e-12);
        assert!((learning(&worse, &better) - 1.0).abs() < 1e-12);
        assert!(forgetting(&worse, &worse).abs() < f64::EPSILON);
    }

    #[test]
    #[should_panic(expected = "the same text")]
    fn other_text_cannot_be_compared() {
        forgetting(&bits(12.0, 8), &bits(12.0, 9));
    }
}
