//! Which code the program is built from, for its results to name: as git says, unless `NEUTRAL_CODE` does.

use std::path::Path;
use std::process::Command;

/// All of it, as git is called here.
const CODE: [&str; 3] = ["../../crates", "../../Cargo.toml", "../../Cargo.lock"];

fn main() {
    println!("cargo:rerun-if-env-changed=NEUTRAL_CODE");
    if std::env::var_os("NEUTRAL_CODE").is_some() {
        return;
    }
    for path in CODE {
        println!("cargo:rerun-if-changed={path}");
    }
    // A commit changes no file of the code.
    let log = git(&["rev-parse", "--git-path", "logs/HEAD"]).filter(|log| Path::new(log).exists());
    if let Some(log) = log {
        println!("cargo:rerun-if-changed={log}");
    }
    let commit = git(&[&["log", "-1", "--format=%h", "--abbrev=12", "--"], &CODE[..]].concat());
    let changes = git(&[&["status", "--porcelain", "--"], &CODE[..]].concat());
    if let (Some(commit), Some(changes)) = (commit.filter(|commit| !commit.is_empty()), changes) {
        let dirty = if changes.is_empty() { "" } else { "-dirty" };
        println!("cargo:rustc-env=NEUTRAL_CODE={commit}{dirty}");
    }
}

/// What git says; none outside of a checkout.
fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = output.status.success().then(|| String::from_utf8(output.stdout).ok())??;
    Some(text.trim().to_owned())
}
