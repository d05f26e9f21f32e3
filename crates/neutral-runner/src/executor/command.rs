//! The command line of a unit: this binary, with what the user gave made independent of the current folder.

use std::ffi::OsString;
use std::path::absolute;

use crate::executor::{Work, form};

/// The program and the arguments that all units of a run have in common: all but `--only`, `--device` and
/// `--threads`.
pub(crate) fn common(work: &Work<'_>) -> anyhow::Result<Vec<OsString>> {
    let args = work.args;
    let mut command: Vec<OsString> = vec![std::env::current_exe()?.into(), "run".into()];
    command.push(absolute(&args.experiment)?.into());
    command.extend(["--out".into(), absolute(work.out)?.into()]);
    command.extend(["--plan".into(), form(work.plan).to_string().into()]);
    command.extend(["--score-tokens".into(), args.score_tokens.to_string().into()]);
    for manifests in &args.manifests {
        command.extend(["--manifests".into(), absolute(manifests)?.into()]);
    }
    for run in &args.reuse {
        command.extend(["--reuse".into(), absolute(run)?.into()]);
    }
    Ok(command)
}
