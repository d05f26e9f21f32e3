//! The files of each format.

use std::path::Path;

use neutral_adapters::{
    ExtensionConfig, LoraLayer, SavedBase, adapter_activation, merge_adapters, merge_lora,
    merges_adapters, save_extension, write_peft,
};
use neutral_model::{deepened, write_model};
use neutral_spec::{Method, Precision, Trial};
use neutral_store::{StoreError, copy_file};
use tch::Device;

use super::{Export, Format};
use crate::trial_file::Loading;

/// What belongs to a model beside its weights, if its base has it.
const BESIDE: [&str; 6] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "generation_config.json",
    "chat_template.jinja",
];

/// Writes an export, but for its card.
pub(super) fn write(export: &Export, folder: &Path) -> anyhow::Result<()> {
    let Export { trial, base, format, kind } = export;
    let Trial { method, size, .. } = &trial.file.trial;
    let config = base.config();
    let layers = LoraLayer::of_method(method, size.units, config.n_layers());
    let (mut model, extension) =
        trial.model(Loading { base, device: Device::Cpu, precision: Precision::Fp32 })?;
    match format {
        Format::Peft => {
            let layers = layers.unwrap_or_default();
            let of = &trial.file.base;
            write_peft(folder, extension.params(), &layers, config, &of.name(), of.revision())?;
        }
        Format::Neutral => {
            let of = &trial.file.base;
            let saved = ExtensionConfig::new(
                method.clone(),
                size.units,
                adapter_activation(method, config),
                SavedBase::new(config, &of.name(), of.digest.clone()),
                Some(trial.file.fingerprint.clone()),
            );
            save_extension(folder, &saved, extension.params())?;
        }
        Format::Hf => {
            if let Some(layers) = layers {
                merge_lora(&mut model, extension.params(), &layers)?;
            }
            let mut json = base.config_json().clone();
            if let Method::BlockExpansion { .. } = method {
                (model, json) = deepened(&model, &extension, &json)?;
            }
            if merges_adapters(method, config) {
                (model, json) = merge_adapters(&model, extension.params(), &json)?;
            }
            // The one rounding, if the files hold less than fp32.
            write_model(folder, &json, &model, *kind)?;
            copy_files(base.path(), folder, |name| BESIDE.contains(&name))?;
        }
    }
    Ok(())
}

/// Copies what other tools need to load a model.
pub(super) fn copy_model(base: &Path, folder: &Path) -> Result<(), StoreError> {
    copy_files(base, folder, |name| {
        let weights = name.starts_with("model") && name.contains(".safetensors");
        weights || name == "config.json" || BESIDE.contains(&name)
    })
}

/// Copies the files of a folder.
pub(super) fn copy_all(from: &Path, to: &Path) -> Result<(), StoreError> {
    copy_files(from, to, |_| true)
}

fn copy_files(from: &Path, to: &Path, wanted: impl Fn(&str) -> bool) -> Result<(), StoreError> {
    let fail = |e| StoreError::io("read", from, e);
    for entry in std::fs::read_dir(from).map_err(fail)? {
        let path = entry.map_err(fail)?.path();
        let name = path.file_name().unwrap_or_default();
        if path.is_file() && name.to_str().is_some_and(&wanted) {
            copy_file(&path, &to.join(name))?;
        }
    }
    Ok(())
}
