//! Margins that match nothing, which are refused: by a misspelt name a corpus would fall back to the general margin,
//! and a metric that the baseline lacks would pass unchecked. And what no margin or baseline matches, which is told.

use std::collections::BTreeSet;
use std::fmt::Display;

use neutral_report::ByTask;

use crate::gate::{Domain, new, original, policy_error};
use crate::scored::TrialScores;
use crate::{Answers, CheckError, Metric, Policy, Scored};

/// Refuses a margin that no row of a check against this baseline can have.
pub(crate) fn check(policy: &Policy, baseline: &Scored) -> Result<(), CheckError> {
    for metric in policy.margins.keys() {
        places(*metric, &format!("margins.{metric}"), baseline)?;
    }
    for (section, own) in [("corpora", &policy.corpora), ("tasks", &policy.tasks)] {
        for (on, metric) in own.iter().flat_map(|(on, own)| own.keys().map(move |m| (on, m))) {
            let field = format!("{section}.{on}.{metric}");
            let places = places(*metric, &field, baseline)?;
            if !places.contains(on.as_str()) {
                return Err(lacks(&field, on, places));
            }
        }
    }
    Ok(())
}

/// What a run has that no row is of, in words: trials and seeds, corpora and tasks that the baseline lacks, forgetting
/// and learning where they have no margin, and what controls learn.
pub(crate) fn unchecked(run: &Scored, baseline: &Scored, policy: &Policy) -> Vec<String> {
    let is_lacking =
        |trial: &&TrialScores| !baseline.named(&trial.name).any(|theirs| theirs.seed == trial.seed);
    let trials = run.trials.iter().filter(is_lacking);
    let trials = trials.map(|trial| format!("{}, seed {}", trial.name, trial.seed));
    let [ours, theirs] = [run, baseline].map(|scored| {
        let all = Metric::ALL.into_iter().flat_map(|metric| measured_on(metric, scored));
        all.collect::<BTreeSet<&str>>()
    });
    let corpora = ours.difference(&theirs).map(|&on| on.to_owned());
    let without_margin = |metric: Metric| {
        let places = measured_on(metric, baseline);
        let lacking: Vec<_> =
            places.iter().filter(|on| policy.margin(metric, on).is_none()).collect();
        if lacking.len() == places.len() && !places.is_empty() {
            return vec![format!("{metric}, which has no margin")];
        }
        lacking.iter().map(|on| format!("{metric} on {on}, which has no margin")).collect()
    };
    let of_trials = Metric::ALL.into_iter().filter(|metric| !metric.is_of_base());
    let metrics = of_trials.flat_map(without_margin);
    let controls = baseline.names().into_iter().filter(|name| run.is_control(name));
    let controls = controls.map(|name| format!("what {name} learns, a control without new text"));
    trials.chain(corpora).chain(metrics).chain(controls).collect()
}

/// Where a field's metric was measured; an error if nowhere.
fn places<'a>(
    metric: Metric,
    field: &str,
    baseline: &'a Scored,
) -> Result<BTreeSet<&'a str>, CheckError> {
    let places = measured_on(metric, baseline);
    if places.is_empty() {
        let is_measured = |metric: &Metric| !measured_on(*metric, baseline).is_empty();
        return Err(lacks(field, metric, Metric::ALL.into_iter().filter(is_measured)));
    }
    Ok(places)
}

fn lacks<T: Display>(
    field: &str,
    what: impl Display,
    has: impl IntoIterator<Item = T>,
) -> CheckError {
    let has: Vec<_> = has.into_iter().map(|one| one.to_string()).collect();
    policy_error(field, format!("the baseline has no {what}, expected one of {}", has.join(", ")))
}

