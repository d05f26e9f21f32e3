//! How the command ends: 0 done, 1 a run or a check failed, 2 bad input, 3 a check was inconclusive,
//! 130 interrupted, 141 nobody reads standard output any more.

use std::io::{ErrorKind, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use neutral_adapters::AdapterError;
use neutral_check::CheckError;
use neutral_data::DataError;
use neutral_eval::EvalError;
use neutral_gguf::GgufError;
use neutral_model::ModelError;
use neutral_report::ReportError;
use neutral_spec::SpecError;
use neutral_store::StoreError;
use neutral_tasks::TaskError;
use neutral_torch::TorchError;

use crate::group::launch::RankEnded;

/// The exit code after a mistake in what the user gave.
pub(crate) const EXIT_BAD_INPUT: i32 = 2;

/// The exit code after `SIGINT` or `SIGTERM`, as shells expect it.
pub(crate) const EXIT_INTERRUPTED: i32 = 130;

/// The exit code where nobody reads standard output any more, as if `SIGPIPE` had ended it.
const EXIT_BROKEN_PIPE: u8 = 141;

/// The run was asked to stop and has saved what it had.
#[derive(Debug, thiserror::Error)]
#[error("interrupted; run the same command again to go on")]
pub(crate) struct Interrupted;

/// The command was asked to end, and has nothing to go on from.
#[derive(Debug, thiserror::Error)]
#[error("interrupted")]
pub(crate) struct Abandoned;

/// A mistake in what the user gave that no crate's error type stands for.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct BadInput(pub String);

/// The command was asked to end, and what it waited for goes on without it.
#[derive(Debug, thiserror::Error)]
#[error("the jobs go on; the same command waits for them again, `neutral cancel {}` stops them", .0.display())]
pub(crate) struct Detached(pub PathBuf);

/// A unit of a run ended in another process, which has said why.
#[derive(Debug, thiserror::Error)]
#[error("{unit} ended with exit code {code}; see above")]
pub(crate) struct UnitEnded {
    pub unit: String,
    pub code: i32,
}

/// Why `neutral check` has no verdict.
#[derive(Debug, thiserror::Error)]
#[error("{0:#}")]
pub(crate) struct NoVerdict(pub anyhow::Error);

/// Prints an error with its causes and chooses the exit code.
pub(crate) fn report(error: &anyhow::Error) -> ExitCode {
    // Who reads has read enough, as `head` does.
    let of_stdout = error.downcast_ref::<std::io::Error>();
    if of_stdout.is_some_and(|error| error.kind() == ErrorKind::BrokenPipe) {
        return ExitCode::from(EXIT_BROKEN_PIPE);
    }
    let _ = writeln!(std::io::stderr(), "error: {error:#}");
    ExitCode::from(code(error))
}

/// The user or the system asked to stop, and that was done.
pub(crate) fn is_interrupted(error: &anyhow::Error) -> bool {
    error.downcast_ref::<Interrupted>().is_some()
        || matches!(error.downcast_ref(), Some(DataError::Stopped))
        || matches!(error.downcast_ref(), Some(EvalError::Interrupted))
}

fn code(error: &anyhow::Error) -> u8 {
    let ended = error.is::<Detached>() || error.is::<Abandoned>();
    if is_interrupted(error) || ended {
        return EXIT_INTERRUPTED as u8;
    }
    if let Some(ended) = error.downcast_ref::<RankEnded>() {
        return ended.code();
    }
    let input = error.downcast_ref::<BadInput>().is_some()
        || error.downcast_ref::<NoVerdict>().is_some()
        || error.downcast_ref::<UnitEnded>().is_some_and(|ended| ended.code == EXIT_BAD_INPUT)
        || error.downcast_ref::<SpecError>().is_some()
        || matches!(error.downcast_ref(), Some(StoreError::NoCache))
        || error.downcast_ref::<DataError>().is_some_and(DataError::is_input)
        || error.downcast_ref::<ModelError>().is_some_and(ModelError::is_input)
        || matches!(
            error.downcast_ref(),
            Some(GgufError::Malformed { .. } | GgufError::Unsupported { .. })
        )
        || error.downcast_ref::<AdapterError>().is_some_and(AdapterError::is_input)
        || error.downcast_ref::<TaskError>().is_some_and(TaskError::is_input)
        || matches!(
            error.downcast_ref(),
            Some(EvalError::Option { .. } | EvalError::NothingToScore { .. })
        )
        || error.downcast_ref::<ReportError>().is_some_and(ReportError::is_input)
        || error.downcast_ref::<CheckError>().is_some()
        || matches!(
            error.downcast_ref::<TorchError>(),
            Some(
                TorchError::UnknownDevice { .. }
                    | TorchError::CudaNotLinked { .. }
                    | TorchError::CudaDeviceAbsent { .. }
            )
        )
        || matches!(
            error.downcast_ref::<StoreError>(),
            Some(StoreError::Locked { .. } | StoreError::Taken { .. })
        );
    if input { EXIT_BAD_INPUT as u8 } else { 1 }
}

/// Prints a value as JSON to standard output.
pub(crate) fn print(value: &serde_json::Value) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{value:#}")?;
    Ok(())
}
