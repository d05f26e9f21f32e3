//! Two runs may want the same text and the same base from one cache at the same time.

use std::fs::File;
use std::process::{Child, Stdio};

use crate::command::{assert_code, terminate, wait_for};
use crate::disturbed::Disturbed;

/// The run in a folder of its own, its words in a file.
fn start(run: &Disturbed, out: &str) -> Child {
    let log = File::create(run.sandbox.path(&format!("{out}.log"))).unwrap();
    run.run_into(out).stdout(Stdio::null()).stderr(log).spawn().unwrap()
}

fn said(run: &Disturbed, out: &str) -> String {
    std::fs::read_to_string(run.sandbox.path(&format!("{out}.log"))).unwrap()
}

#[test]
fn two_runs_that_share_a_cache_both_end_with_the_results_of_one_alone() {
    let calm = Disturbed::calm().lasting();
    let run = Disturbed::new();
    let mut both = ["out", "other"].map(|out| (out, start(&run, out)));
    for (out, child) in &mut both {
        assert_eq!(child.wait().unwrap().code(), Some(0), "{}", said(&run, out));
    }
    run.finish();
    run.assert_equals(&calm, "one of two");
    std::fs::remove_dir_all(run.sandbox.path("out")).unwrap();
    std::fs::rename(run.sandbox.path("other"), run.sandbox.path("out")).unwrap();
    run.finish();
    run.assert_equals(&calm, "the other of two");
}

#[test]
fn a_run_waits_for_a_base_that_another_process_makes_and_may_be_stopped_meanwhile() {
    let calm = Disturbed::calm().lasting();
    let base = calm.keys().find(|name| name.ends_with("summary.json")).unwrap();
    let base = base.strip_suffix("/summary.json").unwrap();
    let run = Disturbed::new();
    let folder = run.sandbox.path(&format!("{base}.partial"));
    std::fs::create_dir_all(&folder).unwrap();
    let held = File::create(folder.join(".lock")).unwrap();
    held.lock().unwrap();

    let waits = || said(&run, "out").contains("waiting");
    let mut child = start(&run, "out");
    assert!(wait_for(&mut child, waits), "{}", said(&run, "out"));
    terminate(&child);
    assert_eq!(child.wait().unwrap().code(), Some(130));

    let mut child = start(&run, "out");
    assert!(wait_for(&mut child, waits), "{}", said(&run, "out"));
    assert!(!run.sandbox.path("out/base.json").exists());
    drop(held);
    assert_eq!(child.wait().unwrap().code(), Some(0), "{}", said(&run, "out"));
    let [_, mut report] = run.commands();
    assert_code(&report.output().unwrap(), 0);
    run.assert_equals(&calm, "after a wait");
}
