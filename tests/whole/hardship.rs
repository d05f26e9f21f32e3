//! What a machine may lack: space, a folder to write to, a package client, the network. Each ends
//! with a message that says what to do, and once it is mended the same command goes on.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::{Command, Output};

use crate::command::{Sandbox, assert_code, root, words};
use crate::disturbed::halves;
use crate::interruption::{EXPERIMENT, lasting};

/// A disk of its own, as small as need be.
struct Disk(PathBuf);

impl Disk {
    /// None, with the reason printed, where this user cannot mount.
    #[expect(clippy::print_stdout, reason = "a test that is skipped says so")]
    fn mount(place: PathBuf, options: &str) -> Option<Self> {
        std::fs::create_dir_all(&place).unwrap();
        let arguments = ["-t", "tmpfs", "-o", options, "neutral-test"].map(OsStr::new);
        let output = Command::new("mount").args(arguments).arg(&place).output();
        let refused = match output {
            Ok(output) if output.status.success() => return Some(Self(place)),
            Ok(output) => String::from_utf8_lossy(&output.stderr).into_owned(),
            Err(error) => error.to_string(),
        };
        println!("skipped, as this user cannot mount: {refused}");
        None
    }

    fn change(&self, options: &str) {
        let options = format!("remount,{options}");
        let status = Command::new("mount").args(["-o", &options]).arg(&self.0).status();
        assert!(status.unwrap().success());
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

/// Runs the experiment on a disk for the folder `place`: badly at first, with each of the `bad`
/// options, then well, with the results of a run without hardship.
fn mends(place: &str, bad: &[(&str, &str)]) {
    let sandbox = Sandbox::new();
    let experiment = sandbox.write("disturbed.yaml", EXPERIMENT);
    let folder = sandbox.path(place);
    let Some(disk) = Disk::mount(folder.clone(), "size=100k") else { return };
    for (options, advice) in bad {
        disk.change(options);
        let output = sandbox.run(&experiment, "out/run");
        assert_code(&output, 1);
        let words = words(&output);
        let named = words.contains(folder.to_str().unwrap());
        assert!(named && words.contains(advice), "{options}: {words}");
        assert!(!words.contains("panicked"), "{options}: {words}");
        assert!(halves(&folder).is_empty(), "{options}: {:?}", halves(&folder));
    }
    disk.change("rw,size=100m");
    assert_code(&sandbox.run(&experiment, "out/run"), 0);

    let calm = Sandbox::new();
    assert_code(&calm.run(&calm.write("disturbed.yaml", EXPERIMENT), "out/run"), 0);
    assert_eq!(lasting(sandbox.results("out/run")), lasting(calm.results("out/run")));
}

const SPACE: &str = "free some space";
const ELSEWHERE: &str = "choose a folder that can be written";

#[test]
fn a_cache_that_is_full_or_read_only_is_named_and_the_same_command_goes_on_later() {
    // While text is cleaned, tokenised, and the base is trained.
    let full = ["rw,size=100k", "rw,size=600k", "rw,size=1000k"].map(|size| (size, SPACE));
    mends("cache", &[[("ro", ELSEWHERE)].as_slice(), &full].concat());
}

#[test]
fn a_run_folder_that_is_full_or_read_only_is_named_and_the_same_command_goes_on_later() {
    // While the first checkpoint is written, and a later one.
    let full = ["rw,size=8k", "rw,size=200k"].map(|size| (size, SPACE));
    mends("out", &[[("ro", ELSEWHERE)].as_slice(), &full].concat());
}

fn run_quick(sandbox: &Sandbox, path: &OsStr) -> Output {
    let quick = root().join("experiments/quick.yaml");
    let arguments = ["run", quick.to_str().unwrap(), "--device", "cpu", "--out", "out"];
    sandbox.neutral(&arguments).env("PATH", path).output().unwrap()
}

#[test]
fn without_apt_quick_names_the_experiment_that_does_without() {
    let sandbox = Sandbox::new();
    std::fs::create_dir(sandbox.path("bin")).unwrap();
    let output = run_quick(&sandbox, sandbox.path("bin").as_os_str());
    assert_code(&output, 1);
    for part in ["`apt-get` was not found", "experiments/quick-portable.yaml"] {
        assert!(words(&output).contains(part), "{}", words(&output));
    }
}

#[test]
fn without_a_network_the_cause_is_said_and_not_what_apt_makes_of_it() {
    let sandbox = Sandbox::new();
    let apt = "#!/bin/sh
case \"$*\" in
*update) echo \"E: Failed to fetch InRelease Temporary failure resolving 'server'\" >&2 ;;
*) echo 'E: Unable to locate package' >&2 ;;
esac
exit 100
";
    let output = run_quick(&sandbox, sandbox.program("apt-get", apt).as_ref());
    assert_code(&output, 1);
    for part in ["Temporary failure resolving", "check the network", "quick-portable.yaml"] {
        assert!(words(&output).contains(part), "{}", words(&output));
    }
    assert!(halves(&sandbox.path("cache")).is_empty());
}
