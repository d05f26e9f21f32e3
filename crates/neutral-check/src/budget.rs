//! A budget: learn at least so much while forgetting at most so much. Picks the trial of a sweep.

use neutral_stats::{StatsError, holm};
use serde::{Deserialize, Serialize};

use crate::gate::{Domain, estimate, mean_bits, new, original};
use crate::policy::noise_key;
use crate::scored::Scored;
use crate::{CheckError, Metric, Policy, Verdict};

/// What some trial must reach, in bits a byte; on every corpus of the domain.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// What it is called in outputs.
    pub name: String,
    /// Least learning.
    pub learning_at_least: f64,
    /// Most forgetting.
    pub forgetting_at_most: f64,
}

/// What came of a budget.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BudgetResult {
    /// What was asked for.
    pub budget: Budget,
    /// Pass if some trial is shown to reach it, fail if all are shown not to.
    pub verdict: Verdict,
    /// Of those that reach it, the one that learns most.
    pub chosen: Option<String>,
    /// All trials of the run.
    pub candidates: Vec<Candidate>,
}

/// A trial beside a budget.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Candidate {
    /// The trial without its seed.
    pub trial: String,
    /// Its learning on the corpus of the new domain where that is least, the mean over seeds.
    pub learning: f64,
    /// Its forgetting on the corpus of the original domain where that is most.
    pub forgetting: f64,
    /// Adjusted over trials; small means that it reaches the budget.
    pub p_within: f64,
    /// Adjusted over trials and conditions; small means that it does not.
    pub p_beyond: f64,
    /// What follows.
    pub verdict: Verdict,
}

/// What trials reach, for each budget of the policy.
pub(crate) fn budgets(run: &Scored, policy: &Policy) -> Result<Vec<BudgetResult>, CheckError> {
    policy.budgets.iter().map(|budget| of_budget(run, policy, budget)).collect()
}

fn of_budget(run: &Scored, policy: &Policy, budget: &Budget) -> Result<BudgetResult, CheckError> {
    let mut candidates = Vec::new();
    // Of seeds of which some failed, those that are left would favour what is unstable.
    for name in run.names().into_iter().filter(|name| !run.has_failed(name)) {
        candidates.push(candidate(run, policy, budget, name)?);
    }
    let adjusted = |p: fn(&Candidate) -> f64| {
        let all: Vec<_> = candidates.iter().map(p).collect();
        holm(&all).map_err(|cause| CheckError::Statistics { row: budget.name.clone(), cause })
    };
    let (within, beyond) = (adjusted(|c| c.p_within)?, adjusted(|c| c.p_beyond)?);
    for ((candidate, within), beyond) in candidates.iter_mut().zip(within).zip(beyond) {
        (candidate.p_within, candidate.p_beyond) = (within, beyond);
        candidate.verdict = Verdict::of(within, beyond, policy.level);
    }
    let passing = candidates.iter().filter(|candidate| candidate.verdict == Verdict::Pass);
    let chosen = passing.max_by(|a, b| a.learning.total_cmp(&b.learning));
    let best = candidates.iter().map(|candidate| candidate.verdict).min();
    Ok(BudgetResult {
        budget: budget.clone(),
        // Verdicts are ordered from pass to fail; of no trial at all nothing is shown.
        verdict: best.unwrap_or(Verdict::Inconclusive),
        chosen: chosen.map(|candidate| candidate.trial.clone()),
        candidates,
    })
}

fn candidate(
    run: &Scored,
    policy: &Policy,
    budget: &Budget,
    name: &str,
) -> Result<Candidate, CheckError> {
    let (mut within, mut beyond, mut conditions) = (0.0_f64, 1.0_f64, 0.0);
    let (mut learning, mut forgetting): (Option<f64>, Option<f64>) = (None, None);
    for (metric, domain) in
        [(Metric::Forgetting, original as Domain<_>), (Metric::Learning, new as Domain<_>)]
    {
        for (corpus, base) in domain(&run.base.nats) {
            let all = match metric {
                Metric::Learning => &run.base.documents.new,
                _ => &run.base.documents.original,
            };
            let documents = all.get(corpus).cloned().unwrap_or_default();
            // Bits/byte after − base; learning is its negative.
            let above: Vec<Vec<f64>> = run
                .named(name)
                .map(|trial| {
                    let after = domain(&trial.nats).get(corpus).cloned().unwrap_or_default();
                    after.iter().zip(base).map(|(after, before)| after - before).collect()
                })
                .collect();
            let value = mean_bits(&above, &documents);
            let limit = if metric == Metric::Learning {
                learning = Some(learning.map_or(-value, |least| least.min(-value)));
                -budget.learning_at_least
            } else {
                forgetting = Some(forgetting.map_or(value, |most| most.max(value)));
                budget.forgetting_at_most
            };
            conditions += 1.0;
            match estimate(&above, &documents, policy) {
                Ok(estimate) => {
                    // All conditions must hold, so the weakest counts; one that does not is enough.
                    within = within.max(estimate.p_at_least(limit));
                    beyond = beyond.min(estimate.p_at_most(limit));
                }
                Err(StatsError::TooFew { .. }) => within = 1.0,
                Err(cause) => {
                    let row = noise_key(name, metric, corpus);
                    return Err(CheckError::Statistics { row, cause });
                }
            }
        }
    }
    Ok(Candidate {
        trial: name.to_owned(),
        learning: learning.unwrap_or(0.0),
        forgetting: forgetting.unwrap_or(0.0),
        p_within: within,
        p_beyond: f64::min(1.0, conditions * beyond),
        verdict: Verdict::Inconclusive,
    })
}
