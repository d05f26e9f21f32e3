//! A stop while text is fetched, cleaned or tokenised is obeyed at once and leaves nothing behind.

use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::command::{Sandbox, assert_code, terminate, wait_for};
use crate::trace::{changes, is_possible, traced};

/// Without the machine's hiccups it takes some tens of milliseconds.
const AT_ONCE: Duration = Duration::from_secs(2);

/// Stops the command and fails unless it obeys; every step here would take longer by far.
fn stop(mut child: Child) {
    terminate(&child);
    let begin = Instant::now();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let took = begin.elapsed();
    assert!(took < AT_ONCE, "it took {took:?} to stop");
}

/// The names in a kind's folder of the cache.
fn entries(sandbox: &Sandbox, kind: &str) -> Vec<String> {
    let Ok(folder) = std::fs::read_dir(sandbox.path("cache").join(kind)) else { return Vec::new() };
    folder.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// A client that hangs with a helper, until there is a file `go`: then it packs `package`.
const SLOW_NPM: &str = r#"#!/bin/sh
if [ -e "$SANDBOX/go" ]; then exec tar -czf slow-1.0.0.tgz -C "$SANDBOX" package; fi
echo half > slow-1.0.0.tgz
sleep 600 &
echo $! > "$SANDBOX/pid.new" && mv "$SANDBOX/pid.new" "$SANDBOX/pid"
wait
"#;

const SLOW_MANIFEST: &str = "
name: slow
licence: MIT
description: text from a server that takes its time
variants:
  a:
    language: none
    source: { kind: npm, package: slow, version: 1.0.0 }
    files: package/*.txt
    extract: { kind: text, document_bytes: 100 }
clean: { detect_language: false }
";

fn is_running(pid: &str) -> bool {
    let stat = std::fs::read_to_string(Path::new("/proc").join(pid.trim()).join("stat"));
    // Its parent is gone, and not everywhere does somebody bury it.
    stat.is_ok_and(|stat| !stat.contains(") Z "))
}

#[test]
fn a_stop_ends_the_package_client_with_its_helpers_and_the_same_command_fetches_again() {
    let sandbox = Sandbox::new();
    for folder in ["manifests", "package"] {
        std::fs::create_dir(sandbox.path(folder)).unwrap();
    }
    let path = sandbox.program("npm", SLOW_NPM);
    sandbox.write("manifests/slow.yaml", SLOW_MANIFEST);
    let line = |n| format!("line {n} has more than enough words to be kept\n");
    sandbox.write("package/a.txt", &(0..300).map(line).collect::<String>());
    let command = || {
        let mut command = sandbox.neutral(&["data", "slow/a", "--manifests", "manifests"]);
        command.env("PATH", &path).env("SANDBOX", sandbox.path(""));
        command
    };

    let mut child = command().stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    assert!(wait_for(&mut child, || sandbox.path("pid").exists()), "it did not call npm");
    stop(child);
    let pid = std::fs::read_to_string(sandbox.path("pid")).unwrap();
    assert!(!is_running(&pid), "the client's helper goes on");
    assert!(entries(&sandbox, "downloads").is_empty(), "{:?}", entries(&sandbox, "downloads"));
    assert!(entries(&sandbox, "corpora").is_empty(), "{:?}", entries(&sandbox, "corpora"));

    sandbox.write("go", "");
    let (log, traces) = (sandbox.path("log"), is_possible());
    let mut command = if traces { traced(&command(), &log, None) } else { command() };
    let output = command.output().unwrap();
    assert_code(&output, 0);
    assert!(String::from_utf8_lossy(&output.stdout).contains("slow/a"));
    if traces {
        // What a client wrote is on disk before its entry has its name: else a loss of power might
        // leave half of it there.
        let changes = changes(&log, &sandbox.path("").canonicalize().unwrap());
        let at = |call: &str, place: &str| {
            changes.iter().position(|c| c.call == call && c.place == place).unwrap()
        };
        let entry = "cache/downloads/.making-";
        assert!(at("fsync", &format!("{entry}/slow-1.0.0.tgz")) < at("rename", entry));
    }
}

const MUCH_TEXT: &str = "
name: much
licence: MIT
description: enough text that every step takes a while
variants:
  a: { language: none, source: { kind: synthetic, language: a, documents: 80000, seed: 7 } }
  b: { language: none, source: { kind: synthetic, language: b, documents: 400, seed: 7 } }
clean: { detect_language: false }
";

const TRAINING: &str = "tokens: 512, sequence_length: 64, batch_size: 8, learning_rate: 0.005, \
    schedule: { kind: cosine, warmup_fraction: 0.1, final_fraction: 0.1 }";

const EXPERIMENT: &str = "
experiment: much
question: Is a stop obeyed at once?
seeds: [0]
precision: fp32
tokenizer: { kind: train, vocab_size: 600, corpora: [much/a] }
base:
  kind: pretrain
  shape: { d_model: 32, n_layers: 2, n_heads: 2, n_kv_heads: 1, d_ff: 64 }
  corpora: [much/a]
  training: { TRAINING }
data: { original: [much/a], new: [much/b], original_fraction: 0.5 }
training: { TRAINING }
methods: [{ method: { kind: finetune } }]
evaluation: { original: [much/a], new: [much/b], max_bytes: 1000 }
";

#[test]
fn a_stop_while_text_is_cleaned_learnt_from_or_tokenised_does_not_wait_for_the_end() {
    let sandbox = Sandbox::new();
    std::fs::create_dir(sandbox.path("manifests")).unwrap();
    sandbox.write("manifests/much.yaml", MUCH_TEXT);
    sandbox.write("much.yaml", &EXPERIMENT.replace("TRAINING", TRAINING));
    // Each run finds what the one before has left whole, and gets one step further.
    for kind in ["corpora", "tokenizers", "tokens"] {
        let arguments = ["run", "much.yaml", "--manifests", "manifests", "--device", "cpu"];
        let mut command = sandbox.neutral(&arguments);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let begun = || entries(&sandbox, kind).iter().any(|name| name.starts_with('.'));
        assert!(wait_for(&mut child, begun), "{kind}: the run ended before it could be stopped");
        stop(child);
        assert!(entries(&sandbox, kind).is_empty(), "{kind}: {:?}", entries(&sandbox, kind));
    }
}
