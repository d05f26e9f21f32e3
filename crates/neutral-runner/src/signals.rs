//! `SIGINT` and `SIGTERM`: the first asks for a checkpoint and a clean end, the second ends at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;

/// Installs the handler; the flag turns true when the user or the system asks to stop.
pub(crate) fn stop_flag() -> anyhow::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&stop);
    ctrlc::set_handler(move || {
        if flag.swap(true, Ordering::SeqCst) {
            // Nothing is lost: every file is written whole or not at all.
            std::process::exit(crate::exit::EXIT_INTERRUPTED);
        }
        tracing::warn!(
            "stopping, with a checkpoint if something is being trained; once more ends at once"
        );
    })
    .context("cannot listen for signals")?;
    Ok(stop)
}
