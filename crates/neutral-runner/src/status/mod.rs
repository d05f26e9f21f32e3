//! `neutral status`: how far each trial of a run is, from the run's files and what its executor says.
//!
//! Nothing here needs the data, the base or libtorch, so it answers at once, on any machine that sees the
//! run's folder.

mod progress;
mod table;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use jiff::Timestamp;
use neutral_report::Status;
use neutral_store::Lock;
use serde::Serialize;

use crate::cli::StatusArgs;
use crate::executor::{UnderWay, attempts, started};
use crate::exit;
use crate::failure::Failure;
use crate::run_file::{PlannedTrial, RunFile};

pub(crate) use progress::progress;

/// How a trial is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum State {
    /// It was not begun.
    Waiting,
    /// The executor has it in its queue.
    Queued,
    /// A process works on it.
    Running,
    /// It was begun, and nobody works on it: the same command goes on with it.
    Stopped,
    /// An error ended it.
    Failed,
    /// Its loss was NaN or ran away.
    Diverged,
    /// It is trained and scored.
    Finished,
}

/// A row of the table.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct TrialStatus {
    pub trial: String,
    pub state: State,
    /// Optimizer steps done, as far as they are on disk.
    pub step: u64,
    pub steps: u64,
    pub tokens_per_second: Option<f64>,
    /// When its training will end at this speed; scoring comes after it.
    #[serde(serialize_with = "as_text")]
    pub ends: Option<Timestamp>,
    pub node: Option<String>,
    /// Attempts that failed.
    pub failures: usize,
}

/// In UTC, as RFC 3339 has it.
#[expect(clippy::ref_option, reason = "serde passes references")]
fn as_text<S: serde::Serializer>(
    time: &Option<Timestamp>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    time.map(|time| time.to_string()).serialize(serializer)
}

/// All of a run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct RunStatus {
    pub experiment: String,
    /// Who runs the trials; none if `neutral run` does so itself.
    pub executor: Option<String>,
    /// What the executor says of the shared steps, where it has one under way.
    pub shared: BTreeMap<String, String>,
    pub trials: Vec<TrialStatus>,
}

/// `neutral status`.
pub(crate) fn run(args: &StatusArgs) -> anyhow::Result<()> {
    let status = RunStatus::of(&args.run)?;
    if args.json {
        return exit::print(&serde_json::to_value(&status)?);
    }
    let mut out = std::io::stdout().lock();
    write!(out, "{}", table::table(&status, Timestamp::now()))?;
    Ok(())
}

impl RunStatus {
    fn of(out: &Path) -> anyhow::Result<Self> {
        let run = RunFile::read(out)?;
        let started = started(out)?;
        let under_way = match &started {
            // Files and locks say the rest, wherever the run's folder can be seen.
            Some(started) => started.under_way(&run, out).unwrap_or_else(|error| {
                tracing::warn!("what waits is not known: {error:#}");
                BTreeMap::new()
            }),
            None => BTreeMap::new(),
        };
        let status =
            |trial| TrialStatus::of(trial, out, under_way.get(&trial.id), Timestamp::now());
        let trials = run.trials.iter().map(status).collect::<anyhow::Result<Vec<_>>>()?;
        let is_shared = |unit: &String| run.trials.iter().all(|trial| trial.id != *unit);
        let shared = under_way.iter().filter(|(unit, _)| is_shared(unit));
        let shared = shared.map(|(unit, found)| {
            let place = found.node.as_ref().map(|node| format!(" on {node}"));
            (unit.clone(), format!("{}{}", found.state, place.unwrap_or_default()))
        });
        Ok(Self {
            shared: shared.collect(),
            experiment: run.experiment,
            executor: started.map(|started| started.describe()),
            trials,
        })
    }
}

