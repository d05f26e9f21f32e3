//! One number for a curve of learning against forgetting: the area that its points dominate.
//!
//! A method that is swept over learning rates is a set of points, and no single one of them is the method. The
//! area between them, no learning, and a largest forgetting grows with every point that learns more at equal forgetting
//! or forgets less at equal learning, and with nothing else. The largest forgetting is where the last front of the run
//! ends: a rate that is too large for a method, whose trial forgets more and learns less than another of its own, moves
//! no area.
//!
//! Source: Zitzler and Thiele, *Multiobjective evolutionary algorithms*, IEEE Transactions on Evolutionary
//! Computation 3, 1999.

use crate::curve::{Curve, Point, curves, front};
use crate::format::{count, decimals, mean_and_deviation, of_fewer};
use crate::interval::Interval;
use crate::results::Results;

/// The heads of the columns, the first [`TEXTS`] of text and the others of numbers.
pub(crate) const HEADS: [&str; 6] =
    ["method", "points", "seeds", "hypervolume", "95 % interval", "over neutral residues"];

/// Columns of text.
pub(crate) const TEXTS: usize = 1;

/// What they mean.
pub(crate) const MEANING: &str = "Hypervolume: the area, in (bits/byte)², between a method's points, no learning, \
    and the largest forgetting at which any method learns most; forgetting and learning are means over corpora. More is \
    better: it grows with what is learnt at equal forgetting. Intervals are Student's over seeds; the last column is the ratio to \
    neutral residues of the same seed, with its interval. A seed of which a trial was interrupted or failed is left out, \
    here and below: it has fewer points.";

/// A row a method that was swept; none where no method was.
pub(crate) fn rows(results: &Results) -> Vec<Vec<String>> {
    let curves = curves(results);
    let worst = end(&curves);
    let plain = |curve: &&Curve| curve.plain.as_deref() == Some("neutral_residues");
    let reference = curves.iter().find(plain);
    let row = |curve: &Curve| {
        let dash = || "–".to_owned();
        let areas: Vec<f64> =
            curve.by_seed.values().map(|points| hypervolume(points.clone(), worst)).collect();
        let ratios = reference.filter(|_| !plain(&curve)).map(|reference| {
            let seeds = curve.by_seed.keys().zip(&areas);
            let pair = |(seed, area): (&u64, &f64)| {
                Some((*area, hypervolume(reference.by_seed.get(seed)?.clone(), worst)))
            };
            let ratio = |(own, other): (f64, f64)| (other > 0.0).then(|| own / other);
            let ratios: Option<Vec<f64>> = seeds.filter_map(pair).map(ratio).collect();
            ratios.unwrap_or_default()
        });
        vec![
            curve.name.clone(),
            curve.points.to_string(),
            count(areas.len(), areas.len() + curve.left_out),
            if areas.is_empty() { dash() } else { decimals(mean_and_deviation(&areas).0, 4) },
            Interval::of(&areas).map_or_else(dash, |found| found.ends(4)),
            ratios.map_or_else(dash, |ratios| {
                Interval::text(&ratios, 3) + &of_fewer(ratios.len(), areas.len())
            }),
        ]
    };
    curves.iter().map(row).collect()
}

/// The largest forgetting of a point that none of the same method and seed beats.
fn end(curves: &[Curve]) -> f64 {
    let ends = curves.iter().flat_map(|curve| curve.by_seed.values());
    let ends = ends.filter_map(|points| Some(front(points.clone()).last()?.forgetting));
    ends.fold(f64::NEG_INFINITY, f64::max)
}

/// The area of all that some point dominates, up to the worst forgetting and down to no learning.
fn hypervolume(mut points: Vec<Point>, worst: f64) -> f64 {
    points.retain(|point| point.forgetting < worst);
    points.sort_by(|a, b| a.forgetting.total_cmp(&b.forgetting));
    let ends = points.iter().skip(1).map(|point| point.forgetting).chain([worst]);
    let mut best: f64 = 0.0;
    let step = |(point, end): (&Point, f64)| {
        best = best.max(point.learning);
        best * (end - point.forgetting)
    };
    points.iter().zip(ends).map(step).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::curve::points;
    use crate::results::{Status, TrialResult};
    use crate::sample;

    #[test]
    fn the_area_is_that_of_the_staircase() {
        // Steps of 1 × 2 and 2 × 3 below the worst of 4; (3, 1) is dominated and (5, 9) is beyond it.
        let four = points(&[(3.0, 1.0), (2.0, 3.0), (1.0, 2.0), (5.0, 9.0)]);
        assert_eq!(hypervolume(four, 4.0), 2.0 + 6.0);
        assert_eq!(hypervolume(points(&[(1.0, -1.0)]), 4.0), 0.0);
        assert_eq!(hypervolume(Vec::new(), 4.0), 0.0);
    }

    #[test]
    fn a_point_more_never_makes_it_smaller() {
        let mut some = vec![(0.1, 1.0), (0.3, 1.4)];
        let before = hypervolume(points(&some), 1.0);
        some.push((0.2, 1.1));
        let better = hypervolume(points(&some), 1.0);
        assert!(better > before);
        some.push((0.4, 1.3));
        assert_eq!(hypervolume(points(&some), 1.0), better);
    }

    #[test]
    fn a_trial_that_went_wrong_moves_no_area() {
        let mut results = sample::sweep();
        let areas = |results: &Results| rows(results).into_iter().map(|row| row[3].clone());
        let before: Vec<String> = areas(&results).collect();
        let mut worse = results.trials[0].clone();
        worse.forgetting.as_mut().unwrap()[0] = 9.0;
        worse.learning.as_mut().unwrap()[0] = 0.1;
        results.trials.push(worse);
        assert!(areas(&results).eq(before.clone()));
        // The same forgetting for more learning than any other's is where the fronts end.
        results.trials.last_mut().unwrap().learning.as_mut().unwrap()[0] = 9.0;
        assert!(areas(&results).ne(before));
    }

    #[test]
    fn only_methods_that_were_swept_have_one() {
        assert!(rows(&sample::quick()).is_empty());
        let rows = rows(&sample::sweep());
        assert!(!rows.is_empty());
        assert!(rows.iter().all(|row| row.len() == HEADS.len() && row[4] == "–"));
        // The variant's only seed lacks a point.
        assert_eq!([&rows[0][2], &rows[1][2], &rows[1][3]], ["1", "0 of 1", "–"]);
    }

    #[test]
    fn a_seed_that_lacks_a_point_is_left_out_unless_it_diverged() {
        let mut results = sample::sweep();
        results.trials.truncate(6);
        let variant = |results: &Results| rows(results).remove(1);
        let one = variant(&results);
        let of_another_seed = |trial: &TrialResult| TrialResult { seed: 1, ..trial.clone() };
        results.trials.extend(results.trials.iter().map(of_another_seed).collect::<Vec<_>>());
        // Of the variant, which has two points.
        let first = results.trials.len() - 2;
        for status in [Status::Interrupted, Status::Failed] {
            results.trials[first].status = status;
            let row = variant(&results);
            assert_eq!((row[2].as_str(), &row[3]), ("1 of 2", &one[3]), "{status:?}");
        }
        results.trials[first].status = Status::Diverged;
        let row = variant(&results);
        let area = |row: &[String]| row[3].split(' ').next().unwrap().parse::<f64>().unwrap();
        assert!(row[2] == "2" && area(&row) < area(&one), "{row:?} {one:?}");
    }
}
