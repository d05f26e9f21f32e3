//! What came out of a run, for programs and for people.
//!
//! [`Results`] is `results.json`, the one record: everything else here is drawn from it and can be
//! drawn again from the file alone. [`terminal_table`] goes to the screen; [`write_all`] puts
//! `results.json`, `results.csv`, `report.md` and its plots into a run's folder; [`write_report`]
//! makes `report.html` of one or several runs, with figures of what their trials' folders hold. This crate
//! computes differences and means, no scores: those come from `neutral-eval`.

mod against_base;
mod best;
mod columns;
mod control;
mod csv;
mod curve;
mod divergence;
mod equal_learning;
mod error;
mod escape;
mod figure;
mod folder;
mod format;
mod html;
mod hypervolume;
mod interval;
mod legend;
mod markdown;
mod marker;
mod neutrality;
mod notes;
mod over_seeds;
mod panel;
mod paper;
mod plot;
mod results;
mod run;
#[cfg(test)]
mod sample;
mod scale;
mod series;
mod setting;
mod step;
mod table;
mod tasks;

pub use against_base::{
    AgainstBase, BlockGates, Distribution, Divergence, NeutralPrefixes, Sample, Spectrum,
};
pub use csv::csv;
pub use error::ReportError;
pub use escape::{escaped, escaped_markdown};
pub use folder::{read, write_all, write_report};
pub use format::{decimals, shorten, thousands};
pub use html::html;
pub use markdown::markdown;
pub use neutrality::Neutrality;
pub use paper::{PaperFigure, PaperFigures};
pub use plot::{tradeoff_corpora_svg, tradeoff_svg};
pub use results::{
    BaseResult, ByCorpus, ByDomain, Environment, Metrics, Parameters, Results, SCHEMA, Status,
    TrialResult, forgetting, learning,
};
pub use run::{Run, made_from};
pub use step::Step;
pub use table::{Style, terminal_table};
pub use tasks::{ByTask, TaskScore, mean_score};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
