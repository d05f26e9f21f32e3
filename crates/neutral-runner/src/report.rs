//! `neutral report`: runs on one page, for reading.

use std::path::PathBuf;

use clap::Args;
use neutral_report::{Run, write_report};

use crate::exit::BadInput;

/// Arguments of `neutral report`.
#[derive(Debug, Args)]
pub(crate) struct ReportArgs {
    /// Folders of runs, each with its results.json.
    #[arg(required = true, value_name = "RUN")]
    pub runs: Vec<PathBuf>,
    /// Where to write report.html and report.md [default: the run's folder, if it is one run].
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

/// `neutral report`.
pub(crate) fn run(args: &ReportArgs) -> anyhow::Result<()> {
    let out = match (&args.out, args.runs.as_slice()) {
        (Some(out), _) => out,
        (None, [run]) => run,
        (None, runs) => {
            let message =
                format!("{} runs have no folder in common; name one with --out", runs.len());
            return Err(BadInput(message).into());
        }
    };
    let mut runs = Vec::new();
    for folder in &args.runs {
        if !folder.join("results.json").is_file() {
            let message = format!(
                "{} has no results.json; expected the folder of a run, such as runs/quick",
                folder.display()
            );
            return Err(BadInput(message).into());
        }
        let run = Run::read(folder)?;
        if run.steps.is_empty() {
            tracing::info!(
                "{}: no trials/*/metrics.jsonl, so no training curves",
                folder.display()
            );
        }
        runs.push(run);
    }
    write_report(&runs, out)?;
    tracing::info!("report.html, report.md: {}", out.display());
    Ok(())
}
