//! Answers to tasks, right or wrong, question by question: the accuracies of a check.

use neutral_report::{ByDomain, ByTask};
use neutral_stats::{StatsError, more_often_right, more_often_right_of_seeds};
use neutral_store::Fingerprint;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::gate::Domain;
use crate::row::{Measured, Row};
use crate::{CheckError, Metric, Policy};

/// What a model answered to the questions of a task, or of a group of tasks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answers {
    /// Of the questions: documents, targets, and all that was asked about them, examples and choices included.
    pub questions: Fingerprint,
    /// What makes an answer right, as lm-evaluation-harness calls it: `acc_norm`, `acc`.
    pub metric: String,
    /// Whether each is right, in the order of the questions. In JSON a text of ones and zeros.
    #[serde(serialize_with = "write_bits", deserialize_with = "read_bits")]
    pub right: Vec<bool>,
}

/// The answers of a model by task, a map a domain; empty where no tasks are scored.
pub type AllAnswers = ByDomain<ByTask<Answers>>;

fn write_bits<S: Serializer>(bits: &[bool], serializer: S) -> Result<S::Ok, S::Error> {
    let text: String = bits.iter().map(|bit| if *bit { '1' } else { '0' }).collect();
    serializer.serialize_str(&text)
}

fn read_bits<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<bool>, D::Error> {
    let bit = |c| match c {
        '0' => Ok(false),
        '1' => Ok(true),
        other => Err(serde::de::Error::custom(format!("found `{other}`, expected 0 or 1"))),
    };
    String::deserialize(deserializer)?.chars().map(bit).collect()
}

impl Answers {
    /// The share of right answers.
    pub(crate) fn accuracy(&self) -> f64 {
        self.right.iter().filter(|right| **right).count() as f64 / self.right.len() as f64
    }
}

/// Refuses answers to other questions, or by another metric.
pub(crate) fn of_the_same(task: &str, ours: &Answers, theirs: &Answers) -> Result<(), CheckError> {
    if (&ours.questions, &ours.metric) == (&theirs.questions, &theirs.metric) {
        return Ok(());
    }
    let of = |answers: &Answers| format!("{} by {}", answers.questions, answers.metric);
    Err(CheckError::NotComparable {
        what: format!("set of questions of {task}"),
        baseline: of(theirs),
        run: of(ours),
        advice: "; write a new baseline if that was meant",
    })
}

/// The rows of a trial's seeds, those of the run beside those of the baseline, for the tasks of a domain: all that the
/// baseline's base has answered.
pub(crate) fn compare(
    trial: &str,
    base: &AllAnswers,
    pairs: &[(&AllAnswers, &AllAnswers)],
    policy: &Policy,
    metric: Metric,
    domain: Domain<ByTask<Answers>>,
) -> Result<Vec<Row>, CheckError> {
    let mut rows = Vec::new();
    for task in domain(base).keys() {
        let Some(margin) = policy.margin(metric, task) else { continue };
        let of = |answers| domain(answers).get(task).filter(|answers| !answers.right.is_empty());
        let mut both = Vec::new();
        for (ours, theirs) in pairs {
            let (Some(ours), Some(theirs)) = (of(ours), of(theirs)) else {
                return Err(CheckError::NotComparable {
                    what: format!("set of tasks ({task})"),
                    baseline: if of(theirs).is_some() { "present" } else { "absent" }.to_owned(),
                    run: if of(ours).is_some() { "present" } else { "absent" }.to_owned(),
                    advice: "; score it again, or write a new baseline",
                });
            };
            of_the_same(task, ours, theirs)?;
            both.push((ours, theirs));
        }
        let mean = |all: &dyn Fn(&(&Answers, &Answers)) -> f64| {
            both.iter().map(all).sum::<f64>() / both.len() as f64
        };
        let measured = Measured {
            trial,
            metric,
            on: task,
            seeds: both.len(),
            documents: both[0].0.right.len(),
            baseline: mean(&|(_, theirs)| theirs.accuracy()),
            run: mean(&|(ours, _)| ours.accuracy()),
            margin,
        };
        rows.push(Row::new(&measured, worse_by(&both, policy), policy)?);
    }
    Ok(rows)
}

