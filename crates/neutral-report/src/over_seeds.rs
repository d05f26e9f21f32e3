//! The table of means over seeds, with their intervals, and of paired differences.

use std::collections::BTreeMap;

use crate::format::{count, decimals, of_fewer, value};
use crate::interval::Interval;
use crate::panel::Of;
use crate::results::{ByCorpus, Results, TrialResult};
use crate::series::{Group, groups, name};

/// The heads of the columns that are always there, the first [`TEXTS`] of text and the others of numbers.
const HEADS: [&str; 5] = ["method", "measure", "seeds", "mean", "95 % interval"];

/// Columns of text.
pub(crate) const TEXTS: usize = 2;

/// What the others are compared with: the paper's closest competitor, and what each ablation takes something from.
/// The label, how, and the head of the column.
const REFERENCES: [(&str, Compare, &str); 3] = [
    ("adapter", ratio, "× vanilla adapter, 95 % interval"),
    ("adapter", difference, "minus vanilla adapter, 95 % interval"),
    ("neutral_residues", difference, "minus neutral residues, 95 % interval"),
];

/// The head of the column of what the step of a sequence did, where there is one.
const STEP: &str = "minus what it goes on from, 95 % interval";

/// What they mean.
pub(crate) const MEANING: &str = "Bits/byte. Intervals are Student's, of the mean over seeds. Differences \
    and ratios (×) are paired: a trial's number minus, or over, that method's of the same seed and, where that method \
    is swept, of the same swept values; where the interval leaves out 0, or 1, the methods differ. A dash where there is \
    nothing to compare: that method itself, no two seeds in common, a step of a sequence beside one that extends the \
    base, learning of text that only one of them was trained on, and for × a number that is not above 0 in each seed.";

/// A group's values by seed held against a reference's, as text.
type Compare = fn(&BTreeMap<u64, f64>, &BTreeMap<u64, f64>) -> Option<String>;

/// What is averaged.
type Measure = fn(&TrialResult) -> Option<&ByCorpus<f64>>;

const MEASURES: [(&str, Measure); 3] = [
    ("forgetting", |trial| trial.forgetting.as_ref()),
    ("from control", |trial| trial.forgetting_from_control.as_ref()),
    ("learning", |trial| trial.learning.as_ref()),
];

/// The heads, and a row a method and measure; no rows where no method has several seeds.
pub(crate) fn table(results: &Results) -> (Vec<&'static str>, Vec<Vec<String>>) {
    let groups = groups(results);
    let references: Vec<(&str, Compare, Vec<&Group<'_>>)> = REFERENCES
        .into_iter()
        .map(|(label, compare, head)| {
            (head, compare, groups.iter().filter(|group| group.first().label == label).collect())
        })
        .filter(|(_, _, named): &(_, _, Vec<_>)| !named.is_empty())
        .collect();
    let has_steps = results.trials.iter().any(|trial| trial.after().is_some());
    let mut rows = Vec::new();
    for group in &groups {
        for (title, measure) in MEASURES {
            for of in measured(results, title, measure) {
                let own = by_seed(group.finished(), measure, of);
                let values: Vec<f64> = own.values().copied().collect();
                let Some(interval) = Interval::of(&values) else { continue };
                let mut row = vec![
                    group_name(group),
                    format!("{title}, {}", of.name()),
                    count(values.len(), group.trials.len()),
                    decimals(interval.mean, 4),
                    interval.ends(4),
                ];
                let compared = references.iter().map(|(_, compare, named)| {
                    let other = reference(named, group)?;
                    let alike = title != "learning" || have_read_alike(group, other, of);
                    compare(&own, &by_seed(other.finished(), measure, of)).filter(|_| alike)
                });
                let step = has_steps.then(|| {
                    let before = group.finished().filter_map(|trial| results.before(trial));
                    difference(&own, &by_seed(before, measure, of))
                });
                let cells = compared.chain(step);
                row.extend(cells.map(|cell| cell.unwrap_or_else(|| "–".to_owned())));
                rows.push(row);
            }
        }
    }
    let heads = HEADS.into_iter().chain(references.iter().map(|(head, ..)| *head));
    (heads.chain(has_steps.then_some(STEP)).collect(), rows)
}

/// Of the groups of a reference's label the one that a group is compared with: the only one, or that of the same
/// swept values; none where only one of the two extends the base itself.
fn reference<'a>(named: &[&'a Group<'a>], group: &Group<'_>) -> Option<&'a Group<'a>> {
    let varied = group.first().varied();
    let found = match named {
        [only] => only,
        _ => named.iter().find(|other| other.first().varied() == varied)?,
    };
    let [own, other] = [group, found].map(Group::first);
    let alike = own.after().is_some() == other.after().is_some();
    (own.label != other.label && alike).then_some(found)
}

