//! A ratio of sums over documents.

use rand::Rng;

use crate::bootstrap::Replicates;
use crate::error::documents;
use crate::{Bootstrap, Estimate, StatsError};

/// `Σ numerator / Σ denominator` with BCa intervals over documents.
///
/// For bits per byte: a document's numerator is its difference of nats between two models, its denominator
/// `ln 2 ·` its bytes. For accuracies: the difference of two answers, −1, 0 or 1, and 1.
///
/// Intervals are widened for few documents ([`Replicates::of_few`](crate::Replicates::of_few)), of which there are
/// as many as `(Σ denominator)² / Σ denominator²` says: one book among leaflets is not far from one document.
///
/// # Errors
/// If there are fewer than two documents, a number is not finite, or a denominator not above 0.
pub fn ratio(
    numerators: &[f64],
    denominators: &[f64],
    bootstrap: Bootstrap,
) -> Result<Estimate, StatsError> {
    documents(numerators, denominators)?;
    let (above, below) = (sum(numerators), sum(denominators));
    let value = above / below;
    let n = numerators.len() as u32;
    bootstrap.check()?;
    let replicates = bootstrap.draw(|rng| {
        let (mut above, mut below) = (0.0, 0.0);
        for _ in 0..n {
            let document = rng.random_range(0..n) as usize;
            above += numerators[document];
            below += denominators[document];
        }
        above / below
    });
    let pairs = numerators.iter().zip(denominators);
    let left_out: Vec<_> = pairs.map(|(a, b)| (above - a) / (below - b)).collect();
    let replicates = Replicates::new(replicates, value, &left_out).of_few(effective(denominators));
    Ok(Estimate::bootstrapped(value, replicates))
}

/// How many documents of equal weight say as much as these (Kish).
pub(crate) fn effective(denominators: &[f64]) -> f64 {
    sum(denominators).powi(2) / denominators.iter().map(|value| value * value).sum::<f64>()
}

pub(crate) fn sum(values: &[f64]) -> f64 {
    values.iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NATS: [f64; 6] = [0.3, -0.1, 0.8, 0.0, 0.4, 0.2];
    const BYTES: [f64; 6] = [10.0, 4.0, 30.0, 2.0, 12.0, 8.0];

    #[test]
    fn every_number_of_threads_gives_the_same_bits() {
        let with = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| ratio(&NATS, &BYTES, Bootstrap::default()).unwrap().interval(0.95))
        };
        assert_eq!(with(1), with(4));
    }

    #[test]
    fn documents_weigh_by_their_bytes() {
        let found = ratio(&NATS, &BYTES, Bootstrap::default()).unwrap();
        assert!((found.value - 1.6 / 66.0).abs() < 1e-15);
    }

    #[test]
    fn a_difference_that_is_the_same_everywhere_is_certain() {
        // Numbers that are no sums of powers of two: rounding must not look like a spread.
        for equal in [0.0, 0.125] {
            let found = ratio(&[equal; 7], &[1.0; 7], Bootstrap::default()).unwrap();
            let interval = found.interval(0.95);
            assert_eq!((interval.low, interval.high, found.standard_error), (equal, equal, 0.0));
            assert_eq!(found.p_at_least(equal), 1.0);
        }
    }

    #[test]
    fn what_cannot_be_told_is_refused() {
        let of = |nats: &[f64], bytes: &[f64]| {
            ratio(nats, bytes, Bootstrap::default()).unwrap_err().to_string()
        };
        let one = of(&[1.0], &[1.0]);
        assert!(one.starts_with("1 documents; at least 2 are needed"), "{one}");
        assert_eq!(
            of(&[1.0, f64::NAN], &[1.0, 1.0]),
            "numerator 1 is NaN; expected a finite number"
        );
        assert_eq!(of(&[1.0, 2.0], &[1.0, 0.0]), "denominator 1 is 0; expected a number above 0");
        assert_eq!(of(&[1.0, 2.0], &[1.0]), "2 numerators; expected 1, one for each document");
        let drawn = |resamples| ratio(&NATS, &BYTES, Bootstrap { resamples, seed: 0 });
        let few = drawn(18).unwrap_err().to_string();
        assert!(few.starts_with("18 resamples; at least 19 are needed"), "{few}");
        assert!(drawn(0).is_err() && drawn(19).is_ok());
    }
}
