//! Means of few numbers, and how sure they are.

use crate::format::decimals;

/// A mean and its 95 % confidence interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Interval {
    pub mean: f64,
    pub low: f64,
    pub high: f64,
}

impl Interval {
    /// Student's, for the mean of numbers that are drawn from one normal distribution; none of fewer than
    /// two, or if one is not finite.
    pub(crate) fn of(values: &[f64]) -> Option<Self> {
        let mean = neutral_stats::mean(values).ok()?;
        let neutral_stats::Interval { low, high } = mean.interval(0.95);
        Some(Self { mean: mean.value, low, high })
    }

    /// The mean, and the interval in brackets where there are several numbers; a dash where there are none.
    pub(crate) fn text(values: &[f64], digits: usize) -> String {
        match values {
            [] => "–".to_owned(),
            [one] => decimals(*one, digits),
            _ => Self::of(values).map_or_else(|| "–".to_owned(), |found| found.with_ends(digits)),
        }
    }

    /// The mean and both ends, with so many decimals.
    pub(crate) fn with_ends(&self, digits: usize) -> String {
        format!("{} ({})", decimals(self.mean, digits), self.ends(digits))
    }

    /// Both ends, with so many decimals.
    pub(crate) fn ends(&self, digits: usize) -> String {
        format!("{} to {}", decimals(self.low, digits), decimals(self.high, digits))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_text() {
        assert_eq!(Interval::text(&[1.0, 2.0, 3.0], 2), "2.00 (-0.48 to 4.48)");
        assert_eq!((Interval::text(&[1.5], 1), Interval::text(&[], 1)), ("1.5".into(), "–".into()));
    }

    #[test]
    fn one_number_has_no_interval() {
        assert_eq!((Interval::of(&[1.0]), Interval::of(&[])), (None, None));
        assert_eq!(Interval::text(&[1.0, f64::NAN], 1), "–");
    }
}
