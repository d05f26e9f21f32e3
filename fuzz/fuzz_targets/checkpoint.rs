//! Any bytes as the safetensors file that checkpoints, extensions and models are kept in.

#![no_main]

use neutral_torch::load_tensors;
use tch::Device;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(file) = tempfile::NamedTempFile::new() else { return };
    if std::fs::write(file.path(), bytes).is_ok() {
        // An error is an answer; a crash, a hang or a large allocation is not.
        let _ = load_tensors(file.path(), Device::Cpu);
    }
});
