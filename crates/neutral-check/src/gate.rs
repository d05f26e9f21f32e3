//! A run beside its baseline: a row a trial, metric and corpus.

use std::f64::consts::LN_2;

use neutral_report::{ByCorpus, Environment};
use neutral_stats::{Bootstrap, Estimate, Interval, StatsError, holm, ratio, ratio_of_seeds};
use serde::Serialize;

use crate::budget::{self, BudgetResult};
use crate::policy::noise_key;
use crate::scored::{Documents, Failure, Nats, Scored, TrialScores};
use crate::{CheckError, Margin, Metric, Policy, Verdict};

/// The power of [`Row::detectable`].
const POWER: f64 = 0.8;

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
    /// The policy's budgets.
    pub budgets: Vec<BudgetResult>,
}

/// One comparison. Bits a byte throughout.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// The trial without its seed, or `base`.
    pub trial: String,
    /// What is compared.
    pub metric: Metric,
    /// On what.
    pub corpus: String,
    /// Seeds that both have.
    pub seeds: usize,
    /// Documents that were compared.
    pub documents: usize,
    /// The baseline's value of the metric, the mean over seeds.
    pub baseline: f64,
    /// The run's.
    pub run: f64,
    /// By how much the run is worse: forgets more, or learns less; of the base, how much it moved.
    pub worse_by: f64,
    /// Of confidence `1 − 2 · level`; null where nothing can be told.
    pub interval: Option<Interval>,
    /// What it may be worse by.
    pub margin: f64,
    /// Of *worse by the margin or more*, adjusted; small means within.
    pub p_within: Option<f64>,
    /// Of *worse by the margin or less*, adjusted; small means beyond.
    pub p_beyond: Option<f64>,
    /// How far within the margin the truth must lie for this data to show it with 80 % probability.
    pub detectable: Option<f64>,
    /// What follows.
    pub verdict: Verdict,
    /// Why nothing can be told; absent otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// Holds a run against a baseline, and its trials against the budgets.
///
/// # Errors
/// If the two are not comparable, the run lacks a trial of the baseline, a margin is below what runs of this
/// setting differ by anyway, or there is nothing to check.
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
        budgets,
    })
}

pub(crate) fn policy_error(field: &str, message: String) -> CheckError {
    CheckError::Policy { file: "the policy".to_owned(), field: field.to_owned(), message }
}

