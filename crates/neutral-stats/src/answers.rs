//! How much more often one model is right than another, on the same questions.

use crate::estimate::Estimate;
use crate::{StatsError, normal_cdf, normal_quantile, ratio_of_seeds};

/// Halvings of `[−1, 1]` until an end of an interval no longer moves.
const HALVINGS: usize = 60;

/// Questions that two models answered, right or wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Pairs {
    /// Questions.
    n: f64,
    /// Only the first model was right.
    first: f64,
    /// Only the second was.
    second: f64,
}

/// The share of questions that the first model got right, minus the second's, by Tango's score method.
///
/// At a margin of 0 its test is McNemar's, `z = (b − c) / √(b + c)`; at another it is that test with the variance
/// which the margin implies. Intervals are those of the margins that the test does not reject. Unlike Wald's it
/// knows something where no question tells the models apart: `n` of them bound how often one could.
///
/// Source: T. Tango, *Equivalence test and confidence interval for the difference in proportions for the
/// paired-sample design*, Statistics in Medicine 17, 1998.
///
/// # Errors
/// If there are fewer than two questions, or fewer than differ.
pub fn more_often_right(
    questions: u64,
    only_first: u64,
    only_second: u64,
) -> Result<Estimate, StatsError> {
    let differ = only_first + only_second;
    if questions < 2 || questions < differ {
        let (found, needed) = (questions as usize, differ.max(2) as usize);
        return Err(StatsError::TooFew { what: "questions", found, needed });
    }
    let [n, first, second] = [questions, only_first, only_second].map(|count| count as f64);
    let pairs = Pairs { n, first, second };
    Ok(Estimate::score((first - second) / n, pairs.standard_error(), pairs))
}

/// The same of several seeds, each with all questions: `differences[seed][question]` is 1 where only the first
/// model was right, −1 where only the second was, else 0.
///
/// Never surer than [`ratio_of_seeds`], which sees how seeds and questions vary, nor than [`more_often_right`] of one
/// seed with the mean number of such questions: where no question tells the models apart nothing varies, and their
/// number still bounds how often one could. More seeds of the same questions are no more questions.
///
/// # Errors
/// Those of both.
pub fn more_often_right_of_seeds(differences: &[Vec<f64>]) -> Result<Estimate, StatsError> {
    let questions = differences.first().map_or(0, Vec::len);
    let crossed = ratio_of_seeds(differences, &vec![1.0; questions])?;
    let all = || differences.iter().flatten();
    let mean = |count: usize| count as f64 / differences.len() as f64;
    let pairs = Pairs {
        n: questions as f64,
        first: mean(all().filter(|d| **d > 0.0).count()),
        second: mean(all().filter(|d| **d < 0.0).count()),
    };
    let value = (pairs.first - pairs.second) / pairs.n;
    Ok(crossed.or_wider(Estimate::score(value, pairs.standard_error(), pairs)))
}

impl Pairs {
    fn standard_error(&self) -> f64 {
        let difference = self.first - self.second;
        ((self.first + self.second - difference * difference / self.n).max(0.0)).sqrt() / self.n
    }

    /// How many standard errors the difference lies above `margin`, if that were the truth.
    fn z(&self, margin: f64) -> f64 {
        let Self { n, first, second } = *self;
        let above = first - second - n * margin;
        if above == 0.0 {
            return 0.0;
        }
        // The likeliest share of questions that only the second model gets right, under the margin: the
        // larger root of a·q² + b·q + c.
        let spare = margin * (1.0 - margin);
        let (a, b, c) =
            (2.0 * n, (2.0 * n - first + second) * margin - first - second, -second * spare);
        let share = (((b * b - 4.0 * a * c).max(0.0)).sqrt() - b) / (2.0 * a);
        let variance = n * (2.0 * share + spare);
        // Without any variance the margin is impossible, whatever was seen.
        if variance > 0.0 { above / variance.sqrt() } else { above * f64::INFINITY }
    }

    /// The margin at which [`z`](Self::z), which falls, is `z`.
    fn margin(&self, z: f64) -> f64 {
        let (mut low, mut high) = (-1.0, 1.0);
        for _ in 0..HALVINGS {
            let middle = 0.5 * (low + high);
            if self.z(middle) > z { low = middle } else { high = middle }
        }
        0.5 * (low + high)
    }

    /// The margin that is rejected as too low, or for a tail above ½ as too high, with this probability.
    pub(crate) fn bound(&self, tail: f64) -> f64 {
        self.margin(-normal_quantile(tail))
    }

