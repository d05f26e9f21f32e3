//! Notices a training that cannot come to anything: a loss that runs away, weights that are not
//! reached.
//!
//! The state is part of the checkpoint, so a resumed run judges as the whole one would.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::TrainError;

/// Decay of the exponential mean of the loss: about the last 20 steps.
const DECAY: f64 = 0.95;
/// Of how many steps the later ones are compared with: one batch alone may be easy.
const FIRST: u64 = 20;
/// The step by which every tensor must have had a gradient other than zero; the last one of a shorter training.
const REACHED_BY: u64 = 20;
/// By then one can have had it: `W_i` has none in step 1, nor in step 2 if the rate warms up from zero.
const REACHED_AT_BEST: u64 = 3;

/// The loss so far, smoothed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LossWatch {
    /// The mean of the first steps.
    first: Option<f64>,
    mean: f64,
    weight: f64,
}

impl LossWatch {
    /// The exponential mean of the loss, without bias towards its start.
    pub fn mean(&self) -> f64 {
        if self.weight > 0.0 { self.mean / self.weight } else { f64::NAN }
    }

    /// Takes a step's loss and gradient norm.
    ///
    /// # Errors
    /// [`TrainError::Diverged`] if either is not finite, or if after warm-up the exponential mean
    /// is above both 1.5 × and 1 nat + the mean of the first 20 steps, or of those of a shorter warm-up.
    pub fn observe(
        &mut self,
        step: u64,
        warmup_steps: u64,
        loss: f64,
        gradient_norm: f64,
    ) -> Result<(), TrainError> {
        let diverged = |reason| Err(TrainError::Diverged { step, loss, reason });
        if !loss.is_finite() {
            return diverged("the loss is not a finite number".to_owned());
        }
        if !gradient_norm.is_finite() {
            return diverged("the gradient's norm is not a finite number".to_owned());
        }
        let mut first = self.first.unwrap_or(loss);
        if step <= FIRST.min(warmup_steps) {
            first += (loss - first) / step as f64;
        }
        self.first = Some(first);
        self.mean = DECAY * self.mean + (1.0 - DECAY) * loss;
        self.weight = DECAY * self.weight + (1.0 - DECAY);
        let limit = (1.5 * first).max(first + 1.0);
        if step > warmup_steps && self.mean() > limit {
            let mean = self.mean();
            return diverged(format!(
                "the mean loss of the last steps is {mean:.3}, that of the first ones was {first:.3}"
            ));
        }
        Ok(())
    }
}

/// Tensors whose gradient has been zero so far.
///
/// `W_i` and `W_g` have a gradient of zero in step 1 because `W_o` starts at zero; so has LoRA's A.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct GradientWatch {
    waiting: BTreeSet<String>,
}

