//! How much a method forgets for the same learning: the question that a single row of a table leaves open where one
//! method forgets less *and* learns less.
//!
//! Of two curves, each the front of its points joined by straight lines, the mean forgetting is taken over all
//! learning that both were seen at, and one divided by the other. Where a method has points of less learning than its
//! front begins with, all of which forget more, it needs to forget no more than there to learn at least as much.
//! Unlike the hypervolume this does not depend on where an area ends; it says nothing about learning at which only one
//! of them was seen.
//!
//! Source: video coding compares codecs so, by the rate that they need at equal quality (G. Bjøntegaard, *Calculation
//! of average PSNR differences between RD-curves*, VCEG-M33, 2001), with cubics in place of lines and logarithms of
//! the rate, which forgetting does not have: it may be 0 or negative.

use crate::curve::{Curve, Point, curves, front};
use crate::format::{decimals, mean_and_deviation, of_fewer};
use crate::interval::Interval;
use crate::results::Results;

/// Methods to hold others against, where they were swept without a variant's label, and the heads of their columns.
const REFERENCES: [(&str, &str); 2] = [
    ("adapter", "forgetting over vanilla adapters'"),
    ("neutral_residues", "forgetting over neutral residues'"),
];

/// Columns of text.
pub(crate) const TEXTS: usize = 1;

/// What they mean.
pub(crate) const MEANING: &str = "At equal learning: the mean forgetting along a method's front over that along the \
    reference's of the same seed, where both learn as much, which is at the bits/byte given (means over seeds). Points \
    of a front are joined by straight lines; below its first a method needs to forget no more than there. Each is \
    over the learning that it shares with the reference, so that two methods are to be compared where they stand in one \
    cell. Less is better; below 0 the original domain got better. Intervals are Student's 95 % over seeds. A dash is where, in some \
    seed, the two have no learning in common or the reference forgets nothing.";

/// The heads of the columns, and a row a curve; none where no reference was swept beside another curve.
pub(crate) fn table(results: &Results) -> (Vec<&'static str>, Vec<Vec<String>>) {
    let curves = curves(results);
    let plain = |(method, head)| {
        Some((head, curves.iter().find(|curve| curve.plain.as_deref() == Some(method))?))
    };
    let references: Vec<(&str, &Curve)> = REFERENCES.into_iter().filter_map(plain).collect();
    if references.is_empty() || curves.len() < 2 {
        return (Vec::new(), Vec::new());
    }
    let heads = ["method"].into_iter().chain(references.iter().map(|(head, _)| *head)).collect();
    let row = |curve: &Curve| {
        let cells = references.iter().map(|(_, reference)| cell(curve, reference));
        [curve.name.clone()].into_iter().chain(cells).collect()
    };
    (heads, curves.iter().map(row).collect())
}

fn cell(curve: &Curve, reference: &Curve) -> String {
    let dash = || "–".to_owned();
    if std::ptr::eq(curve, reference) {
        return dash();
    }
    let shared = curve.by_seed.iter().filter_map(|(seed, points)| {
        Some(compare(points.clone(), reference.by_seed.get(seed)?.clone()))
    });
    // A mean over the seeds that happen to overlap would be one over the favourable ones.
    let Some(found) = shared.collect::<Option<Vec<Comparison>>>().filter(|f| !f.is_empty()) else {
        return dash();
    };
    let mean = |of: fn(&Comparison) -> f64| {
        mean_and_deviation(&found.iter().map(of).collect::<Vec<_>>()).0
    };
    let ratios: Vec<f64> = found.iter().map(|c| c.ratio).collect();
    format!(
        "{}{} at {} to {}",
        Interval::text(&ratios, 2),
        of_fewer(ratios.len(), curve.by_seed.len()),
        decimals(mean(|c| c.from), 2),
        decimals(mean(|c| c.to), 2)
    )
}

/// What one set of points forgets of what another does, over the learning that both were seen at.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Comparison {
    ratio: f64,
    from: f64,
    to: f64,
}

/// None where there is no such learning, or the second forgets nothing there.
fn compare(points: Vec<Point>, reference: Vec<Point>) -> Option<Comparison> {
    let least = |points: &[Point]| points.iter().map(|p| p.learning).min_by(f64::total_cmp);
    let from = least(&points)?.max(least(&reference)?);
    let [points, reference] = [front(points), front(reference)];
    let to = points.last()?.learning.min(reference.last()?.learning);
    let below = area(&reference, from, to);
    (from < to && below > 0.0).then(|| Comparison {
        ratio: area(&points, from, to) / below,
        from,
        to,
    })
}