    /// The p value of *the difference is at least the margin*.
    pub(crate) fn p_at_least(&self, margin: f64) -> f64 {
        normal_cdf(self.z(margin))
    }

    /// The p value of *the difference is at most the margin*.
    pub(crate) fn p_at_most(&self, margin: f64) -> f64 {
        normal_cdf(-self.z(margin))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_margin_it_is_mcnemars_test() {
        let found = more_often_right(100, 15, 5).unwrap();
        let z = 10.0 / 20_f64.sqrt();
        assert!((found.p_at_most(0.0) - normal_cdf(-z)).abs() < 1e-12);
        assert!((found.value - 0.1).abs() < 1e-15);
    }

    #[test]
    fn the_models_are_exchanged_with_the_sign() {
        let (one, other) =
            (more_often_right(80, 9, 2).unwrap(), more_often_right(80, 2, 9).unwrap());
        assert!((one.p_at_least(0.2) - other.p_at_most(-0.2)).abs() < 1e-12);
        let (ends, mirrored) = (one.interval(0.95), other.interval(0.95));
        assert!(
            (ends.low + mirrored.high).abs() < 1e-12 && (ends.high + mirrored.low).abs() < 1e-12
        );
    }

    #[test]
    fn a_test_agrees_with_the_interval_of_twice_its_level() {
        let found = more_often_right(50, 8, 3).unwrap();
        let ends = found.interval(0.95);
        assert!((found.p_at_least(ends.high) - 0.025).abs() < 1e-9);
        assert!((found.p_at_most(ends.low) - 0.025).abs() < 1e-9);
    }

    #[test]
    fn the_same_answers_everywhere_bound_the_difference_by_their_number() {
        let found = more_often_right(100, 0, 0).unwrap();
        // z² = n·δ / (1 − δ), with Wilson's upper end of 0 of n.
        let z2 = normal_quantile(0.975).powi(2);
        let ends = found.interval(0.95);
        assert!((ends.high - z2 / (100.0 + z2)).abs() < 1e-9, "{ends:?}");
        assert_eq!((found.value, ends.low), (0.0, -ends.high));
        assert!(found.p_at_least(0.05) < 0.025 && found.p_at_least(0.01) > 0.025);
        // Nothing differs, so all that stands between is the bound.
        assert!((found.detectable(0.025, 0.8) - z2 / (100.0 + z2)).abs() < 1e-9);
    }

    #[test]
    fn every_answer_different_is_defined() {
        let found = more_often_right(10, 10, 0).unwrap();
        let ends = found.interval(0.95);
        // Half of what the margin leaves may be the second's alone: z² = n·(1 − δ) / (1 + δ).
        let z2 = normal_quantile(0.975).powi(2);
        assert!((ends.low - (10.0 - z2) / (10.0 + z2)).abs() < 1e-9, "{ends:?}");
        assert!(found.value == 1.0 && ends.high > 0.999);
        assert_eq!(found.p_at_least(1.0), 0.5);
    }

    #[test]
    fn several_seeds_are_never_surer_than_the_number_of_questions() {
        let seeds = vec![vec![0.0; 20]; 3];
        let (found, one) =
            (more_often_right_of_seeds(&seeds).unwrap(), more_often_right(20, 0, 0).unwrap());
        assert_eq!(found.interval(0.95), one.interval(0.95));
        assert_eq!(found.p_at_least(0.05), one.p_at_least(0.05));
        assert!(found.p_at_least(0.05) > 0.1);
        assert!((found.detectable(0.025, 0.8) - one.detectable(0.025, 0.8)).abs() < 1e-12);
        // Nor than seeds that disagree: 0.5, 0.6 and 0 of 200 questions.
        let seeds =
            [100, 120, 0].map(|n| (0..200).map(|i| f64::from(u8::from(i < n))).collect::<Vec<_>>());
        let crossed = ratio_of_seeds(&seeds, &[1.0; 200]).unwrap();
        let found = more_often_right_of_seeds(&seeds).unwrap();
        assert_eq!(found.interval(0.95), crossed.interval(0.95));
        assert_eq!(found.p_at_most(0.0), crossed.p_at_most(0.0));
    }

    #[test]
    fn what_cannot_be_told_is_refused() {
        let error = |n, b, c| more_often_right(n, b, c).unwrap_err().to_string();
        assert!(error(1, 0, 0).contains("1 questions"), "{}", error(1, 0, 0));
        assert!(error(5, 4, 2).contains("at least 6"), "{}", error(5, 4, 2));
    }
}
