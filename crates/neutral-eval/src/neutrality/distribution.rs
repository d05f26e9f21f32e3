//! Many numbers as a few.

/// The mean, and what shares of the numbers do not exceed.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Distribution {
    /// The arithmetic mean.
    pub mean: f64,
    /// The median.
    pub p50: f64,
    /// Nine in ten are not above.
    pub p90: f64,
    /// Ninety-nine in a hundred are not above.
    pub p99: f64,
    /// The largest.
    pub max: f64,
}

impl Distribution {
    /// Of finite numbers, in any order; all zero if there are none.
    ///
    /// Quantiles lie between neighbours of the sorted numbers, in proportion: definition 7 of Hyndman
    /// and Fan (1996), the default of R and of `numpy`.
    pub fn of(mut numbers: Vec<f64>) -> Self {
        numbers.sort_unstable_by(f64::total_cmp);
        let Some(&max) = numbers.last() else { return Self::default() };
        let quantile = |share: f64| {
            let place = share * (numbers.len() - 1) as f64;
            let (below, above) = (place.floor() as usize, place.ceil() as usize);
            numbers[below] + (numbers[above] - numbers[below]) * place.fract()
        };
        let mean = numbers.iter().sum::<f64>() / numbers.len() as f64;
        Self { mean, p50: quantile(0.5), p90: quantile(0.9), p99: quantile(0.99), max }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_numpy() {
        // numpy.quantile([3, 1, 4, 1, 5, 9, 2, 6], [.5, .9, .99]) = 3.5, 6.9, 8.79
        let found = Distribution::of(vec![3.0, 1.0, 4.0, 1.0, 5.0, 9.0, 2.0, 6.0]);
        for (found, expected) in
            [(found.p50, 3.5), (found.p90, 6.9), (found.p99, 8.79), (found.max, 9.0)]
        {
            assert!((found - expected).abs() < 1e-12, "{found} {expected}");
        }
        assert!((found.mean - 31.0 / 8.0).abs() < 1e-12);
    }

    #[test]
    fn of_one_number_all_are_that_and_of_none_zero() {
        let one = Distribution { mean: 2.5, p50: 2.5, p90: 2.5, p99: 2.5, max: 2.5 };
        assert_eq!(Distribution::of(vec![2.5]), one);
        assert_eq!(Distribution::of(vec![]), Distribution::default());
    }
}
