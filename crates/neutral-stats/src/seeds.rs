//! A ratio over documents, of several seeds: every seed's model has scored the same documents.
//!
//! Seeds and documents are *crossed*. What is common to a document under all seeds (it is hard) does not
//! average out over seeds, and what is common to a seed over all documents (it trained badly) does not average
//! out over documents. With few seeds, which is what trainings can afford, a bootstrap over them is far too
//! sure of itself: three values resampled vary by 2/3 of their variance, and their quantiles are normal, not
//! Student's. `docs/statistics.md` measures it. So [`ratio_of_seeds`] is the one to use.

use rand::Rng;

use crate::bootstrap::Replicates;
use crate::error::{all_finite, documents};
use crate::ratio::{effective, sum};
use crate::{Bootstrap, Estimate, StatsError};

/// The mean over seeds of `Σ numerator / Σ denominator`, for other seeds and other documents of the kind.
///
/// `numerators[seed][document]`. The ratio is linearised; the variance of its mean is that of the crossed
/// random-effects model, `(MS_seed + MS_document − MS_rest) / (S·D)`, never taken below the larger of the first
/// two; Student's quantiles are of Satterthwaite's degrees of freedom. Documents count as in [`ratio`](crate::ratio()).
///
/// # Errors
/// If there are fewer than two seeds or documents, a seed lacks a document, a number is not finite, or a
/// denominator not above 0.
///
/// Source: F. E. Satterthwaite, *An approximate distribution of estimates of variance components*, 1946.
pub fn ratio_of_seeds(
    numerators: &[Vec<f64>],
    denominators: &[f64],
) -> Result<Estimate, StatsError> {
    check(numerators, denominators)?;
    let [seeds, documents] = [numerators.len() as f64, denominators.len() as f64];
    let below = sum(denominators);
    let value = numerators.iter().map(|row| sum(row)).sum::<f64>() / (seeds * below);
    // A document's influence on its seed's ratio, times the number of documents: mean 0 over both.
    let scale = documents / below;
    let influence = |seed: usize, document: usize| {
        (numerators[seed][document] - value * denominators[document]) * scale
    };
    let all_seeds = || 0..numerators.len();
    let all_documents = || 0..denominators.len();
    let of_seed: Vec<f64> = all_seeds()
        .map(|s| all_documents().map(|d| influence(s, d)).sum::<f64>() / documents)
        .collect();
    let of_document: Vec<f64> = all_documents()
        .map(|d| all_seeds().map(|s| influence(s, d)).sum::<f64>() / seeds)
        .collect();
    let squares = |values: &[f64]| values.iter().map(|v| v * v).sum::<f64>();
    let rest: f64 = all_seeds()
        .flat_map(|s| all_documents().map(move |d| (s, d)))
        .map(|(s, d)| (influence(s, d) - of_seed[s] - of_document[d]).powi(2))
        .sum();
    // Of documents of unequal weight fewer are free; of equal ones D − 1.
    // At least two, as of one seed: where one document outweighs all others, nothing is known of their spread.
    let effective = effective(denominators).max(2.0);
    let (free_seeds, free_documents) = (seeds - 1.0, effective - 1.0);
    let divisor = documents * free_documents / effective;
    let ms_seed = squares(&of_seed) * documents / free_seeds;
    let ms_document = squares(&of_document) * seeds / divisor;
    let ms_rest = rest / (free_seeds * divisor);
    let mean_square = (ms_seed + ms_document - ms_rest).max(ms_seed).max(ms_document);
    let parts = [
        (ms_seed, free_seeds),
        (ms_document, free_documents),
        (ms_rest, free_seeds * free_documents),
    ];
    let parts: f64 = parts.iter().map(|(mean_square, free)| mean_square * mean_square / free).sum();
    // With a term that is subtracted the approximation may fall below what each of them has alone.
    let least = free_seeds.min(free_documents);
    let df = if parts > 0.0 { (mean_square * mean_square / parts).max(least) } else { free_seeds };
    let standard_error = (mean_square / (seeds * documents)).sqrt();
    // What rounding leaves of equal numbers is no spread.
    let negligible = standard_error <= 1e-14 * value.abs();
    Ok(Estimate::student(value, if negligible { 0.0 } else { standard_error }, df))
}

/// The same by a hierarchical bootstrap: seeds are drawn, then documents, one draw of them for all seeds.
///
/// Its intervals are too narrow for fewer than about ten seeds; here to be compared with.
///
/// # Errors
/// As [`ratio_of_seeds`].
pub fn bootstrap_of_seeds(
    numerators: &[Vec<f64>],
    denominators: &[f64],
    bootstrap: Bootstrap,
) -> Result<Estimate, StatsError> {
    check(numerators, denominators)?;
    bootstrap.check()?;
    let [seeds, documents] = [numerators.len() as u32, denominators.len() as u32];
    let below = sum(denominators);
    let value = numerators.iter().map(|row| sum(row)).sum::<f64>() / (f64::from(seeds) * below);
    let replicates = bootstrap.draw(|rng| {
        let drawn: Vec<_> = (0..seeds).map(|_| rng.random_range(0..seeds) as usize).collect();
        let (mut above, mut below) = (0.0, 0.0);
        for _ in 0..documents {
            let document = rng.random_range(0..documents) as usize;
            above += drawn.iter().map(|seed| numerators[*seed][document]).sum::<f64>();
            below += denominators[document];
        }
        above / (f64::from(seeds) * below)
    });
    let replicates = Replicates::new(replicates, value, &[]);
    Ok(Estimate::bootstrapped(value, replicates))
}

