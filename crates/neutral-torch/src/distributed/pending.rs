//! Operations that go on.

use std::ffi::{c_char, c_void};
use std::ptr::null_mut;

use super::answer;
use crate::TorchError;

/// An operation that goes on. If it is dropped it goes on all the same, and nobody learns how it ended.
#[derive(Debug)]
#[must_use = "an operation that nobody waits for fails unseen"]
pub struct Pending {
    pub(super) raw: *mut c_void,
    pub(super) rank: usize,
    pub(super) what: &'static str,
}

// SAFETY: c10d's objects are bound to no thread.
#[expect(unsafe_code, reason = "a C++ object behind a pointer")]
unsafe impl Send for Pending {}

impl Pending {
    /// Waits until it is done: here, not everywhere. On CUDA too: NCCL is
    /// told to block, so that a process that is gone is an error.
    ///
    /// # Errors
    /// If a process is gone or does not come in time. The tensor's values mean nothing then.
    pub fn wait(mut self) -> Result<(), TorchError> {
        let raw = std::mem::replace(&mut self.raw, null_mut());
        #[expect(unsafe_code, reason = "calls the bridge")]
        // SAFETY: the bridge made it, and consumes it here, once.
        let message = unsafe { neutral_work_wait(raw) };
        let (rank, what) = (self.rank, self.what);
        answer(message).map_err(|reason| TorchError::Distributed { rank, what, reason })
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        #[expect(unsafe_code, reason = "calls the bridge")]
        // SAFETY: the bridge made it, or it is null after `wait`; freed once.
        unsafe {
            neutral_work_free(self.raw);
        }
    }
}

#[expect(unsafe_code, reason = "declarations of csrc/c10d.cpp")]
unsafe extern "C" {
    fn neutral_work_wait(work: *mut c_void) -> *mut c_char;
    fn neutral_work_free(work: *mut c_void);
}
