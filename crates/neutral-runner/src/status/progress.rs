//! The end of a trial's `metrics.jsonl`.
//!
//! A training writes its lines in blocks, so that they may be some steps behind.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use jiff::Timestamp;
use serde::Deserialize;

/// So much of the file's end is read: some twenty lines.
const TAIL: u64 = 16 << 10;

/// How far a trial is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Progress {
    /// The last step on disk.
    pub step: u64,
    /// Over the last steps, so that a busy machine's hiccups count but do not rule.
    pub tokens_per_second: f64,
    /// When it was written.
    pub written: Option<Timestamp>,
}

#[derive(Deserialize)]
struct Line {
    step: u64,
    tokens_per_second: f64,
}

/// What a trial's folder says; nothing before its first steps are on disk.
pub(crate) fn progress(folder: &Path) -> Option<Progress> {
    let mut file = File::open(folder.join("metrics.jsonl")).ok()?;
    let about = file.metadata().ok()?;
    let begin = about.len().saturating_sub(TAIL);
    file.seek(SeekFrom::Start(begin)).ok()?;
    let mut bytes = Vec::new();
    file.take(TAIL).read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    // Half lines at both ends are no JSON.
    let lines: Vec<Line> = text.lines().filter_map(|l| serde_json::from_str(l).ok()).collect();
    let last = lines.last()?;
    // Steps have equally many tokens, so the speed over them is the harmonic mean.
    let times: f64 = lines.iter().map(|line| line.tokens_per_second.recip()).sum();
    let written = about.modified().ok().and_then(|time| Timestamp::try_from(time).ok());
    Some(Progress { step: last.step, tokens_per_second: lines.len() as f64 / times, written })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_whole_lines_count() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(progress(folder.path()), None);
        let line = |step, speed: f64| {
            let padding = "x".repeat(500);
            format!("{{\"step\":{step},\"tokens_per_second\":{speed},\"more\":\"{padding}\"}}\n")
        };
        let old = (1..=90).map(|step| line(step, 1e9));
        let new = (91..=130).map(|step| line(step, if step % 2 == 0 { 100.0 } else { 300.0 }));
        let text: String = old.chain(new).chain(["{\"step\":131,".to_owned()]).collect();
        std::fs::write(folder.path().join("metrics.jsonl"), text).unwrap();
        let found = progress(folder.path()).unwrap();
        assert_eq!(found.step, 130);
        assert!((140.0..160.0).contains(&found.tokens_per_second), "{found:?}");
        std::fs::write(folder.path().join("metrics.jsonl"), "").unwrap();
        assert_eq!(progress(folder.path()), None);
    }
}
