//! `SIGINT` and `SIGTERM`: the first asks for a checkpoint and a clean end, the second ends at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;

/// Signals within this time of the first are the first, for a process that a job manager started: it
/// signals every process of a job, and the job's script passes on what it got.
const SAME_STOP: Duration = Duration::from_secs(1);

/// Installs the handler; the flag turns true when the user or the system asks to stop.
pub(crate) fn stop_flag() -> anyhow::Result<Arc<AtomicBool>> {
    install(Duration::ZERO)
}

/// The same for a process that something else started, and stops.
pub(crate) fn stop_flag_of_unit() -> anyhow::Result<Arc<AtomicBool>> {
    install(SAME_STOP)
}

fn install(same_stop: Duration) -> anyhow::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&stop);
    let mut first = None;
    ctrlc::set_handler(move || {
        if flag.swap(true, Ordering::SeqCst) {
            if first.is_some_and(|first: Instant| first.elapsed() < same_stop) {
                return;
            }
            // Nothing is lost: every file is written whole or not at all.
            std::process::exit(crate::exit::EXIT_INTERRUPTED);
        }
        first = Some(Instant::now());
        tracing::warn!(
            "stopping, with a checkpoint if something is being trained; once more ends at once"
        );
    })
    .context("cannot listen for signals")?;
    Ok(stop)
}
