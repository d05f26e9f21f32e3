//! Every change that a command makes to its files, by strace, and how to end it at one of them.
//!
//! Between two changes the disk says the same, so a kill at each change is a kill at any time.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::disturbed::is_in_progress;

/// System calls that change files.
const CHANGES: &str = "write,pwrite64,writev,fsync,fdatasync,ftruncate,rename,renameat,renameat2,\
    unlink,unlinkat,mkdir,mkdirat,rmdir,chmod,fchmod,link,linkat,symlink,symlinkat";

/// Parts of a run, in their order.
pub(crate) const PHASES: [&str; 5] = ["data", "pretraining", "training", "evaluation", "report"];

/// One change to a file of a run.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    /// The system call.
    pub call: String,
    /// How many of its kind its thread has made, with this one.
    pub nth: usize,
    /// The file, without the random part of a name in progress.
    pub place: String,
    /// The main thread made it, and no other, nor another process.
    pub by_main: bool,
    /// The part of the run, an index of [`PHASES`].
    pub phase: usize,
}

/// What strace is to do at a change, and at those of the same call after it if it is an error.
pub(crate) enum Fault {
    Kill,
    Fail(&'static str),
}

/// Whether there is a strace that may trace and kill; what it lacks is printed.
#[expect(clippy::print_stdout, reason = "a test that is skipped says so")]
pub(crate) fn is_possible() -> bool {
    let arguments = ["-o", "/dev/null", "-e", "inject=write:signal=SIGKILL", "echo"];
    let output = Command::new("strace").args(arguments).output();
    let possible = output.as_ref().is_ok_and(|output| output.status.code().is_none());
    if !possible {
        println!("skipped, as strace (a Debian package) is missing or may not trace: {output:?}");
    }
    possible
}

/// The command under strace, whose log goes to a file.
pub(crate) fn traced(command: &Command, log: &Path, fault: Option<(&Change, Fault)>) -> Command {
    let mut traced = Command::new("strace");
    traced.args(["-f", "-y", "-s", "4096", "-e", "signal=none", "-o"]).arg(log);
    traced.args(["-e", &format!("trace={CHANGES}")]);
    if let Some((Change { call, nth, .. }, fault)) = fault {
        traced.arg("-e").arg(match fault {
            Fault::Kill => format!("inject={call}:signal=SIGKILL:when={nth}"),
            Fault::Fail(error) => format!("inject={call}:error={error}:when={nth}+"),
        });
    }
    traced.arg(command.get_program()).args(command.get_args());
    traced.current_dir(command.get_current_dir().unwrap()).stdin(Stdio::null());
    for (name, value) in command.get_envs() {
        traced.env(name, value.unwrap());
    }
    traced
}

/// The changes in a log to files below `folder`.
pub(crate) fn changes(log: &Path, folder: &Path) -> Vec<Change> {
    let text = String::from_utf8_lossy(&std::fs::read(log).unwrap()).into_owned();
    let main = text.split(' ').next().unwrap_or_default();
    let mut counts = BTreeMap::new();
    let mut renamed = BTreeMap::new();
    let mut found = Vec::new();
    for line in text.lines() {
        let Some((thread, rest)) = line.split_once(' ') else { continue };
        let Some((call, arguments)) = rest.trim_start().split_once('(') else { continue };
        if !CHANGES.split(',').any(|name| name == call) {
            continue;
        }
        let nth = counts.entry((thread, call)).or_insert(0);
        *nth += 1;
        let paths = paths(arguments, folder);
        let Some(path) = paths.first() else { continue };
        if let (true, Some(to)) = (call.starts_with("rename"), paths.last()) {
            renamed.insert(path.clone(), to.clone());
        }
        found.push((call.to_owned(), *nth, thread == main, path.clone()));
    }
    let phases: Vec<_> =
        found.iter().map(|(.., path)| phase_of(&in_the_end(path, &renamed))).collect();
    // A folder of several parts is made for the next one, and synced after the last.
    let phase = |at: usize, call: &str| {
        let next = || phases[at..].iter().flatten().next();
        let last = || phases[..=at].iter().rev().flatten().next();
        let found =
            if call.starts_with("mkdir") { next().or_else(last) } else { last().or_else(next) };
        *found.unwrap_or(&0)
    };
    let change = |(at, (call, nth, by_main, path)): (usize, (String, usize, bool, PathBuf))| {
        let phase = phase(at, &call);
        Change { call, nth, by_main, place: without_chance(&path), phase }
    };
    found.into_iter().enumerate().map(change).collect()
}

/// The paths below `folder` in a call's arguments, relative to it.
fn paths(arguments: &str, folder: &Path) -> Vec<PathBuf> {
    let start = format!("{}/", folder.display());
    let path = |rest: &str| PathBuf::from(rest.split(['"', '>']).next().unwrap_or_default());
    arguments.split(start.as_str()).skip(1).map(path).collect()
}

/// Where a path is once everything above it has been renamed.
fn in_the_end(path: &Path, renamed: &BTreeMap<PathBuf, PathBuf>) -> PathBuf {
    let above = path.ancestors().find_map(|above| Some((above, renamed.get(above)?)));
    match above {
        Some((above, to)) => {
            let rest = path.strip_prefix(above).unwrap();
            let path = if rest.as_os_str().is_empty() { to.clone() } else { to.join(rest) };
            in_the_end(&path, renamed)
        }
        None => path.to_owned(),
    }
}

/// A path without the random part of names in progress.
fn without_chance(path: &Path) -> String {
    let part = |part: &str| {
        let random = is_in_progress(part).then(|| part.rfind('-')).flatten();
        random.map_or(part, |at| &part[..=at]).to_owned()
    };
    path.to_str().unwrap().split('/').map(part).collect::<Vec<_>>().join("/")
}

/// The part of a run that a file belongs to; none for a folder of several.
fn phase_of(path: &Path) -> Option<usize> {
    let parts: Vec<_> = path.iter().map(|part| part.to_str().unwrap()).collect();
    let phase = match parts.as_slice() {
        ["cache", "corpora" | "tokenizers" | "tokens", ..] | ["out", "run.json"] => "data",
        ["cache", "bases", ..] => "pretraining",
        ["cache", "base-scores" | "task-scores", ..] | ["out", "base.json"] => "evaluation",
        ["out", "trials", _, ".lock" | "fingerprint.json" | "trial.json" | "metrics.jsonl"]
        | ["out", "trials", _, "checkpoint" | "tensorboard", ..] => "training",
        ["out", "trials", _, _] => "evaluation",
        ["out", file] if !file.starts_with('.') => "report",
        _ => return None,
    };
    PHASES.iter().position(|name| *name == phase)
}