/// The corpora that any trial has the measure of, and their mean.
fn measured<'a>(results: &'a Results, title: &str, measure: Measure) -> Vec<Of<'a>> {
    let Some(found) = results.trials.iter().find_map(measure) else { return Vec::new() };
    let several = if title == "learning" && results.is_of_many_domains() {
        Of::Own
    } else {
        Of::Mean(found.len())
    };
    let mean = (found.len() > 1).then_some(several);
    found.keys().map(|corpus| Of::Corpus(corpus)).chain(mean).collect()
}

/// Whether two groups were both trained on what an axis of learning is about, or neither was.
fn have_read_alike(group: &Group<'_>, other: &Group<'_>, of: Of) -> bool {
    let [own, other] = [group, other].map(|group| group.first().read());
    match of {
        Of::Corpus(corpus) => own.contains(corpus) == other.contains(corpus),
        Of::Mean(_) | Of::Own => own == other,
    }
}

fn by_seed<'t>(
    trials: impl Iterator<Item = &'t TrialResult>,
    measure: Measure,
    of: Of,
) -> BTreeMap<u64, f64> {
    let pair = |trial: &TrialResult| Some((trial.seed, of.value(trial, measure(trial)?)?));
    trials.filter_map(pair).collect()
}

/// The mean difference over the seeds that both have.
pub(crate) fn difference(own: &BTreeMap<u64, f64>, other: &BTreeMap<u64, f64>) -> Option<String> {
    let paired = own.iter().filter_map(|(seed, value)| Some(value - other.get(seed)?));
    let paired: Vec<_> = paired.collect();
    Some(Interval::of(&paired)?.with_ends(4) + &of_fewer(paired.len(), own.len()))
}

/// The mean ratio over the seeds that both have; none where the other is not above 0 in each.
fn ratio(own: &BTreeMap<u64, f64>, other: &BTreeMap<u64, f64>) -> Option<String> {
    let paired = own.iter().filter_map(|(seed, value)| Some((value, other.get(seed)?)));
    let ratio = |(value, other): (&f64, &f64)| (*other > 0.0).then(|| value / other);
    let ratios = paired.map(ratio).collect::<Option<Vec<f64>>>()?;
    Some(Interval::of(&ratios)?.with_ends(3) + &of_fewer(ratios.len(), own.len()))
}

