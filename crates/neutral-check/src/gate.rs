//! A run beside its baseline: a row a trial, metric and corpus.

use std::f64::consts::LN_2;

use neutral_report::{ByCorpus, ByDomain, ByTask, Environment};
use neutral_stats::{Bootstrap, Estimate, StatsError, holm, ratio, ratio_of_seeds};
use serde::Serialize;

use crate::budget::{self, BudgetResult};
use crate::row::{Measured, Row};
use crate::scored::{Documents, Failure, Nats, Scored, TrialScores};
use crate::{Answers, CheckError, Metric, Policy, Verdict, answers, matched};

/// The name of the rows of the base.
const BASE: &str = "base";

/// `check.json`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Check {
    /// The number of its schema.
    pub schema: u64,
    /// Fail if anything failed, else inconclusive if anything is, else pass.
    pub verdict: Verdict,
    /// The experiment's name.
    pub experiment: String,
    /// One-sided, of every test, after Holm's adjustment.
    pub level: f64,
    /// What the baseline was computed on; absent if only budgets were checked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub baseline: Option<Environment>,
    /// What the run was computed on.
    pub run: Environment,
    /// Trials that did not finish: each fails the check.
    pub failures: Vec<Failure>,
    /// The base's rows, then the trials' in the order of the baseline.
    pub rows: Vec<Row>,
    /// What the run has and no row is of: what the baseline lacks, what has no margin, and what controls learn.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unchecked: Vec<String>,
    /// The policy's budgets.
    pub budgets: Vec<BudgetResult>,
}

/// Holds a run against a baseline, and its trials against the budgets.
///
/// # Errors
/// If the two are not comparable, the run lacks a trial of the baseline, a margin is of what the baseline does not
/// have, or below what runs of this setting differ by anyway, or there is nothing to check.
pub fn check(
    run: &Scored,
    baseline: Option<&Scored>,
    policy: &Policy,
) -> Result<Check, CheckError> {
    let rows = baseline.map_or(Ok(Vec::new()), |baseline| rows(run, baseline, policy))?;
    let budgets = budget::budgets(run, policy)?;
    if rows.is_empty() && budgets.is_empty() && run.failures.is_empty() {
        let message = "there is nothing to check; give a baseline with margins for it, or budgets";
        return Err(policy_error("margins", message.to_owned()));
    }
    let verdicts = rows.iter().map(|row| row.verdict);
    let verdicts = verdicts.chain(budgets.iter().map(|budget| budget.verdict));
    let failed = run.failures.iter().map(|_| Verdict::Fail);
    Ok(Check {
        schema: 1,
        verdict: verdicts.chain(failed).max().unwrap_or(Verdict::Inconclusive),
        experiment: run.experiment.clone(),
        level: policy.level,
        baseline: baseline.map(|baseline| baseline.environment.clone()),
        run: run.environment.clone(),
        failures: run.failures.clone(),
        rows,
        unchecked: baseline
            .map_or(Vec::new(), |baseline| matched::unchecked(run, baseline, policy)),
        budgets,
    })
}

pub(crate) fn policy_error(field: &str, message: String) -> CheckError {
    CheckError::Policy { file: "the policy".to_owned(), field: field.to_owned(), message }
}

fn rows(run: &Scored, baseline: &Scored, policy: &Policy) -> Result<Vec<Row>, CheckError> {
    baseline.base.fingerprints.check(&run.base.fingerprints)?;
    matched::check(policy, baseline)?;
    let mut found = Vec::new();
    let base = |scored: &Scored| TrialScores {
        name: BASE.to_owned(),
        seed: 0,
        is_control: false,
        nats: scored.base.nats.clone(),
        tasks: scored.base.tasks.clone(),
    };
    let (ours, theirs) = (base(run), base(baseline));
    let both = Compared { run, baseline, policy, pairs: vec![(&ours, &theirs)] };
    for domain in [original as Domain<_>, new] {
        found.extend(both.bits_per_byte(Metric::Base, domain)?);
    }
    for domain in [original as Domain<_>, new] {
        found.extend(both.accuracies(Metric::BaseAccuracy, domain)?);
    }
    for name in baseline.names() {
        if run.has_failed(name) {
            continue;
        }
        let mut pairs = Vec::new();
        for theirs in baseline.named(name) {
            let Some(ours) = run.named(name).find(|trial| trial.seed == theirs.seed) else {
                return Err(CheckError::NotComparable {
                    what: format!("set of trials ({name}, seed {})", theirs.seed),
                    baseline: "present".to_owned(),
                    run: "absent".to_owned(),
                    advice: "; write a new baseline if it was renamed or left out on purpose",
                });
            };
            pairs.push((ours, theirs));
        }
        let is_control = run.is_control(name);
        let both = Compared { run, baseline, policy, pairs };
        found.extend(both.bits_per_byte(Metric::Forgetting, original)?);
        // 5 % of what a control learns of a language that it does not read is no margin.
        if !is_control {
            found.extend(both.bits_per_byte(Metric::Learning, new)?);
        }
        found.extend(both.accuracies(Metric::ForgettingAccuracy, original)?);
        found.extend(both.accuracies(Metric::LearningAccuracy, new)?);
    }
    adjust(&mut found, policy.level)?;
    Ok(found)
}

/// What there is of a domain.
pub(crate) type Domain<T> = fn(&ByDomain<T>) -> &T;

pub(crate) fn original<T>(of: &ByDomain<T>) -> &T {
    &of.original
}

pub(crate) fn new<T>(of: &ByDomain<T>) -> &T {
    &of.new
}

