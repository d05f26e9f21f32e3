//! Functions with a backward pass of their own, as nodes of libtorch's autograd graph.
//!
//! tch can build a graph from libtorch's operations only. [`attach`] makes tensors that were computed
//! in any way the outputs of a node, whose backward pass is a Rust closure. Everything else stays
//! libtorch's: when the closure runs, what flows into it, and when what it saved is dropped.

use std::ffi::{CStr, CString, c_char, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};

use tch::Tensor;

/// What a backward pass is given.
#[derive(Debug)]
pub struct Gradients {
    /// `∂loss/∂output`, by output; nothing where the loss does not depend on it.
    pub outputs: Vec<Option<Tensor>>,
    /// Which inputs want a gradient, by input.
    pub wanted: Vec<bool>,
}

/// `∂loss/∂input`, by input; nothing where none is wanted.
type Backward = Box<dyn FnOnce(Gradients) -> Vec<Option<Tensor>> + Send>;

/// Makes `outputs` depend on `inputs` through a backward pass of one's own.
///
/// Outputs must have been computed within [`tch::no_grad`]. If no input is tracked, or gradients are
/// off, nothing happens and the closure is dropped. It runs at most once.
///
/// The closure must not hold `outputs` themselves, which would keep each other alive: it may hold
/// what [`Tensor::detach`] gives.
///
/// # Panics
/// If libtorch refuses. A panic of the closure becomes an error of libtorch's backward pass.
pub fn attach(
    label: &'static str,
    inputs: &[&Tensor],
    outputs: &[&Tensor],
    backward: impl FnOnce(Gradients) -> Vec<Option<Tensor>> + Send + 'static,
) {
    let backward: Backward = Box::new(backward);
    let closure = Box::into_raw(Box::new(backward));
    let inputs: Vec<*const c_void> = inputs.iter().map(|t| t.as_ptr().cast()).collect();
    let outputs: Vec<*const c_void> = outputs.iter().map(|t| t.as_ptr().cast()).collect();
    let name = CString::new(label).expect("a label without NUL");
    #[expect(unsafe_code, reason = "calls the bridge")]
    // SAFETY: the tensors outlive the call, the callbacks below match their declaration in
    // bridge.cpp, and the closure is owned by the bridge from here on.
    let failed = unsafe {
        neutral_attach(
            name.as_ptr(),
            inputs.as_ptr(),
            inputs.len(),
            outputs.as_ptr(),
            outputs.len(),
            closure.cast(),
            run,
            drop_closure,
            release_message,
        )
    };
    assert!(failed.is_null(), "{label}: {}", take_message(failed));
}

#[expect(unsafe_code, reason = "declarations of csrc/bridge.cpp")]
unsafe extern "C" {
    fn neutral_attach(
        label: *const c_char,
        inputs: *const *const c_void,
        n_inputs: usize,
        outputs: *const *const c_void,
        n_outputs: usize,
        closure: *mut c_void,
        backward: unsafe extern "C" fn(
            *mut c_void,
            *const *const c_void,
            usize,
            *const bool,
            *mut *mut c_void,
            usize,
        ) -> *mut c_char,
        drop: unsafe extern "C" fn(*mut c_void),
        release_message: unsafe extern "C" fn(*mut c_char),
    ) -> *mut c_char;
    fn neutral_free_message(message: *mut c_char);
}

#[expect(unsafe_code, reason = "called by the bridge")]
unsafe extern "C" fn run(
    closure: *mut c_void,
    gradients: *const *const c_void,
    n_gradients: usize,
    wanted: *const bool,
    results: *mut *mut c_void,
    n_results: usize,
) -> *mut c_char {
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        // SAFETY: the pointer came from `attach` and is handed back once; the arrays have the
        // lengths given; gradients are tensors that the engine holds during this call.
        let (backward, gradients, wanted, results) = unsafe {
            (
                Box::from_raw(closure.cast::<Backward>()),
                std::slice::from_raw_parts(gradients, n_gradients),
                std::slice::from_raw_parts(wanted, n_results),
                std::slice::from_raw_parts_mut(results, n_results),
            )
        };
        let tensor = |&pointer: &*const c_void| {
            // SAFETY: as above; a clone takes a reference of its own.
            (!pointer.is_null())
                .then(|| unsafe { Tensor::clone_from_ptr(pointer.cast_mut().cast()) })
        };
        let outputs = gradients.iter().map(tensor).collect();
        let found = backward(Gradients { outputs, wanted: wanted.to_vec() });
        assert_eq!(found.len(), n_results, "one gradient an input");
        for ((place, gradient), wanted) in results.iter_mut().zip(found).zip(wanted) {
            if let Some(mut gradient) = gradient.filter(|_| *wanted) {
                // The bridge deletes the tensor behind the pointer, as tch would have.
                *place = gradient.as_mut_ptr().cast();
                std::mem::forget(gradient);
            }
        }
    }));
    message_of(outcome)
}

