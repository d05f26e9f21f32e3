//! A file that was cut short, as no process of ours leaves one, but a crash of the machine might: the next
//! run says so and what to do, or makes it again, or does not need it. It never gives other results.

use std::collections::BTreeSet;
use std::path::Path;

use crate::command::{terminate, wait_for, words};
use crate::disturbed::{Disturbed, Files, is_of};

/// Kinds of files, each made from those before it.
const ORDER: [&str; 7] = [
    "cache/corpora/",
    "cache/tokenizers/",
    "cache/tokens/",
    "cache/bases/",
    "cache/base-scores/",
    "cache/task-scores/",
    "out/",
];

/// A run with some of the files of another.
fn with_files(files: &Files, kept: impl Fn(&str) -> bool) -> Disturbed {
    let run = Disturbed::new();
    for (name, bytes) in files.iter().filter(|(name, _)| kept(name)) {
        let path = run.sandbox.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
    run
}

/// What is there when a file has just been made, so that it is read next.
fn is_there(name: &str, file: &str) -> bool {
    let place = |name: &str| ORDER.iter().position(|kind| name.starts_with(kind));
    let weights = file.starts_with("out/") && is_of(file, &["safetensors"]);
    let made_from_weights = ["neutrality.json", "tasks.json"].iter().any(|of| name.ends_with(of))
        || name.contains("/task-scores/");
    place(name) <= place(file) && !(weights && made_from_weights)
}

/// Half the length of a file, of half its lines where there are lines.
fn half(name: &str, bytes: &[u8]) -> usize {
    let half = bytes.len() / 2;
    let line = bytes[..half].iter().rposition(|byte| *byte == b'\n');
    if is_of(name, &["jsonl"]) { line.map_or(half, |at| at + 1) } else { half }
}

/// Deletes what the message about a file says.
fn follow(advice: &str, path: &Path) {
    let folder = path.parent().unwrap();
    let delete_folder = |folder: &Path| std::fs::remove_dir_all(folder).unwrap();
    if advice.contains("delete its folder") {
        delete_folder(folder);
    } else if advice.contains("delete the checkpoint beside it") {
        delete_folder(&folder.join("checkpoint"));
    } else {
        assert!(advice.contains("delete it"), "no advice: {advice}");
        std::fs::remove_file(path).unwrap();
    }
}

/// Cuts a file of a run and runs it; on its word what it names is deleted, and then all is well. Says
/// whether it was noticed.
fn cut(files: &Files, calm: &Files, name: &str, length: usize) -> bool {
    let run = with_files(files, |other| is_there(other, name));
    let path = run.sandbox.path(name);
    std::fs::write(&path, &files[name][..length]).unwrap();
    let what = format!("{name} cut to {length} of {} bytes", files[name].len());
    let output = run.attempt();
    if !output.status.success() {
        let words = words(&output);
        let file = Path::new(name).file_name().unwrap().to_str().unwrap();
        assert!(words.contains(file) && !words.contains("panicked"), "{what}: {words}");
        if length == 0 {
            return true;
        }
        follow(&words, &path);
        run.finish();
    }
    if std::fs::read(&path).is_ok_and(|left| left == files[name][..length]) {
        // Nobody needs it here, so that it stays as it is.
        std::fs::write(&path, &files[name]).unwrap();
    }
    run.assert_equals(calm, &what);
    !output.status.success()
}

/// A file's name without what differs between files of one role.
fn role(name: &str) -> String {
    let parts: Vec<_> = name.split('/').collect();
    format!("{} {} {}", parts[0], parts[1], parts.last().unwrap())
}

#[test]
fn no_file_of_a_finished_run_is_read_as_whole_when_it_was_cut_short() {
    let run = Disturbed::calm();
    let (files, calm) = (run.files(), run.lasting());
    let mut seen = BTreeSet::new();
    for (name, bytes) in files.iter().filter(|(name, _)| seen.insert(role(name))) {
        // Where half of it is not missed, nothing of it is not either.
        if cut(&files, &calm, name, half(name, bytes)) {
            cut(&files, &calm, name, 0);
        }
    }
    assert!(seen.len() > 20, "{seen:?}");
}

/// The files of a run that was stopped after the first checkpoint of a training; none if it was over.
fn stopped(trained: &str) -> Option<Files> {
    let run = Disturbed::new();
    let is_checkpoint =
        |name: &String| name.starts_with(trained) && name.ends_with("state.safetensors");
    let has_checkpoint = || run.files().keys().any(is_checkpoint);
    let mut child = run.run().spawn().unwrap();
    let begun = wait_for(&mut child, has_checkpoint);
    if begun {
        terminate(&child);
    }
    let code = child.wait().unwrap().code();
    (begun && code == Some(130) && has_checkpoint()).then(|| run.files())
}

#[test]
fn no_file_of_a_run_that_was_stopped_is_read_as_whole_when_it_was_cut_short() {
    let calm = Disturbed::calm().lasting();
    // While the base is trained, and the second trial.
    for trained in ["cache/bases/", "out/trials/neutral-residues-s0/"] {
        // A machine that is busy may let the training end before the signal comes.
        let files = (0..5).find_map(|_| stopped(trained));
        let files = files.expect("a run that was stopped while it trained");
        let of_training = |name: &&String| {
            let made = ["state.safetensors", "metrics.jsonl", "fingerprint.json", "trial.json"];
            name.starts_with(trained) && made.iter().any(|file| name.ends_with(file))
        };
        let names: Vec<_> = files.keys().filter(of_training).collect();
        assert!(names.len() >= 2, "{names:?}");
        for name in names {
            cut(&files, &calm, name, half(name, &files[name]));
        }
    }
}