impl GradientWatch {
    /// Waits for all of them.
    pub fn new<'a>(names: impl Iterator<Item = &'a str>) -> Self {
        Self { waiting: names.map(str::to_owned).collect() }
    }

    /// Takes the gradients' norms, in the order of the names.
    ///
    /// # Errors
    /// [`TrainError::NoGradient`] at step 20, or at the last of at least 3 steps, if a tensor has had none but zero. In
    /// a gated block that is only a warning: a gate that has closed for good is a result, not a mistake.
    pub fn observe<'a>(
        &mut self,
        step: u64,
        steps: u64,
        norms: impl Iterator<Item = (&'a str, f64)>,
        gated_blocks: &[usize],
    ) -> Result<(), TrainError> {
        let reached_by = REACHED_BY.min(steps).max(REACHED_AT_BEST);
        if self.waiting.is_empty() || step > reached_by {
            return Ok(());
        }
        for (name, norm) in norms {
            if norm > 0.0 {
                self.waiting.remove(name);
            }
        }
        if step < reached_by {
            return Ok(());
        }
        for tensor in &self.waiting {
            // A gate that all blocks share is in none.
            let gated = gated_blocks.iter().any(|b| tensor.contains(&format!("layers.{b}.")))
                || !(tensor.starts_with("layers.") || gated_blocks.is_empty());
            if !gated {
                return Err(TrainError::NoGradient { tensor: tensor.clone(), step });
            }
            tracing::warn!(tensor, step, "only zero gradients so far: is the block's gate closed?");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(losses: impl IntoIterator<Item = f64>, warmup: u64) -> Option<u64> {
        let mut watch = LossWatch::default();
        (1..).zip(losses).find_map(|(step, loss)| match watch.observe(step, warmup, loss, 1.0) {
            Err(TrainError::Diverged { step, .. }) => Some(step),
            _ => None,
        })
    }

    #[test]
    fn bad_numbers_and_a_loss_that_runs_away_are_noticed_and_noise_is_not() {
        assert_eq!(run([4.0, f64::NAN], 0), Some(2));
        assert_eq!(run([4.0, 4.0, f64::INFINITY], 10), Some(3));
        assert_eq!(run([4.0, 9.0, 3.0, 8.0, 4.0, 3.0], 0), Some(2), "6.5 on average is above 6");
        assert_eq!(run([4.0, 9.0, 3.0, 4.0, 4.0, 3.0], 2), None, "a peak while warming up");
        assert_eq!(run((0..200).map(|i| 4.0 - 0.01 * f64::from(i)), 0), None);
        assert!(run((0..200).map(|i| 4.0 + 0.05 * f64::from(i)), 0).is_some());
        assert_eq!(run([0.1, 0.5, 0.5, 0.5], 0), None, "a small loss may move by a nat");
        let easy_first = || std::iter::once(1.7).chain([3.0; 200]);
        assert_eq!(run(easy_first(), 10), None, "one easy batch sets no limit");
        assert!(run(easy_first(), 0).is_some(), "without a warm-up it is the only one");
        assert!(run([4.0; 10].into_iter().chain([7.0; 200]), 10).is_some());
        let infinite = LossWatch::default().observe(1, 0, 1.0, f64::INFINITY);
        assert!(infinite.unwrap_err().to_string().contains("gradient"));
    }

    #[test]
    fn the_mean_of_a_constant_is_the_constant() {
        let mut watch = LossWatch::default();
        for step in 1..5 {
            watch.observe(step, 0, 2.5, 1.0).unwrap();
            assert!((watch.mean() - 2.5).abs() < 1e-12);
        }
    }

    #[test]
    fn a_tensor_that_stays_at_zero_is_an_error_unless_its_gate_may_be_closed() {
        let names = ["layers.0.mlp.adapter.w_i", "layers.1.mlp.adapter.w_i"];
        let run_of = |steps: u64, gated: &[usize]| {
            let mut watch = GradientWatch::new(names.into_iter());
            (1..=steps).try_for_each(|step| {
                let norms = [f64::from(u8::from(step == 3)), 0.0];
                watch.observe(step, steps, names.into_iter().zip(norms), gated)
            })
        };
        let run = |gated: &[usize]| run_of(25, gated);
        assert!(run(&[1]).is_ok());
        for (steps, told_at) in [(3, Some(3)), (7, Some(7)), (2, None), (20, Some(20))] {
            let told = match run_of(steps, &[0]) {
                Err(TrainError::NoGradient { step, .. }) => Some(step),
                _ => None,
            };
            assert_eq!(told, told_at, "of {steps} steps");
        }
        let shared = |gated: &[usize]| {
            let mut watch = GradientWatch::new(["mlp.adapter.gate.weight"].into_iter());
            (1..=25).try_for_each(|step| {
                watch.observe(step, 25, [("mlp.adapter.gate.weight", 0.0)].into_iter(), gated)
            })
        };
        assert!(shared(&[0]).is_ok() && shared(&[]).is_err());
        let Err(TrainError::NoGradient { tensor, step }) = run(&[0]) else { panic!("no error") };
        assert_eq!((tensor.as_str(), step), (names[1], 20));
    }
}
