//! What may be concluded from two models' scores on the same documents.
//!
//! ```text
//! per-document differences ─ one seed ─────► ratio()          BCa bootstrap over documents   ┐
//!        of nats           ─ several seeds ► ratio_of_seeds() Student, seeds and documents   ├► Estimate
//!                                          ► bootstrap_of_seeds(), to compare with           ┘
//! Estimate ─► interval · p_at_least · p_at_most · detectable                 p values ─► holm
//! right or wrong by both models ─► mcnemar · more_often_right() Tango's score method, also _of_seeds() ► Estimate
//! ```
//!
//! Everything here is **paired**: document by document, one model's score minus the other's. What makes a
//! document hard is the same for both and falls out, which is most of the variance. Bits per byte are a ratio
//! of sums, so documents are what is drawn, each with its bytes; tokens of one document are not independent.
//!
//! Numbers are drawn from ChaCha streams, one a replicate, and sums are taken in the order given: a result is
//! the same on every machine of the same mathematical functions, and for every number of threads. Cases in which
//! nothing is known (one document, no finite number) are errors; cases in which everything is known (no
//! difference anywhere) are intervals of width 0. `docs/statistics.md` has the coverage, size and power of all
//! of it by simulation.
//!
//! This crate reads no files and knows nothing of models.

mod answers;
mod binomial;
mod bootstrap;
mod error;
mod estimate;
mod holm;
mod normal;
mod ratio;
mod seeds;
mod student;

pub use answers::{more_often_right, more_often_right_of_seeds};
pub use binomial::{McNemar, mcnemar};
pub use bootstrap::{Bootstrap, Replicates};
pub use error::StatsError;
pub use estimate::{Estimate, Interval};
pub use holm::holm;
pub use normal::{normal_cdf, normal_quantile};
pub use ratio::ratio;
pub use seeds::{bootstrap_of_seeds, ratio_of_seeds};
pub use student::{mean, student_cdf, student_quantile};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
