//! What the paper found beside what is found here.
//!
//! The paper's bases, languages and units are others, so numbers are not compared but ratios: what each method
//! forgets and learns, as a multiple of what the vanilla adapter does.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::format::{decimals, of_fewer, over_corpora};
use crate::interval::Interval;
use crate::results::{ByCorpus, Results, TrialResult};
use crate::series::{groups, name};

/// Figures of the paper, as the experiment file has them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PaperFigures {
    /// Where they stand, and in what unit.
    pub what: String,
    /// What each method forgot and learnt there, by label.
    pub figures: BTreeMap<String, PaperFigure>,
}

/// What a method forgot and learnt there.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct PaperFigure {
    /// More is worse.
    pub forgetting: f64,
    /// More is better.
    pub learning: f64,
}

/// The heads of the columns, the first [`TEXTS`] of text and the others of numbers.
pub(crate) const HEADS: [&str; 7] = [
    "method",
    "the paper: forgetting",
    "× adapter",
    "here: forgetting × adapter",
    "the paper: learning",
    "× adapter",
    "here: learning × adapter",
];

/// Columns of text.
pub(crate) const TEXTS: usize = 1;

/// What they mean, after the paper's own words.
pub(crate) const MEANING: &str = "Ratios to the vanilla adapter: there of the paper's figures, here of means over \
    corpora, the mean over seeds with Student's 95 % interval, paired by seed.";

/// A row a label that both have; none without the paper's figures, or without one vanilla adapter on either side.
pub(crate) fn rows(results: &Results) -> Vec<Vec<String>> {
    let Some(paper) = &results.paper else { return Vec::new() };
    let Some(adapter) = paper.figures.get("adapter") else { return Vec::new() };
    let groups = groups(results);
    let labelled = |label: &str| {
        let mut found = groups.iter().filter(|group| group.first().label == label);
        found.next().filter(|_| found.next().is_none())
    };
    let Some(reference) = labelled("adapter") else { return Vec::new() };
    let mut rows = Vec::new();
    for group in &groups {
        let label = &group.first().label;
        let Some(figure) = paper.figures.get(label).filter(|_| labelled(label).is_some()) else {
            continue;
        };
        let here = |measure: Measure| {
            let pair = |trial: &TrialResult| {
                let other = reference.finished().find(|other| other.seed == trial.seed)?;
                Some((over_corpora(measure(trial)?)?, over_corpora(measure(other)?)?))
            };
            // A share of nothing, or of less, says nothing.
            let ratio = |(own, other): (f64, f64)| (other > 0.0).then(|| own / other);
            let ratios: Option<Vec<f64>> = group.finished().filter_map(pair).map(ratio).collect();
            let ratios = ratios.unwrap_or_default();
            Interval::text(&ratios, 2) + &of_fewer(ratios.len(), group.trials.len())
        };
        rows.push(vec![
            name(group.first()),
            decimals(figure.forgetting, 3),
            decimals(figure.forgetting / adapter.forgetting, 2),
            here(|trial| trial.forgetting.as_ref()),
            decimals(figure.learning, 3),
            decimals(figure.learning / adapter.learning, 2),
            here(|trial| trial.learning.as_ref()),
        ]);
    }
    rows
}

type Measure = fn(&TrialResult) -> Option<&ByCorpus<f64>>;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    fn paper() -> PaperFigures {
        let figure = |forgetting, learning| PaperFigure { forgetting, learning };
        PaperFigures {
            what: "Table 1".to_owned(),
            figures: [
                ("lora".to_owned(), figure(0.067, 0.357)),
                ("adapter".to_owned(), figure(0.024, 0.363)),
                ("dora".to_owned(), figure(0.05, 0.3)),
            ]
            .into_iter()
            .collect(),
        }
    }

    #[test]
    fn methods_that_both_have_are_held_against_the_adapter_of_their_seed() {
        let mut results = sample::seeds();
        assert!(rows(&results).is_empty());
        results.paper = Some(paper());
        let rows = rows(&results);
        assert_eq!(rows.len(), 2, "no trial is called dora");
        let [lora, adapter] = [&rows[0], &rows[1]];
        assert_eq!((lora[2].as_str(), lora[5].as_str()), ("2.79", "0.98"));
        assert_eq!(adapter[3], "1.00 (1.00 to 1.00)");
        assert!(lora[3].contains(" to "), "{lora:?}");
    }
}
