//! What a paper found that an experiment repeats; no part of what determines a result.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Figures of a paper.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PaperSpec {
    /// Where they stand, on what, and in which unit.
    #[schemars(length(min = 1))]
    pub what: String,
    /// What each method forgot and learnt there, by the label that it has here; `adapter` is what the
    /// others are divided by.
    pub figures: BTreeMap<String, PaperFigureSpec>,
}

/// What a method forgot and learnt in a paper.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PaperFigureSpec {
    /// On the original domain; more is worse.
    pub forgetting: f64,
    /// On the new domain; more is better.
    pub learning: f64,
}
