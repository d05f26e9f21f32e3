//! One run by several processes, a leader and followers.
//!
//! Rank 0 leads: it does all that a run does, and its files, locks and results are the run's. Before each training it says
//! what is trained, and the others, which follow ([`follow`]), build the same and train with it. A follower
//! writes nothing, but to a cache of its own what that lacks.

pub(crate) mod follow;
pub(crate) mod launch;
pub(crate) mod rendezvous;

use std::time::Duration;

use neutral_spec::{BaseSpec, Plan};
use neutral_torch::{Group, TorchError};
use neutral_train::TrainError;
use serde::{Deserialize, Serialize};

use crate::cli::RunArgs;
use crate::exit::BadInput;
use crate::failure;
use crate::unit::Unit;

/// How long the leader, when it is done, waits for followers that do not hear it.
const PATIENCE: Duration = Duration::from_secs(10);

/// What all processes do next.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Next {
    /// Pretrain the base.
    Base,
    /// Train the trial of this id.
    Trial(String),
    /// Nothing.
    End,
}

/// Has the others do something; nothing if this process is alone, or follows.
pub(crate) fn announce(group: Option<&Group>, next: &Next) -> anyhow::Result<()> {
    match group {
        Some(group) if group.rank() == 0 => Ok(group.say(&serde_json::to_string(next)?)?),
        _ => Ok(()),
    }
}

/// Ends the group of a leader, whose run ended so.
pub(crate) fn end<T>(group: &Group, done: &anyhow::Result<T>) {
    // They are gone, or on their way: each has seen the same.
    if done.as_ref().is_err_and(is_broken) {
        return;
    }
    let ended = announce(Some(group), &Next::End)
        .and_then(|()| group.leave(PATIENCE).map_err(anyhow::Error::from));
    if let Err(error) = ended {
        tracing::warn!("{error:#}");
    }
}

/// Whether the processes do not reach each other any more.
fn is_broken(error: &anyhow::Error) -> bool {
    let inner = match error.downcast_ref() {
        Some(TrainError::Torch(inner)) => Some(inner),
        _ => error.downcast_ref(),
    };
    matches!(inner, Some(TorchError::Distributed { .. }))
}

/// Whether a trial failed in a way that leaves the processes of a group together: each has the same losses, and what
/// the leader finds when it scores, it finds while the others wait for what comes next. Of another failure the others know nothing, and would wait in the middle of a training.
pub(crate) fn is_shared(error: &anyhow::Error) -> bool {
    failure::has_diverged(error)
}

/// Refuses what several processes cannot do as one.
pub(crate) fn check(args: &RunArgs, has_executor: bool) -> Result<(), BadInput> {
    let problem = if has_executor {
        "an executor starts processes of its own, each for a trial: train each trial over several \
         processes (--executor in-process), or the trials side by side (without WORLD_SIZE and srun)"
    } else if args.dry_run {
        "--dry-run trains nothing: run it alone"
    } else if args.only == Some(Unit::Collect) {
        "--only collect trains nothing: run it alone"
    } else {
        return Ok(());
    };
    Err(BadInput(format!("this is one of several processes of a run, and {problem}")))
}

/// Refuses a plan with a training whose steps are of fewer sequences than there are processes, before any trains.
pub(crate) fn fits(plan: &Plan, processes: usize) -> Result<(), BadInput> {
    let base = match &plan.base {
        BaseSpec::Pretrain { training, .. } => Some(("base", training.batch_size)),
        BaseSpec::Load { .. } => None,
    };
    let trials = plan.trials.iter().map(|trial| (trial.id.as_str(), trial.training.batch_size));
    match base.into_iter().chain(trials).find(|(_, batch_size)| *batch_size < processes) {
        None => Ok(()),
        Some((of, batch_size)) => Err(BadInput(format!(
            "{of}: training.batch_size is {batch_size}, and each of {processes} processes needs a sequence of a step; \
             raise it, or start fewer processes"
        ))),
    }
}