/// ∫ forgetting d learning along a front's lines, and level before them, up to a learning that it reaches.
fn area(front: &[Point], from: f64, to: f64) -> f64 {
    let first = front[0];
    let level = (first.learning.min(to) - from).max(0.0) * first.forgetting;
    let line = |pair: &[Point]| {
        let [a, b] = [pair[0], pair[1]];
        let [start, end] = [a.learning.max(from), b.learning.min(to)];
        let slope = (b.forgetting - a.forgetting) / (b.learning - a.learning);
        let middle = a.forgetting + slope * (f64::midpoint(start, end) - a.learning);
        (end - start).max(0.0) * middle
    };
    level + front.windows(2).map(line).sum::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::curve::points;
    use crate::sample;

    #[test]
    fn by_hand() {
        // Over learning 1 to 3 the first forgets 1 throughout its middle, 0.5 to 1.5; the second 4, of (2, 0) to (6, 4).
        let found = compare(points(&[(0.5, 1.0), (1.5, 3.0)]), points(&[(2.0, 0.0), (6.0, 4.0)]));
        assert_eq!(found, Some(Comparison { ratio: 0.25, from: 1.0, to: 3.0 }));
        // A point that is beaten in both, and one beyond the learning in common, change nothing.
        let more = points(&[(0.5, 1.0), (1.5, 3.0), (2.0, 2.0)]);
        assert_eq!(compare(more, points(&[(2.0, 0.0), (6.0, 4.0)])), found);
        let inner = compare(
            points(&[(0.5, 1.0), (1.5, 3.0), (9.0, 5.0)]),
            points(&[(3.0, 1.0), (5.0, 3.0)]),
        );
        assert_eq!(inner, found);
    }

    #[test]
    fn a_point_that_forgets_more_and_learns_less_says_what_was_tried() {
        // The front is one point; down to the learning of the other, 1, nothing more need be forgotten.
        let one = points(&[(1.0, 3.0), (2.0, 1.0)]);
        let found = compare(one, points(&[(3.0, 0.0), (6.0, 4.0)]));
        // The reference: 3.75 at 1, 5.25 at 3.
        assert_eq!(found.map(|c| (c.from, c.to)), Some((1.0, 3.0)));
        assert!((found.unwrap().ratio - 1.0 / 4.5).abs() < 1e-12);
    }

    #[test]
    fn a_curve_forgets_what_itself_does() {
        let curve = points(&[(0.1, 1.0), (0.15, 1.7), (0.4, 2.0)]);
        let found = compare(curve.clone(), curve).unwrap();
        assert!((found.ratio - 1.0).abs() < 1e-12);
    }

    #[test]
    fn where_learning_is_not_shared_there_is_nothing_to_compare() {
        let [low, high] = [points(&[(0.1, 1.0), (0.2, 2.0)]), points(&[(0.1, 2.5), (0.2, 3.0)])];
        assert_eq!(compare(low.clone(), high), None);
        assert_eq!(compare(low.clone(), points(&[(-0.1, 1.0), (0.0, 2.0)])), None);
        assert_eq!(compare(low, Vec::new()), None);
    }

    #[test]
    fn seeds_are_paired_and_none_is_left_out() {
        let curve = |seeds: &[&[(f64, f64)]]| Curve {
            name: String::new(),
            plain: None,
            points: 2,
            by_seed: (0..).zip(seeds.iter().map(|seed| points(seed))).collect(),
            left_out: 0,
        };
        let reference = curve(&[&[(4.0, 1.0), (6.0, 3.0)], &[(8.0, 1.0), (12.0, 3.0)]]);
        // 0.25 and 0.15 of it: Student's interval of two is 12.706 · 0.0707 / √2 = 0.635 to either side.
        let two = curve(&[&[(1.0, 1.0), (1.5, 3.0)], &[(1.5, 2.0), (1.8, 3.0)]]);
        assert_eq!(cell(&two, &reference), "0.20 (-0.44 to 0.84) at 1.50 to 3.00");
        // In the second seed it learns less than the reference ever does.
        let apart = curve(&[&[(1.0, 1.0), (1.5, 3.0)], &[(1.0, 0.1), (1.2, 0.9)]]);
        assert_eq!(cell(&apart, &reference), "–");
        // Seeds that the reference lacks are said.
        let one = curve(&[&[(4.0, 1.0), (6.0, 3.0)]]);
        assert_eq!(cell(&two, &one), "0.25 (of 1) at 1.00 to 3.00");
    }

    #[test]
    fn a_table_needs_a_reference_and_another_curve() {
        assert!(table(&sample::quick()).1.is_empty());
        let mut results = sample::sweep();
        results.trials.truncate(6);
        let (heads, rows) = table(&results);
        assert_eq!(heads, ["method", "forgetting over neutral residues'"]);
        assert_eq!(rows[0], ["neutral residues", "–"]);
        assert!(rows[1][1].contains(" at ") && !rows[1][1].contains('('), "{:?}", rows[1]);
    }
}
