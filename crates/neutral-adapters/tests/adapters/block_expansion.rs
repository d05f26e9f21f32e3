//! New blocks in models of every family: exact at the start, and whole models once they are trained.

use std::path::{Path, PathBuf};

use neutral_adapters::build;
use neutral_model::{Attention, Extension, Input, ModelFolder, Transformer, deepened, write_model};
use neutral_spec::{Precision, extension_size};
use neutral_torch::RandomStream;
use tch::{Device, Kind, Tensor};

use crate::methods::blocks;

/// Tiny checkpoints of every family, by `make_family_fixtures.py`.
fn families() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/families");
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let found: Vec<_> = entries.filter(|path| path.join("config.json").is_file()).collect();
    assert!(found.len() >= 7, "{found:?}");
    found
}

fn logits(model: &Transformer, extension: &Extension) -> Tensor {
    let ids: Vec<i64> = (0..24).map(|i| (i * 7 + 3) % model.config().vocab_size as i64).collect();
    let tokens_bt = Tensor::from_slice(&ids).view([2, 12]);
    let input = Input { tokens_bt, attention: Attention::Causal };
    tch::no_grad(|| model.logits(&model.forward(&input, extension).hidden_btd))
}

/// A new block above the last of the base's.
fn one_block(model: &Transformer) -> Extension {
    let size = model.config().size();
    let percent = size.block_parameters as f64 * 100.0 / size.parameters as f64;
    let method = blocks(percent);
    build(&method, &extension_size(&method, &size).unwrap(), model, 0).unwrap()
}

/// Moves every weight by about a tenth of a usual start.
fn disturb(extension: &mut Extension) {
    for (name, weight) in extension.params_mut().iter() {
        let noise = RandomStream::new(1, name).normal(&weight.size(), 0.1, Device::Cpu);
        tch::no_grad(|| drop(weight.shallow_clone().g_add_(&noise)));
    }
}

#[test]
fn a_new_block_adds_nothing_at_the_start_in_any_family() {
    neutral_torch::set_threads(1);
    for folder in families() {
        let opened = ModelFolder::open(&folder).unwrap();
        for precision in [Precision::Fp32, Precision::Bf16] {
            let mut model = opened.load(Device::Cpu, precision).unwrap();
            model.freeze();
            let base = logits(&model, &Extension::none());
            let mut extension = one_block(&model);
            assert_eq!(extension.describe().split(", ").nth(2), Some("1 blocks"));
            assert!(logits(&model, &extension).equal(&base), "{} {precision:?}", folder.display());
            disturb(&mut extension);
            assert!(!logits(&model, &extension).equal(&base), "{}", folder.display());
        }
    }
}

#[test]
fn a_trained_block_becomes_part_of_a_model_folder_of_every_family() {
    neutral_torch::set_threads(1);
    for folder in families() {
        let opened = ModelFolder::open(&folder).unwrap();
        let mut model = opened.load(Device::Cpu, Precision::Fp32).unwrap();
        model.freeze();
        let mut extension = one_block(&model);
        disturb(&mut extension);
        let (deeper, json) = deepened(&model, &extension, opened.config_json()).unwrap();
        let place = tempfile::tempdir().unwrap();
        write_model(place.path(), &json, &deeper, Kind::Float).unwrap();
        let written = ModelFolder::open(place.path()).unwrap();
        let mut written = written.load(Device::Cpu, Precision::Fp32).unwrap();
        assert_eq!(written.config().n_layers(), model.config().n_layers() + 1);
        written.freeze();
        let expected = logits(&model, &extension);
        let found = logits(&written, &Extension::none());
        assert!(found.equal(&expected), "{}", folder.display());
    }
}