/// A trial's seeds, those of the run beside those of the baseline.
struct Compared<'a> {
    run: &'a Scored,
    baseline: &'a Scored,
    policy: &'a Policy,
    pairs: Vec<(&'a TrialScores, &'a TrialScores)>,
}

impl Compared<'_> {
    fn name(&self) -> &str {
        &self.pairs[0].1.name
    }

    /// The rows of the tasks of a domain.
    fn accuracies(
        &self,
        metric: Metric,
        domain: Domain<ByTask<Answers>>,
    ) -> Result<Vec<Row>, CheckError> {
        let tasks: Vec<_> =
            self.pairs.iter().map(|(ours, theirs)| (&ours.tasks, &theirs.tasks)).collect();
        let base = &self.baseline.base.tasks;
        answers::compare(self.name(), base, &tasks, self.policy, metric, domain)
    }

    /// The rows of the corpora of a domain.
    fn bits_per_byte(
        &self,
        metric: Metric,
        domain: Domain<ByCorpus<Vec<f64>>>,
    ) -> Result<Vec<Row>, CheckError> {
        let Self { run, baseline, policy, pairs } = self;
        let mut rows = Vec::new();
        for (corpus, base_nats) in domain(&baseline.base.nats) {
            let Some(margin) = policy.margin(metric, corpus) else { continue };
            let documents = |scored: &Scored| {
                let all = scored.base.documents.original.get(corpus);
                all.or_else(|| scored.base.documents.new.get(corpus)).cloned().unwrap_or_default()
            };
            let expected = documents(baseline);
            expected.check(&documents(run), corpus)?;
            let nats = |nats: &Nats| domain(nats).get(corpus).cloned().unwrap_or_default();
            let run_base = nats(&run.base.nats);
            // What the model gained over its base, which counts as nothing for the base itself.
            let above = |trial: &TrialScores, base: &[f64]| -> Vec<f64> {
                let trial = nats(&trial.nats);
                match metric {
                    Metric::Base => trial,
                    _ => trial.iter().zip(base).map(|(after, before)| after - before).collect(),
                }
            };
            let ours: Vec<_> = pairs.iter().map(|(ours, _)| above(ours, &run_base)).collect();
            let theirs: Vec<_> = pairs.iter().map(|(_, theirs)| above(theirs, base_nats)).collect();
            let sign = if metric == Metric::Learning { -1.0 } else { 1.0 };
            let differences: Vec<Vec<f64>> = ours
                .iter()
                .zip(&theirs)
                .map(|(ours, theirs)| ours.iter().zip(theirs).map(|(a, b)| a - b).collect())
                .collect();
            let measured = Measured {
                trial: self.name(),
                metric,
                on: corpus,
                seeds: pairs.len(),
                documents: expected.bytes.iter().filter(|bytes| **bytes > 0).count(),
                baseline: sign * mean_bits(&theirs, &expected),
                run: sign * mean_bits(&ours, &expected),
                margin,
            };
            let estimate = estimate(&differences, &expected, policy);
            rows.push(Row::new(&measured, estimate, policy)?);
        }
        Ok(rows)
    }
}

/// Nats of several seeds as the mean of their bits a byte.
pub(crate) fn mean_bits(nats: &[Vec<f64>], documents: &Documents) -> f64 {
    let bytes: u64 = documents.bytes.iter().sum();
    let all: f64 = nats.iter().flatten().sum();
    all / (nats.len() as f64 * bytes as f64 * LN_2)
}

/// Bits a byte of per-document nats, a row a seed.
pub(crate) fn estimate(
    nats: &[Vec<f64>],
    documents: &Documents,
    policy: &Policy,
) -> Result<Estimate, StatsError> {
    // A document without text has no nats, and no influence.
    let with_text = |values: &[f64]| -> Vec<f64> {
        let pairs = values.iter().zip(&documents.bytes);
        pairs.filter(|(_, bytes)| **bytes > 0).map(|(value, _)| *value).collect()
    };
    let bytes: Vec<f64> = documents.bytes.iter().map(|bytes| *bytes as f64 * LN_2).collect();
    let bytes = with_text(&bytes);
    let nats: Vec<_> = nats.iter().map(|nats| with_text(nats)).collect();
    if bytes.len() < policy.minimum_documents {
        let (found, needed) = (bytes.len(), policy.minimum_documents);
        return Err(StatsError::TooFew { what: "documents", found, needed });
    }
    match nats.as_slice() {
        [nats] => {
            let Policy { resamples, seed, .. } = *policy;
            ratio(nats, &bytes, Bootstrap { resamples, seed })
        }
        several => ratio_of_seeds(several, &bytes),
    }
}

/// Holm's adjustment over all rows, of either kind of p by itself, and what follows.
fn adjust(rows: &mut [Row], level: f64) -> Result<(), CheckError> {
    let of = |p: fn(&mut Row) -> &mut Option<f64>, rows: &mut [Row]| {
        let told: Vec<f64> = rows.iter_mut().filter_map(|row| *p(row)).collect();
        let adjusted = holm(&told)
            .map_err(|cause| CheckError::Statistics { row: "all rows".to_owned(), cause })?;
        let told = rows.iter_mut().filter_map(|row| p(row).as_mut());
        told.zip(adjusted).for_each(|(p, adjusted)| *p = adjusted);
        Ok::<_, CheckError>(())
    };
    of(|row| &mut row.p_within, rows)?;
    of(|row| &mut row.p_beyond, rows)?;
    for row in rows {
        if let (Some(within), Some(beyond)) = (row.p_within, row.p_beyond) {
            row.verdict = Verdict::of(within, beyond, level);
        }
    }
    Ok(())
}
