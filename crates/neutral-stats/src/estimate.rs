//! A number, how sure it is, and what may be said of it.

use serde::{Deserialize, Serialize};

use crate::answers::Pairs;
use crate::bootstrap::Replicates;
use crate::{normal_quantile, student_cdf, student_quantile};

/// The ends of a confidence interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// The lower end.
    pub low: f64,
    /// The upper end.
    pub high: f64,
}

/// An estimate of a quantity θ.
#[derive(Clone, Debug)]
pub struct Estimate {
    /// The estimate, in the unit of the data.
    pub value: f64,
    /// Its standard error.
    pub standard_error: f64,
    spread: Spread,
}

#[derive(Clone, Debug)]
enum Spread {
    Replicates(Replicates),
    Student {
        df: f64,
    },
    Score(Pairs),
    /// Of which neither is surer than the whole.
    Either(Box<[Estimate; 2]>),
}

impl Estimate {
    pub(crate) fn student(value: f64, standard_error: f64, df: f64) -> Self {
        Self { value, standard_error, spread: Spread::Student { df } }
    }

    pub(crate) fn score(value: f64, standard_error: f64, pairs: Pairs) -> Self {
        Self { value, standard_error, spread: Spread::Score(pairs) }
    }

    pub(crate) fn bootstrapped(value: f64, replicates: Replicates) -> Self {
        let standard_error = replicates.deviation();
        Self { value, standard_error, spread: Spread::Replicates(replicates) }
    }

    /// Of two estimates of the same θ, each of which may be too sure, what neither rejects.
    pub(crate) fn or_wider(self, other: Self) -> Self {
        let value = self.value;
        let standard_error = self.standard_error.max(other.standard_error);
        Self { value, standard_error, spread: Spread::Either(Box::new([self, other])) }
    }

    /// The two-sided interval that covers θ with the given probability, such as 0.95; its ends leave out
    /// half of the rest each.
    ///
    /// # Panics
    /// If the probability is not between 0 and 1.
    pub fn interval(&self, confidence: f64) -> Interval {
        assert!(confidence > 0.0 && confidence < 1.0, "{confidence} is no confidence level");
        let tail = 0.5 * (1.0 - confidence);
        match &self.spread {
            Spread::Replicates(replicates) => {
                Interval { low: replicates.bound(tail), high: replicates.bound(1.0 - tail) }
            }
            Spread::Student { df } => {
                let half = if self.standard_error == 0.0 {
                    0.0
                } else {
                    -student_quantile(tail, *df) * self.standard_error
                };
                Interval { low: self.value - half, high: self.value + half }
            }
            Spread::Score(pairs) => {
                Interval { low: pairs.bound(tail), high: pairs.bound(1.0 - tail) }
            }
            Spread::Either(both) => {
                let [one, other] = both.each_ref().map(|of| of.interval(confidence));
                Interval { low: one.low.min(other.low), high: one.high.max(other.high) }
            }
        }
    }

    /// The p value of *θ is at least the margin*, one-sided: non-inferiority, where more is worse.
    ///
    /// It is at or below `α` where the upper end of the interval of confidence `1 − 2α` is below the margin.
    /// Where no replicate is beyond the margin, Student's tail takes over; where none differ it is 0 or 1.
    pub fn p_at_least(&self, margin: f64) -> f64 {
        match &self.spread {
            Spread::Replicates(replicates) => replicates.p_at_least(margin),
            Spread::Student { df } => student_p(margin - self.value, self.standard_error, *df),
            Spread::Score(pairs) => pairs.p_at_least(margin),
            Spread::Either(both) => larger(both.each_ref().map(|of| of.p_at_least(margin))),
        }
    }

    /// The p value of *θ is at most the margin*, one-sided: inferiority, where more is worse.
    pub fn p_at_most(&self, margin: f64) -> f64 {
        match &self.spread {
            Spread::Replicates(replicates) => replicates.p_at_most(margin),
            Spread::Student { df } => student_p(self.value - margin, self.standard_error, *df),
            Spread::Score(pairs) => pairs.p_at_most(margin),
            Spread::Either(both) => larger(both.each_ref().map(|of| of.p_at_most(margin))),
        }
    }

    /// The smallest distance of θ below a margin that [`p_at_least`](Self::p_at_least) finds with the given
    /// power, when tested at the level: from the estimate to its upper bound, and the power's quantile of
    /// standard errors more.
    ///
    /// # Panics
    /// If level or power are not between 0 and 1.
    pub fn detectable(&self, level: f64, power: f64) -> f64 {
        let inside = |p: f64| p > 0.0 && p < 1.0;
        assert!(
            inside(level) && inside(power),
            "level {level} and power {power} are no probabilities"
        );
        let (bound, quantile) = match &self.spread {
            Spread::Either(both) => {
                return larger(both.each_ref().map(|of| of.detectable(level, power)));
            }
            Spread::Score(pairs) => (pairs.bound(1.0 - level), normal_quantile(power)),
            _ if self.standard_error == 0.0 => return 0.0,
            Spread::Replicates(replicates) => {
                (replicates.bound(1.0 - level), student_quantile(power, replicates.df()))
            }
            Spread::Student { df } => (
                self.value - student_quantile(level, *df) * self.standard_error,
                student_quantile(power, *df),
            ),
        };
        bound - self.value + quantile * self.standard_error
    }
}

fn larger([one, other]: [f64; 2]) -> f64 {
    one.max(other)
}

/// `P(T ≥ distance / error)`; without an error a distance above 0 is certain, and no other is anything.
fn student_p(distance: f64, standard_error: f64, df: f64) -> f64 {
    if standard_error == 0.0 {
        return if distance > 0.0 { 0.0 } else { 1.0 };
    }
    student_cdf(-distance / standard_error, df)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_agrees_with_the_interval_of_twice_its_level() {
        let estimate = Estimate::student(0.3, 0.1, 7.0);
        let Interval { low, high } = estimate.interval(0.9);
        assert!((estimate.p_at_least(high) - 0.05).abs() < 1e-9);
        assert!((estimate.p_at_most(low) - 0.05).abs() < 1e-9);
    }

    #[test]
    fn without_any_spread_only_the_margin_itself_is_open() {
        let estimate = Estimate::student(0.3, 0.0, 7.0);
        assert_eq!((estimate.p_at_least(0.4), estimate.p_at_most(0.4)), (0.0, 1.0));
        assert_eq!((estimate.p_at_least(0.3), estimate.p_at_most(0.3)), (1.0, 1.0));
        assert_eq!(estimate.interval(0.95), Interval { low: 0.3, high: 0.3 });
        assert_eq!(estimate.detectable(0.05, 0.8), 0.0);
    }

    #[test]
    fn what_can_be_detected_is_the_sum_of_two_quantiles() {
        // Normal quantiles of 0.95 and 0.8: 1.6449 + 0.8416.
        let found = Estimate::student(0.0, 2.0, 1e9).detectable(0.05, 0.8);
        assert!((found - 2.0 * 2.4865).abs() < 1e-3, "{found}");
        // Student's, of the spread of three numbers: 4.3027 + 1.0607.
        let few = Estimate::student(0.0, 1.0, 2.0).detectable(0.025, 0.8);
        assert!((few - 5.3634).abs() < 1e-3, "{few}");
    }
}
