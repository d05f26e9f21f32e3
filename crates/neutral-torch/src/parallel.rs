//! Loops on libtorch's own threads.
//!
//! A second pool would fight with libtorch's: its idle threads spin for a while before they sleep,
//! and on few cores that stalls the other pool's work.

use std::any::Any;
use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Mutex;

#[expect(unsafe_code, reason = "a declaration of csrc/bridge.cpp")]
unsafe extern "C" {
    fn neutral_parallel_for(
        n: i64,
        grain: i64,
        body: unsafe extern "C" fn(*mut c_void, i64, i64),
        context: *mut c_void,
    );
}

struct Context<'a> {
    body: &'a (dyn Fn(usize, usize) + Sync),
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

/// Calls `body(begin, end)` on disjoint ranges that cover `0..n`, at most one for each `grain` begun, on
/// as many threads as libtorch uses.
///
/// # Panics
/// If the body does, on any thread.
pub fn parallel_for(n: usize, grain: usize, body: impl Fn(usize, usize) + Sync) {
    if n == 0 {
        return;
    }
    let mut context = Context { body: &body, panic: Mutex::new(None) };
    #[expect(unsafe_code, reason = "calls the bridge")]
    // SAFETY: the call returns after every range is done, so the context outlives its uses; the
    // body is `Sync`, and `call` does not unwind.
    unsafe {
        neutral_parallel_for(n as i64, grain.max(1) as i64, call, (&raw mut context).cast());
    }
    if let Some(panic) =
        context.panic.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner)
    {
        resume_unwind(panic);
    }
}

#[expect(unsafe_code, reason = "called by the bridge")]
unsafe extern "C" fn call(context: *mut c_void, begin: i64, end: i64) {
    // SAFETY: it is the context of `parallel_for`, which waits for this call.
    let context = unsafe { &*context.cast::<Context>() };
    let run = || (context.body)(begin as usize, end as usize);
    if let Err(panic) = catch_unwind(AssertUnwindSafe(run))
        && let Ok(mut place) = context.panic.lock()
    {
        *place = Some(panic);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn every_index_is_visited_once() {
        for n in [0, 1, 2, 7, 1000] {
            let seen: Vec<AtomicUsize> = (0..n).map(|_| AtomicUsize::new(0)).collect();
            parallel_for(n, 3, |begin, end| {
                for place in &seen[begin..end] {
                    place.fetch_add(1, Ordering::Relaxed);
                }
            });
            assert!(seen.iter().all(|place| place.load(Ordering::Relaxed) == 1), "{n}");
        }
    }

    #[test]
    #[should_panic(expected = "on purpose")]
    fn a_panic_arrives_at_the_caller() {
        parallel_for(100, 1, |begin, end| assert!(!(begin..end).contains(&70), "on purpose"));
    }
}
