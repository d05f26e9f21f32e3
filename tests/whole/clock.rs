//! A clock that is put years forward or back, while a run works or before it goes on, changes nothing.

use std::process::{Command, Stdio};

use crate::command::{assert_code, wait_for};
use crate::disturbed::Disturbed;

/// The library that gives a process a clock of ours; none, with the reason printed, without faketime.
#[expect(clippy::print_stdout, reason = "a test that is skipped says so")]
fn library() -> Option<String> {
    let output = Command::new("faketime").args(["-f", "+0", "printenv", "LD_PRELOAD"]).output();
    match output {
        Ok(output) if output.status.success() => {
            Some(String::from_utf8(output.stdout).unwrap().trim().to_owned())
        }
        missing => {
            println!("skipped, as faketime (a Debian package) is missing: {missing:?}");
            None
        }
    }
}

/// The times in the names of TensorBoard's files.
fn event_times(run: &Disturbed, trial: &str) -> Vec<u64> {
    let folder = run.sandbox.path("out/trials").join(trial).join("tensorboard");
    let names = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name());
    let time = |name: &str| name.split('.').nth(3).unwrap().parse().unwrap();
    names.map(|name| time(name.to_str().unwrap())).collect()
}

#[test]
fn a_clock_that_jumps_by_decades_changes_no_result() {
    let Some(library) = library() else { return };
    let calm = Disturbed::calm().lasting();
    let run = Disturbed::new();
    let clock = run.sandbox.path("clock");
    let set = |offset: &str| {
        // In one step: half an offset would be a third time.
        std::fs::write(clock.with_extension("new"), offset).unwrap();
        std::fs::rename(clock.with_extension("new"), &clock).unwrap();
    };
    let under = |mut command: Command| {
        command.env("LD_PRELOAD", &library).env("FAKETIME_TIMESTAMP_FILE", &clock);
        // The monotonic clock stays as it is, as it does when somebody sets the time.
        command.env("FAKETIME_NO_CACHE", "1").env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        command
    };
    let there = |folder: &str, file: &str| {
        let files = run.files();
        files.keys().any(|name| name.starts_with(folder) && name.ends_with(file))
    };
    set("+20y");
    let mut child = under(run.run()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let ended = "the run ended before its clock was changed";
    let pretrains = || there("cache/bases", "state.safetensors");
    assert!(wait_for(&mut child, pretrains), "{ended}");
    set("-20y");
    let trains = || there("out/trials/finetune", "state.safetensors");
    assert!(wait_for(&mut child, trains), "{ended}");
    set("+20y");
    let trains = || there("out/trials/neutral-residues", "state.safetensors");
    assert!(wait_for(&mut child, trains), "{ended}");
    child.kill().unwrap();
    child.wait().unwrap();
    // Before 1970, as a machine without a battery has it.
    set("-90y");
    for command in run.commands() {
        assert_code(&under(command).output().unwrap(), 0);
    }
    run.assert_equals(&calm, "clock");

    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let years_off = |time: &u64| time.abs_diff(now) / (365 * 24 * 3600);
    let times = [event_times(&run, "finetune-s0"), event_times(&run, "neutral-residues-s0")];
    assert!(times.concat().iter().all(|t| years_off(t) >= 19), "the clock was ours: {times:?}");
}
