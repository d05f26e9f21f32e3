//! One number for a curve of learning against forgetting: the area that its points dominate.
//!
//! A method that is swept over learning rates is a set of points, and no single one of them is the method. The
//! area between them, no learning, and the largest forgetting of any trial of the run grows with every point that
//! learns more at equal forgetting or forgets less at equal learning, and with nothing else.
//!
//! Source: Zitzler and Thiele, *Multiobjective evolutionary algorithms*, IEEE Transactions on Evolutionary
//! Computation 3, 1999.

use std::collections::BTreeMap;

use crate::format::{decimals, mean_and_deviation, over_corpora};
use crate::interval::Interval;
use crate::plot::{Series, series};
use crate::results::{Results, TrialResult};

/// The heads of the columns, the first [`TEXTS`] of text and the others of numbers.
pub(crate) const HEADS: [&str; 6] =
    ["method", "points", "seeds", "hypervolume", "95 % interval", "over neutral residues"];

/// Columns of text.
pub(crate) const TEXTS: usize = 1;

/// What they mean.
pub(crate) const MEANING: &str = "Hypervolume: the area, in (bits/byte)², between a method's points, no learning, \
    and the largest forgetting of any trial; forgetting and learning are means over corpora. More is better: it \
    grows with what is learnt at equal forgetting. Intervals are Student's over seeds; the last column is the ratio to \
    neutral residues of the same seed, with its interval.";

/// A row a method that was swept; none where no method was.
pub(crate) fn rows(results: &Results) -> Vec<Vec<String>> {
    let worst = results.trials.iter().filter_map(point).map(|(forgetting, _)| forgetting);
    let worst = worst.fold(f64::NEG_INFINITY, f64::max);
    let all = series(results);
    let plain = |series: &&Series| {
        let trial = series.groups[0].first();
        trial.method == "neutral_residues" && trial.label == trial.method
    };
    let reference = all.iter().find(plain).map(|series| by_seed(series, worst));
    let mut rows = Vec::new();
    for series in &all {
        let areas = by_seed(series, worst);
        let points = series.groups.iter().filter(|g| g.finished().next().is_some()).count();
        if points < 2 || areas.is_empty() {
            continue;
        }
        let values: Vec<f64> = areas.values().copied().collect();
        let dash = || "–".to_owned();
        let ratios = reference.as_ref().filter(|_| !plain(&series)).map(|reference| {
            let ratio = |(seed, area): (&u64, &f64)| Some(area / reference.get(seed)?);
            areas.iter().filter_map(ratio).collect::<Vec<f64>>()
        });
        rows.push(vec![
            series.name.clone(),
            points.to_string(),
            values.len().to_string(),
            decimals(mean_and_deviation(&values).0, 4),
            Interval::of(&values).map_or_else(dash, |found| found.ends(4)),
            ratios.filter(|ratios| !ratios.is_empty()).map_or_else(dash, |ratios| {
                let mean = decimals(mean_and_deviation(&ratios).0, 3);
                Interval::of(&ratios)
                    .map_or(mean.clone(), |found| format!("{mean} ({})", found.ends(3)))
            }),
        ]);
    }
    rows
}

/// The hypervolume of each seed's points.
fn by_seed(series: &Series, worst: f64) -> BTreeMap<u64, f64> {
    let mut points: BTreeMap<u64, Vec<(f64, f64)>> = BTreeMap::new();
    for trial in series.groups.iter().flat_map(|group| &group.trials) {
        if let Some(found) = point(trial) {
            points.entry(trial.seed).or_default().push(found);
        }
    }
    points.into_iter().map(|(seed, points)| (seed, hypervolume(points, worst))).collect()
}

/// Mean forgetting and mean learning.
fn point(trial: &TrialResult) -> Option<(f64, f64)> {
    trial.finished()?;
    Some((over_corpora(trial.forgetting.as_ref()?)?, over_corpora(trial.learning.as_ref()?)?))
}

/// The area of all `(forgetting, learning)` that some point dominates, up to the worst forgetting and down to no
/// learning.
fn hypervolume(mut points: Vec<(f64, f64)>, worst: f64) -> f64 {
    points.retain(|(forgetting, _)| *forgetting < worst);
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    let ends = points.iter().skip(1).map(|(forgetting, _)| *forgetting).chain([worst]);
    let mut best: f64 = 0.0;
    let step = |((forgetting, learning), end): (&(f64, f64), f64)| {
        best = best.max(*learning);
        best * (end - forgetting)
    };
    points.iter().zip(ends).map(step).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    #[test]
    fn the_area_is_that_of_the_staircase() {
        // Steps of 1 × 2 and 2 × 3 below the worst of 4; (3, 1) is dominated and (5, 9) is beyond it.
        let points = vec![(3.0, 1.0), (2.0, 3.0), (1.0, 2.0), (5.0, 9.0)];
        assert_eq!(hypervolume(points, 4.0), 2.0 + 6.0);
        assert_eq!(hypervolume(vec![(1.0, -1.0)], 4.0), 0.0);
        assert_eq!(hypervolume(Vec::new(), 4.0), 0.0);
    }

    #[test]
    fn a_point_more_never_makes_it_smaller() {
        let mut points = vec![(0.1, 1.0), (0.3, 1.4)];
        let before = hypervolume(points.clone(), 1.0);
        points.push((0.2, 1.1));
        assert!(hypervolume(points.clone(), 1.0) > before);
        points.push((0.4, 1.3));
        let dominated = hypervolume(points.clone(), 1.0);
        points.pop();
        assert_eq!(dominated, hypervolume(points, 1.0));
    }

    #[test]
    fn only_methods_that_were_swept_have_one() {
        assert!(rows(&sample::quick()).is_empty());
        let rows = rows(&sample::sweep());
        assert!(!rows.is_empty());
        assert!(rows.iter().all(|row| row.len() == HEADS.len() && row[2] == "1" && row[4] == "–"));
    }
}