fn rows(run: &Scored, baseline: &Scored, policy: &Policy) -> Result<Vec<Row>, CheckError> {
    baseline.base.fingerprints.check(&run.base.fingerprints)?;
    let mut found = Vec::new();
    let base = |scored: &Scored| {
        let nats = scored.base.nats.clone();
        vec![TrialScores { name: BASE.to_owned(), seed: 0, nats }]
    };
    let (ours, theirs) = (base(run), base(baseline));
    let pairs: Vec<_> = ours.iter().zip(&theirs).collect();
    for domain in [original as Domain, new] {
        found.extend(compare(run, baseline, policy, &pairs, Metric::Base, domain)?);
    }
    for name in baseline.names() {
        let failed = |failure: &Failure| failure.trial.strip_prefix(name).is_some_and(is_seed);
        if run.failures.iter().any(failed) {
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
        found.extend(compare(run, baseline, policy, &pairs, Metric::Forgetting, original)?);
        found.extend(compare(run, baseline, policy, &pairs, Metric::Learning, new)?);
    }
    adjust(&mut found, policy.level)?;
    Ok(found)
}

fn is_seed(rest: &str) -> bool {
    rest.strip_prefix("-s").is_some_and(|seed| seed.parse::<u64>().is_ok())
}

pub(crate) type Domain = fn(&Nats) -> &ByCorpus<Vec<f64>>;

pub(crate) fn original(nats: &Nats) -> &ByCorpus<Vec<f64>> {
    &nats.original
}

pub(crate) fn new(nats: &Nats) -> &ByCorpus<Vec<f64>> {
    &nats.new
}

/// The rows of a trial's seeds, of run and baseline, for the corpora of a domain.
fn compare(
    run: &Scored,
    baseline: &Scored,
    policy: &Policy,
    pairs: &[(&TrialScores, &TrialScores)],
    metric: Metric,
    domain: Domain,
) -> Result<Vec<Row>, CheckError> {
    let mut rows = Vec::new();
    for (corpus, base_nats) in domain(&baseline.base.nats) {
        let Some(margin) = policy.margin(metric, corpus) else { continue };
        let documents = |scored: &Scored| {
            let all = scored.base.documents.original.get(corpus);
            all.or_else(|| scored.base.documents.new.get(corpus)).cloned().unwrap_or_default()
        };
        let expected = documents(baseline);
        expected.check(&documents(run), corpus)?;
        let name = &pairs[0].1.name;
        let row = format!("{name}, {} on {corpus}", metric.name());
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
        let value = |all: &[Vec<f64>]| sign * mean_bits(all, &expected);
        let (before, now) = (value(&theirs), value(&ours));
        let margin = match margin {
            Margin::Absolute(bits) => bits,
            Margin::Relative(share) if before > 0.0 => share * before,
            Margin::Relative(_) => {
                let message = format!(
                    "{margin} of the baseline's {before:.4} is no margin ({row}); give bits a byte, such as 0.01"
                );
                return Err(policy_error("margins", message));
            }
        };
        at_least_noise(policy, &noise_key(name, metric, corpus), margin)?;
        let differences: Vec<Vec<f64>> = ours
            .iter()
            .zip(&theirs)
            .map(|(ours, theirs)| ours.iter().zip(theirs).map(|(a, b)| a - b).collect())
            .collect();
        let mut row = Row {
            trial: name.clone(),
            metric,
            corpus: corpus.clone(),
            seeds: pairs.len(),
            documents: expected.bytes.iter().filter(|bytes| **bytes > 0).count(),
            baseline: before,
            run: now,
            worse_by: sign * (now - before),
            interval: None,
            margin,
            p_within: None,
            p_beyond: None,
            detectable: None,
            verdict: Verdict::Inconclusive,
            note: None,
        };
        match estimate(&differences, &expected, policy) {
            Ok(estimate) => row.fill(&estimate, policy),
            Err(StatsError::TooFew { what, found, needed }) => {
                row.note = Some(format!("{found} {what}, at least {needed} are needed"));
            }
            Err(cause) => {
                let row = noise_key(name, metric, corpus);
                return Err(CheckError::Statistics { row, cause });
            }
        }
        rows.push(row);
    }
    Ok(rows)
}

impl Row {
    fn fill(&mut self, estimate: &Estimate, policy: &Policy) {
        let level = policy.level;
        let margin = self.margin;
        let (mut within, mut beyond) = (estimate.p_at_least(margin), estimate.p_at_most(margin));
        if self.metric == Metric::Base || policy.either_way {
            // Equivalence: within on both sides, or beyond on either.
            within = within.max(estimate.p_at_most(-margin));
            beyond = f64::min(1.0, 2.0 * beyond.min(estimate.p_at_least(-margin)));
        }
        self.worse_by = estimate.value;
        self.interval = Some(estimate.interval(1.0 - 2.0 * level));
        self.detectable = Some(estimate.detectable(level, POWER));
        (self.p_within, self.p_beyond) = (Some(within), Some(beyond));
    }

    /// The row in words.
    pub fn sentence(&self) -> String {
        let Self { metric, corpus, worse_by, margin, .. } = self;
        let (worse, better) = match metric {
            Metric::Forgetting => ("forgets more", "forgets less"),
            Metric::Learning => ("learns less", "learns more"),
            Metric::Base => ("more bits/byte", "fewer bits/byte"),
        };
        let word = if *worse_by < 0.0 { better } else { worse };
        let interval = match (&self.interval, &self.note) {
            (Some(Interval { low, high }), _) => format!("{low:.4} to {high:.4}"),
            (None, note) => note.clone().unwrap_or_default(),
        };
        let place = match self.verdict {
            Verdict::Pass => "shown to be within",
            Verdict::Fail => "shown to be beyond",
            Verdict::Inconclusive => "not shown to be within or beyond",
        };
        let trial = &self.trial;
        format!(
            "{trial} {word} on {corpus}: worse by {worse_by:.4} bits/byte ({interval}), {place} the margin of {margin:.4}"
        )
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

fn at_least_noise(policy: &Policy, key: &str, margin: f64) -> Result<(), CheckError> {
    let Some(noise) = &policy.noise else { return Ok(()) };
    match noise.repeatability(key, policy.level) {
        Some(limit) if margin < limit => Err(policy_error(
            "margins",
            format!(
                "{margin:.4} is below what two runs of the same differ by ({key}: {limit:.4} bits/byte, from {} runs); expected at least {limit:.4}",
                noise.runs
            ),
        )),
        _ => Ok(()),
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