impl TrialStatus {
    fn of(
        trial: &PlannedTrial,
        out: &Path,
        under_way: Option<&UnderWay>,
        now: Timestamp,
    ) -> anyhow::Result<Self> {
        let folder = trial.folder(out);
        let attempts = attempts::of(out, &trial.id);
        let progress = progress(&folder);
        let state = match under_way {
            Some(UnderWay { runs: true, .. }) => State::Running,
            Some(_) => State::Queued,
            None if Lock::owner(&folder)?.is_some() => State::Running,
            None if trial.has_finished(out) => State::Finished,
            None => match Failure::read(&folder)?.map(|failure| failure.status) {
                Some(Status::Diverged) => State::Diverged,
                Some(_) => State::Failed,
                None if attempts.last().is_some_and(|last| last.failed.is_some()) => State::Failed,
                None if progress.is_some() => State::Stopped,
                None => State::Waiting,
            },
        };
        let speed = progress.as_ref().map(|found| found.tokens_per_second);
        let ends = progress.as_ref().filter(|_| state == State::Running).and_then(|found| {
            let tokens = trial.steps.saturating_sub(found.step) * trial.tokens_per_step;
            let seconds = tokens as f64 / found.tokens_per_second;
            // From when the last step was written, not from now: so the estimate stands still.
            let since = found.written.unwrap_or(now);
            let left = jiff::SignedDuration::try_from_secs_f64(seconds).ok()?;
            since.checked_add(left).ok().filter(|_| tokens > 0)
        });
        let node = under_way.and_then(|found| found.node.clone());
        Ok(Self {
            trial: trial.id.clone(),
            state,
            step: progress.map_or(0, |found| found.step),
            steps: trial.steps,
            tokens_per_second: speed,
            ends,
            node: node.or_else(|| attempts.last().map(|last| last.node.clone())),
            failures: attempts.iter().filter(|attempt| attempt.failed.is_some()).count(),
        })
    }
}

#[cfg(test)]
mod tests {
    use neutral_store::Fingerprint;

    use super::*;

    fn status(folder: &Path, under_way: Option<&UnderWay>) -> TrialStatus {
        let trial = PlannedTrial {
            id: "t-s0".to_owned(),
            fingerprint: Fingerprint::of(&1),
            steps: 100,
            tokens_per_step: 50,
        };
        TrialStatus::of(&trial, folder, under_way, Timestamp::UNIX_EPOCH).unwrap()
    }

    #[test]
    fn the_state_is_what_files_locks_and_executors_say() {
        let run = tempfile::tempdir().unwrap();
        let trial = run.path().join("trials/t-s0");
        assert_eq!(status(run.path(), None).state, State::Waiting);
        let lock = Lock::acquire(&trial).unwrap();
        assert_eq!(status(run.path(), None).state, State::Running);
        let line = |step, speed| format!("{{\"step\":{step},\"tokens_per_second\":{speed}}}\n");
        let lines = [line(1, 1.0), line(2, 100.0), line(3, 100.0)].concat();
        std::fs::write(trial.join("metrics.jsonl"), lines + "{\"step\":4,\"tok").unwrap();
        let running = status(run.path(), None);
        assert_eq!((running.step, running.steps), (3, 100));
        assert!(running.ends.is_some());
        drop(lock);
        let stopped = status(run.path(), None);
        assert_eq!((stopped.state, stopped.ends), (State::Stopped, None));

        let node = Some("n7".to_owned());
        let waits = UnderWay { runs: false, node: None, state: "PENDING (Priority)".to_owned() };
        let works = UnderWay { runs: true, node: node.clone(), state: "RUNNING".to_owned() };
        assert_eq!(status(run.path(), Some(&waits)).state, State::Queued);
        let works = status(run.path(), Some(&works));
        assert_eq!((works.state, works.node), (State::Running, node));

        attempts::add(run.path(), "t-s0", "n1", Some(137)).unwrap();
        let killed = status(run.path(), None);
        assert_eq!((killed.state, killed.failures), (State::Failed, 1));
        assert_eq!(killed.node.as_deref(), Some("n1"));
        let diverged = Status::Diverged;
        Failure { fingerprint: Fingerprint::of(&1), status: diverged, error: "NaN".to_owned() }
            .keep(&trial);
        assert_eq!(status(run.path(), None).state, State::Diverged);
    }
}
