//! Extensions in a format of our own, version 1.
//!
//! A folder with two files. `extension.safetensors` holds the weights in fp32, under the names that
//! training has them by (see [`crate::build`]). `extension_config.json` says what they are:
//!
//! ```json
//! { "format": "neutral-extension", "format_version": 1,
//!   "method": { "kind": "neutral_residues", "budget": "20%", "gate": { "activation": "relu" }, … },
//!   "units": 12, "activation": "silu",
//!   "base": { "model_type": "llama", "d_model": 576, "n_layers": 30, "vocab_size": 49152,
//!             "name": "owner/name", "digest": ["…"] },
//!   "made_by": "neutral 0.1.0", "fingerprint": "…" }
//! ```
//!
//! `method` is the experiment file's, `units` the width, rank or number of blocks that its budget bought, `activation`
//! the σ inside the adapters, the method's or the base's. An extension fits any base of the same family and sizes; `digest` says
//! on which one it was trained.
//!
//! PEFT knows no neutral residues, and a false `peft_type` would have it read them as something else.

use std::collections::BTreeMap;
use std::path::Path;

use neutral_model::{Activation, Extension, TransformerConfig};
use neutral_spec::{GateSpec, Method};
use neutral_store::{Fingerprint, write_json};
use neutral_torch::ParamStore;
use serde::{Deserialize, Serialize};
use tch::Device;

use crate::files::{config_text, parse, wrong_field};
use crate::gate::WINDOWS;
use crate::{AdapterError, ExtensionFolder, adapter_activation, restore};

/// What `format` says.
const FORMAT: &str = "neutral-extension";
/// The version that is written and read.
const VERSION: u32 = 1;
pub(crate) const CONFIG: &str = "extension_config.json";
pub(crate) const WEIGHTS: &str = "extension.safetensors";

/// `extension_config.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExtensionConfig {
    format: String,
    format_version: u32,
    /// What was trained, as the experiment file has it.
    pub method: Method,
    /// The adapter's width, LoRA's rank, or the number of new blocks.
    pub units: usize,
    /// The σ inside the adapter: the method's, or the base's own.
    pub activation: Activation,
    /// The model that was extended.
    pub base: SavedBase,
    /// The program that wrote it.
    pub made_by: String,
    /// Of everything that determined the weights.
    #[serde(default)]
    pub fingerprint: Option<Fingerprint>,
}

/// The base of an extension: sizes that have to fit, and which model it was.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SavedBase {
    /// Hugging Face's name of the family.
    pub model_type: String,
    /// Width of the residual stream.
    pub d_model: usize,
    /// Number of blocks.
    pub n_layers: usize,
    /// Number of tokens.
    pub vocab_size: usize,
    /// Where the base is: a repository, or a folder.
    pub name: String,
    /// Checksums of its files, as [`neutral_model::ModelFolder::digest`] gives them.
    #[serde(default)]
    pub digest: Vec<String>,
}

impl SavedBase {
    /// The sizes of a model, and its name and checksums.
    pub fn new(model: &TransformerConfig, name: &str, digest: Vec<String>) -> Self {
        Self {
            model_type: model.model_type.clone(),
            d_model: model.d_model,
            n_layers: model.n_layers(),
            vocab_size: model.vocab_size,
            name: name.to_owned(),
            digest,
        }
    }
}

impl ExtensionConfig {
    /// The configuration of an extension that was built by [`crate::build`].
    pub fn new(
        method: Method,
        units: usize,
        activation: Activation,
        base: SavedBase,
        fingerprint: Option<Fingerprint>,
    ) -> Self {
        Self {
            format: FORMAT.to_owned(),
            format_version: VERSION,
            method,
            units,
            activation,
            base,
            made_by: concat!("neutral ", env!("CARGO_PKG_VERSION")).to_owned(),
            fingerprint,
        }
    }

    /// The extension fits the model.
    fn check(&self, path: &Path, model: &TransformerConfig) -> Result<(), AdapterError> {
        let (found, expected) = (&self.base, SavedBase::new(model, "", Vec::new()));
        let sigma = |activation| serde_json::json!(activation).to_string();
        let pairs = [
            ("base.model_type", found.model_type.clone(), expected.model_type),
            ("base.d_model", found.d_model.to_string(), expected.d_model.to_string()),
            ("base.n_layers", found.n_layers.to_string(), expected.n_layers.to_string()),
            ("base.vocab_size", found.vocab_size.to_string(), expected.vocab_size.to_string()),
            ("activation", sigma(self.activation), sigma(adapter_activation(&self.method, model))),
        ];
        if let Method::NeutralResidues { gate: GateSpec { window: Some(window), .. }, .. } =
            self.method
            && !WINDOWS.contains(&window)
        {
            let expected = format!("expected {} to {} tokens", WINDOWS.start(), WINDOWS.end());
            return Err(wrong_field(path, "method.gate.window", window.to_string(), expected));
        }
        match pairs.into_iter().find(|(_, found, expected)| found != expected) {
            None => Ok(()),
            Some((field, found, expected)) => {
                let expected = format!("the model has {expected}; the extension is another base's");
                Err(wrong_field(path, field, found, expected))
            }
        }
    }
}

/// Writes an extension's weights and what they are; each file is whole or absent.
///
/// # Errors
/// If a file cannot be written.
pub fn save_extension(
    folder: &Path,
    config: &ExtensionConfig,
    params: &ParamStore,
) -> Result<(), AdapterError> {
    let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
    params.save(&folder.join(WEIGHTS), &metadata)?;
    Ok(write_json(&folder.join(CONFIG), config)?)
}

/// Reads what an extension is; not its weights.
///
/// # Errors
/// If the file is missing, of another format or version, or not what [`save_extension`] writes.
pub fn read_extension_config(folder: &Path) -> Result<ExtensionConfig, AdapterError> {
    // The version first: a file of another would fail on some field and say less.
    #[derive(Deserialize)]
    struct Versioned {
        format: String,
        format_version: u32,
    }
    let path = folder.join(CONFIG);
    let text = config_text(&path)?;
    let Versioned { format, format_version } = parse(&path, &text)?;
    if format != FORMAT {
        let expected = format!("expected {FORMAT:?}");
        return Err(wrong_field(&path, "format", format!("{format:?}"), expected));
    }
    if format_version != VERSION {
        let expected = format!("this program reads version {VERSION}");
        return Err(wrong_field(&path, "format_version", format_version.to_string(), expected));
    }
    parse(&path, &text)
}

/// Reads an extension onto a model, frozen.
///
/// # Errors
/// As [`read_extension_config`]; if the extension is one of a model of another family or of other
/// sizes; or as [`restore`].
pub fn load_extension(
    folder: &Path,
    model: &TransformerConfig,
    device: Device,
) -> Result<(Extension, ExtensionConfig), AdapterError> {
    let config = read_extension_config(folder)?;
    config.check(&folder.join(CONFIG), model)?;
    let file = ExtensionFolder::Neutral.weights(folder)?;
    let extension = restore(&config.method, config.units, model, &file, device)?;
    Ok((extension, config))
}
