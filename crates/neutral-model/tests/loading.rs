//! What loading a model costs in memory and time. Linux says how large a process has been.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "in tests a panic is the report")]

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use neutral_model::{ModelFolder, TransformerConfig};
use neutral_spec::{Precision, Shape};
use neutral_torch::{peak_rss_bytes, save_tensors};
use tch::{Device, Kind, Tensor};

/// Writes a Llama of zeros in bf16, and gives the size of its weights in bytes.
fn write_zeros(folder: &Path, shape: &Shape, vocab_size: usize) -> u64 {
    let config = TransformerConfig::llama(shape, vocab_size);
    let json = config.to_hugging_face().unwrap();
    neutral_store::write_json(&folder.join("config.json"), &json).unwrap();
    let tensors: BTreeMap<String, Tensor> = config
        .weight_shapes()
        .into_iter()
        .map(|(name, shape)| {
            let shape: Vec<i64> = shape.into_iter().map(|n| n as i64).collect();
            (name, Tensor::zeros(&shape, (Kind::BFloat16, Device::Cpu)))
        })
        .collect();
    save_tensors(&folder.join("model.safetensors"), &tensors, &BTreeMap::new()).unwrap();
    config.size().parameters * 2
}

/// Loads the model and freezes it; how much larger the process became at its largest, in bytes.
#[expect(clippy::print_stdout, reason = "the figures are the point of a run by hand")]
fn growth_while_loading(folder: &Path) -> u64 {
    // Forgets how large the process has been before.
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    let before = peak_rss_bytes();
    let begin = Instant::now();
    let mut model = ModelFolder::open(folder).unwrap().load(Device::Cpu, Precision::Bf16).unwrap();
    let seconds = begin.elapsed().as_secs_f64();
    model.freeze();
    let grown = peak_rss_bytes() - before;
    let bytes = model.params().parameter_count() * 2;
    println!(
        "{:.2} GB: grew by {:.3} of that; loaded in {seconds:.2} s, {:.2} GB/s",
        bytes as f64 / 1e9,
        grown as f64 / bytes as f64,
        bytes as f64 / 1e9 / seconds
    );
    grown
}

fn holds(shape: Shape, vocab_size: usize) {
    let place = tempfile::tempdir().unwrap();
    let bytes = write_zeros(place.path(), &shape, vocab_size);
    let grown = growth_while_loading(place.path());
    assert!(grown as f64 <= 1.2 * bytes as f64, "{grown} bytes for a model of {bytes}");
}

const SMALL: Shape = Shape {
    d_model: 768,
    n_layers: 8,
    n_heads: 12,
    n_kv_heads: 4,
    d_ff: 2048,
    tie_embeddings: true,
    rope_theta: 1e4,
    norm_epsilon: 1e-5,
};

#[test]
fn a_model_takes_its_own_size_and_little_more() {
    holds(SMALL, 32_000);
}

#[test]
#[ignore = "writes a file of 1 GB"]
fn so_does_one_of_a_gigabyte() {
    holds(Shape { d_model: 1024, n_heads: 16, n_layers: 40, d_ff: 2816, ..SMALL }, 32_000);
}
