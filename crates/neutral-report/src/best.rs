//! The best of the settings that were tried of each method: what a sweep of rates and weights is run for.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::columns::short_path;
use crate::format::{count, decimals, mean_and_deviation, over_corpora, value};
use crate::over_seeds::difference;
use crate::results::{Results, TrialResult};
use crate::series::{Group, groups, name, varied_paths};

/// Heads of the columns that are always there, the first [`TEXTS`] of text and the others of numbers.
const HEADS: [&str; 6] =
    ["method", "best setting", "of", "learning − forgetting", "learning", "forgetting"];

/// Columns of text.
pub(crate) const TEXTS: usize = 2;

/// Labels whose best the others' is held against, and the heads of their columns.
const REFERENCES: [(&str, &str); 2] = [
    ("adapter", "minus vanilla adapter's, 95 % interval"),
    ("neutral_residues", "minus neutral residues', 95 % interval"),
];

/// What they mean.
pub(crate) const MEANING: &str = "Of the settings of a method that were tried in all seeds, the one with the most learning \
    − forgetting, each the mean over corpora and seeds in bits/byte. Where a value is the highest or the lowest of those tried, \
    a longer list may have a better one. Differences are of learning − forgetting, paired by seed, with Student's intervals. Who \
    chooses here measures elsewhere: choose on validation pages, and report what a run of its own gives on test pages.";

/// What asks another question than how to train a method best.
const QUESTIONS: [&str; 3] = ["training.tokens", "training.sequence_length", "method.budget"];

/// The heads, and a row a method that was tried in several settings.
pub(crate) fn table(results: &Results) -> (Vec<&'static str>, Vec<Vec<String>>) {
    let all = groups(results);
    let mut left: Vec<&Group<'_>> = all.iter().collect();
    let mut chosen = Vec::new();
    while let Some(first) = left.first().copied() {
        let (same, others): (Vec<_>, Vec<_>) =
            left.into_iter().partition(|other| asks_the_same(first, other));
        chosen.extend(Choice::among(&same));
        left = others;
    }
    let is_of = |label: &str| {
        let mut of_label = chosen.iter().filter(|c: &&Choice| c.best.group.first().label == label);
        of_label.any(|choice| choice.best.by_seed.len() > 1)
    };
    let references: Vec<_> = REFERENCES.into_iter().filter(|(label, _)| is_of(label)).collect();
    let heads = HEADS.into_iter().chain(references.iter().map(|(_, head)| *head)).collect();
    let paths = varied_paths(results);
    let row = |choice: &Choice| {
        let against = references.iter().map(|(label, _)| {
            let mut others = chosen.iter().filter(|other| other.is_comparable(choice));
            let other = others.find(|other| other.best.group.first().label == *label)?;
            let itself = std::ptr::eq(choice, other);
            difference(&choice.best.by_seed, &other.best.by_seed).filter(|_| !itself)
        });
        let against: Vec<_> = against.map(|c| c.unwrap_or_else(|| "–".to_owned())).collect();
        [choice.cells(&paths), against].concat()
    };
    (heads, chosen.iter().map(row).collect())
}

/// The best of one method's settings.
struct Choice<'a> {
    best: Setting<'a>,
    /// How many have all their seeds.
    scored: usize,
    /// A trial of each that was tried.
    tried: Vec<&'a TrialResult>,
}

impl<'a> Choice<'a> {
    /// None of a single setting, or if none has all its seeds.
    fn among(settings: &[&'a Group<'a>]) -> Option<Self> {
        let scored: Vec<_> = settings.iter().filter_map(|group| Setting::of(group)).collect();
        let (count, tried) = (scored.len(), settings.iter().map(|group| group.first()).collect());
        let best = scored.into_iter().max_by(|a, b| a.merit().total_cmp(&b.merit()))?;
        let choice = Self { best, scored: count, tried };
        (settings.len() > 1).then_some(choice)
    }

    /// Whether both were asked the same, have read the same and extend the base, or both something else.
    fn is_comparable(&self, other: &Self) -> bool {
        let [own, other] = [self, other].map(|choice| choice.best.group);
        let [trial, of_other] = [own, other].map(Group::first);
        question(own) == question(other)
            && trial.read() == of_other.read()
            && trial.after().is_some() == of_other.after().is_some()
    }

    fn cells(&self, paths: &[&str]) -> Vec<String> {
        let Self { best, scored, tried } = self;
        let trial = best.group.first();
        let setting = trial.varied().into_iter().map(|(path, chosen)| {
            let tried: Vec<f64> = tried.iter().filter_map(|trial| number(trial, path)).collect();
            let end = number(trial, path).map_or("", |chosen| end(chosen, &tried));
            format!("{}: {}{end}", short_path(path, paths), value(chosen))
        });
        vec![
            name(trial),
            setting.collect::<Vec<_>>().join(", "),
            count(*scored, tried.len()),
            decimals(best.merit(), 4),
            decimals(best.learning, 4),
            decimals(best.forgetting, 4),
        ]
    }
}

/// A setting whose seeds have all been scored; means over corpora.
struct Setting<'a> {
    group: &'a Group<'a>,
    learning: f64,
    forgetting: f64,
    /// Learning − forgetting.
    by_seed: BTreeMap<u64, f64>,
}

