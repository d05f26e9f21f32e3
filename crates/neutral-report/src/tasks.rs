//! Scores of tasks, and the paper's two means of them: over tasks of the original domain, whose fall is
//! forgetting, and of the new one, whose rise is learning.

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use crate::ReportError;
use crate::format::{decimals, mean_and_deviation, of_fewer};
use crate::over_seeds::group_name;
use crate::results::{ByDomain, Results, TrialResult, finite};
use crate::series::{Group, groups};

/// Scores, or another value, by task, in the order of the experiment file.
pub type ByTask<T = TaskScore> = IndexMap<String, T>;

/// A model's score on a task, or on a group of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskScore {
    /// What was measured, as lm-evaluation-harness calls it: `acc_norm` where the task has it, else
    /// `acc`, else `bits_per_byte`, else the task's first metric.
    pub metric: String,
    /// A share for accuracies.
    pub value: f64,
    /// Of the mean over documents; null where there is none.
    pub stderr: Option<f64>,
    /// Documents that were scored.
    pub documents: u64,
}

/// Metrics that are shares of documents: they may be averaged over tasks.
const SHARES: [&str; 5] = ["acc", "acc_norm", "acc_bytes", "acc_mutual_info", "exact_match"];

impl TaskScore {
    fn is_share(&self) -> bool {
        SHARES.contains(&&*self.metric)
    }

    /// Shares in percent, others as they are.
    fn shown(&self, value: f64) -> String {
        if self.is_share() { decimals(100.0 * value, 1) } else { decimals(value, 3) }
    }
}

/// The mean of the tasks that have an accuracy, each counted once; none, if there is none.
pub fn mean_score(tasks: &ByTask) -> Option<f64> {
    let shares: Vec<f64> =
        tasks.values().filter(|task| task.is_share()).map(|task| task.value).collect();
    (!shares.is_empty()).then(|| mean_and_deviation(&shares).0)
}

/// What the rows of the table mean.
pub(crate) const MEANING: &str = "Accuracies in percent, ± the standard error over documents, or, of several seeds, their mean ± the sample deviation. The means are over tasks with an accuracy, each counted once: a fall of the original domain's is forgetting, a rise of the new one's learning.";

/// Heads, then a row for each task and mean; nothing if no task was scored.
pub(crate) fn rows(results: &Results) -> Option<(Vec<String>, Vec<Vec<String>>)> {
    let base = results.base.tasks.as_ref()?;
    let groups = groups(results);
    let mut heads = vec!["task".to_owned(), "metric".to_owned(), "base".to_owned()];
    heads.extend(groups.iter().map(group_name));
    let mut rows = Vec::new();
    let domains: [(&str, fn(&ByDomain<ByTask>) -> &ByTask); 2] =
        [("original", |tasks| &tasks.original), ("new", |tasks| &tasks.new)];
    for (domain, of) in domains {
        for (task, score) in of(base) {
            let error = score.stderr.map(|e| format!(" ±{}", score.shown(e))).unwrap_or_default();
            let mut row =
                vec![task.clone(), score.metric.clone(), score.shown(score.value) + &error];
            row.extend(groups.iter().map(|group| {
                let scores: Vec<&TaskScore> =
                    scored(group).filter_map(|tasks| of(tasks).get(task)).collect();
                let values: Vec<f64> = scores.iter().map(|score| score.value).collect();
                let own = scores.first().and_then(|score| score.stderr);
                cell(&values, own, group.trials.len(), |value| score.shown(value))
            }));
            rows.push(row);
        }
        if let Some(mean) = mean_score(of(base)) {
            let percent = |value: f64| decimals(100.0 * value, 1);
            let mut row = vec![format!("mean, {domain}"), String::new(), percent(mean)];
            row.extend(groups.iter().map(|group| {
                let means: Vec<f64> =
                    scored(group).filter_map(|tasks| mean_score(of(tasks))).collect();
                cell(&means, None, group.trials.len(), percent)
            }));
            rows.push(row);
        }
    }
    Some((heads, rows))
}

