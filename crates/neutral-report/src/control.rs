//! Forgetting measured from a control, besides from the pristine base.
//!
//! A base that was loaded may get better at the original domain from any training on such text, and a
//! method may then forget while its bits/byte fall. The control, often the base trained on original
//! text alone, has had the same chance to adapt: what a method lacks to it is forgetting.

use std::collections::BTreeMap;

use crate::results::{Results, forgetting};
use crate::series::name;

impl Results {
    /// Sets every trial's `forgetting_from_control`: to be called once trials are added, in any
    /// order. Absent without a control, for the control itself, and where it or the trial did not
    /// finish.
    pub fn measure_from_control(&mut self) {
        let Some(label) = self.control.as_deref() else { return };
        let controls = self.trials.iter().filter(|t| t.label == label);
        let controls: BTreeMap<_, _> =
            controls.filter_map(|t| Some((t.seed, t.finished()?.original.clone()))).collect();
        for trial in &mut self.trials {
            let control = controls.get(&trial.seed).filter(|_| trial.label != label);
            trial.forgetting_from_control =
                control.and_then(|control| Some(forgetting(control, &trial.finished()?.original)));
        }
    }

    /// What tables call the control, if there is one.
    pub(crate) fn control_name(&self) -> Option<String> {
        let label = self.control.as_ref()?;
        let trial = self.trials.iter().find(|t| t.label == *label);
        Some(trial.map_or_else(|| label.clone(), name))
    }
}

#[cfg(test)]
mod tests {
    use crate::results::{Results, Status};
    use crate::sample;

    fn measured(results: &Results) -> Vec<bool> {
        results.trials.iter().map(|t| t.forgetting_from_control.is_some()).collect()
    }

    #[test]
    fn a_trial_is_held_against_the_control_of_its_seed_whatever_their_order() {
        let mut results = sample::control();
        let [trials @ .., control] = results.trials.as_slice() else { panic!("five trials") };
        for trial in trials {
            for (corpus, value) in trial.forgetting_from_control.as_ref().unwrap() {
                let bits = |of: &crate::TrialResult| of.finished().unwrap().original[corpus];
                let expected = bits(trial).bits_per_byte - bits(control).bits_per_byte;
                assert!((value - expected).abs() < 1e-12, "{}: {corpus}", trial.id);
            }
        }
        assert_eq!(measured(&results), [true, true, true, true, false]);
        let mut reversed = results.clone();
        reversed.trials.reverse();
        reversed.measure_from_control();
        reversed.trials.reverse();
        assert_eq!(reversed, results);

        results.trials[4].seed = 1;
        results.measure_from_control();
        assert_eq!(measured(&results), [false; 5]);
    }

    #[test]
    fn what_did_not_finish_is_not_measured_and_measures_nothing() {
        let mut results = sample::control();
        results.trials[1].status = Status::Diverged;
        results.measure_from_control();
        assert_eq!(measured(&results), [true, false, true, true, false]);
        results.trials[4].status = Status::Interrupted;
        results.measure_from_control();
        assert_eq!(measured(&results), [false; 5]);
    }

    #[test]
    fn without_a_control_the_file_has_no_trace_of_one() {
        let mut results = sample::quick();
        results.measure_from_control();
        assert_eq!(results, sample::quick());
        assert!(!sample::QUICK.contains("control"));
        let text = serde_json::to_string(&sample::control()).unwrap();
        assert_eq!(serde_json::from_str::<Results>(&text).unwrap(), sample::control());
    }
}
