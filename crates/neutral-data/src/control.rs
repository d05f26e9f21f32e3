//! How a long step over text is watched from outside: where it shows its progress, what ends it.

use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use indicatif::MultiProgress;

use crate::DataError;

/// How often a step that is only waited for looks whether it has to stop.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Bars, and a flag that asks to stop. Clones share both; the default one is never asked.
///
/// A step that is asked to stop ends within about a second with [`DataError::Stopped`] and leaves
/// nothing: what is in the cache is whole, and there is no half of a step worth keeping.
#[derive(Clone, Debug, Default)]
pub struct Control {
    bars: MultiProgress,
    stop: Arc<AtomicBool>,
}

impl Control {
    /// Shows progress among `bars`, and ends once `stop` is true.
    pub fn new(bars: MultiProgress, stop: Arc<AtomicBool>) -> Self {
        Self { bars, stop }
    }

    pub(crate) fn bars(&self) -> &MultiProgress {
        &self.bars
    }

    /// Ends what asks this now and then.
    ///
    /// # Errors
    /// [`DataError::Stopped`] once it was asked to stop.
    pub fn check(&self) -> Result<(), DataError> {
        if self.stop.load(Ordering::SeqCst) { Err(DataError::Stopped) } else { Ok(()) }
    }

    /// The same documents, ended by [`DataError::Stopped`].
    pub(crate) fn guard<T, I: Iterator<Item = Result<T, DataError>>>(
        &self,
        documents: I,
    ) -> impl Iterator<Item = Result<T, DataError>> + use<T, I> {
        let control = self.clone();
        documents.map(move |document| control.check().and(document))
    }

    /// Runs a step that cannot be stopped in a thread of its own, which is left alone if need be:
    /// the process is about to end. So the step must not write where others read.
    pub(crate) fn abandonable<T: Send + 'static>(
        &self,
        step: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, DataError> {
        let step = thread::spawn(step);
        while !step.is_finished() {
            self.check()?;
            thread::sleep(LOOK_EVERY);
        }
        Ok(step.join().unwrap_or_else(|panic| resume_unwind(panic)))
    }

    /// As [`Control::abandonable`], for a step that does end once `end` has been called, and is
    /// then waited for.
    #[cfg(feature = "corpora")]
    pub(crate) fn stoppable<T: Send + 'static>(
        &self,
        step: impl FnOnce() -> T + Send + 'static,
        end: impl Fn(),
    ) -> Result<T, DataError> {
        let step = thread::spawn(step);
        while !step.is_finished() {
            if self.check().is_err() {
                end();
            }
            thread::sleep(LOOK_EVERY);
        }
        let outcome = step.join().unwrap_or_else(|panic| resume_unwind(panic));
        self.check().map(|()| outcome)
    }
}