impl<'a> Setting<'a> {
    fn of(group: &'a Group<'a>) -> Option<Self> {
        let of_trial = |trial: &&TrialResult| {
            trial.finished()?;
            let learning = over_corpora(trial.learning.as_ref()?)?;
            Some((trial.seed, learning, over_corpora(trial.forgetting.as_ref()?)?))
        };
        let seeds: Vec<_> = group.trials.iter().map(of_trial).collect::<Option<_>>()?;
        let mean = |of: fn(&(u64, f64, f64)) -> f64| {
            mean_and_deviation(&seeds.iter().map(of).collect::<Vec<_>>()).0
        };
        let (learning, forgetting) = (mean(|seed| seed.1), mean(|seed| seed.2));
        let by_seed = seeds.iter().map(|(seed, learnt, lost)| (*seed, learnt - lost)).collect();
        Some(Self { group, learning, forgetting, by_seed })
    }

    fn merit(&self) -> f64 {
        self.learning - self.forgetting
    }
}

/// What is said of a value with none beyond it.
fn end(chosen: f64, tried: &[f64]) -> &'static str {
    match (tried.iter().any(|other| *other < chosen), tried.iter().any(|other| *other > chosen)) {
        (true, false) => " (highest)",
        (false, true) => " (lowest)",
        _ => "",
    }
}

/// Whether two groups are one method that is asked one question, and differ in how they are trained alone.
fn asks_the_same(one: &Group<'_>, other: &Group<'_>) -> bool {
    let of = |group: &Group<'_>| (group.first().method.clone(), group.first().label.clone());
    of(one) == of(other) && question(one) == question(other)
}

/// What was varied that is no setting of a method.
fn question(group: &Group<'_>) -> Vec<(String, Value)> {
    let asks = |(path, _): &(&str, &Value)| {
        let is_setting = path.starts_with("training.") || path.starts_with("method.");
        !is_setting || QUESTIONS.contains(path)
    };
    let varied = group.first().varied().into_iter().filter(asks);
    varied.map(|(path, value)| (path.to_owned(), value.clone())).collect()
}

fn number(trial: &TrialResult, path: &str) -> Option<f64> {
    trial.varied().into_iter().find(|(varied, _)| *varied == path)?.1.as_f64()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::Status;
    use crate::sample;

    fn rows(results: &Results) -> Vec<Vec<String>> {
        table(results).1
    }

    /// A sweep of the sample's adapter with learning and forgetting of our own: `rates[i]` gives `merits[i]`.
    fn adapters(rates: &[f64], merits: &[f64]) -> Results {
        let mut results = sample::quick();
        let one = results.trials.iter().find(|trial| trial.method == "adapter").unwrap().clone();
        let made = rates.iter().zip(merits).map(|(rate, merit)| {
            let mut trial = one.clone();
            trial.spec["varied"] = serde_json::json!([["training.learning_rate", rate]]);
            trial
                .learning
                .iter_mut()
                .flat_map(|all| all.values_mut())
                .for_each(|l| *l = merit + 1.0);
            trial.forgetting.iter_mut().flat_map(|all| all.values_mut()).for_each(|f| *f = 1.0);
            trial
        });
        results.trials = made.collect();
        results
    }

    #[test]
    fn the_most_learning_over_forgetting_wins_and_an_end_is_named() {
        let found = rows(&adapters(&[1e-3, 2e-3, 4e-3], &[0.1, 0.3, 0.2]));
        let [row] = &*found else { panic!("{found:?}") };
        assert_eq!(row[1..], ["learning_rate: 0.002", "3", "0.3000", "1.3000", "1.0000"]);
        let at_the_end = rows(&adapters(&[1e-3, 2e-3, 4e-3], &[0.1, 0.2, 0.3]));
        assert_eq!(at_the_end[0][1], "learning_rate: 0.004 (highest)");
        assert!(rows(&adapters(&[1e-3], &[0.1])).is_empty(), "nothing was chosen from");
    }

    #[test]
    fn a_setting_with_a_seed_that_failed_is_not_chosen() {
        let mut results = adapters(&[1e-3, 2e-3, 2e-3], &[0.1, 0.3, 0.3]);
        results.trials[2].seed = 1;
        results.trials[2].status = Status::Diverged;
        let found = rows(&results);
        assert_eq!(found[0][1..3], ["learning_rate: 0.001 (lowest)", "1 of 2"]);
    }

    #[test]
    fn over_seeds_the_best_are_held_against_each_other() {
        let mut results = adapters(&[1e-3, 2e-3, 1e-3, 2e-3], &[0.1, 0.3, 0.2, 0.5]);
        let (heads, alone) = table(&results);
        assert_eq!((heads.len(), alone[0].len()), (6, 6), "one seed is no sample");
        for (trial, seed) in results.trials.iter_mut().zip([0, 0, 1, 1]) {
            trial.seed = seed;
        }
        let mut ours = results.trials.clone();
        for trial in &mut ours {
            trial.method = "neutral_residues".to_owned();
            trial.label.clone_from(&trial.method);
            trial.forgetting.iter_mut().flat_map(|all| all.values_mut()).for_each(|f| *f -= 0.25);
        }
        results.trials.extend(ours);
        let (heads, rows) = table(&results);
        assert_eq!(heads[6..], REFERENCES.map(|(_, head)| head));
        assert_eq!(rows[0][3], "0.4000");
        assert_eq!(rows[0][6], "–");
        assert_eq!(rows[0][7], "-0.2500 (-0.2500 to -0.2500)");
        assert_eq!(rows[1][6], "0.2500 (0.2500 to 0.2500)");
    }

    #[test]
    fn other_questions_are_not_settings() {
        let mut results = adapters(&[1e-3, 2e-3], &[0.1, 0.3]);
        for (trial, tokens) in results.trials.iter_mut().zip([1, 2]) {
            trial.spec["varied"] = serde_json::json!([["training.tokens", tokens]]);
        }
        assert!(rows(&results).is_empty());
    }
}