fn check(numerators: &[Vec<f64>], denominators: &[f64]) -> Result<(), StatsError> {
    if numerators.len() < 2 {
        return Err(StatsError::TooFew { what: "seeds", found: numerators.len(), needed: 2 });
    }
    numerators.iter().try_for_each(|row| {
        documents(row, denominators)?;
        all_finite("numerator", row)
    })
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;
    use rand_distr::{Distribution, StandardNormal};

    use super::*;

    /// The standard error of a ratio of sums (Cochran, *Sampling Techniques*, 6.8), but for its number of documents.
    #[test]
    fn documents_weigh_by_their_denominators() {
        let (above, below) = ([3.0, 1.0, 9.0, 0.5, 4.0], [10.0, 4.0, 30.0, 2.0, 12.0]);
        let found = ratio_of_seeds(&vec![above.to_vec(); 3], &below).unwrap();
        let (value, all) = (17.5 / 58.0, 58.0);
        let count = all * all / 1_164.0;
        let squares = above.iter().zip(&below).map(|(a, b)| (a - value * b).powi(2));
        let variance = squares.sum::<f64>() / (all * all) * count / (count - 1.0);
        assert!((found.value - value).abs() < 1e-15);
        assert!((found.standard_error - variance.sqrt()).abs() < 1e-15);
        let half = crate::student_quantile(0.975, count - 1.0) * found.standard_error;
        assert!((found.interval(0.95).high - value - half).abs() < 1e-12);

        // Every document has its seed's ratio: what is left is the spread of seeds.
        let ratios = [0.1, 0.5, 0.2];
        let seeds = ratios.map(|ratio| below.map(|b| ratio * b).to_vec());
        let found = ratio_of_seeds(&seeds, &below).unwrap();
        let alone = crate::mean(&ratios).unwrap();
        assert!((found.standard_error - alone.standard_error).abs() < 1e-12);
    }

    #[test]
    fn one_document_that_outweighs_all_others_is_one_of_two() {
        let below: Vec<f64> = (0..20).map(|i| if i == 0 { 1e7 } else { 2e3 }).collect();
        let row =
            |of_first: f64| below.iter().map(move |b| b * if *b > 1e6 { of_first } else { 0.3 });
        let seeds = [row(0.1).collect(), row(0.12).collect()];
        let found = ratio_of_seeds(&seeds, &below).unwrap();
        let interval = found.interval(0.95);
        // Student's of one degree of freedom, the least that is left.
        let most = crate::student_quantile(0.975, 1.0) * found.standard_error;
        assert!(interval.high - interval.low <= 2.0 * most + 1e-12, "{interval:?}");
    }

    #[test]
    fn seeds_that_agree_leave_the_documents_spread_and_documents_that_agree_the_seeds() {
        let documents = [0.1, 0.5, 0.2, 0.4, 0.9, 0.3];
        let same_seeds = vec![documents.to_vec(); 3];
        let found = ratio_of_seeds(&same_seeds, &[1.0; 6]).unwrap();
        let alone = crate::mean(&documents).unwrap();
        assert!((found.standard_error - alone.standard_error).abs() < 1e-12);

        let seeds = [0.1, 0.5, 0.2];
        let same_documents: Vec<_> = seeds.map(|seed| vec![seed; 6]).into();
        let found = ratio_of_seeds(&same_documents, &[1.0; 6]).unwrap();
        let alone = crate::mean(&seeds).unwrap();
        assert!((found.standard_error - alone.standard_error).abs() < 1e-12);
        let (wide, expected) = (found.interval(0.95), alone.interval(0.95));
        assert!((wide.low - expected.low).abs() < 1e-9, "{wide:?} {expected:?}");
    }

    #[test]
    fn what_is_of_neither_seeds_nor_documents_makes_no_freedom() {
        // Noise of a seed and a document together, small effects of seeds: 2,000 sets, 95 %.
        let sets = 2000;
        let mut hits = 0;
        let mut rng = ChaCha8Rng::seed_from_u64(0);
        for _ in 0..sets {
            let mut noise = || -> f64 { StandardNormal.sample(&mut rng) };
            let seeds: Vec<Vec<f64>> = (0..3)
                .map(|_| {
                    let of_seed = 0.5 * noise();
                    (0..40).map(|_| of_seed + noise()).collect()
                })
                .collect();
            let found = ratio_of_seeds(&seeds, &[1.0; 40]).unwrap().interval(0.95);
            hits += usize::from(found.low <= 0.0 && 0.0 <= found.high);
        }
        // Without the noise's part in the degrees of freedom it is 90 %.
        let share = hits as f64 / f64::from(sets);
        assert!((0.93..0.97).contains(&share), "{share}");
    }

    #[test]
    fn no_difference_anywhere_is_certain_and_one_seed_is_not_enough() {
        let found = ratio_of_seeds(&vec![vec![0.1; 5]; 3], &[1.0; 5]).unwrap();
        assert_eq!(found.standard_error, 0.0);
        let error = ratio_of_seeds(&[vec![0.1; 5]], &[1.0; 5]).unwrap_err().to_string();
        assert!(error.starts_with("1 seeds; at least 2"), "{error}");
    }
}
