//! Replicates of an estimate, and the bias-corrected and accelerated (BCa) interval from them.
//!
//! The plain percentile interval is wrong where an estimate is biased or its spread depends on its value, as
//! with sums of few, skewed documents. BCa corrects both: the bias `z₀` from the share of replicates below the
//! estimate, the acceleration `a` from the jackknife. It keeps its level to order 1/n, the percentile to 1/√n.
//!
//! Neither knows that a spread was itself estimated from few documents, and their intervals cover too
//! little then. [`Replicates::of_few`] widens them as Student's widens the normal one.
//!
//! Source: B. Efron, *Better bootstrap confidence intervals*, 1987; conventions of `scipy.stats.bootstrap`;
//! T. Hesterberg, *What teachers should know about the bootstrap*, 2015, on expanded percentiles.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use crate::{StatsError, normal_cdf, normal_quantile, student_cdf, student_quantile};

/// How often to draw, and which numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bootstrap {
    /// Replicates; about `1 / resamples` is the smallest p value that they tell by themselves.
    pub resamples: usize,
    /// Of the random numbers.
    pub seed: u64,
}

impl Default for Bootstrap {
    fn default() -> Self {
        Self { resamples: 9999, seed: 0 }
    }
}

/// With fewer replicates one end of a 90 % interval is beyond all of them.
const FEWEST: usize = 19;

impl Bootstrap {
    /// There are enough replicates to tell an interval by.
    pub(crate) fn check(&self) -> Result<(), StatsError> {
        if self.resamples < FEWEST {
            return Err(StatsError::TooFew {
                what: "resamples",
                found: self.resamples,
                needed: FEWEST,
            });
        }
        Ok(())
    }

    /// One value a replicate, each from a stream of its own: threads change nothing.
    pub(crate) fn draw(&self, replicate: impl Fn(&mut ChaCha8Rng) -> f64 + Sync) -> Vec<f64> {
        let streams = (0..self.resamples as u64).into_par_iter();
        streams
            .map(|stream| {
                let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
                rng.set_stream(stream);
                replicate(&mut rng)
            })
            .collect()
    }
}

/// What an estimate would have been on other samples.
#[derive(Clone, Debug, PartialEq)]
pub struct Replicates {
    sorted: Vec<f64>,
    estimate: f64,
    /// How many documents the spread was told from; infinite where it is taken as known.
    documents: f64,
    bias: f64,
    acceleration: f64,
}

impl Replicates {
    /// Replicates of an estimate, and the estimates with each document left out (none: no acceleration).
    ///
    /// # Panics
    /// If there are no replicates.
    pub fn new(mut values: Vec<f64>, estimate: f64, left_out: &[f64]) -> Self {
        assert!(!values.is_empty(), "an interval needs replicates");
        values.sort_by(f64::total_cmp);
        let below = values.partition_point(|value| *value < estimate);
        let up_to = values.partition_point(|value| *value <= estimate);
        // Ties count half, so without any spread nothing is corrected.
        let share = 0.5 * (below + up_to) as f64 / values.len() as f64;
        let (bias, acceleration) = (normal_quantile(share), acceleration(left_out));
        Self { sorted: values, estimate, documents: f64::INFINITY, bias, acceleration }
    }

    /// The same, with intervals as wide as so few documents make them: the normal quantile of a level becomes
    /// `√(n / (n − 1)) ·` Student's of `n − 1` degrees of freedom.
    #[must_use]
    pub fn of_few(self, documents: f64) -> Self {
        // Below two nothing would be left of any confidence.
        Self { documents: documents.max(2.0), ..self }
    }

    /// The end of the one-sided interval that lies above the quantity with the given probability.
    ///
    /// Where few documents ask for more than the outermost replicate, it is at least where Student's tail ends, as
    /// the p values have it.
    pub fn bound(&self, probability: f64) -> f64 {
        let level = self.level(probability);
        let bound = self.quantile(level);
        let outermost = 1.0 / (self.sorted.len() as f64 + 1.0);
        if (outermost..=1.0 - outermost).contains(&level) {
            return bound;
        }
        let tail = self.estimate + student_quantile(probability, self.df()) * self.deviation();
        if level > 0.5 { bound.max(tail) } else { bound.min(tail) }
    }

    /// The share of replicates below that end.
    fn level(&self, probability: f64) -> f64 {
        let u = self.bias + self.expanded(probability);
        let below_pole = 1.0 - self.acceleration * u;
        if below_pole > 0.0 { normal_cdf(self.bias + u / below_pole) } else { f64::from(u > 0.0) }
    }

    /// The p value of *θ ≥ margin*: the level at which [`bound`](Self::bound) reaches it.
    pub(crate) fn p_at_least(&self, margin: f64) -> f64 {
        if let Some(value) = self.only_value() {
            return f64::from(value >= margin);
        }
        let beyond = self.sorted.len() - self.sorted.partition_point(|value| *value < margin);
        self.p(beyond, margin - self.estimate, |share| -self.inverse(-normal_quantile(share)))
    }

    /// The p value of *θ ≤ margin*.
    pub(crate) fn p_at_most(&self, margin: f64) -> f64 {
        if let Some(value) = self.only_value() {
            return f64::from(value <= margin);
        }
        let beyond = self.sorted.partition_point(|value| *value <= margin);
        self.p(beyond, self.estimate - margin, |share| self.inverse(normal_quantile(share)))
    }

    /// The margin itself counts as one replicate beyond it. Beyond all of them, where they say no more than that p
    /// is small, it falls on as Student's tail does: or no effect, however large, would outlast the adjustment for
    /// many tests.
    fn p(&self, beyond: usize, distance: f64, z: impl Fn(f64) -> f64) -> f64 {
        let share = (beyond as f64 + 1.0) / (self.sorted.len() as f64 + 1.0);
        if share >= 1.0 {
            return 1.0;
        }
        let p = self.contracted(z(share));
        if beyond > 0 { p } else { p.min(student_cdf(-distance / self.deviation(), self.df())) }
    }

