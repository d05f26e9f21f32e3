//! The command `neutral`: one experiment file in, a comparison of methods out.
//!
//! Here all crates meet, and only here: parse and plan (`neutral-spec`), text to tokens
//! (`neutral-data`), base and extensions (`neutral-model`, `neutral-adapters`), training
//! (`neutral-train`), scores (`neutral-eval`), results (`neutral-report`), the gate (`neutral-check`). The order of a run is
//! in `run.rs`. Numbers are computed in the crates below; what is left to this one is adding up the windows of a document
//! and choosing a task's metric (`eval`, `tasks.rs`).

mod answers;
mod base;
mod base_file;
mod bench;
mod check;
mod cli;
mod data_command;
mod doctor;
mod dry_run;
mod environment;
mod eval;
mod executor;
mod exit;
mod export;
mod failure;
mod fingerprint;
mod finished;
mod generate;
mod group;
mod inputs;
mod inspect;
mod model_source;
mod names;
mod neutrality;
mod numerics;
mod pretrain;
mod progress;
mod report;
mod results;
mod reuse;
mod run;
mod run_file;
mod scores;
mod session;
mod signals;
mod speed;
mod status;
mod table;
mod tasks;
mod trial;
mod trial_file;
mod unit;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::{BenchCommand, Cli, Command};

/// Runs the command line; the exit code says how it ended: 0 done, 1 a run or a check failed, 2 bad input,
/// 3 a check was inconclusive, 130 interrupted.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    neutral_torch::keep_freed_memory();
    let bars = progress::init();
    let done = match cli.command {
        Command::Run(args) => run::run(&args, &bars),
        Command::Launch(args) => group::launch::run(&args),
        Command::Status(args) => status::run(&args),
        Command::Cancel(args) => executor::cancel(&args.run),
        Command::Data(args) => data_command::run(&args, &bars),
        Command::Bench(BenchCommand::Step(args)) => bench::step::run(&args),
        Command::Bench(BenchCommand::Generate(args)) => bench::generate::run(&args),
        Command::Bench(BenchCommand::Eval(args)) => eval::bench::run(&args, &bars),
        Command::Eval(args) => eval::run(&args, &bars),
        Command::Generate(args) => generate::run(&args),
        Command::Export(args) => export::run(&args),
        Command::Inspect(args) => inspect::run(&args, &bars),
        Command::Report(args) => report::run(&args),
        Command::Check(args) => return check::run(&args).unwrap_or_else(|e| exit::report(&e)),
        Command::Schema => exit::print(&neutral_spec::json_schema()),
        Command::Doctor => doctor::run(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => exit::report(&error),
    }
}