fn scored<'a>(group: &Group<'a>) -> impl Iterator<Item = &'a ByDomain<ByTask>> {
    group.finished().filter_map(|trial: &TrialResult| trial.tasks.as_ref())
}

/// One value with its error, or the mean of several with their deviation, with their number if it is not that of
/// all trials.
fn cell(
    values: &[f64],
    error: Option<f64>,
    trials: usize,
    shown: impl Fn(f64) -> String,
) -> String {
    if values.is_empty() {
        return "–".to_owned();
    }
    let (mean, deviation) = mean_and_deviation(values);
    let spread = deviation.or(error).map(|spread| format!(" ±{}", shown(spread)));
    shown(mean) + &spread.unwrap_or_default() + &of_fewer(values.len(), trials)
}

/// Refuses numbers that are not finite.
pub(crate) fn check(owner: &str, tasks: &ByDomain<ByTask>) -> Result<(), ReportError> {
    for (task, score) in tasks.original.iter().chain(&tasks.new) {
        finite(owner, score.value, || format!("tasks.{task}"))?;
        if let Some(error) = score.stderr {
            finite(owner, error, || format!("tasks.{task}.stderr"))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::sample;

    fn score(metric: &str, value: f64) -> TaskScore {
        TaskScore { metric: metric.to_owned(), value, stderr: Some(0.012), documents: 1000 }
    }

    fn tasks(shift: f64) -> ByDomain<ByTask> {
        let original = [
            ("arc_challenge".to_owned(), score("acc_norm", 0.30 - shift)),
            ("hellaswag".to_owned(), score("acc_norm", 0.40)),
            ("wikitext".to_owned(), score("word_perplexity", 25.0)),
        ];
        let new = [("arc_fr".to_owned(), score("acc", 0.25 + shift))];
        ByDomain { original: original.into(), new: new.into() }
    }

    #[test]
    fn a_row_each_and_the_two_means_of_accuracies() {
        let mut results = sample::seeds();
        assert!(rows(&results).is_none());
        results.base.tasks = Some(tasks(0.0));
        let count = results.trials.len();
        for (i, trial) in results.trials.iter_mut().enumerate().take(count - 1) {
            trial.tasks = Some(tasks(0.01 * i as f64));
        }
        let (heads, rows) = rows(&results).unwrap();
        assert_eq!(heads[..3], ["task", "metric", "base"]);
        let first: Vec<_> = rows.iter().map(|row| row[0].as_str()).collect();
        let expected =
            ["arc_challenge", "hellaswag", "wikitext", "mean, original", "arc_fr", "mean, new"];
        assert_eq!(first, expected);
        assert_eq!(rows[0][2], "30.0 ±1.2");
        assert_eq!(rows[2][2], "25.000 ±0.012");
        assert_eq!(rows[3][1..3], ["", "35.0"]);
        assert!(rows.iter().all(|row| row.len() == heads.len()));
        // The first method's seeds are the trials 0, 1, 2: 30, 29 and 28 per cent.
        assert_eq!(rows[0][3], "29.0 ±1.0");
        assert_eq!(rows[5][3], "26.0 ±1.0");
        // The last one's third has none.
        assert!(rows.iter().all(|row| row.last().unwrap().ends_with(" (of 2)")), "{rows:?}");

        // Nor has one that failed.
        results.trials[1].status = crate::Status::Diverged;
        let (_, rows) = self::rows(&results).unwrap();
        assert_eq!(rows[0][3], "29.0 ±1.4 (of 2)");
    }

    #[test]
    fn swept_values_tell_columns_apart() {
        let mut results = sample::sweep();
        results.base.tasks = Some(tasks(0.0));
        let (heads, _) = rows(&results).unwrap();
        assert_eq!(heads[3], "neutral residues, learning_rate 0.001");
        assert_eq!(heads.iter().collect::<BTreeSet<_>>().len(), heads.len(), "{heads:?}");
    }
}
