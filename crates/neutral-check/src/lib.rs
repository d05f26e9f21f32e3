//! A gate on forgetting: does a run forget more, or learn less, than its baseline?
//!
//! ```text
//! run folder ─ Scored::of_run ─► Scored ─ write_baseline ─► baseline.json
//!                                  │
//!          Scored (baseline) ──────┼── policy.yaml
//!                                check ─► Check: a row a trial, metric and corpus or task ─► table · check.json · JUnit
//!                                                                                    annotations · Markdown · badge
//! runs of one setting ─ calibrate ─► the policy's `noise`
//! ```
//!
//! Models are compared on the same documents, each with its own base subtracted, so that what a text is like
//! and what the base knew fall out; answers to tasks question by question. A row passes if the run is *shown* to be worse by less than the margin, fails
//! if it is shown to be worse by more, and is inconclusive otherwise: no evidence of a regression is no
//! evidence that there is none. What cannot be compared is refused with the fingerprint that differs.
//!
//! The statistics are those of `neutral-stats`; scores are computed by nobody here, and libtorch is not linked.

mod answers;
mod budget;
mod calibrate;
mod comparable;
mod error;
mod gate;
mod matched;
mod policy;
mod report;
mod row;
#[cfg(test)]
mod sample;
mod scored;
#[cfg(test)]
mod tests;
mod verdict;

pub use answers::{AllAnswers, Answers};
pub use budget::{Budget, BudgetResult, Candidate};
pub use calibrate::{calibrate, store_noise};
pub use comparable::Fingerprints;
pub use error::CheckError;
pub use gate::{Check, check};
pub use policy::{Margin, Metric, Noise, Policy};
pub use report::{annotations, badge, junit, markdown, table};
pub use row::Row;
pub use scored::{
    BASELINE_SCHEMA, BaseFile, Documents, Failure, Nats, Scored, TrialScores, read_baseline,
    write_baseline,
};
pub use verdict::Verdict;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
