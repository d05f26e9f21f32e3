//! One comparison: a trial, a metric, and a corpus or task.

use neutral_stats::{Estimate, Interval, StatsError};
use serde::Serialize;

use crate::gate::policy_error;
use crate::policy::noise_key;
use crate::{CheckError, Margin, Metric, Policy, Verdict};

/// The power of [`Row::detectable`].
const POWER: f64 = 0.8;

/// One comparison, in bits a byte or in shares of right answers.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// The trial without its seed, or `base`.
    pub trial: String,
    /// What is compared.
    pub metric: Metric,
    /// On what corpus, task or group of tasks.
    pub corpus: String,
    /// Seeds that both have.
    pub seeds: usize,
    /// Documents, or questions, that were compared.
    pub documents: usize,
    /// The baseline's value of the metric, the mean over seeds.
    pub baseline: f64,
    /// The run's.
    pub run: f64,
    /// By how much the run is worse: forgets more, learns less, is right less often; of the base, how much it
    /// moved.
    pub worse_by: f64,
    /// Of confidence `1 − 2 · level`; null where nothing can be told.
    pub interval: Option<Interval>,
    /// What it may be worse by.
    pub margin: f64,
    /// Of *worse by the margin or more*, adjusted; small means within.
    pub p_within: Option<f64>,
    /// Of *worse by the margin or less*, adjusted; small means beyond.
    pub p_beyond: Option<f64>,
    /// How far within the margin the truth must lie for this data to show it with 80 % probability,
    /// of this row alone (before the adjustment over rows) and on its one side.
    pub detectable: Option<f64>,
    /// What follows.
    pub verdict: Verdict,
    /// Why nothing can be told; absent otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// What was measured of a row.
pub(crate) struct Measured<'a> {
    pub trial: &'a str,
    pub metric: Metric,
    pub on: &'a str,
    pub seeds: usize,
    pub documents: usize,
    pub baseline: f64,
    pub run: f64,
    /// As the policy has it.
    pub margin: Margin,
}

impl Row {
    /// The row of an estimate of what the run is worse by; its p values are not adjusted yet.
    ///
    /// # Errors
    /// If the margin means nothing here, or the estimate failed for another reason than too little data.
    pub(crate) fn new(
        measured: &Measured,
        estimate: Result<Estimate, StatsError>,
        policy: &Policy,
    ) -> Result<Self, CheckError> {
        let Measured { trial, metric, on, seeds, documents, baseline, run, .. } = *measured;
        let margin = measured.margin(policy)?;
        let fewer_is_worse = !matches!(metric, Metric::Forgetting | Metric::Base);
        let mut row = Self {
            trial: trial.to_owned(),
            metric,
            corpus: on.to_owned(),
            seeds,
            documents,
            baseline,
            run,
            worse_by: if fewer_is_worse { baseline - run } else { run - baseline },
            interval: None,
            margin,
            p_within: None,
            p_beyond: None,
            detectable: None,
            verdict: Verdict::Inconclusive,
            note: None,
        };
        match estimate {
            Ok(estimate) => row.fill(&estimate, policy),
            Err(StatsError::TooFew { what, found, needed }) => {
                row.note = Some(format!("{found} {what}, at least {needed} are needed"));
            }
            Err(cause) => {
                let row = noise_key(trial, metric, on);
                return Err(CheckError::Statistics { row, cause });
            }
        }
        Ok(row)
    }

    fn fill(&mut self, estimate: &Estimate, policy: &Policy) {
        let level = policy.level;
        let margin = self.margin;
        let (mut within, mut beyond) = (estimate.p_at_least(margin), estimate.p_at_most(margin));
        if self.metric.is_of_base() || policy.either_way {
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
            Metric::ForgettingAccuracy | Metric::LearningAccuracy | Metric::BaseAccuracy => {
                ("fewer right answers", "more right answers")
            }
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
        let (trial, unit) = (&self.trial, metric.unit());
        format!(
            "{trial} {word} on {corpus}: worse by {worse_by:.4}{unit} ({interval}), {place} the margin of {margin:.4}"
        )
    }
}

impl Measured<'_> {
    /// The margin in the metric's own unit, which may not be below the noise.
    fn margin(&self, policy: &Policy) -> Result<f64, CheckError> {
        let Self { trial, metric, on, seeds, baseline, margin, .. } = *self;
        let wrong = |message| Err(policy_error("margins", message));
        let value = match margin {
            Margin::Absolute(value) => value,
            Margin::Relative(share) if baseline > 0.0 => share * baseline,
            Margin::Relative(_) => {
                let row = format!("{trial}, {} on {on}", metric.name());
                return wrong(format!(
                    "{margin} of the baseline's {baseline:.4} is no margin ({row}); give a number, such as 0.01"
                ));
            }
        };
        let key = noise_key(trial, metric, on);
        let noise = policy.noise.as_ref();
        // The base has one model, however many seeds extend it.
        let seeds =
            if metric.is_of_base() { noise.and_then(|n| n.seeds).unwrap_or(1) } else { seeds };
        match noise.and_then(|noise| Some((noise, noise.repeatability(&key, policy.level, seeds)?)))
        {
            Some((noise, limit)) if value < limit => wrong(format!(
                "{value:.4} is below what two runs of the same differ by ({key}: {limit:.4}{}, from {} runs); expected at least {limit:.4}",
                metric.unit(),
                noise.runs
            )),
            _ => Ok(value),
        }
    }
}
