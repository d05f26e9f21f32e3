//! The best of the settings that were tried of each method: what a sweep of rates and weights is run for.

use crate::columns::short_path;
use crate::format::{count, decimals, mean_and_deviation, over_corpora, value};
use crate::results::{Results, TrialResult};
use crate::series::{Group, groups, name, varied_paths};

/// Heads of the columns, the first [`TEXTS`] of text and the others of numbers.
pub(crate) const HEADS: [&str; 6] =
    ["method", "best setting", "of", "learning − forgetting", "learning", "forgetting"];

/// Columns of text.
pub(crate) const TEXTS: usize = 2;

/// What they mean.
pub(crate) const MEANING: &str = "Of the settings of a method that were tried in all seeds, the one with the most learning \
    − forgetting, each the mean over corpora and seeds in bits/byte. Where a value is the highest or the lowest of those tried, \
    a longer list may have a better one. Who chooses here measures elsewhere: choose on validation pages, and report what a \
    run of its own gives on test pages.";

/// What asks another question than how to train a method best.
const QUESTIONS: [&str; 3] = ["training.tokens", "training.sequence_length", "method.budget"];

/// A row a method that was tried in several settings.
pub(crate) fn rows(results: &Results) -> Vec<Vec<String>> {
    let all = groups(results);
    let mut left: Vec<&Group<'_>> = all.iter().collect();
    let mut rows = Vec::new();
    while let Some(first) = left.first().copied() {
        let (same, others): (Vec<_>, Vec<_>) =
            left.into_iter().partition(|other| asks_the_same(first, other));
        rows.extend(row(results, &same));
        left = others;
    }
    rows
}

/// The best of one method's settings; none of a single one, or if none has all its seeds.
fn row(results: &Results, settings: &[&Group<'_>]) -> Option<Vec<String>> {
    let merits = settings.iter().filter_map(|group| Some((*group, Merit::of(group)?)));
    let merits: Vec<_> = merits.collect();
    let (best, merit) = merits
        .iter()
        .max_by(|(_, one), (_, other)| one.difference().total_cmp(&other.difference()))?;
    if settings.len() < 2 {
        return None;
    }
    let paths = varied_paths(results);
    let setting = best.first().varied().into_iter().map(|(path, chosen)| {
        let tried = merits.iter().filter_map(|(group, _)| number(group.first(), path));
        let end =
            number(best.first(), path).map_or("", |chosen| end(chosen, &tried.collect::<Vec<_>>()));
        format!("{}: {}{end}", short_path(path, &paths), value(chosen))
    });
    Some(vec![
        name(best.first()),
        setting.collect::<Vec<_>>().join(", "),
        count(merits.len(), settings.len()),
        decimals(merit.difference(), 4),
        decimals(merit.learning, 4),
        decimals(merit.forgetting, 4),
    ])
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
    let question = |group: &Group<'_>| -> Vec<_> {
        let varied = group.first().varied().into_iter();
        let asks = |(path, _): &(&str, &serde_json::Value)| {
            let is_setting = path.starts_with("training.") || path.starts_with("method.");
            !is_setting || QUESTIONS.contains(path)
        };
        varied.filter(asks).map(|(path, value)| (path.to_owned(), value.clone())).collect()
    };
    let [(method, label), (other_method, other_label)] =
        [one, other].map(|group| (&group.first().method, &group.first().label));
    (method, label) == (other_method, other_label) && question(one) == question(other)
}

fn number(trial: &TrialResult, path: &str) -> Option<f64> {
    trial.varied().into_iter().find(|(varied, _)| *varied == path)?.1.as_f64()
}

/// Means over corpora and seeds.
struct Merit {
    learning: f64,
    forgetting: f64,
}

impl Merit {
    /// Of a group whose seeds have all been scored.
    fn of(group: &Group<'_>) -> Option<Self> {
        let mean = |of: fn(&TrialResult) -> Option<f64>| {
            let values: Option<Vec<f64>> =
                group.trials.iter().map(|trial| trial.finished().and_then(|_| of(trial))).collect();
            Some(mean_and_deviation(&values?).0)
        };
        Some(Self {
            learning: mean(|trial| over_corpora(trial.learning.as_ref()?))?,
            forgetting: mean(|trial| over_corpora(trial.forgetting.as_ref()?))?,
        })
    }

    fn difference(&self) -> f64 {
        self.learning - self.forgetting
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::Status;
    use crate::sample;

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
        assert_eq!(found[0][1..3], ["learning_rate: 0.001", "1 of 2"]);
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