/// The corpora or tasks of a baseline that a metric is measured on.
fn measured_on(metric: Metric, baseline: &Scored) -> BTreeSet<&str> {
    let (nats, tasks) = (&baseline.base.nats, &baseline.base.tasks);
    let of_trials = |domain: Domain<ByTask<Answers>>| {
        baseline.trials.iter().flat_map(move |trial| domain(&trial.tasks).keys())
    };
    let names: Vec<&String> = match metric {
        Metric::Forgetting => nats.original.keys().collect(),
        Metric::Learning => nats.new.keys().collect(),
        Metric::Base => nats.original.keys().chain(nats.new.keys()).collect(),
        Metric::ForgettingAccuracy => of_trials(original).collect(),
        Metric::LearningAccuracy => of_trials(new).collect(),
        Metric::BaseAccuracy => tasks.original.keys().chain(tasks.new.keys()).collect(),
    };
    names.into_iter().map(String::as_str).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::{answered, policy, scored};

    #[test]
    fn what_no_row_is_of_is_told() {
        let baseline = scored(&[("lora", 0, 0.1, 2.0)], 0.0, 3);
        let unchecked = |run: &Scored, text: &str| {
            crate::check(run, Some(&baseline), &policy(text)).unwrap().unchecked
        };
        let both = "margins: { forgetting.bits_per_byte: 1, learning.bits_per_byte: 5% }";
        assert!(unchecked(&baseline, both).is_empty());
        assert_eq!(
            unchecked(&baseline, "margins: { forgetting.bits_per_byte: 1 }"),
            ["learning.bits_per_byte, which has no margin"]
        );
        let twice = "margins: { learning.bits_per_byte: 5% }\n\
            corpora: { text/a: { forgetting.bits_per_byte: 1 } }";
        assert!(unchecked(&baseline, twice).is_empty());
        let mut wide = baseline.clone();
        let nats = wide.base.nats.original[0].clone();
        wide.base.nats.original.insert("text/other".to_owned(), nats);
        let checked = super::unchecked(&wide, &wide, &policy(twice));
        assert_eq!(checked, ["forgetting.bits_per_byte on text/other, which has no margin"]);
        let tasks = answered(&[&|i| i % 4 != 0]);
        let checked = super::unchecked(&tasks, &tasks, &policy(both));
        assert_eq!(checked, ["forgetting.accuracy, which has no margin"]);

        let trials = [("lora", 0, 0.1, 2.0), ("lora", 1, 0.1, 2.0), ("adapter", 0, 0.1, 2.0)];
        let mut run = scored(&trials, 0.0, 3);
        let nats = run.base.nats.original[0].clone();
        run.base.nats.original.insert("text/other".to_owned(), nats);
        assert_eq!(unchecked(&run, both), ["lora, seed 1", "adapter, seed 0", "text/other"]);
    }

    #[test]
    fn a_margin_that_matches_nothing_is_refused_with_what_there_is() {
        let without_tasks = scored(&[("lora", 0, 0.1, 2.0)], 0.0, 3);
        let with_tasks = answered(&[&|i| i % 4 != 0]);
        let of = |baseline: &Scored, text: &str| {
            let checked = crate::check(baseline, Some(baseline), &policy(text));
            checked.map(|_| ()).map_err(|error| error.to_string())
        };
        let refused = |baseline: &Scored, field: &str, margin: &str, found: &str| {
            let message = format!("the policy: {field}: the baseline has no {found}");
            assert_eq!(of(baseline, margin), Err(message));
        };
        let metrics = "forgetting.bits_per_byte, learning.bits_per_byte, base.bits_per_byte";
        refused(
            &without_tasks,
            "margins.forgetting.accuracy",
            "margins: { forgetting.bits_per_byte: 1, forgetting.accuracy: 0.1 }",
            &format!("forgetting.accuracy, expected one of {metrics}"),
        );
        refused(
            &without_tasks,
            "tasks.quiz.base.accuracy",
            "tasks: { quiz: { base.accuracy: 0.1 } }",
            &format!("base.accuracy, expected one of {metrics}"),
        );
        refused(
            &without_tasks,
            "corpora.text/b.forgetting.bits_per_byte",
            "corpora: { text/b: { forgetting.bits_per_byte: 1 } }",
            "text/b, expected one of text/a",
        );
        refused(
            &with_tasks,
            "tasks.quizz.forgetting.accuracy",
            "tasks: { quizz: { forgetting.accuracy: 0.1 } }",
            "quizz, expected one of quiz",
        );
        for text in [
            "corpora: { text/a: { forgetting.bits_per_byte: 1, base.bits_per_byte: 1 } }",
            "tasks: { quiz: { forgetting.accuracy: 0.1, base.accuracy: 0.1 } }",
        ] {
            assert_eq!(of(&with_tasks, text), Ok(()));
        }
    }
}
