//! Debian packages through apt, without root and without installing: apt gets folders of its own.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::time::{Duration, Instant};

use neutral_store::Lock;

use super::command::Client;
use crate::extract::files;
use crate::{Control, DataError};

/// How long to wait for another process that holds apt's folders.
const PATIENCE: Duration = Duration::from_mins(5);

/// What the lists of a distribution's packages may take while they are fetched.
const LISTS_BYTES: u64 = 100 * MB;
const MB: u64 = 1_000_000;

/// Downloads packages into a folder, under [`lock`]; their names and versions.
pub(super) fn fetch(
    packages: &[String],
    root: &Path,
    folder: &Path,
    control: &Control,
) -> Result<String, DataError> {
    let client = Client {
        program: "apt-get",
        what: format!("the Debian package {}", packages.join(" ")),
        if_missing: "it is part of Debian and Ubuntu; elsewhere choose a corpus from another source",
    };
    let state = root.join("apt");
    let lists = state.join("lists");
    for sub in ["lists/partial", "cache/archives/partial", "log"] {
        let sub = state.join(sub);
        fs::create_dir_all(&sub).map_err(|e| DataError::io("create", &sub, e))?;
    }
    // An empty list of installed packages: what this machine has installed does not matter.
    let status = state.join("status");
    fs::write(&status, "").map_err(|e| DataError::io("write", &status, e))?;
    let options = options(&state);
    let with = |rest: &[&str]| -> Vec<String> {
        options.iter().cloned().chain(rest.iter().map(|r| (*r).to_owned())).collect()
    };
    let mut download = with(&["download"]);
    download.extend_from_slice(packages);
    let has_lists = fs::read_dir(&lists)
        .map_err(|e| DataError::io("read", &lists, e))?
        .filter_map(Result::ok)
        .any(|e| e.path().is_file() && e.file_name() != "lock");
    // Lists grow old: the version that they name may be gone from the server.
    if !(has_lists && client.run(&download, folder, control).is_ok()) {
        refuse_full_disk(&state)?;
        // Of several packages some may have come, in versions that the new lists no longer name.
        for archive in files::archives(folder)? {
            fs::remove_file(&archive).map_err(|e| DataError::io("remove", &archive, e))?;
        }
        let update = with(&["-o", "APT::Update::Error-Mode=any", "update"]);
        let updated = client.run(&update, folder, control);
        // A source that cannot be reached matters only if it leaves the package unknown; then it is
        // the cause, and apt's word about the package is not.
        client.run(&download, folder, control).or_else(|error| updated.and(Err(error)))?;
    }
    versions(folder)
}

/// On a full disk apt does not fail, it waits forever.
fn refuse_full_disk(state: &Path) -> Result<(), DataError> {
    let disk = rustix::fs::statvfs(state).map_err(|e| DataError::io("look at", state, e.into()))?;
    let free = disk.f_bavail * disk.f_frsize;
    if free >= LISTS_BYTES {
        return Ok(());
    }
    let message = format!("apt's lists need {} MB, {} MB are free", LISTS_BYTES / MB, free / MB);
    let full = std::io::Error::new(ErrorKind::StorageFull, message);
    Err(DataError::io("put files into", state, full))
}

/// What apt keeps in a cache, for one process at a time.
pub(super) fn lock(root: &Path, control: &Control) -> Result<Lock, DataError> {
    control.check()?;
    let (state, start) = (root.join("apt"), Instant::now());
    let held = Lock::wait(&state, |_| control.check().map(|()| start.elapsed() < PATIENCE))?;
    // In vain: the error says who holds it.
    held.map_or_else(|| Ok(Lock::acquire(&state)?), Ok)
}

/// Every folder that apt would write to, moved; no sandbox user, who could not write to ours.
fn options(state: &Path) -> Vec<String> {
    let at = |name: &str| state.join(name).display().to_string();
    [
        ("Dir::State", at("")),
        ("Dir::State::lists", at("lists")),
        ("Dir::State::status", at("status")),
        ("Dir::Cache", at("cache")),
        ("Dir::Log", at("log")),
        ("APT::Sandbox::User", "root".to_owned()),
        ("Acquire::Retries", "3".to_owned()),
        ("Acquire::Languages", "none".to_owned()),
        ("quiet", "1".to_owned()),
    ]
    .into_iter()
    .flat_map(|(key, value)| ["-o".to_owned(), format!("{key}={value}")])
    .collect()
}

/// `name_1%3a2.3_all.deb` says `name 1:2.3`.
fn versions(folder: &Path) -> Result<String, DataError> {
    let mut versions = Vec::new();
    for archive in files::archives(folder)? {
        let stem = archive.file_stem().unwrap_or_default().to_string_lossy().replace("%3a", ":");
        let mut parts = stem.split('_');
        if let (Some(name), Some(version)) = (parts.next(), parts.next()) {
            versions.push(format!("{name} {version}"));
        }
    }
    Ok(versions.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_off_the_files_names() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b_2-1_all.deb", "a_4%3a7.4.7-1+deb12u14_all.deb"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        assert_eq!(versions(folder.path()).unwrap(), "a 4:7.4.7-1+deb12u14, b 2-1");
    }
}
