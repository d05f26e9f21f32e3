//! The answers to tasks that `neutral check` holds against each other, question by question.

use std::collections::HashSet;

use neutral_check::Answers;
use neutral_store::Fingerprint;
use neutral_tasks::Group;

use crate::eval::Evaluated;

/// The answers of a row of the report, a task or a group, under its name; of a group whose score is not that of its
/// questions those of its tasks, under theirs.
pub(crate) fn by_row(
    name: &str,
    group: Option<&Group>,
    metric: &str,
    tasks: &[&Evaluated],
) -> Vec<(String, Answers)> {
    if group.is_none_or(|group| is_of_questions(group, metric, tasks)) {
        return answers_of(metric, tasks).map(|of| (name.to_owned(), of)).into_iter().collect();
    }
    let own = |task: &&Evaluated| Some((task.result.name.clone(), answers_of(metric, &[task])?));
    tasks.iter().filter_map(own).collect()
}

/// A group's score is the share of right answers to all its questions, each once: no mean of tasks of several sizes,
/// and of no task twice.
fn is_of_questions(group: &Group, metric: &str, tasks: &[&Evaluated]) -> bool {
    let by_size = group.averages().any(|(averaged, by_size)| averaged == metric && by_size);
    let sizes: HashSet<_> = tasks.iter().map(|task| task.result.sample_len).collect();
    let names: HashSet<_> = tasks.iter().map(|task| &task.result.name).collect();
    (by_size || sizes.len() == 1) && names.len() == tasks.len()
}

/// The answers to all questions of some tasks; none unless each is right or wrong by the metric.
fn answers_of(metric: &str, tasks: &[&Evaluated]) -> Option<Answers> {
    let right = tasks.iter().map(|task| task.right.get(metric)).collect::<Option<Vec<_>>>()?;
    let samples = tasks.iter().flat_map(|task| &task.samples);
    // The harness's hashes alone leave out choices and what stands before them.
    let questions: Vec<_> = samples.map(|sample| (&sample.hashes, &sample.asked)).collect();
    Some(Answers {
        questions: Fingerprint::of(&questions),
        metric: metric.to_owned(),
        right: right.into_iter().flatten().copied().collect(),
    })
}

#[cfg(test)]
mod tests {
    use indexmap::IndexMap;
    use neutral_tasks::{Sample, TaskResult};

    use super::*;
    use crate::tasks::tests::group_of;

    /// The check pools a group's questions only where the report's score is of them.
    #[test]
    fn a_plain_mean_of_tasks_of_several_sizes_is_not_of_their_questions() {
        let of = |average: &str, tasks: &[(&str, usize)]| {
            let selection = group_of(average);
            let tasks: Vec<_> = tasks.iter().map(|(name, n)| evaluated(name, *n, "")).collect();
            let tasks: Vec<_> = tasks.iter().collect();
            let rows = by_row("g", Some(&selection.groups["g"].0), "acc", &tasks);
            rows.into_iter().map(|(name, _)| name).collect::<Vec<_>>()
        };
        let plain = "{metric: acc, weight_by_size: false}";
        assert_eq!(of("{metric: acc}", &[("a", 1), ("b", 2)]), ["g"]);
        assert_eq!(of("{metric: acc}", &[("a", 1), ("a", 1)]), ["a", "a"]);
        assert_eq!(of(plain, &[("a", 1), ("b", 2)]), ["a", "b"]);
        assert_eq!(of(plain, &[("a", 2), ("b", 2)]), ["g"]);
    }

    fn evaluated(name: &str, sample_len: usize, asked: &str) -> Evaluated {
        Evaluated {
            result: TaskResult {
                name: name.to_owned(),
                alias: name.to_owned(),
                sample_len,
                metrics: IndexMap::new(),
            },
            samples: vec![Sample {
                line: String::new(),
                hashes: "0".to_owned(),
                asked: asked.to_owned(),
            }],
            right: IndexMap::from([("acc".to_owned(), vec![true])]),
            shots: 0,
            documents: sample_len,
        }
    }

    #[test]
    fn other_choices_are_other_questions() {
        let questions =
            |asked: &str| answers_of("acc", &[&evaluated("t", 1, asked)]).unwrap().questions;
        assert_eq!(questions("a"), questions("a"));
        assert_ne!(questions("a"), questions("b"));
    }
}
