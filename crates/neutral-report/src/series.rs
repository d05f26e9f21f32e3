//! Trials put in order and in groups: by method, then label, then what was varied, seeds together.

use crate::format::method_name;
use crate::results::{Results, TrialResult};

/// Trials that differ in their seed alone.
pub(crate) struct Group<'a> {
    /// At least one, in the order of the plan.
    pub trials: Vec<&'a TrialResult>,
}

impl<'a> Group<'a> {
    /// Any of its trials: all that they do not share is the seed and the outcome.
    pub(crate) fn first(&self) -> &'a TrialResult {
        self.trials[0]
    }

    /// Those that were scored.
    pub(crate) fn finished(&self) -> impl Iterator<Item = &'a TrialResult> {
        self.trials.iter().copied().filter(|t| t.finished().is_some())
    }
}

/// The place of a method in tables and legends: as the paper lists them, others after.
pub(crate) fn method_rank(method: &str) -> usize {
    const ORDER: [&str; 4] = ["finetune", "lora", "adapter", "neutral_residues"];
    ORDER.iter().position(|m| *m == method).unwrap_or(ORDER.len())
}

/// What a trial is called: its label, with the method's name unless the label says it.
pub(crate) fn name(trial: &TrialResult) -> String {
    let method = method_name(&trial.method);
    let said = |name: &str| trial.label.to_lowercase().contains(&name.to_lowercase());
    if trial.label == trial.method {
        method
    } else if said(&method) || said(&trial.method) {
        trial.label.clone()
    } else {
        format!("{method}: {}", trial.label)
    }
}

/// All trials, sorted by method then label, otherwise in the order of the plan.
pub(crate) fn groups(results: &Results) -> Vec<Group<'_>> {
    let mut trials: Vec<_> = results.trials.iter().collect();
    // A method's plain trials, whose label is its own name, come before its variants.
    trials.sort_by_key(|t| (method_rank(&t.method), &t.method, t.label != t.method, &t.label));
    let mut groups: Vec<Group<'_>> = Vec::new();
    for trial in trials {
        let same = |g: &&mut Group<'_>| {
            let other = g.first();
            (&other.method, &other.label, other.varied())
                == (&trial.method, &trial.label, trial.varied())
        };
        match groups.iter_mut().find(same) {
            Some(group) => group.trials.push(trial),
            None => groups.push(Group { trials: vec![trial] }),
        }
    }
    groups
}

/// The paths that the sweep varied in any trial, in the order of their first appearance.
pub(crate) fn varied_paths(results: &Results) -> Vec<&str> {
    let mut paths = Vec::new();
    for (path, _) in results.trials.iter().flat_map(TrialResult::varied) {
        if !paths.contains(&path) {
            paths.push(path);
        }
    }
    paths
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    #[test]
    fn methods_come_in_the_papers_order_and_seeds_together() {
        let mut results = sample::seeds();
        results.trials.reverse();
        let groups = groups(&results);
        let methods: Vec<_> = groups.iter().map(|g| g.first().method.as_str()).collect();
        assert_eq!(methods, ["finetune", "lora", "adapter", "neutral_residues"]);
        assert!(groups.iter().all(|g| g.trials.len() == 3));
    }

    #[test]
    fn a_name_says_the_method_once() {
        let mut trial = sample::quick().trials[3].clone();
        assert_eq!(name(&trial), "neutral residues");
        trial.label = "Neutral residues, no gate".to_owned();
        assert_eq!(name(&trial), "Neutral residues, no gate");
        trial.label = "p = 0".to_owned();
        assert_eq!(name(&trial), "neutral residues: p = 0");
    }

    #[test]
    fn varied_values_keep_trials_apart() {
        let results = sample::sweep();
        assert_eq!(groups(&results).len(), results.trials.len());
        assert_eq!(varied_paths(&results), ["training.learning_rate"]);
    }
}
