//! Any bytes as a model's `config.json`, and the list of weights that it asks for.

#![no_main]

use std::path::Path;

use neutral_model::TransformerConfig;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(json) = serde_json::from_slice(bytes) else { return };
    // An error is an answer; a crash, a hang or a large allocation is not.
    let _ = TransformerConfig::from_hugging_face(&json, Path::new("config.json"));
});
