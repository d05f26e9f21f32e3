//! Any bytes as a GGUF file: all that `convert` does but for writing.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    // An error is an answer; a crash, a hang or a large allocation is not.
    let _ = neutral_gguf::rehearse(bytes);
});
