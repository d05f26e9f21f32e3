//! An axis: a range of numbers, ticks in steps of 1, 2 or 5, a place on the picture.

/// An axis with ticks, linear or logarithmic.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Scale {
    /// Of a logarithmic axis, the exponents of ten; so are the two below.
    low: f64,
    high: f64,
    step: f64,
    /// Where the low end stands.
    from: f64,
    /// Where the high end stands.
    to: f64,
    logarithmic: bool,
}

impl Scale {
    /// An axis that shows zero and all values with some room around them, in at most `ticks` steps.
    pub(crate) fn around(
        values: impl Iterator<Item = f64>,
        ticks: usize,
        from: f64,
        to: f64,
    ) -> Self {
        Self::roomy(values.chain([0.0]), ticks, from, to)
    }

    /// The same, without zero.
    pub(crate) fn roomy(
        values: impl Iterator<Item = f64>,
        ticks: usize,
        from: f64,
        to: f64,
    ) -> Self {
        let none = (f64::INFINITY, f64::NEG_INFINITY);
        let (low, high) = values.fold(none, |(l, h), v| (l.min(v), h.max(v)));
        let extent = if high > low { high - low } else { 1.0 };
        // Markers must not touch the frame.
        let room = 0.06 * extent;
        let (low, high) = (low - room, if high > low { high + room } else { low + extent });
        Self {
            low,
            high,
            step: nice_step((high - low) / ticks as f64),
            from,
            to,
            logarithmic: false,
        }
    }

    /// An axis from the least to the largest value, in at most `ticks` steps; zero need not be on it.
    pub(crate) fn over(
        values: impl Iterator<Item = f64>,
        ticks: usize,
        from: f64,
        to: f64,
    ) -> Self {
        let (low, high) = range(values);
        Self {
            low,
            high,
            step: nice_step((high - low) / ticks as f64),
            from,
            to,
            logarithmic: false,
        }
    }

    /// The same, logarithmic; values that are not above 0 are left out and stand at the low end.
    pub(crate) fn logarithmic(
        values: impl Iterator<Item = f64>,
        ticks: usize,
        from: f64,
        to: f64,
    ) -> Self {
        let (low, high) = range(values.filter(|v| *v > 0.0).map(f64::log10));
        // Ticks are powers of ten: at least two of them are shown.
        let (low, high) = if high - low < 1.5 { (low.floor(), high.ceil()) } else { (low, high) };
        let step = nice_step((high - low) / ticks as f64).max(1.0);
        Self { low, high, step, from, to, logarithmic: true }
    }

    /// Where a value stands on the picture.
    pub(crate) fn place(&self, value: f64) -> f64 {
        let value = match self.logarithmic {
            true if value > 0.0 => value.log10(),
            true => self.low,
            false => value,
        };
        self.from + (value - self.low) / (self.high - self.low) * (self.to - self.from)
    }

    /// The ticks within the range, with their texts.
    pub(crate) fn ticks(&self) -> Vec<(f64, String)> {
        let decimals = (-self.step.log10().floor()).max(0.0) as usize;
        let (first, last) = ((self.low / self.step).ceil(), (self.high / self.step).floor());
        (first as i64..=last as i64)
            .map(|i| {
                let value = i as f64 * self.step;
                if self.logarithmic {
                    return (10f64.powf(value), power_of_ten(value as i32));
                }
                (value, format!("{value:.decimals$}").replace('-', "−"))
            })
            .collect()
    }
}

/// The least and the largest value, apart from each other.
fn range(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (low, high) =
        values.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
    match high - low {
        extent if extent > 0.0 && extent.is_finite() => (low, high),
        _ if low.is_finite() => (low - 0.5, high + 0.5),
        _ => (0.0, 1.0),
    }
}

/// `0.01`, `1`, `100`, `10⁻⁵`.
fn power_of_ten(exponent: i32) -> String {
    if (-3..=4).contains(&exponent) {
        return 10f64.powi(exponent).to_string();
    }
    let superscript = |c| match c {
        '-' => '⁻',
        '1' => '¹',
        '2' => '²',
        '3' => '³',
        digit => char::from_u32('⁰' as u32 + digit as u32 - '0' as u32).unwrap_or(digit),
    };
    format!("10{}", exponent.to_string().chars().map(superscript).collect::<String>())
}

/// The least of 1, 2 and 5 times a power of ten that is not much below a number.
fn nice_step(least: f64) -> f64 {
    let power = 10f64.powf(least.log10().floor());
    let step = [1.0, 2.0, 5.0].into_iter().find(|s| s * power >= 0.9 * least);
    step.unwrap_or(10.0) * power
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_one_two_or_five() {
        let steps = [0.7, 1.0, 1.3, 2.5, 0.013, 6.0].map(nice_step);
        for (step, want) in steps.into_iter().zip([1.0, 1.0, 2.0, 5.0, 0.02, 10.0]) {
            assert!((step - want).abs() < 1e-9, "{step} {want}");
        }
    }

    #[test]
    fn zero_is_shown_and_ticks_have_the_decimals_they_need() {
        let scale = Scale::around([0.02, 0.09].into_iter(), 5, 0.0, 100.0);
        let texts: Vec<_> = scale.ticks().into_iter().map(|(_, t)| t).collect();
        assert_eq!(texts, ["0.00", "0.02", "0.04", "0.06", "0.08"]);
        assert!(scale.place(0.0) > 0.0 && scale.place(0.09) < 100.0);
        let negative = Scale::around([-2.0, 2.0].into_iter(), 5, 0.0, 1.0);
        assert_eq!(negative.ticks()[0].1, "−2");
    }

    #[test]
    fn a_single_point_at_zero_has_an_axis_too() {
        let scale = Scale::around([0.0].into_iter(), 5, 0.0, 1.0);
        assert!(scale.ticks().len() >= 3);
    }

    #[test]
    fn an_axis_over_values_ends_where_they_end() {
        let scale = Scale::over([4.0, 7.5].into_iter(), 5, 100.0, 0.0);
        assert_eq!((scale.place(4.0), scale.place(7.5)), (100.0, 0.0));
        assert_eq!(scale.ticks()[0].1, "4");
        for nothing in [&[][..], &[3.0, 3.0]] {
            let scale = Scale::over(nothing.iter().copied(), 5, 0.0, 1.0);
            assert!(scale.place(3.0).is_finite() && scale.ticks().len() > 1);
        }
    }

    #[test]
    fn a_logarithmic_axis_has_powers_of_ten() {
        let scale = Scale::logarithmic([0.0, 2e-6, 30.0].into_iter(), 5, 0.0, 70.0);
        let texts: Vec<_> = scale.ticks().into_iter().map(|(_, t)| t).collect();
        assert_eq!(texts, ["10⁻⁴", "0.01", "1"]);
        assert!((scale.place(0.0) - scale.place(2e-6)).abs() < 1e-9);
        assert!(scale.place(1e-3) < scale.place(1e-2));
        let narrow = Scale::logarithmic([2.0, 3.0].into_iter(), 5, 0.0, 1.0);
        assert_eq!(narrow.ticks().len(), 2);
    }
}