/// The method, with what the sweep set.
pub(crate) fn group_name(group: &Group<'_>) -> String {
    let trial = group.first();
    let varied = trial
        .varied()
        .into_iter()
        .map(|(path, set)| format!(", {} {}", path.rsplit('.').next().unwrap_or(path), value(set)));
    name(trial) + &varied.collect::<String>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    #[test]
    fn methods_with_several_seeds_have_a_row_a_measure() {
        let results = sample::seeds();
        let (heads, rows) = table(&results);
        assert_eq!(rows.len(), 4 * (3 + 1), "methods, corpora and the mean of forgetting");
        assert!(rows.iter().all(|row| row.len() == heads.len() && row[2] == "3"));
        let of = |method: &str| rows.iter().find(|row| row[0] == method).unwrap();
        let own = [("vanilla adapter", 5), ("vanilla adapter", 6), ("neutral residues", 7)];
        assert!(own.iter().all(|(method, column)| of(method)[*column] == "–"));
        // One is the other's with the sign changed.
        let mean = |cell: &str| cell.split(' ').next().unwrap().parse::<f64>().unwrap();
        assert_eq!(mean(&of("vanilla adapter")[7]), -mean(&of("neutral residues")[6]));
        // Seeds shift every method alike, so a paired difference is surer than the means.
        let width = |text: &str| {
            let (low, high) = text.split_once(" to ").unwrap();
            high.parse::<f64>().unwrap() - low.parse::<f64>().unwrap()
        };
        let lora = of("LoRA");
        let (_, paired) = lora[6].trim_end_matches(')').split_once(" (").unwrap();
        assert!(width(paired) < width(&lora[4]), "{lora:?}");
    }

    #[test]
    fn numbers_of_fewer_seeds_say_so() {
        let mut results = sample::seeds();
        let diverged = |trial: &&mut TrialResult| trial.label == "adapter" && trial.seed == 1;
        let trial = results.trials.iter_mut().find(diverged).expect("a seed of the reference");
        trial.status = crate::Status::Diverged;
        let (_, rows) = table(&results);
        let of = |method: &str| rows.iter().find(|row| row[0] == method).unwrap();
        assert_eq!((&*of("vanilla adapter")[2], &*of("LoRA")[2]), ("2 of 3", "3"));
        assert!(of("LoRA")[5].ends_with(" (of 2)") && of("LoRA")[6].ends_with(" (of 2)"));
        assert!(!of("LoRA")[7].contains("(of"), "neutral residues have all");
    }

    #[test]
    fn a_swept_reference_is_compared_at_the_same_values() {
        let mut results = sample::seeds();
        let mut wider = results.trials.clone();
        let budget = |trial: &mut TrialResult, share: &str| {
            trial.spec["varied"] = serde_json::json!([["method.budget", share]]);
        };
        for trial in &mut wider {
            budget(trial, "50%");
            trial.forgetting.as_mut().unwrap()[0] *= 3.0;
        }
        results.trials.iter_mut().for_each(|trial| budget(trial, "20%"));
        let of = |results: &Results, method: &str, column: usize| {
            let (_, rows) = table(results);
            let row =
                rows.iter().find(|row| row[0] == method).unwrap_or_else(|| panic!("{method}"));
            let cell = row[column].split(' ').next().unwrap();
            cell.parse::<f64>().unwrap_or_else(|_| panic!("{method}: {cell}"))
        };
        let once = [5, 6].map(|column| of(&results, "LoRA, budget 20%", column));
        results.trials.extend(wider);
        let [ratio, difference] = once;
        assert_eq!([5, 6].map(|column| of(&results, "LoRA, budget 20%", column)), once);
        assert!((of(&results, "LoRA, budget 50%", 6) - 3.0 * difference).abs() < 2e-4);
        // Both forget three times as much there.
        assert_eq!(of(&results, "LoRA, budget 50%", 5), ratio);
        let (_, rows) = table(&results);
        let mut own = rows.iter().filter(|row| row[0].starts_with("vanilla adapter"));
        assert!(own.all(|row| row[5] == "–"));
    }

    #[test]
    fn a_step_of_a_sequence_is_held_against_what_it_goes_on_from() {
        let mut results = sample::seeds();
        let before = |seed: u64, all: &[TrialResult]| {
            all.iter().find(|t| t.label == "adapter" && t.seed == seed).unwrap().id.clone()
        };
        let all = results.trials.clone();
        for trial in results.trials.iter_mut().filter(|trial| trial.label == "lora") {
            trial.spec["after"] = serde_json::json!({ "trial": before(trial.seed, &all) });
        }
        let once = table(&sample::seeds()).1;
        let (heads, rows) = table(&results);
        assert_eq!((heads.len(), heads[8]), (9, STEP));
        for (row, once) in rows.iter().zip(&once) {
            // What was minus the adapter's is now what the step did; other rows are as they were.
            if row[0] == "LoRA" {
                assert_eq!(row[5..], ["–", "–", "–", &*once[6]]);
            } else {
                assert_eq!((&row[..8], &*row[8]), (&once[..], "–"));
            }
        }
    }

    #[test]
    fn learning_is_compared_of_text_that_both_or_neither_were_trained_on() {
        let mut results = sample::seeds();
        let corpus = results.trials[0].learning.as_ref().unwrap().keys().next().unwrap().clone();
        let dashes = |results: &Results| {
            let (_, rows) = table(results);
            let row = |start: &str| {
                let of = |row: &&Vec<String>| row[0] == "LoRA" && row[1].starts_with(start);
                rows.iter().find(of).unwrap()[5..7].iter().all(|cell| cell == "–")
            };
            [row("forgetting"), row("learning")]
        };
        assert_eq!(dashes(&results), [false, false]);
        for trial in results.trials.iter_mut().filter(|trial| trial.label == "adapter") {
            trial.spec["data"] = serde_json::json!({ "new": [corpus] });
        }
        assert_eq!(dashes(&results), [false, true]);
        // A control names new text, and reads none.
        for trial in &mut results.trials {
            let original = if trial.label == "lora" { 1.0 } else { 0.1 };
            trial.spec["data"] =
                serde_json::json!({ "new": [corpus], "original_fraction": original });
        }
        assert_eq!(dashes(&results), [false, true]);
        // What one has learnt of its language is not held against what another has of its own.
        let german = "libreoffice-help/de".to_owned();
        results.base.metrics.new.insert(german.clone(), results.base.metrics.new[0]);
        for trial in &mut results.trials {
            trial.learning.as_mut().unwrap().insert(german.clone(), 1.0);
            let own = if trial.label == "lora" { &german } else { &corpus };
            trial.spec["data"] = serde_json::json!({ "new": [own] });
        }
        let (_, rows) = table(&results);
        let own = |row: &&Vec<String>| row[0] == "LoRA" && row[1].contains("each was trained on");
        assert!(rows.iter().find(own).unwrap()[5..7].iter().all(|cell| cell == "–"));
    }

    #[test]
    fn a_ratio_is_the_mean_of_the_seeds_and_needs_something_forgotten() {
        let values = |pairs: &[(u64, f64)]| pairs.iter().copied().collect::<BTreeMap<u64, f64>>();
        // 0.25 and 0.75; the third seed has no partner. 12.7062 · 0.35355 / √2 = 3.177.
        let own = values(&[(0, 1.0), (1, 1.5), (2, 9.0)]);
        let found = ratio(&own, &values(&[(0, 4.0), (1, 2.0)])).unwrap();
        assert_eq!(found, "0.500 (-2.677 to 3.677) (of 2)");
        assert_eq!(ratio(&own, &values(&[(0, 4.0), (1, 0.0)])), None);
    }

    #[test]
    fn one_seed_is_no_sample() {
        assert!(table(&sample::quick()).1.is_empty());
        assert!(table(&sample::sweep()).1.is_empty());
    }
}
