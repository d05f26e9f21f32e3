//! `neutral check`: a run held against a baseline.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use neutral_check::{
    Policy, Scored, annotations, badge, calibrate, check, junit, markdown, read_baseline,
    store_noise, table, write_baseline,
};
use neutral_store::{write_atomic, write_json};

use crate::exit::{BadInput, NoVerdict};

/// Arguments of `neutral check`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct CheckArgs {
    /// What else can be done.
    #[command(subcommand)]
    pub command: Option<CheckCommand>,
    /// The folder of a finished run.
    #[arg(required = true)]
    pub run: Option<PathBuf>,
    /// What to hold it against; with --write-baseline, where to write it.
    #[arg(long, value_name = "FILE")]
    pub baseline: Option<PathBuf>,
    /// Margins, level and budgets [default: 0.01 bits/byte of forgetting, 5 % of learning, level 0.025].
    #[arg(long, value_name = "FILE")]
    pub policy: Option<PathBuf>,
    /// Make the run the baseline instead of checking it; it must come from a clean tree.
    #[arg(
        long,
        requires = "baseline",
        conflicts_with_all = ["policy", "json", "junit", "summary", "badge", "annotations"]
    )]
    pub write_baseline: bool,
    /// Where to write the result [default: check.json in the run's folder].
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write a JUnit XML report too.
    #[arg(long, value_name = "FILE")]
    pub junit: Option<PathBuf>,
    /// Append a summary in Markdown to a file [default: `$GITHUB_STEP_SUMMARY`, if set].
    #[arg(long, value_name = "FILE")]
    pub summary: Option<PathBuf>,
    /// Write the JSON of a badge (shields.io endpoint).
    #[arg(long, value_name = "FILE")]
    pub badge: Option<PathBuf>,
    /// Print GitHub annotations; always done where `$GITHUB_ACTIONS` is set.
    #[arg(long)]
    pub annotations: bool,
}

/// What `neutral check` does besides.
#[derive(Debug, Subcommand)]
pub(crate) enum CheckCommand {
    /// Measure how far runs of the same experiment lie apart, and store it in a policy: no margin below that
    /// is accepted.
    Calibrate(CalibrateArgs),
}

/// Arguments of `neutral check calibrate`.
#[derive(Debug, Args)]
pub(crate) struct CalibrateArgs {
    /// Folders of finished runs, computed with other threads, processors or seeds.
    #[arg(required = true, value_name = "RUN")]
    pub runs: Vec<PathBuf>,
    /// The policy to store the noise in.
    #[arg(long, value_name = "FILE")]
    pub policy: PathBuf,
}

/// `neutral check`. Exit code 1 is a verdict: whatever keeps it from one is code 2.
pub(crate) fn run(args: &CheckArgs) -> anyhow::Result<ExitCode> {
    judge(args).map_err(|error| NoVerdict(error).into())
}

fn judge(args: &CheckArgs) -> anyhow::Result<ExitCode> {
    if let Some(CheckCommand::Calibrate(args)) = &args.command {
        return calibrated(args);
    }
    // clap requires it unless there is a subcommand.
    let Some(run) = &args.run else { anyhow::bail!("no run was named") };
    let scored = Scored::of_run(run)?;
    if let (true, Some(baseline)) = (args.write_baseline, &args.baseline) {
        write_baseline(run, &scored, baseline)?;
        tracing::info!("baseline of {} trials: {}", scored.trials.len(), baseline.display());
        return Ok(ExitCode::SUCCESS);
    }
    let policy = args.policy.as_deref().map(Policy::read).transpose()?.unwrap_or_default();
    let baseline = match &args.baseline {
        Some(path) if !path.is_file() => {
            let path = path.display();
            let message = format!(
                "{path} is not there; make it with `neutral check {} --baseline {path} --write-baseline`",
                run.display()
            );
            return Err(BadInput(message).into());
        }
        baseline => baseline.as_deref().map(read_baseline).transpose()?,
    };
    let result = check(&scored, baseline.as_ref(), &policy)?;

    let json = args.json.clone().unwrap_or_else(|| run.join("check.json"));
    write_json(&json, &result)?;
    if let Some(path) = &args.junit {
        write_atomic(path, |w| w.write_all(junit(&result).as_bytes()))?;
    }
    if let Some(path) = &args.badge {
        write_json(path, &badge(&result))?;
    }
    let summary = args.summary.clone().or_else(|| variable("GITHUB_STEP_SUMMARY"));
    if let Some(path) = summary {
        append(&path, &markdown(&result))?;
    }
    let mut stdout = std::io::stdout().lock();
    write!(stdout, "{}", table(&result))?;
    if args.annotations || variable("GITHUB_ACTIONS").is_some() {
        write!(stdout, "{}", annotations(&result))?;
    }
    Ok(ExitCode::from(result.verdict.exit_code()))
}

fn variable(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// After what other steps wrote there; whole, as everything is written.
fn append(path: &Path, text: &str) -> anyhow::Result<()> {
    let before = if path.is_file() { std::fs::read(path)? } else { Vec::new() };
    write_atomic(path, |w| {
        w.write_all(&before)?;
        w.write_all(text.as_bytes())
    })?;
    Ok(())
}

fn calibrated(args: &CalibrateArgs) -> anyhow::Result<ExitCode> {
    let runs = args.runs.iter().map(|run| Scored::of_run(run)).collect::<Result<Vec<_>, _>>()?;
    let noise = calibrate(&runs)?;
    store_noise(&args.policy, &noise)?;
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "deviation between {} runs, bits/byte or shares of answers:", noise.runs)?;
    for (row, deviation) in &noise.deviations {
        writeln!(stdout, "  {row}: {deviation:.1e}")?;
    }
    writeln!(stdout, "stored in {}", args.policy.display())?;
    Ok(ExitCode::SUCCESS)
}