/// How much less often the run is right than the baseline: one seed by Tango's score method, several as bits a
/// byte are, each question with the same weight, and never surer than one seed.
fn worse_by(
    both: &[(&Answers, &Answers)],
    policy: &Policy,
) -> Result<neutral_stats::Estimate, StatsError> {
    let questions = both[0].0.right.len();
    if questions < policy.minimum_documents {
        let (found, needed) = (questions, policy.minimum_documents);
        return Err(StatsError::TooFew { what: "questions", found, needed });
    }
    if let [(ours, theirs)] = both {
        let only = |these: &Answers, those: &Answers| {
            let pairs = these.right.iter().zip(&those.right);
            pairs.filter(|(these, those)| **these && !**those).count() as u64
        };
        return more_often_right(questions as u64, only(theirs, ours), only(ours, theirs));
    }
    let difference = |(ours, theirs): &(&Answers, &Answers)| -> Vec<f64> {
        let pairs = ours.right.iter().zip(&theirs.right);
        pairs.map(|(ours, theirs)| f64::from(*theirs) - f64::from(*ours)).collect()
    };
    let differences: Vec<_> = both.iter().map(difference).collect();
    more_often_right_of_seeds(&differences)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::{answered as scored, policy};
    use crate::{Scored, Verdict, check};

    fn rows(run: &Scored, baseline: &Scored) -> Vec<Row> {
        let policy = policy("margins: { forgetting.accuracy: 0.05, base.accuracy: 0.05 }");
        check(run, Some(baseline), &policy).unwrap().rows
    }

    #[test]
    fn fewer_right_answers_than_the_margin_fail_and_as_many_pass() {
        let baseline = scored(&[&|i| i % 4 != 0]);
        let same = rows(&baseline, &baseline);
        assert_eq!(same.len(), 2);
        assert_eq!([same[0].verdict, same[1].verdict], [Verdict::Pass; 2]);
        assert_eq!((same[1].baseline, same[1].worse_by, same[1].documents), (0.75, 0.0, 200));

        let worse = rows(&scored(&[&|i| i % 4 == 1]), &baseline);
        assert_eq!((worse[1].run, worse[1].worse_by), (0.25, 0.5));
        assert_eq!(worse[1].verdict, Verdict::Fail);
        let words = worse[1].sentence();
        assert!(
            words.starts_with("lora fewer right answers on quiz: worse by 0.5000 ("),
            "{words}"
        );

        // As many right, but others: that is no loss, and the test has to see the exchange.
        let others = rows(&scored(&[&|i| i % 4 != 1]), &baseline);
        assert_eq!((others[1].worse_by, others[1].verdict), (0.0, Verdict::Inconclusive));
    }

    #[test]
    fn more_seeds_of_few_questions_show_no_more_than_one() {
        let baseline = scored(&[&|i| i % 4 != 0, &|i| i % 4 != 0]);
        let policy = policy("margins: { forgetting.accuracy: 0.001 }");
        let rows = check(&baseline, Some(&baseline), &policy).unwrap().rows;
        let row = rows.iter().find(|row| row.trial == "lora").unwrap();
        let high = row.interval.unwrap().high;
        // 200 questions without a difference leave up to z² / (200 + z²) open, z = 1.96.
        assert!((high - 0.0188).abs() < 1e-4 && row.verdict == Verdict::Inconclusive, "{row:?}");
    }

    #[test]
    fn several_seeds_are_paired() {
        let baseline = scored(&[&|i| i % 4 != 0, &|i| i % 5 != 0, &|i| i % 4 != 1]);
        let same = rows(&baseline, &baseline);
        assert_eq!((same[1].seeds, same[1].verdict), (3, Verdict::Pass));
        let worse = scored(&[&|i| i % 4 == 1, &|i| i % 5 == 1, &|i| i % 4 == 2]);
        assert_eq!(rows(&worse, &baseline)[1].verdict, Verdict::Fail);
        // Worse by 0.5, 0.6 and 0: three seeds that differ so say little, however many the questions.
        let some = scored(&[&|i| i % 4 == 1, &|i| i % 5 == 1, &|i| i % 4 != 1]);
        let some = &rows(&some, &baseline)[1];
        assert!(some.worse_by > 0.3 && some.verdict == Verdict::Inconclusive, "{some:?}");
    }

    #[test]
    fn other_questions_or_none_are_refused() {
        let baseline = scored(&[&|_| true]);
        let refused = |change: fn(&mut Scored)| {
            let mut run = baseline.clone();
            change(&mut run);
            let policy = policy("margins: { forgetting.accuracy: 0.05 }");
            check(&run, Some(&baseline), &policy).unwrap_err().to_string()
        };
        let other = refused(|run| {
            run.trials[0].tasks.original["quiz"].questions = Fingerprint::of(&"other");
        });
        assert!(other.contains("questions of quiz"), "{other}");
        let rule =
            refused(|run| run.trials[0].tasks.original["quiz"].metric = "acc_norm".to_owned());
        assert!(rule.contains("by acc_norm"), "{rule}");
        let none = refused(|run| run.trials[0].tasks.original.clear());
        assert!(none.contains("set of tasks (quiz)") && none.contains("absent"), "{none}");
    }

    #[test]
    fn a_baseline_that_was_not_scored_on_every_task_is_refused_whichever_seed_it_is() {
        let run = scored(&[&|_| true, &|_| true]);
        let policy = policy("margins: { forgetting.accuracy: 0.05 }");
        for seed in 0..2 {
            let mut baseline = run.clone();
            baseline.trials[seed].tasks.original.clear();
            let error = check(&run, Some(&baseline), &policy).unwrap_err().to_string();
            assert!(error.contains("quiz") && error.contains("absent"), "{error}");

            let file = tempfile::NamedTempFile::new().unwrap();
            let written = crate::write_baseline("run".as_ref(), &baseline, file.path());
            let error = written.unwrap_err().to_string();
            assert!(error.contains(&format!("lora-s{seed}")) && error.contains("quiz"), "{error}");
        }
    }

    #[test]
    fn runs_of_other_questions_are_no_noise() {
        let (run, mut other) = (scored(&[&|_| true]), scored(&[&|_| true]));
        assert!(crate::calibrate(&[run.clone(), other.clone()]).is_ok());
        other.base.tasks.original["quiz"].questions = Fingerprint::of(&"other");
        let error = crate::calibrate(&[run, other]).unwrap_err().to_string();
        assert!(error.contains("questions of quiz"), "{error}");
    }

    #[test]
    fn answers_are_a_text_of_ones_and_zeros() {
        let answers = Answers {
            questions: Fingerprint::of(&1),
            metric: "acc".to_owned(),
            right: vec![true, false, true],
        };
        let json = serde_json::to_value(&answers).unwrap();
        assert_eq!(json["right"], "101");
        assert_eq!(serde_json::from_value::<Answers>(json.clone()).unwrap(), answers);
        let mut wrong = json;
        wrong["right"] = "102".into();
        let error = serde_json::from_value::<Answers>(wrong).unwrap_err().to_string();
        assert!(error.contains("found `2`, expected 0 or 1"), "{error}");
    }
}
