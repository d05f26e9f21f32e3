//! Means of few numbers, and how sure they are.

use crate::format::{decimals, mean_and_deviation};

/// 97.5 % quantiles of Student's t for 1 to 30 degrees of freedom.
const STUDENT: [f64; 30] = [
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160,
    2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056,
    2.052, 2.048, 2.045, 2.042,
];

/// A mean and its 95 % confidence interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Interval {
    pub mean: f64,
    pub low: f64,
    pub high: f64,
}

impl Interval {
    /// Student's, for the mean of numbers that are drawn from one normal distribution; none of fewer than
    /// two. Above 31 numbers a little wider than it need be.
    pub(crate) fn of(values: &[f64]) -> Option<Self> {
        let (mean, deviation) = match values {
            [] | [_] => return None,
            _ => mean_and_deviation(values),
        };
        let t = STUDENT[(values.len() - 2).min(STUDENT.len() - 1)];
        let half = t * deviation? / (values.len() as f64).sqrt();
        Some(Self { mean, low: mean - half, high: mean + half })
    }

    /// The mean, and the interval in brackets where there are several numbers; a dash where there are none.
    pub(crate) fn text(values: &[f64], digits: usize) -> String {
        match values {
            [] => "–".to_owned(),
            [one] => decimals(*one, digits),
            _ => Self::of(values).map_or_else(String::new, |found| found.with_ends(digits)),
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
    fn three_numbers_by_hand() {
        // Mean 2, deviation 1: 4.303 / √3 = 2.4843.
        let found = Interval::of(&[1.0, 2.0, 3.0]).unwrap();
        assert!((found.mean - 2.0).abs() < 1e-12);
        assert!((found.high - 4.4843).abs() < 1e-4 && (found.low + 0.4843).abs() < 1e-4);
    }

    #[test]
    fn as_text() {
        assert_eq!(Interval::text(&[1.0, 2.0, 3.0], 2), "2.00 (-0.48 to 4.48)");
        assert_eq!((Interval::text(&[1.5], 1), Interval::text(&[], 1)), ("1.5".into(), "–".into()));
    }

    #[test]
    fn one_number_has_no_interval_and_many_have_a_narrow_one() {
        assert_eq!((Interval::of(&[1.0]), Interval::of(&[])), (None, None));
        let many: Vec<f64> = (0..100).map(|i| f64::from(i % 2)).collect();
        let found = Interval::of(&many).unwrap();
        assert!(found.high - found.low < 0.21);
    }
}
