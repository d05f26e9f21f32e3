//! Tests of the project as a whole: its structure, its shipped files, and runs of the command.

#![expect(clippy::unwrap_used, reason = "in tests a panic is the report")]

mod architecture;
mod bad_input;
mod baselines;
mod check;
mod clock;
mod command;
mod control;
mod damage;
mod disturbed;
mod eval;
mod executors;
mod export;
mod hardship;
mod interruption;
mod kills;
mod loaded_base;
mod neutrality;
mod processes;
mod reuse;
mod sequence;
mod settings;
mod shared_cache;
mod shipped;
mod smoke;
mod stopping;
mod submissions;
mod trace;
mod variants;
