//! An axis: a range of numbers, ticks in steps of 1, 2 or 5, a place on the picture.

/// A linear axis with ticks.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Scale {
    low: f64,
    high: f64,
    step: f64,
    /// Where the low end stands.
    from: f64,
    /// Where the high end stands.
    to: f64,
}

impl Scale {
    /// An axis that shows zero and all values with some room around them, in at most `ticks` steps.
    pub(crate) fn around(
        values: impl Iterator<Item = f64>,
        ticks: usize,
        from: f64,
        to: f64,
    ) -> Self {
        let (low, high) = values.fold((0f64, 0f64), |(l, h), v| (l.min(v), h.max(v)));
        let extent = if high > low { high - low } else { 1.0 };
        // Markers must not touch the frame.
        let room = 0.06 * extent;
        let (low, high) = (low - room, if high > low { high + room } else { 1.0 });
        Self { low, high, step: nice_step((high - low) / ticks as f64), from, to }
    }

    /// Where a value stands on the picture.
    pub(crate) fn place(&self, value: f64) -> f64 {
        self.from + (value - self.low) / (self.high - self.low) * (self.to - self.from)
    }

    /// The ticks within the range, with their texts.
    pub(crate) fn ticks(&self) -> Vec<(f64, String)> {
        let decimals = (-self.step.log10().floor()).max(0.0) as usize;
        let (first, last) = ((self.low / self.step).ceil(), (self.high / self.step).floor());
        (first as i64..=last as i64)
            .map(|i| {
                let value = i as f64 * self.step;
                (value, format!("{value:.decimals$}").replace('-', "−"))
            })
            .collect()
    }
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
}
