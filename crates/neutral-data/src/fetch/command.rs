//! Running a package client, and turning its complaints into advice.

use std::io::ErrorKind;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::{Control, DataError};

/// How much of what a client said is worth repeating.
const TAIL_LINES: usize = 6;

/// How clients say that the disk is full.
const FULL: [&str; 5] =
    ["No space left", "ENOSPC", "enough free space", "Disk quota exceeded", "EDQUOT"];

/// A client and what it is to fetch.
pub(super) struct Client<'a> {
    pub(super) program: &'a str,
    /// What is fetched, for messages: `the Debian package manpages`.
    pub(super) what: String,
    /// What to do if there is no such program.
    pub(super) if_missing: &'a str,
}

impl Client<'_> {
    /// Runs the client in a folder, which its temporary files go to as well: `/tmp` is often small,
    /// and so nothing is left of a client that was ended. Its standard output.
    pub(super) fn run(
        &self,
        arguments: &[String],
        folder: &Path,
        control: &Control,
    ) -> Result<String, DataError> {
        control.check()?;
        let client = Command::new(self.program)
            .args(arguments)
            .current_dir(folder)
            .env("LC_ALL", "C.UTF-8")
            .env("TMPDIR", folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .map_err(|e| self.cannot_start(&e))?;
        // Clients have helpers; their group is ended as a whole, and at once: a download that is
        // begun is worth nothing.
        let group = Pid::from_child(&client);
        let end = || {
            // Refused only if the group has just ended by itself.
            let _ = kill_process_group(group, Signal::KILL);
        };
        let output = control
            .stoppable(move || client.wait_with_output(), end)?
            .map_err(|e| self.cannot_start(&e))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let mut said = String::from_utf8_lossy(&output.stderr).into_owned();
        if said.trim().is_empty() {
            said = String::from_utf8_lossy(&output.stdout).into_owned();
        }
        Err(self.failed(&said, &output.status.to_string(), folder))
    }

    fn cannot_start(&self, error: &std::io::Error) -> DataError {
        if error.kind() == ErrorKind::NotFound {
            return self.missing();
        }
        DataError::Fetch {
            what: self.what.clone(),
            message: format!("{} does not start: {error}", self.program),
            advice: "repair it, or choose a corpus from another source".into(),
        }
    }

    pub(super) fn missing(&self) -> DataError {
        DataError::NoClient {
            client: self.program.to_owned(),
            what: self.what.clone(),
            advice: self.if_missing.to_owned(),
        }
    }

    fn failed(&self, said: &str, status: &str, folder: &Path) -> DataError {
        if said.contains("No module named pip") {
            return self.missing();
        }
        let message = |said: &str| format!("{} ended with {status}: {said}", self.program);
        let lines: Vec<_> = said.lines().map(str::trim).filter(|l| !l.is_empty()).collect();
        let full = |l: &&&str| FULL.iter().any(|f| l.contains(f));
        if let Some(line) = lines.iter().find(full) {
            // Text from elsewhere would not fit either, so this does not count as unavailable.
            let full = std::io::Error::new(ErrorKind::StorageFull, message(line));
            return DataError::io("put files into", folder, full);
        }
        let message = message(&lines[lines.len().saturating_sub(TAIL_LINES)..].join(" | "));
        DataError::Fetch { what: self.what.clone(), message, advice: advice(said).to_owned() }
    }
}

const OFFLINE: &str =
    "check the network connection and the client's settings, then run the same command again";

/// What to do, from what the client said.
fn advice(said: &str) -> &'static str {
    let unknown = [
        "Unable to locate package",
        "no installation candidate",
        "No matching distribution",
        "E404",
    ];
    // Without a network a client may well say that there is no such package.
    let offline = [
        "Temporary failure",
        "Failed to establish a new connection",
        "ENOTFOUND",
        "EAI_AGAIN",
        "ECONNREFUSED",
        "ETIMEDOUT",
    ];
    if offline.iter().any(|o| said.contains(o)) {
        OFFLINE
    } else if unknown.iter().any(|u| said.contains(u)) {
        "its sources do not have it: correct name and version in the manifest, or the client's list of sources"
    } else {
        OFFLINE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> DataError {
        let client = Client { program: "sh", what: "the package x".into(), if_missing: "" };
        client.run(&["-c".into(), script.into()], Path::new("/"), &Control::default()).unwrap_err()
    }

    #[test]
    fn the_end_of_what_a_client_said_and_advice_are_in_the_error() {
        let error = shell("seq 100 >&2; echo 'E: Unable to locate package x' >&2; exit 100");
        let message = error.to_string();
        assert!(error.is_unavailable());
        assert!(message.contains("could not fetch the package x"), "{message}");
        assert!(
            message.contains("exit status: 100: 96 | 97 | 98 | 99 | 100 | E: Unable"),
            "{message}"
        );
        assert!(message.contains("correct name and version"), "{message}");
        let offline = "echo 'Temporary failure resolving' >&2; echo 'E: No matching distribution' >&2; exit 1";
        let offline = shell(offline).to_string();
        assert!(offline.contains("check the network connection"), "{offline}");
        let full = shell("echo 'write error: No space left on device' >&2; exit 1");
        assert!(!full.is_unavailable());
        assert!(full.to_string().contains("free some space"), "{full}");
    }

    #[test]
    fn a_missing_client_is_named_with_advice() {
        let client = Client {
            program: "no-such-client",
            what: "the package x".into(),
            if_missing: "install it",
        };
        let error = client.run(&[], Path::new("/"), &Control::default()).unwrap_err();
        assert!(error.is_unavailable());
        let expected = "`no-such-client` was not found, which fetches the package x; install it";
        assert_eq!(error.to_string(), expected);
    }
}
