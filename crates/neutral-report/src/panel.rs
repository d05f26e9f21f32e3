//! What stands on the axes of a panel: a corpus, or the mean of all; and which points, means over seeds, are so far
//! from the others that the panel would show nothing else.

use crate::format::{mean_and_deviation, over_corpora, shorten};
use crate::results::{ByCorpus, TrialResult};
use crate::series::Group;

/// What an axis or a row is about.
#[derive(Clone, Copy)]
pub(crate) enum Of<'a> {
    Corpus(&'a str),
    /// The mean of so many.
    Mean(usize),
    /// The mean of those of the new domain that the trial was trained on.
    Own,
}

impl Of<'_> {
    /// The value of a trial, of what it has by corpus.
    pub(crate) fn value(self, trial: &TrialResult, by_corpus: &ByCorpus<f64>) -> Option<f64> {
        match self {
            Of::Corpus(corpus) => by_corpus.get(corpus).copied(),
            Of::Mean(_) => over_corpora(by_corpus),
            Of::Own => {
                let read = trial.read();
                let own = by_corpus.iter().filter(|(corpus, _)| read.contains(corpus.as_str()));
                over_corpora(&own.map(|(corpus, value)| (corpus.clone(), *value)).collect())
            }
        }
    }

    pub(crate) fn name(self) -> String {
        match self {
            Of::Corpus(corpus) => shorten(corpus, 28),
            Of::Mean(corpora) => format!("mean of {corpora} corpora"),
            Of::Own => "of what each was trained on".to_owned(),
        }
    }
}

/// Forgetting across, learning up.
#[derive(Clone, Copy)]
pub(crate) struct Panel<'a> {
    pub(crate) forgetting: Of<'a>,
    pub(crate) learning: Of<'a>,
}

impl<'a> Panel<'a> {
    /// All panels of a run: the means first, if there is more than one corpus of a domain; then a panel each corpus of
    /// the original domain, with learning on the first of the new one. Of trials that were trained on different ones
    /// learning is that of their own.
    pub(crate) fn all(original: &[&'a str], new: &[&'a str], of_many_domains: bool) -> Vec<Self> {
        let Some(first) = new.first() else { return Vec::new() };
        let own = |of| if of_many_domains { Of::Own } else { of };
        let of = |corpora: &[&'a str]| match corpora {
            [one] => Of::Corpus(one),
            several => Of::Mean(several.len()),
        };
        let means = Panel { forgetting: of(original), learning: own(of(new)) };
        let each = original.iter().map(|corpus| Panel {
            forgetting: Of::Corpus(corpus),
            learning: own(Of::Corpus(first)),
        });
        let several = original.len() > 1 || new.len() > 1;
        several.then_some(means).into_iter().chain(each).collect()
    }

    /// Where a trial stands.
    pub(crate) fn point(self, trial: &TrialResult) -> Option<(f64, f64)> {
        trial.finished()?;
        let forgetting = self.forgetting.value(trial, trial.forgetting.as_ref()?)?;
        Some((forgetting, self.learning.value(trial, trial.learning.as_ref()?)?))
    }

    /// Where the trials of a group stand, if their mean is such; else none of them. One by one the seeds that went well
    /// would stay, and their mean would favour what is unstable.
    pub(crate) fn points<'t>(
        self,
        group: &Group<'t>,
        mean_is_such: impl Fn((f64, f64)) -> bool,
    ) -> Vec<Placed<'t>> {
        let placed = |trial: &&'t TrialResult| Some((*trial, self.point(trial)?));
        let points: Vec<_> = group.trials.iter().filter_map(placed).collect();
        if mean(&points).is_some_and(mean_is_such) { points } else { Vec::new() }
    }
}

/// A trial, and where it stands.
pub(crate) type Placed<'a> = (&'a TrialResult, (f64, f64));

