//! Processes of this machine: stopping one that holds a folder, and ending with the one that started us.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::ExitStatus;

use neutral_store::Lock;
use rustix::process::{Pid, Signal, kill_process};

use crate::exit::{BadInput, Interrupted};

/// Says to a unit which process started it: when that ends, however it does, so shall the unit.
pub(crate) const PARENT: &str = "NEUTRAL_PARENT";

/// Has this process stop, with a checkpoint, when the one that `NEUTRAL_PARENT` names ends. Without that
/// variable nothing happens; and where the system offers no such thing, a unit outlives its parent, which loses nothing.
pub(crate) fn end_with_parent() -> anyhow::Result<()> {
    let Ok(parent) = std::env::var(PARENT) else { return Ok(()) };
    #[cfg(target_os = "linux")]
    {
        rustix::process::set_parent_process_death_signal(Some(Signal::TERM))?;
        // It may have ended before.
        let found = rustix::process::getppid().map(|pid| pid.as_raw_nonzero().to_string());
        if found.as_ref() != Some(&parent) {
            return Err(Interrupted.into());
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (parent, Interrupted);
    Ok(())
}

/// How a process ended, as shells have it: 128 and its number for a signal.
pub(crate) fn exit_code(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default())
}

/// This machine's name.
pub(crate) fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let name = name.or_else(|| std::env::var("HOSTNAME").ok()).unwrap_or_default();
    if name.trim().is_empty() { "localhost".to_owned() } else { name.trim().to_owned() }
}

/// Asks the process that holds a folder to stop, and says so; none if nobody holds it.
///
/// A lock is seen from every machine that shares the file system, so the process is looked for here first:
/// another machine's number may be anybody's.
pub(crate) fn stop_owner(folder: &Path) -> anyhow::Result<Option<String>> {
    let Some(owner) = Lock::owner(folder)? else { return Ok(None) };
    let pid = owner.parse().ok().and_then(Pid::from_raw);
    let Some(pid) = pid.filter(|_| holds(&owner, &folder.join(".lock"))) else {
        let message = format!(
            "{} is held by process {owner} of another machine or user; run `neutral cancel` there",
            folder.display()
        );
        return Err(BadInput(message).into());
    };
    kill_process(pid, Signal::TERM)?;
    Ok(Some(format!("process {owner} stops, with a checkpoint if it trains")))
}

/// Whether a process of this machine has a file open.
fn holds(pid: &str, file: &Path) -> bool {
    let Ok(file) = file.canonicalize() else { return false };
    let Ok(open) = std::fs::read_dir(Path::new("/proc").join(pid).join("fd")) else { return false };
    open.flatten().any(|fd| std::fs::read_link(fd.path()).is_ok_and(|target| target == file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_by_the_files_that_it_has_open() {
        let folder = tempfile::tempdir().unwrap();
        let lock = Lock::acquire(folder.path()).unwrap();
        let me = std::process::id().to_string();
        let path = folder.path().join(".lock");
        assert!(holds(&me, &path));
        assert!(!holds("1", &path) && !holds(&me, &folder.path().join("other")));
        drop(lock);
        assert!(!holds(&me, &path));
        assert_eq!(stop_owner(folder.path()).unwrap(), None);
    }
}
