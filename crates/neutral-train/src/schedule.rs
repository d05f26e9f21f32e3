//! The course of the learning rate, a pure function of the step.
//!
//! The paper names no schedule; cosine and warm-up-stable-decay are the field's two usual ones.
//! Both reach the peak exactly at the end of warm-up and the final rate exactly at the last step, if their fractions
//! leave a step for the way down.

use std::f64::consts::PI;

use neutral_spec::Schedule;

/// Steps that warm up: `round(warmup_fraction · steps)`.
pub fn warmup_steps(schedule: &Schedule, steps: u64) -> u64 {
    let (Schedule::Cosine { warmup_fraction, .. }
    | Schedule::WarmupStableDecay { warmup_fraction, .. }) = *schedule;
    (warmup_fraction * steps as f64).round() as u64
}

/// The learning rate of step `step` of `steps`, counted from 0.
///
/// Warm-up over `w` steps: `peak · (step + 1) / w`. Then, with `s` the share of the way from the
/// last warm-up step (or step 0) to the last step: `peak · (f + (1 − f)(1 + cos πs) / 2)` for
/// cosine; for warm-up-stable-decay the peak, then a straight line down to `peak · f` over the last
/// `round(decay_fraction · steps)` steps.
pub fn learning_rate(schedule: &Schedule, peak: f64, steps: u64, step: u64) -> f64 {
    let warmup = warmup_steps(schedule, steps);
    if step < warmup {
        return peak * (step + 1) as f64 / warmup as f64;
    }
    let peak_step = warmup.saturating_sub(1);
    let last_step = steps.saturating_sub(1);
    match *schedule {
        Schedule::Cosine { final_fraction, .. } => {
            let cosine = (PI * share(peak_step, last_step, step)).cos();
            peak * (final_fraction + (1.0 - final_fraction) * 0.5 * (1.0 + cosine))
        }
        Schedule::WarmupStableDecay { decay_fraction, final_fraction, .. } => {
            let decay = (decay_fraction * steps as f64).round() as u64;
            let decay_from = last_step.saturating_sub(decay).max(peak_step);
            peak * (1.0 - (1.0 - final_fraction) * share(decay_from, last_step, step))
        }
    }
}

/// How far `step` is on the way from `from` to `to`, within 0 and 1; 0 where there is no way.
fn share(from: u64, to: u64, step: u64) -> f64 {
    if to <= from {
        return 0.0;
    }
    (step.saturating_sub(from) as f64 / (to - from) as f64).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(schedule: &Schedule, steps: u64) -> Vec<f64> {
        (0..steps).map(|step| learning_rate(schedule, 2.0, steps, step)).collect()
    }

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-12
    }

    #[test]
    fn cosine_warms_up_to_the_peak_and_ends_at_the_final_rate() {
        let rates = all(&Schedule::Cosine { warmup_fraction: 0.1, final_fraction: 0.1 }, 101);
        assert!(close(rates[0], 0.2) && close(rates[9], 2.0), "{rates:?}");
        assert!(close(rates[100], 0.2));
        assert!(close(rates[55] - 0.2, 2.0 - rates[54]), "a half cosine is odd about its middle");
        assert!(rates[9..].windows(2).all(|w| w[0] > w[1]));
    }

    #[test]
    fn stable_stays_at_the_peak_and_decays_in_a_straight_line() {
        let schedule = Schedule::WarmupStableDecay {
            warmup_fraction: 0.1,
            decay_fraction: 0.2,
            final_fraction: 0.0,
        };
        let rates = all(&schedule, 100);
        assert!(close(rates[4], 1.0));
        assert!(rates[9..=79].iter().all(|&r| close(r, 2.0)));
        assert!(close(rates[89], 1.0) && close(rates[99], 0.0));
    }

    #[test]
    fn without_warm_up_the_first_step_has_the_peak() {
        for steps in [1, 2, 7] {
            let rates = all(&Schedule::Cosine { warmup_fraction: 0.0, final_fraction: 0.5 }, steps);
            assert!(close(rates[0], 2.0));
            assert!(steps == 1 || close(*rates.last().unwrap(), 1.0));
        }
    }
}
