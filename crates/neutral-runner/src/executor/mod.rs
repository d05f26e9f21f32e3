//! Who runs the units of a run ([`crate::unit`]) when not this process does: one trait, a file each.
//!
//! An executor only starts processes of `neutral run --only UNIT` and looks after them; what a trial is and
//! whether it has finished is never its business. All that it knows it keeps in the run's folder, below
//! `executor/`, so that its own process may end at any time. How to add one: `docs/clusters.md`.

pub(crate) mod attempts;
mod bars;
mod command;
mod local;
mod process;
mod slurm;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use indicatif::MultiProgress;
use neutral_spec::{ExecutorSpec, Plan};
use neutral_store::{Fingerprint, Lock, StoreError, read_json, write_json};
use serde::{Deserialize, Serialize};

use crate::cli::{ExecutorArgs, ExecutorKind, MachineArgs, RunArgs};
use crate::exit::BadInput;
use crate::numerics::NUMERICS_VERSION;
use crate::run_file::RunFile;

pub(crate) use process::{PARENT, end_with_parent, exit_code};

/// What an executor is given.
pub(crate) struct Work<'a> {
    pub args: &'a RunArgs,
    pub plan: &'a Plan,
    /// The run's folder.
    pub out: &'a Path,
    /// True when the user wants the command to end.
    pub stop: &'a AtomicBool,
    pub bars: &'a MultiProgress,
}

/// Runs the units of a run somewhere.
pub(crate) trait Executor {
    /// Whether units run on other machines than this one.
    fn is_elsewhere(&self) -> bool;

    /// Has done whatever is not done yet: `prepare`, then the trials, then `collect`. What runs already, from an
    /// earlier call, is not started twice.
    fn run(&self, work: &Work<'_>) -> anyhow::Result<()>;
}

/// What an executor that started a run knows of it later, from the run's folder.
pub(crate) trait Started {
    /// Its name and what identifies its work, for people.
    fn describe(&self) -> String;

    /// The units that it has under way, `prepare`, `collect` or a trial's id; none for an executor whose
    /// processes are seen by the locks that they hold.
    fn under_way(&self, run: &RunFile, out: &Path) -> anyhow::Result<BTreeMap<String, UnderWay>>;

    /// Stops them, and says what was stopped, if anything was.
    fn cancel(&self, out: &Path) -> anyhow::Result<Option<String>>;
}

/// A unit that is under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UnderWay {
    /// It has a machine to run on, and does not wait for one.
    pub runs: bool,
    /// Where it runs.
    pub node: Option<String>,
    /// What the executor says of it: `PENDING (Priority)`.
    pub state: String,
}

/// `executor/executor.json`: who runs the run's units.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Record {
    Local(local::LocalRecord),
    Slurm(slurm::SlurmRecord),
}

impl Record {
    fn path(out: &Path) -> PathBuf {
        folder(out).join("executor.json")
    }

    fn read(out: &Path) -> Result<Option<Self>, StoreError> {
        let path = Self::path(out);
        if path.exists() { read_json(&path).map(Some) } else { Ok(None) }
    }

    fn write(&self, out: &Path) -> Result<(), StoreError> {
        write_json(&Self::path(out), self)
    }
}

/// Refuses to work in a run's folder where jobs of SLURM do.
pub(crate) fn refuse_jobs(out: &Path) -> anyhow::Result<()> {
    let Some(Record::Slurm(record)) = Record::read(out)? else { return Ok(()) };
    match record.is_under_way(out) {
        Ok(false) => Ok(()),
        Ok(true) => {
            let message = format!(
                "{}: its jobs are under way; wait for them with --executor slurm, or `neutral cancel` them first",
                out.display()
            );
            Err(BadInput(message).into())
        }
        // Another machine, or one that has no SLURM any more, cannot know.
        Err(error) => {
            tracing::warn!(
                "{}: whether its jobs are under way is not known: {error:#}",
                out.display()
            );
            Ok(())
        }
    }
}

/// What trials are submitted for: all that determines them, how they are judged, and what they are called.
pub(crate) fn form(plan: &Plan) -> Fingerprint {
    let ids: Vec<&str> = plan.trials.iter().map(|trial| trial.id.as_str()).collect();
    Fingerprint::of(&(judgement(plan), ids))
}

