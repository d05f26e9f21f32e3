//! A run that is killed, or whose disk fills up, at any change of any file gives the results of an
//! undisturbed one. `scripts/disturb` has it killed at many points, CI at a few.

use std::collections::BTreeSet;
use std::process::Output;

use crate::command::{assert_code, words};
use crate::disturbed::{Disturbed, Files, halves};
use crate::trace::{Change, Fault, PHASES, changes, is_possible, traced};

/// Random numbers, the same for the same seed (`SplitMix64`).
struct Random(u64);

impl Random {
    /// From `NEUTRAL_SEED`, else from the clock.
    fn new() -> (Self, u64) {
        let now = || std::time::UNIX_EPOCH.elapsed().map_or(0, |time| time.as_nanos() as u64);
        let seed = number("NEUTRAL_SEED").unwrap_or_else(|| now() % 1_000_000);
        (Self(seed), seed)
    }

    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((mixed ^ (mixed >> 31)) % end as u64) as usize
    }
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is {text}, expected a number")))
}

/// The changes that an undisturbed run makes, by command, and the files that it leaves.
struct Calm {
    changes: Vec<(usize, Change)>,
    files: Files,
}

impl Calm {
    fn new() -> Self {
        let run = Disturbed::new();
        let log = run.sandbox.path("log");
        let mut all = Vec::new();
        for (at, command) in run.commands().iter().enumerate() {
            assert_code(&traced(command, &log, None).output().unwrap(), 0);
            let found = changes(&log, &run.folder());
            // strace counts the calls of each thread by itself, and of the main one alone it is known.
            assert!(found.iter().all(|change| change.by_main), "{found:?}");
            // Of the second command everything is the report's.
            all.extend(
                found
                    .into_iter()
                    .map(|change| (at, Change { phase: change.phase.max(4 * at), ..change })),
            );
        }
        Self { changes: all, files: run.lasting() }
    }

    /// One of the changes of a phase: a kind of call first, as most of them write.
    fn draw(
        &self,
        phase: usize,
        random: &mut Random,
        wanted: impl Fn(&Change) -> bool,
    ) -> (usize, &Change) {
        let of_phase = || {
            let all = self.changes.iter();
            all.filter(|(_, change)| change.phase == phase && wanted(change))
        };
        let calls: BTreeSet<&str> = of_phase().map(|(_, change)| change.call.as_str()).collect();
        assert!(!calls.is_empty(), "{} changes no file", PHASES[phase]);
        let call = calls.iter().nth(random.below(calls.len())).unwrap();
        let of_call: Vec<_> = of_phase().filter(|(_, change)| change.call == *call).collect();
        let (command, change) = of_call[random.below(of_call.len())];
        (*command, change)
    }
}

/// A run whose command number `command` meets a fault at a change, and what it said; none if the fault
/// came too late, or at another file.
fn disturbed(command: usize, change: &Change, fault: Fault) -> Option<(Disturbed, Output)> {
    let run = Disturbed::new();
    let log = run.sandbox.path("log");
    let commands = run.commands();
    for mut before in commands.into_iter().take(command) {
        assert_code(&before.output().unwrap(), 0);
    }
    let wanted = (change.call.as_str(), change.nth, change.place.as_str());
    let output = traced(&run.commands()[command], &log, Some((change, fault))).output().unwrap();
    let changes = changes(&log, &run.folder());
    let met = |c: &Change| c.by_main && (c.call.as_str(), c.nth, c.place.as_str()) == wanted;
    let met = changes.iter().any(met);
    (met && !output.status.success()).then_some((run, output))
}

#[test]
fn killed_at_random_points_of_every_phase_the_files_are_whole_and_the_results_the_same() {
    if !is_possible() {
        return;
    }
    let points = number("NEUTRAL_KILLS").map_or(PHASES.len(), |points| points as usize);
    let (mut random, seed) = Random::new();
    let calm = Calm::new();
    let mut landed = [0; PHASES.len()];
    let mut missed = 0;
    while landed.iter().sum::<usize>() < points {
        // One phase after the other, so that each gets its share.
        let phase = landed.iter().sum::<usize>() % PHASES.len();
        let (command, change) = calm.draw(phase, &mut random, |_| true);
        let Change { call, nth, place, .. } = change;
        let what =
            format!("NEUTRAL_SEED={seed}: killed in {}, {call} {nth}, {place}", PHASES[phase]);
        let Some((run, _)) = disturbed(command, change, Fault::Kill) else {
            missed += 1;
            assert!(missed <= points + 10, "{what}: {missed} kills missed their points");
            continue;
        };
        println!("{what}");
        landed[phase] += 1;
        run.assert_whole(&calm.files, &what);
        run.finish();
        run.assert_equals(&calm.files, &what);
    }
    for (phase, kills) in PHASES.iter().zip(landed) {
        println!("{phase:12} {kills:3} kills");
    }
    println!("{missed} more came too late; the seed was {seed}");
}

#[test]
fn a_disk_that_fills_up_in_any_phase_is_named_and_the_same_command_goes_on_later() {
    if !is_possible() {
        return;
    }
    let (mut random, seed) = Random::new();
    let calm = Calm::new();
    // Writes to the terminal would fail as well, and nobody would hear why.
    let fills = |change: &Change| {
        ["fsync", "fdatasync", "mkdir", "rename", "renameat"].contains(&change.call.as_str())
    };
    for (phase, name) in PHASES.iter().enumerate() {
        let (command, change) = calm.draw(phase, &mut random, fills);
        let Change { call, nth, place, .. } = change;
        let what = format!("NEUTRAL_SEED={seed}: full in {name}, {call} {nth}, {place}");
        let (run, output) = disturbed(command, change, Fault::Fail("ENOSPC")).expect(&what);
        assert_code(&output, 1);
        let words = words(&output);
        let says = words.contains("free some space") && !words.contains("panicked");
        assert!(says, "{what}: {words}");
        let halves = halves(&run.folder());
        assert!(halves.is_empty(), "{what}: {halves:?}");
        run.assert_whole(&calm.files, &what);
        run.finish();
        run.assert_equals(&calm.files, &what);
    }
}
