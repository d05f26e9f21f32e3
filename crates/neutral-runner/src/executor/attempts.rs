//! What became of each attempt at a trial: `executor/attempts/TRIAL/NODE/EVENT-…`, an empty file each.
//!
//! Files of their own names need no lock, on any file system, and a shell writes them as well as we do:
//! the job's script must count failures of nodes on which no program of ours starts.

use std::path::{Path, PathBuf};

use neutral_report::Status;
use neutral_store::Fingerprint;

use crate::executor::{folder, log_path};
use crate::failure::Failure;

/// One attempt that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Attempt {
    pub node: String,
    /// The exit code of one that failed.
    pub failed: Option<i32>,
    /// When, in seconds of the node's clock.
    at: u64,
}

fn place(out: &Path) -> PathBuf {
    folder(out).join("attempts")
}

/// All of a trial, the latest last.
pub(crate) fn of(out: &Path, trial: &str) -> Vec<Attempt> {
    let mut found = Vec::new();
    for (node, nodes) in entries(&place(out).join(trial)) {
        for (event, _) in entries(&nodes) {
            let parts: Vec<_> = event.split('-').collect();
            let (failed, at) = match parts.as_slice() {
                ["failed", code, at, ..] => (code.parse().ok(), at),
                ["done" | "stopped", at, ..] => (None, at),
                _ => continue,
            };
            found.push(Attempt { node: node.clone(), failed, at: at.parse().unwrap_or(0) });
        }
    }
    found.sort_by_key(|attempt| attempt.at);
    found
}

/// Writes one down.
pub(crate) fn add(out: &Path, trial: &str, node: &str, failed: Option<i32>) -> std::io::Result<()> {
    let folder = place(out).join(trial).join(node);
    let at = std::time::UNIX_EPOCH.elapsed().map_or(0, |time| time.as_secs());
    let event = failed.map_or("done".to_owned(), |code| format!("failed-{code}"));
    std::fs::create_dir_all(&folder)?;
    std::fs::write(folder.join(format!("{event}-{at}-{}", std::process::id())), "")
}

/// Forgets all of a run.
pub(crate) fn clear(out: &Path) {
    let _ = std::fs::remove_dir_all(place(out));
}

/// Forgets those of a trial.
pub(crate) fn clear_trial(out: &Path, trial: &str) {
    let _ = std::fs::remove_dir_all(place(out).join(trial));
}

/// The failure of a trial whose last attempt ended without a word of its own: killed, or never started.
pub(crate) fn failure(out: &Path, trial: &str, fingerprint: &Fingerprint) -> Option<Failure> {
    let Attempt { node, failed, .. } = of(out, trial).pop()?;
    let code = failed?;
    let how = match code {
        137 => "was killed (exit code 137), perhaps for lack of memory".to_owned(),
        code => format!("ended with exit code {code}"),
    };
    let error = format!("it {how} on {node}; see {}", log_path(out, trial).display());
    Some(Failure { fingerprint: fingerprint.clone(), status: Status::Failed, error })
}

fn entries(folder: &Path) -> Vec<(String, PathBuf)> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|e| Some((e.file_name().into_string().ok()?, e.path()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_attempt_decides_and_a_success_forgives() {
        let out = tempfile::tempdir().unwrap();
        let (out, trial) = (out.path(), "lora-s0");
        let mark = Fingerprint::of(&1);
        assert!(failure(out, trial, &mark).is_none());
        let folder = place(out).join(trial).join("node.7");
        std::fs::create_dir_all(&folder).unwrap();
        for event in ["failed-1-100-9", "failed-137-300-9", "stopped-200-9", "nonsense"] {
            std::fs::write(folder.join(event), "").unwrap();
        }
        let said = failure(out, trial, &mark).unwrap().error;
        assert!(said.contains("killed") && said.contains("node.7"), "{said}");
        add(out, trial, "node8", None).unwrap();
        assert!(failure(out, trial, &mark).is_none());
        assert_eq!(of(out, trial).len(), 4);
        assert_eq!(of(out, trial)[1], Attempt { node: "node.7".into(), failed: None, at: 200 });
        clear_trial(out, trial);
        assert!(of(out, trial).is_empty());
    }
}
