//! `SIGINT`, `SIGTERM` and `SIGHUP`: the first asks for a checkpoint and a clean end, the second ends at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// Signals within this time of the first are the first, for a process that a job manager started: it
/// signals every process of a job, and the job's script passes on what it got.
const SAME_STOP_OF_UNIT: Duration = Duration::from_secs(1);

/// The same for others: `timeout` signals a process and then its group, a terminal that closes may do so
/// twice. Nobody presses a key again so soon.
const SAME_STOP: Duration = Duration::from_millis(100);

/// Installs the handler; the flag turns true when the user or the system asks to stop.
pub(crate) fn stop_flag() -> anyhow::Result<Arc<AtomicBool>> {
    install(SAME_STOP)
}

/// The same for a process that something else started, and stops.
pub(crate) fn stop_flag_of_unit() -> anyhow::Result<Arc<AtomicBool>> {
    install(SAME_STOP_OF_UNIT)
}

fn install(same_stop: Duration) -> anyhow::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&stop);
    let mut heard = vec![SIGINT, SIGTERM];
    // `nohup` has it ignored, and means it.
    if !is_ignored(SIGHUP, &std::fs::read_to_string("/proc/self/status").unwrap_or_default()) {
        heard.push(SIGHUP);
    }
    let mut signals = Signals::new(heard).context("cannot listen for signals")?;
    std::thread::spawn(move || {
        let mut first: Option<Instant> = None;
        for _ in signals.forever() {
            match first {
                None => {
                    first = Some(Instant::now());
                    flag.store(true, Ordering::SeqCst);
                    tracing::warn!(
                        "stopping, with a checkpoint if something is being trained; once more ends at once"
                    );
                }
                Some(first) if first.elapsed() < same_stop => {}
                // Nothing is lost: every file is written whole or not at all.
                Some(_) => std::process::exit(crate::exit::EXIT_INTERRUPTED),
            }
        }
    });
    Ok(stop)
}

/// Whether a process ignores a signal, by what Linux says of it.
fn is_ignored(signal: i32, status: &str) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ignored_signal_is_known_by_its_bit() {
        let status = "Name:\tneutral\nSigIgn:\t0000000000001001\nSigCgt:\t0000000000004002\n";
        assert!(is_ignored(SIGHUP, status) && is_ignored(13, status));
        assert!(!is_ignored(SIGTERM, status) && !is_ignored(SIGHUP, ""));
    }
}