    fn expanded(&self, probability: f64) -> f64 {
        if self.documents.is_infinite() {
            return normal_quantile(probability);
        }
        let df = self.documents - 1.0;
        (self.documents / df).sqrt() * student_quantile(probability, df)
    }

    fn contracted(&self, z: f64) -> f64 {
        if self.documents.is_infinite() {
            return normal_cdf(z);
        }
        let df = self.documents - 1.0;
        student_cdf(z * (df / self.documents).sqrt(), df)
    }

    /// The value of all replicates, if they have but one: then nothing is left to chance.
    fn only_value(&self) -> Option<f64> {
        self.sorted.first().copied().filter(|first| self.sorted.last() == Some(first))
    }

    /// From the normal quantile of a share of replicates to that of a confidence.
    fn inverse(&self, z: f64) -> f64 {
        let w = z - self.bias;
        let below_pole = 1.0 + self.acceleration * w;
        if below_pole > 0.0 { w / below_pole - self.bias } else { w.signum() * f64::INFINITY }
    }

    /// Their standard deviation (n − 1).
    pub fn deviation(&self) -> f64 {
        // Equal values have a mean that rounds to another number.
        if self.only_value().is_some() {
            return 0.0;
        }
        let n = self.sorted.len() as f64;
        let mean = self.sorted.iter().sum::<f64>() / n;
        (self.sorted.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / (n - 1.0)).sqrt()
    }

    /// Degrees of freedom of their standard deviation.
    pub(crate) fn df(&self) -> f64 {
        // Student's with so many is the normal distribution.
        (self.documents - 1.0).min(1e9)
    }

    /// Between the two nearest replicates, linearly.
    fn quantile(&self, level: f64) -> f64 {
        let at = level * (self.sorted.len() - 1) as f64;
        let low = (at.floor() as usize).min(self.sorted.len() - 1);
        let high = (low + 1).min(self.sorted.len() - 1);
        self.sorted[low] + (at - low as f64) * (self.sorted[high] - self.sorted[low])
    }
}

/// A sixth of the skewness of the jackknife's influences; 0 where there are none.
fn acceleration(left_out: &[f64]) -> f64 {
    let n = left_out.len() as f64;
    let mean = left_out.iter().sum::<f64>() / n;
    let power = |k: i32| left_out.iter().map(|value| (mean - value).powi(k)).sum::<f64>();
    let squares = power(2);
    if squares > 0.0 { power(3) / (6.0 * squares.powf(1.5)) } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replicates() -> Replicates {
        let values = (0..1999).map(|i| normal_quantile((f64::from(i) + 0.5) / 1999.0).exp());
        Replicates::new(values.collect(), 0.9, &[1.0, 1.1, 1.3, 0.7, 1.0])
    }

    #[test]
    fn a_p_value_is_the_level_whose_bound_is_the_margin() {
        let all = [replicates(), replicates().of_few(12.5)];
        for (replicates, level) in all.iter().flat_map(|r| [0.01, 0.025, 0.2].map(|l| (r, l))) {
            // Within the step from one replicate to the next.
            let upper = replicates.p_at_least(replicates.bound(1.0 - level));
            let lower = replicates.p_at_most(replicates.bound(level));
            assert!(
                (upper - level).abs() < 3e-3 && (lower - level).abs() < 3e-3,
                "{upper} {lower}"
            );
        }
    }

    #[test]
    fn a_margin_beyond_all_replicates_has_a_small_p_that_falls_on_and_one_before_them_has_p_1() {
        let replicates = replicates().of_few(50.0);
        let [near, far, farther] = [35.0, 40.0, 80.0].map(|margin| replicates.p_at_least(margin));
        assert!(
            near < 1e-3 && far < near && farther < far && farther > 0.0,
            "{near} {far} {farther}"
        );
        assert_eq!((replicates.p_at_least(-1e9), replicates.p_at_most(1e9)), (1.0, 1.0));
    }

    #[test]
    fn fewer_documents_make_a_wider_interval_and_many_the_plain_one() {
        let width = |r: Replicates| r.bound(0.975) - r.bound(0.025);
        let [few, more, many] = [5.0, 30.0, 1e7].map(|n| width(replicates().of_few(n)));
        assert!(few > more && more > many && (many - width(replicates())).abs() < 1e-4);
    }

    #[test]
    fn of_two_documents_the_interval_ends_beyond_all_replicates_where_its_p_value_is_the_level() {
        let values = (0..1999).map(|i| normal_quantile((f64::from(i) + 0.5) / 1999.0));
        let replicates = Replicates::new(values.collect(), 0.0, &[]).of_few(2.0);
        let upper = replicates.bound(0.975);
        assert!(upper > replicates.sorted[1998] && replicates.bound(0.025) < replicates.sorted[0]);
        assert!((replicates.p_at_least(upper) - 0.025).abs() < 1e-3);
        assert!(replicates.p_at_least(0.99 * upper) > 0.025);
    }

    #[test]
    fn equal_replicates_are_an_interval_of_width_zero() {
        let replicates = Replicates::new(vec![0.1; 999], 0.1, &[0.1; 5]);
        assert_eq!((replicates.bound(0.025), replicates.bound(0.975)), (0.1, 0.1));
        assert_eq!(replicates.deviation(), 0.0);
        assert_eq!((replicates.p_at_least(0.2), replicates.p_at_least(0.1)), (0.0, 1.0));
        assert_eq!((replicates.p_at_most(0.0), replicates.p_at_most(0.1)), (0.0, 1.0));
    }
}