/// Nothing, or what a panic said, for the bridge to throw and to give to [`release_message`].
pub(crate) fn message_of(outcome: std::thread::Result<()>) -> *mut c_char {
    match outcome {
        Ok(()) => std::ptr::null_mut(),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            CString::new(text.unwrap_or("a panic")).unwrap_or_default().into_raw()
        }
    }
}

#[expect(unsafe_code, reason = "called by the bridge")]
unsafe extern "C" fn drop_closure(closure: *mut c_void) {
    // SAFETY: the pointer came from `attach`, and the bridge gives it up here. A destructor that
    // panics aborts, which no tensor's does.
    drop(unsafe { Box::from_raw(closure.cast::<Backward>()) });
}

#[expect(unsafe_code, reason = "called by the bridge")]
pub(crate) unsafe extern "C" fn release_message(message: *mut c_char) {
    // SAFETY: it came from `CString::into_raw` in `message_of`.
    drop(unsafe { CString::from_raw(message) });
}

/// The text of a message of the bridge, which is freed; empty for none.
#[expect(unsafe_code, reason = "takes over a message of the bridge")]
pub(crate) fn take_message(message: *mut c_char) -> String {
    if message.is_null() {
        return String::new();
    }
    // SAFETY: the bridge made it with strdup and gave it up.
    unsafe {
        let text = CStr::from_ptr(message).to_string_lossy().into_owned();
        neutral_free_message(message);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind, no_grad};

    /// `2x + y` with a backward pass that says three instead of two, so that it is seen.
    fn odd(x: &Tensor, y: &Tensor) -> Tensor {
        let out = no_grad(|| x * 2.0 + y);
        attach("odd", &[x, y], &[&out], |gradients| {
            let g = gradients.outputs[0].as_ref().expect("the only output");
            gradients.wanted.iter().zip([3.0, 1.0]).map(|(w, f)| w.then(|| g * f)).collect()
        });
        out
    }

    fn ones() -> Tensor {
        Tensor::ones([2], (Kind::Float, Device::Cpu))
    }

    #[test]
    fn the_closure_is_the_backward_pass_and_chains_with_libtorchs() {
        let (x, y) = (ones().set_requires_grad(true), ones());
        (odd(&x.square(), &y) * 5.0).sum(Kind::Float).backward();
        assert_eq!(Vec::<f32>::try_from(x.grad()).unwrap(), [30.0, 30.0]);
        assert!(!y.grad().defined());
    }

    #[test]
    fn without_tracked_inputs_or_without_gradients_there_is_no_node() {
        assert!(!odd(&ones(), &ones()).requires_grad());
        let x = ones().set_requires_grad(true);
        assert!(!no_grad(|| odd(&x, &ones())).requires_grad());
    }

    #[test]
    fn what_the_closure_saved_is_dropped_with_the_graph() {
        let saved = std::sync::Arc::new(());
        let held = saved.clone();
        let x = ones().set_requires_grad(true);
        let out = no_grad(|| &x * 1.0);
        attach("holder", &[&x], &[&out], move |gradients| {
            let _ = &held;
            gradients.outputs
        });
        assert_eq!(std::sync::Arc::strong_count(&saved), 2);
        out.sum(Kind::Float).backward();
        assert_eq!(std::sync::Arc::strong_count(&saved), 1, "freed as soon as it has run");
    }

    #[test]
    fn a_panic_in_the_closure_is_an_error_of_the_backward_pass() {
        let x = ones().set_requires_grad(true);
        let out = no_grad(|| &x * 1.0);
        attach("broken", &[&x], &[&out], |_| panic!("on purpose"));
        let loss = out.sum(Kind::Float);
        let message = Tensor::f_run_backward(&[&loss], &[&x], false, false).unwrap_err();
        assert!(message.to_string().contains("broken: on purpose"), "{message}");
    }
}