/// Where the mean of trials stands; none of none.
pub(crate) fn mean(points: &[Placed<'_>]) -> Option<(f64, f64)> {
    let (x, y): (Vec<f64>, Vec<f64>) = points.iter().map(|(_, point)| *point).unzip();
    (!points.is_empty()).then(|| (mean_and_deviation(&x).0, mean_and_deviation(&y).0))
}

/// A training that went wrong: it learnt less than half of what the best did, and forgot more than any trial that
/// learnt more than that, by a fourth of the axis that those need.
pub(crate) fn far_outside((forgetting, learning): (f64, f64), points: &[(f64, f64)]) -> bool {
    let half = points.iter().map(|p| p.1).fold(0.0, f64::max) / 2.0;
    let learnt = points.iter().filter(|p| p.1 >= half).map(|p| p.0);
    let (least, most) = learnt.fold((0.0, 0.0), |(low, high), x: f64| (x.min(low), x.max(high)));
    learning < half && forgetting > most + (most - least) / 4.0
}

/// Where the axis of learning may begin: not at the base's 0 if that left more than half of it empty. Trials below,
/// a control before all, hardly learnt.
pub(crate) fn floor(points: &[(f64, f64)]) -> Option<f64> {
    let best = points.iter().map(|p| p.1).fold(0.0, f64::max);
    let learnt = points.iter().map(|p| p.1).filter(|learning| *learning > 0.1 * best);
    let least = learnt.fold(f64::INFINITY, f64::min);
    (least.is_finite() && least > 0.5 * best).then_some(least)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    #[test]
    fn only_what_learnt_little_and_forgot_most_is_far_outside() {
        let points = [(0.1, 2.0), (1.0, 2.4), (1.9, 0.2), (0.05, 0.3), (1.2, 1.0)];
        let outside = points.map(|point| far_outside(point, &points));
        assert_eq!(outside, [false, false, true, false, false]);
        // Where those that learn improve the original domain, one that hardly moves is not.
        let better = [(-0.05, 1.0), (-0.04, 0.9), (0.001, 0.4), (-0.035, 0.3), (0.1, 0.2)];
        let outside = better.map(|point| far_outside(point, &better));
        assert_eq!(outside, [false, false, false, false, true]);
        // Nothing to compare with.
        assert!(!far_outside((0.3, 0.1), &[(0.3, 0.1)]));
    }

    #[test]
    fn the_axis_begins_at_zero_unless_half_of_it_were_empty() {
        assert_eq!(floor(&[(0.1, 2.0), (0.0, 0.01), (0.2, 2.4)]), Some(2.0));
        assert_eq!(floor(&[(0.1, 1.0), (0.0, 0.01), (0.2, 2.4)]), None);
        assert_eq!(floor(&[(0.1, -1.0)]), None);
        assert_eq!(floor(&[]), None);
    }

    #[test]
    fn there_is_a_panel_a_corpus_and_one_of_means_where_they_are_of_several() {
        let names = |original: &[&str], new: &[&str]| {
            let all = Panel::all(original, new, false);
            let name = |p: &Panel| [p.forgetting, p.learning].map(Of::name).join(" / ");
            all.iter().map(name).collect::<Vec<_>>()
        };
        assert_eq!(names(&["a/en"], &["b/fr"]), ["a/en / b/fr"]);
        let several = ["mean of 2 corpora / b/fr", "a/en / b/fr", "c/en / b/fr"];
        assert_eq!(names(&["a/en", "c/en"], &["b/fr"]), several);
        assert_eq!(names(&["a/en"], &["b/fr", "c/fr"])[0], "a/en / mean of 2 corpora");
        assert!(Panel::all(&["a/en"], &[], false).is_empty());
    }

    #[test]
    fn of_trials_that_read_different_corpora_learning_is_that_of_their_own() {
        let mut results = sample::quick();
        let corpora: Vec<String> = results.base.metrics.new.keys().cloned().collect();
        assert!(corpora.len() == 1 && !results.is_of_many_domains());
        let german = "libreoffice-help/de".to_owned();
        let metrics = results.base.metrics.new[0];
        results.base.metrics.new.insert(german.clone(), metrics);
        for (i, trial) in results.trials.iter_mut().enumerate() {
            trial.learning.as_mut().unwrap().insert(german.clone(), -1.0 - i as f64);
            let own = if i == 0 {
                serde_json::json!([{ "corpus": german, "weight": 1 }])
            } else {
                serde_json::json!([corpora[0]])
            };
            trial.spec["data"]["new"] = own;
        }
        assert!(results.is_of_many_domains());
        let learning =
            |i: usize| Of::Own.value(&results.trials[i], results.trials[i].learning.as_ref()?);
        assert_eq!(learning(0), Some(-1.0));
        assert_eq!(learning(1), results.trials[1].learning.as_ref().map(|all| all[&corpora[0]]));
        // What goes on from another has more to keep than its own.
        results.trials[1].spec["after"] = serde_json::json!({ "trial": "a" });
        assert!(!results.is_of_many_domains());
    }
}
