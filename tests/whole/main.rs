//! Tests of the project as a whole: its structure, its shipped files, and runs of the command.

#![expect(clippy::unwrap_used, reason = "in tests a panic is the report")]

mod architecture;
mod bad_input;
mod baselines;
mod check;
mod command;
mod control;
mod eval;
mod export;
mod hardship;
mod interruption;
mod loaded_base;
mod neutrality;
mod shipped;
mod smoke;
mod stopping;
mod variants;
