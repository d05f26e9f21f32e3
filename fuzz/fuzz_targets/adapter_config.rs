//! Any bytes as the configuration of an extension, PEFT's or our own, beside weights that are sound.

#![no_main]

use std::path::Path;
use std::sync::LazyLock;

use neutral_adapters::open_extension;
use neutral_model::{ModelFolder, TransformerConfig};
use tch::Device;

fn fixture(path: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures").join(path)
}

static MODEL: LazyLock<TransformerConfig> = LazyLock::new(|| {
    let folder = ModelFolder::open(&fixture("families/llama2")).expect("the fixture is sound");
    folder.config().clone()
});

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(folder) = tempfile::tempdir() else { return };
    let weights = fixture("peft/plain/adapter_model.safetensors");
    for (config, name) in [
        ("adapter_config.json", "adapter_model.safetensors"),
        ("extension_config.json", "extension.safetensors"),
    ] {
        let path = folder.path().join(config);
        if std::fs::write(&path, bytes).is_err() || std::fs::copy(&weights, folder.path().join(name)).is_err() {
            return;
        }
        // An error is an answer; a crash, a hang or a large allocation is not.
        let _ = open_extension(folder.path(), &MODEL, Device::Cpu);
        let _ = std::fs::remove_file(path);
    }
});