/// Where executors keep what they know.
fn folder(out: &Path) -> PathBuf {
    out.join("executor")
}

/// Holds a run against executors, if one has ever had it: the trials of one that works there are its own.
pub(crate) fn hold(out: &Path) -> Result<Option<Lock>, StoreError> {
    let folder = folder(out);
    folder.is_dir().then(|| Lock::acquire(&folder)).transpose()
}

/// Writes down that no record is left in a run's folder that does not hold for a plan.
pub(crate) fn write_judged(out: &Path, plan: &Plan) -> Result<(), StoreError> {
    write_json(&judged(out), &judgement(plan))
}

/// Of records that are written without an executor nothing is known.
pub(crate) fn forget_judged(out: &Path) {
    let _ = std::fs::remove_file(judged(out));
}

fn read_judged(out: &Path) -> Option<Fingerprint> {
    read_json(&judged(out)).ok()
}

fn judged(out: &Path) -> PathBuf {
    folder(out).join("judged.json")
}

/// What determines whether a record holds and all has been measured, as far as it is known without the data and the
/// base.
fn judgement(plan: &Plan) -> Fingerprint {
    let Plan { tasks, neutrality_tokens, .. } = plan;
    Fingerprint::of(&(plan.fingerprint(), NUMERICS_VERSION, tasks, neutrality_tokens))
}

/// What a unit said, in a file that grows with each attempt.
pub(crate) fn log_path(out: &Path, name: &str) -> PathBuf {
    out.join("logs").join(format!("{name}.log"))
}

/// The executor that the command line and the experiment ask for; none if this process is to run the trials.
pub(crate) fn choose(
    args: &ExecutorArgs,
    spec: Option<&ExecutorSpec>,
    machine: MachineArgs,
) -> anyhow::Result<Option<Box<dyn Executor>>> {
    let of_spec = match spec {
        None => ExecutorKind::InProcess,
        Some(ExecutorSpec::Local { .. }) => ExecutorKind::Local,
        Some(ExecutorSpec::Slurm { .. }) => ExecutorKind::Slurm,
    };
    let kind = args.executor.unwrap_or(of_spec);
    if kind != ExecutorKind::Local && args.jobs.is_some() {
        return Err(ignored("--jobs", "local").into());
    }
    if kind != ExecutorKind::Slurm
        && let Some(option) = slurm::given(args)
    {
        return Err(ignored(option, "slurm").into());
    }
    Ok(match kind {
        ExecutorKind::InProcess => None,
        ExecutorKind::Local => Some(Box::new(local::Local::new(args, spec, machine)?)),
        ExecutorKind::Slurm => Some(Box::new(slurm::Slurm::new(args, spec))),
    })
}

fn ignored(option: &str, kind: &str) -> BadInput {
    BadInput(format!("{option} is an option of --executor {kind}, which was not chosen"))
}

/// The executor that has started a run, if one has.
pub(crate) fn started(out: &Path) -> anyhow::Result<Option<Box<dyn Started>>> {
    Ok(Record::read(out)?.map(|record| -> Box<dyn Started> {
        match record {
            Record::Local(record) => Box::new(record),
            Record::Slurm(record) => Box::new(record),
        }
    }))
}

/// `neutral cancel`.
pub(crate) fn cancel(out: &Path) -> anyhow::Result<()> {
    RunFile::read(out)?;
    let by_executor = started(out)?.map_or(Ok(None), |started| started.cancel(out));
    // A run without an executor, or what is left of one. One of the two is enough: a job that the executor has
    // just cancelled may hold the run on another host, and a host without the executor may have gone on with it.
    let here = process::stop_owner(out);
    let stopped: Vec<_> = match (by_executor, here) {
        (Ok(by_executor), Ok(here)) => by_executor.into_iter().chain(here).collect(),
        (Ok(Some(stopped)), Err(error)) | (Err(error), Ok(Some(stopped))) => {
            tracing::warn!("{error:#}");
            vec![stopped]
        }
        (Err(error), _) | (_, Err(error)) => return Err(error),
    };
    let mut stdout = std::io::stdout().lock();
    if stopped.is_empty() {
        writeln!(stdout, "nothing of {} is running", out.display())?;
    }
    for line in stopped {
        writeln!(stdout, "{line}")?;
    }
    Ok(())
}
