//! Student's t distribution, and intervals of means.

use crate::error::all_finite;
use crate::normal::normal_quantile;
use crate::{Estimate, StatsError};

/// `P(T ≤ t)` with `df` degrees of freedom, which need not be whole; no number if they are not above 0.
pub fn student_cdf(t: f64, df: f64) -> f64 {
    if df.is_nan() || df <= 0.0 || t.is_nan() {
        return f64::NAN;
    }
    if t.is_infinite() {
        return if t > 0.0 { 1.0 } else { 0.0 };
    }
    let tail = 0.5 * incomplete_beta(0.5 * df, 0.5, df / (df + t * t));
    if t > 0.0 { 1.0 - tail } else { tail }
}

/// The `t` with `P(T ≤ t) = p`.
pub fn student_quantile(p: f64, df: f64) -> f64 {
    if df.is_nan() || df <= 0.0 || !(0.0..=1.0).contains(&p) {
        return f64::NAN;
    }
    if p == 0.5 {
        return 0.0;
    }
    if p > 0.5 {
        return -student_quantile(1.0 - p, df);
    }
    if p == 0.0 {
        return f64::NEG_INFINITY;
    }
    // Below the normal quantile, whose tails are lighter; bisection from a bracket of it.
    let mut high = normal_quantile(p);
    let mut low = 2.0 * high - 1.0;
    while student_cdf(low, df) > p {
        low *= 2.0;
    }
    while high - low > 1e-14 * low.abs() {
        let middle = 0.5 * (low + high);
        if middle <= low || middle >= high {
            break;
        }
        if student_cdf(middle, df) > p { high = middle } else { low = middle }
    }
    0.5 * (low + high)
}

/// The mean of numbers drawn from one normal distribution, with Student's interval.
///
/// # Errors
/// If there are fewer than two, or one is not finite.
pub fn mean(values: &[f64]) -> Result<Estimate, StatsError> {
    if values.len() < 2 {
        return Err(StatsError::TooFew { what: "values", found: values.len(), needed: 2 });
    }
    all_finite("value", values)?;
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let squares: f64 = values.iter().map(|value| (value - mean) * (value - mean)).sum();
    let standard_error = (squares / (n - 1.0) / n).sqrt();
    Ok(Estimate::student(mean, standard_error, n - 1.0))
}

/// The regularised incomplete beta function `I_x(a, b)`.
///
/// Source: Press et al., *Numerical Recipes*, 6.4: its continued fraction by Lentz's method.
fn incomplete_beta(a: f64, b: f64, x: f64) -> f64 {
    if x <= 0.0 || x >= 1.0 {
        return if x <= 0.0 { 0.0 } else { 1.0 };
    }
    let log = libm::lgamma(a + b) - libm::lgamma(a) - libm::lgamma(b)
        + a * libm::log(x)
        + b * libm::log1p(-x);
    let front = libm::exp(log);
    if x < (a + 1.0) / (a + b + 2.0) {
        front * beta_fraction(a, b, x) / a
    } else {
        1.0 - front * beta_fraction(b, a, 1.0 - x) / b
    }
}

fn beta_fraction(a: f64, b: f64, x: f64) -> f64 {
    const TINY: f64 = 1e-300;
    let bounded = |value: f64| if value.abs() < TINY { TINY } else { value };
    let (mut c, mut d) = (1.0, 1.0 / bounded(1.0 - (a + b) * x / (a + 1.0)));
    let mut value = d;
    for m in 1..1000 {
        let m = f64::from(m);
        let even = m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m));
        let odd = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
        let mut step = 1.0;
        for term in [even, odd] {
            d = 1.0 / bounded(1.0 + term * d);
            c = bounded(1.0 + term / c);
            step = c * d;
            value *= step;
        }
        if (step - 1.0).abs() < 1e-15 {
            break;
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_quantile_is_the_inverse_of_the_distribution() {
        for df in [1.0, 1.7, 3.0, 30.0, 1e4] {
            for p in [1e-8, 0.025, 0.3, 0.5, 0.9, 0.999] {
                let back = student_cdf(student_quantile(p, df), df);
                assert!((back / p - 1.0).abs() < 1e-9, "{df} {p}: {back}");
            }
        }
    }

    #[test]
    fn one_degree_of_freedom_is_cauchys() {
        let t = student_quantile(0.75, 1.0);
        assert!((t - 1.0).abs() < 1e-12, "{t}");
    }

    #[test]
    fn equal_numbers_have_an_interval_of_width_zero_and_one_number_has_none() {
        let found = mean(&[0.25; 5]).unwrap().interval(0.95);
        assert_eq!((found.low, found.high), (0.25, 0.25));
        assert!(matches!(mean(&[1.0]), Err(StatsError::TooFew { found: 1, .. })));
        let error = mean(&[1.0, f64::NAN]).unwrap_err().to_string();
        assert_eq!(error, "value 1 is NaN; expected a finite number");
    }
}
