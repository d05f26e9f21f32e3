//! The policy file: how much worse is too much.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use neutral_store::StoreError;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{Budget, CheckError};

/// `policy.yaml`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Policy {
    /// The level of every one-sided test; intervals have the confidence `1 − 2 · level`.
    pub level: f64,
    /// With fewer documents of a corpus nothing is concluded.
    pub minimum_documents: usize,
    /// Whether a change for the better beyond the margin fails too: for code whose results should not move.
    pub either_way: bool,
    /// Bootstrap replicates.
    pub resamples: usize,
    /// Of the bootstrap's random numbers.
    pub seed: u64,
    /// How much worse a run may be, by metric. What has no margin is not checked; a margin, here or below, of what
    /// the baseline does not have is an error.
    pub margins: BTreeMap<Metric, Margin>,
    /// Margins that hold for one corpus instead.
    pub corpora: BTreeMap<String, BTreeMap<Metric, Margin>>,
    /// Margins that hold for one task, or group of tasks, instead.
    pub tasks: BTreeMap<String, BTreeMap<Metric, Margin>>,
    /// What some trial of the run must reach, baseline or not.
    pub budgets: Vec<Budget>,
    /// How far runs of the same experiment differ, as `neutral check calibrate` measured it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub noise: Option<Noise>,
}

impl Default for Policy {
    /// 0.01 bits a byte of forgetting, a twentieth of what was learnt, at a level of 2.5 %.
    fn default() -> Self {
        let margins = [
            (Metric::Forgetting, Margin::Absolute(0.01)),
            (Metric::Learning, Margin::Relative(0.05)),
        ];
        Self {
            level: 0.025,
            minimum_documents: 20,
            either_way: false,
            resamples: 9999,
            seed: 0,
            margins: margins.into(),
            corpora: BTreeMap::new(),
            tasks: BTreeMap::new(),
            budgets: Vec::new(),
            noise: None,
        }
    }
}

/// What is checked of a trial on a corpus or task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Metric {
    /// Bits/byte after − base on the original domain: more is worse.
    #[serde(rename = "forgetting.bits_per_byte")]
    Forgetting,
    /// Bits/byte of the base − after on the new domain: less is worse.
    #[serde(rename = "learning.bits_per_byte")]
    Learning,
    /// Bits/byte of the pristine base on any corpus: a change either way is an error, for the base is the
    /// same.
    #[serde(rename = "base.bits_per_byte")]
    Base,
    /// The share of right answers to a task of the original domain: less is worse.
    #[serde(rename = "forgetting.accuracy")]
    ForgettingAccuracy,
    /// The same of the new domain.
    #[serde(rename = "learning.accuracy")]
    LearningAccuracy,
    /// The pristine base's on any task: a change either way is an error.
    #[serde(rename = "base.accuracy")]
    BaseAccuracy,
}

/// As in a policy's file.
impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

impl Metric {
    /// Every metric.
    pub(crate) const ALL: [Self; 6] = [
        Self::Forgetting,
        Self::Learning,
        Self::Base,
        Self::ForgettingAccuracy,
        Self::LearningAccuracy,
        Self::BaseAccuracy,
    ];

    /// The word in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Forgetting => "forgetting",
            Self::Learning => "learning",
            Self::Base => "bits/byte",
            Self::ForgettingAccuracy | Self::LearningAccuracy | Self::BaseAccuracy => "accuracy",
        }
    }

    /// What its numbers are in; nothing for a share.
    pub fn unit(self) -> &'static str {
        match self {
            Self::Forgetting | Self::Learning | Self::Base => " bits/byte",
            Self::ForgettingAccuracy | Self::LearningAccuracy | Self::BaseAccuracy => "",
        }
    }

    /// Whether it may not change for the better either.
    pub(crate) fn is_of_base(self) -> bool {
        matches!(self, Self::Base | Self::BaseAccuracy)
    }
}

/// How much worse a run may be: `0.01` bits a byte, or of accuracy, or `5%` of the baseline's value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Margin {
    /// In bits a byte; for accuracies a share, so that 0.01 is a percentage point.
    Absolute(f64),
    /// As a share of the baseline's value.
    Relative(f64),
}

impl fmt::Display for Margin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absolute(bits) => write!(f, "{bits}"),
            Self::Relative(share) => write!(f, "{}%", share * 100.0),
        }
    }
}

