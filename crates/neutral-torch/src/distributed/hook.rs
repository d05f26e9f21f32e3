//! A look at gradients while a backward pass still runs.

use std::ffi::{c_char, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::null_mut;

use tch::Tensor;

use crate::autograd::{message_of, release_message, take_message};

type Seen = Box<dyn FnMut(&Tensor) + Send>;

/// Calls a closure as soon as libtorch has the whole gradient of a leaf, while the backward pass goes
/// on with what lies below. Removed on drop, but for the place in a list of the leaf that libtorch keeps: one hook
/// serves many passes.
#[derive(Debug)]
pub struct GradientHook {
    raw: *mut c_void,
}

// SAFETY: c10d's objects are bound to no thread; a backward pass that runs meanwhile is excluded, as for
// every change of a graph, by who owns both.
#[expect(unsafe_code, reason = "a C++ object behind a pointer")]
unsafe impl Send for GradientHook {}

impl GradientHook {
    /// Calls `seen` with the gradient of `leaf`, shaped as it, once in every backward pass that reaches
    /// it, [`Tensor::run_backward`] with `leaf` among its inputs included. Where the leaf is used more
    /// than once the gradient is the sum. A panic of `seen` is an error of that backward pass.
    ///
    /// # Panics
    /// If the tensor does not require a gradient.
    pub fn on(leaf: &Tensor, seen: impl FnMut(&Tensor) + Send + 'static) -> Self {
        let seen: Seen = Box::new(seen);
        let closure = Box::into_raw(Box::new(seen));
        let mut raw = null_mut();
        #[expect(unsafe_code, reason = "calls the bridge")]
        // SAFETY: the tensor outlives the call, the callbacks below match their declaration in
        // c10d.cpp, and the closure is owned by the bridge from here on.
        let failed = unsafe {
            neutral_hook(
                leaf.as_ptr().cast(),
                closure.cast(),
                call,
                drop_closure,
                release_message,
                &raw mut raw,
            )
        };
        assert!(failed.is_null(), "a hook on a gradient: {}", take_message(failed));
        Self { raw }
    }
}

impl Drop for GradientHook {
    fn drop(&mut self) {
        #[expect(unsafe_code, reason = "calls the bridge")]
        // SAFETY: it came from `neutral_hook` and is given up here.
        let message = unsafe { neutral_unhook(self.raw) };
        // Removing fails for a position that was never given, and for no other reason.
        take_message(message);
    }
}

#[expect(unsafe_code, reason = "declarations of csrc/c10d.cpp")]
unsafe extern "C" {
    fn neutral_hook(
        leaf: *const c_void,
        closure: *mut c_void,
        seen: unsafe extern "C" fn(*mut c_void, *const c_void) -> *mut c_char,
        drop: unsafe extern "C" fn(*mut c_void),
        release_message: unsafe extern "C" fn(*mut c_char),
        result: *mut *mut c_void,
    ) -> *mut c_char;
    fn neutral_unhook(hook: *mut c_void) -> *mut c_char;
}

#[expect(unsafe_code, reason = "called by the bridge")]
unsafe extern "C" fn call(closure: *mut c_void, gradient: *const c_void) -> *mut c_char {
    message_of(catch_unwind(AssertUnwindSafe(|| {
        // SAFETY: the closure is that of `on`, which the engine calls from one thread at a time (a
        // leaf's gradient is whole once a pass); the tensor lives during this call, and a clone takes a
        // reference of its own.
        let (seen, gradient) = unsafe {
            let gradient = Tensor::clone_from_ptr(gradient.cast_mut().cast());
            (&mut *closure.cast::<Seen>(), gradient)
        };
        seen(&gradient);
    })))
}

#[expect(unsafe_code, reason = "called by the bridge")]
unsafe extern "C" fn drop_closure(closure: *mut c_void) {
    // SAFETY: the pointer came from `on`, and the bridge gives it up here.
    drop(unsafe { Box::from_raw(closure.cast::<Seen>()) });
}
