//! The end of a group.

use std::ffi::{c_char, c_void};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::{Group, answer};
use crate::TorchError;

const WHAT: &str = "leave the group";

/// How often rank 0 looks whether all have left.
const LOOK_EVERY: Duration = Duration::from_millis(10);

impl Group {
    /// Says that this process is done; what it does with the group after that is to drop it. Rank 0, which hosts
    /// the store, waits until all others have said so, for as long as its patience lasts, so that they hear its
    /// last message.
    ///
    /// # Errors
    /// If the others have not left then, or rank 0 is gone.
    pub fn leave(&self, patience: Duration) -> Result<(), TorchError> {
        let end = Instant::now() + patience;
        let mut left = self.count_left(1)?;
        while self.rank() == 0 && left < self.size() as i64 {
            if Instant::now() > end {
                let reason = format!("{left} of {} processes have left it", self.size());
                return Err(self.failed(WHAT, reason));
            }
            sleep(LOOK_EVERY);
            left = self.count_left(0)?;
        }
        Ok(())
    }

    /// How many have left, with those added that do so now.
    fn count_left(&self, more: i64) -> Result<i64, TorchError> {
        let mut count = 0;
        #[expect(unsafe_code, reason = "calls the bridge")]
        // SAFETY: key and place outlive the call.
        let message = unsafe {
            neutral_group_add(self.shared.raw, c"neutral/left".as_ptr(), more, &raw mut count)
        };
        answer(message).map_err(|reason| self.failed(WHAT, reason))?;
        Ok(count)
    }
}

#[expect(unsafe_code, reason = "a declaration of csrc/c10d.cpp")]
unsafe extern "C" {
    fn neutral_group_add(
        group: *mut c_void,
        key: *const c_char,
        amount: i64,
        result: *mut i64,
    ) -> *mut c_char;
}