impl Serialize for Margin {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Absolute(bits) => serializer.serialize_f64(*bits),
            Self::Relative(_) => serializer.collect_str(self),
        }
    }
}

impl<'de> Deserialize<'de> for Margin {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error;
        let value = serde_json::Value::deserialize(deserializer)?;
        let wrong = || {
            D::Error::custom(format!(
                "found {value}, expected bits a byte such as 0.01, a share of answers such as 0.02, or a share of the baseline's value such as 5%"
            ))
        };
        let number = |text: &str| text.trim().parse::<f64>().ok();
        let margin = match &value {
            serde_json::Value::Number(bits) => bits.as_f64().map(Self::Absolute),
            serde_json::Value::String(text) => text
                .strip_suffix('%')
                .and_then(number)
                .map(|percent| Self::Relative(percent / 100.0)),
            _ => None,
        };
        let above_zero = |margin: &Self| match margin {
            Self::Absolute(x) | Self::Relative(x) => x.is_finite() && *x > 0.0,
        };
        margin.filter(above_zero).ok_or_else(wrong)
    }
}

/// How far finished runs of one setting lie apart.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Noise {
    /// Runs that were measured.
    pub runs: usize,
    /// Seeds of each, over which the deviations' values are means; earlier versions did not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seeds: Option<usize>,
    /// What they were computed on, each kind once.
    pub environments: Vec<String>,
    /// Standard deviation between runs, in bits a byte or shares of right answers, by `trial / metric / corpus`.
    pub deviations: BTreeMap<String, f64>,
}

/// `trial / metric / corpus`, as rows are called; accuracies with their domain, for both may have the task.
pub(crate) fn noise_key(trial: &str, metric: Metric, corpus: &str) -> String {
    let domain = match metric {
        Metric::ForgettingAccuracy => "forgetting ",
        Metric::LearningAccuracy => "learning ",
        _ => "",
    };
    format!("{trial} / {domain}{} / {corpus}", metric.name())
}

impl Noise {
    /// How far two runs of the same may lie apart by chance, one-sided: `√2 · t · s`, the repeatability limit of
    /// ISO 5725 with Student's quantile of the few runs that there were, for means over so many seeds. None for what was
    /// not measured.
    pub(crate) fn repeatability(&self, key: &str, level: f64, seeds: usize) -> Option<f64> {
        let seeds = self.seeds.map_or(1.0, |measured| measured as f64 / seeds as f64);
        let deviation = self.deviations.get(key)? * seeds.sqrt();
        let t = neutral_stats::student_quantile(1.0 - level, self.runs as f64 - 1.0);
        Some(std::f64::consts::SQRT_2 * t * deviation)
    }
}

impl Policy {
    /// Reads a policy.
    ///
    /// # Errors
    /// If the file cannot be read, or says what no policy can mean; the field is named.
    pub fn read(path: &Path) -> Result<Self, CheckError> {
        let text = std::fs::read_to_string(path).map_err(|e| StoreError::io("read", path, e))?;
        Self::from_yaml(&text, &path.display().to_string())
    }

