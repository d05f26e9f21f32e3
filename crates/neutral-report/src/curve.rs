//! A method that was swept, as what it forgets and learns at each point of its sweep, seed by seed.
//!
//! A seed whose trial was interrupted or failed lacks a point by accident, and its fewer points would enter means as if
//! the method had no more: it is left out. One that diverged has shown what the method does there.

use std::collections::{BTreeMap, BTreeSet};

use crate::format::over_corpora;
use crate::plot::{Series, series};
use crate::results::{Results, Status, TrialResult};

/// Forgetting and learning of one trial, means over corpora.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Point {
    pub forgetting: f64,
    pub learning: f64,
}

impl Point {
    /// None of a trial that was not scored in both.
    pub(crate) fn of(trial: &TrialResult) -> Option<Self> {
        trial.finished()?;
        Some(Self {
            forgetting: over_corpora(trial.forgetting.as_ref()?)?,
            learning: over_corpora(trial.learning.as_ref()?)?,
        })
    }
}

/// The points of one label.
pub(crate) struct Curve {
    pub name: String,
    /// The method, if the label is no variant of it.
    pub plain: Option<String>,
    /// Points of the sweep of which a seed is in.
    pub points: usize,
    /// Of the seeds that are not left out.
    pub by_seed: BTreeMap<u64, Vec<Point>>,
    /// How many seeds are.
    pub left_out: usize,
}

/// All labels of which two points or more are in, in the order of the tables. None where points are of trainings on
/// different corpora, which are no curve.
pub(crate) fn curves(results: &Results) -> Vec<Curve> {
    if results.is_of_many_domains() {
        return Vec::new();
    }
    series(results).iter().map(curve).filter(|curve| curve.points > 1).collect()
}

fn curve(series: &Series<'_>) -> Curve {
    let trials = || series.groups.iter().flat_map(|group| &group.trials);
    let lacks = |t: &&&TrialResult| matches!(t.status, Status::Interrupted | Status::Failed);
    let left_out: BTreeSet<u64> = trials().filter(lacks).map(|trial| trial.seed).collect();
    let mut by_seed: BTreeMap<u64, Vec<Point>> = BTreeMap::new();
    for trial in trials().filter(|trial| !left_out.contains(&trial.seed)) {
        by_seed.entry(trial.seed).or_default().extend(Point::of(trial));
    }
    let first = series.groups[0].first();
    Curve {
        name: series.name.clone(),
        plain: (first.label == first.method).then(|| first.method.clone()),
        points: series.groups.iter().filter(|g| g.finished().next().is_some()).count(),
        by_seed,
        left_out: left_out.len(),
    }
}

/// Those that no other beats in both, from the least forgetting to the most: learning rises too.
pub(crate) fn front(mut points: Vec<Point>) -> Vec<Point> {
    points.sort_by(|a, b| {
        a.forgetting.total_cmp(&b.forgetting).then(b.learning.total_cmp(&a.learning))
    });
    let mut best = f64::NEG_INFINITY;
    points.retain(|point| {
        let better = point.learning > best;
        best = best.max(point.learning);
        better
    });
    points
}

/// Points of `(forgetting, learning)`.
#[cfg(test)]
pub(crate) fn points(pairs: &[(f64, f64)]) -> Vec<Point> {
    pairs.iter().map(|&(forgetting, learning)| Point { forgetting, learning }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    #[test]
    fn the_front_rises_in_both() {
        let five = points(&[(3.0, 4.0), (2.0, 1.0), (1.0, 2.0), (3.0, 3.0), (4.0, 4.0)]);
        assert_eq!(front(five), points(&[(1.0, 2.0), (3.0, 4.0)]));
        assert!(front(Vec::new()).is_empty());
    }

    #[test]
    fn only_what_was_swept_is_a_curve() {
        assert!(curves(&sample::quick()).is_empty());
        let curves = curves(&sample::sweep());
        let plain: Vec<_> = curves.iter().map(|c| (c.plain.as_deref(), c.points)).collect();
        // Of the variant's four trials two did not finish.
        assert_eq!(plain, [(Some("neutral_residues"), 4), (None, 2)]);
    }
}