    /// The same from text; `file` is what errors call it.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn from_yaml(text: &str, file: &str) -> Result<Self, CheckError> {
        let wrong = |field: String, message: String| {
            let file = file.to_owned();
            CheckError::Policy { file, field, message }
        };
        // By way of a value, whose maps refuse a key that is given twice.
        let value: serde_yaml::Value =
            serde_yaml::from_str(text).map_err(|e| wrong("policy".to_owned(), e.to_string()))?;
        let policy: Self = serde_path_to_error::deserialize(value).map_err(|error| {
            // Of a metric, which is no text, the path knows no name.
            let path = error.path().to_string();
            let field = if path == "." { "policy" } else { path.trim_end_matches(".?") };
            wrong(field.to_owned(), error.inner().to_string())
        })?;
        let found = |field: &str, value: &dyn fmt::Display, expected: &str| {
            Err(wrong(field.to_owned(), format!("found {value}, expected {expected}")))
        };
        if !(policy.level > 0.0 && policy.level < 0.5) {
            return found("level", &policy.level, "a probability above 0 and below 0.5");
        }
        if policy.minimum_documents < 2 {
            return found("minimum_documents", &policy.minimum_documents, "at least 2");
        }
        // Below, no p can reach the level.
        let least = (1.0 / policy.level).ceil();
        if policy.resamples as f64 + 1.0 < least {
            let expected = format!("at least {least}, or no p value can reach the level");
            return found("resamples", &policy.resamples, &expected);
        }
        if let Some(noise) = policy.noise.as_ref().filter(|noise| noise.runs < 2) {
            return found("noise.runs", &noise.runs, "at least 2; calibrate again");
        }
        for (i, budget) in policy.budgets.iter().enumerate() {
            for (name, value) in [
                ("learning_at_least", budget.learning_at_least),
                ("forgetting_at_most", budget.forgetting_at_most),
            ] {
                if !value.is_finite() {
                    return found(&format!("budgets[{i}].{name}"), &value, "a finite number");
                }
            }
        }
        Ok(policy)
    }

    /// The margin of a metric on a corpus or task; none if it is not checked.
    pub(crate) fn margin(&self, metric: Metric, on: &str) -> Option<Margin> {
        let own = [&self.corpora, &self.tasks].map(|own| own.get(on)?.get(&metric));
        own.into_iter().flatten().next().or_else(|| self.margins.get(&metric)).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Policy, String> {
        Policy::from_yaml(text, "policy.yaml").map_err(|error| error.to_string())
    }

    #[test]
    fn an_error_of_a_value_names_its_field() {
        for (text, field) in [
            ("level: 5%", "level"),
            (
                "budgets: [{ name: a, learning_at_least: 1, forgetting_at_most: 10% }]",
                "budgets[0].forgetting_at_most",
            ),
            ("margins: { learning.bits_per_byte: none }", "margins"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(&format!("policy.yaml: {field}: ")), "{error}");
        }
    }

    #[test]
    fn margins_are_bits_or_shares_and_a_corpus_may_have_its_own() {
        let policy = read(
            "margins:\n  forgetting.bits_per_byte: 0.02\n  learning.bits_per_byte: 5%\n\
             corpora:\n  text/a: { forgetting.bits_per_byte: 0.5 }\n",
        )
        .unwrap();
        let margin = |metric, corpus| policy.margin(metric, corpus);
        assert_eq!(margin(Metric::Forgetting, "text/b"), Some(Margin::Absolute(0.02)));
        assert_eq!(margin(Metric::Forgetting, "text/a"), Some(Margin::Absolute(0.5)));
        assert_eq!(margin(Metric::Learning, "text/a"), Some(Margin::Relative(0.05)));
        assert_eq!(margin(Metric::Base, "text/a"), None);
    }

    #[test]
    fn a_policy_survives_its_file() {
        let policy = Policy::default();
        let text = serde_yaml::to_string(&policy).unwrap();
        assert_eq!(read(&text).unwrap(), policy);
    }

    #[test]
    fn what_no_policy_can_mean_is_refused_by_its_field() {
        let error = read("level: 0.7").unwrap_err();
        assert_eq!(
            error,
            "policy.yaml: level: found 0.7, expected a probability above 0 and below 0.5"
        );
        for (text, word) in [
            ("margins: { forgetting.bits_per_byte: -1 }", "expected bits a byte such as 0.01"),
            ("margins: { forgetting.bits_per_byte: 5 bits }", "expected bits a byte"),
            ("margins: { forgetting.bits: 1 }", "forgetting.bits_per_byte"),
            ("marigns: {}", "marigns"),
            (
                "margins: { learning.bits_per_byte: 1, learning.bits_per_byte: 2 }",
                "duplicate entry with key \"learning.bits_per_byte\"",
            ),
            ("resamples: 9", "at least 40"),
            ("minimum_documents: 1", "at least 2"),
            (
                "budgets: [{ name: a, learning_at_least: .nan, forgetting_at_most: 1 }]",
                "budgets[0]",
            ),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(word), "{text}: {error}");
        }
    }

    #[test]
    fn repeatability_is_that_of_two_runs() {
        let noise = Noise {
            runs: 1_000_001,
            seeds: Some(3),
            environments: Vec::new(),
            deviations: [("a".to_owned(), 1.0)].into(),
        };
        // ISO 5725's 2.8 · s.
        assert!((noise.repeatability("a", 0.025, 3).unwrap() - 2.772).abs() < 1e-3);
        assert_eq!(noise.repeatability("b", 0.025, 3), None);
        // Of one seed in place of the mean of three.
        let one = noise.repeatability("a", 0.025, 1).unwrap();
        assert!((one - 3.0_f64.sqrt() * 2.772).abs() < 2e-3, "{one}");
    }
}
