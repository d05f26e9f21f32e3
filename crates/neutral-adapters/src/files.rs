//! Folders of extensions, whichever format they are in.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use neutral_model::{Extension, ModelError, TransformerConfig};
use neutral_torch::TensorFile;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tch::Device;

use crate::{AdapterError, load_extension, peft, read_peft, saved};

/// No configuration of an extension comes near; a larger one is not read.
const LARGEST_CONFIG: u64 = 16 << 20;

/// The format of an extension's folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExtensionFolder {
    /// Our own: `extension_config.json`.
    Neutral,
    /// PEFT's: `adapter_config.json`.
    Peft,
}

impl ExtensionFolder {
    /// The format of a folder, by the configuration that is in it.
    pub fn of(folder: &Path) -> Option<Self> {
        if folder.join(saved::CONFIG).is_file() {
            Some(Self::Neutral)
        } else if folder.join(peft::CONFIG).is_file() {
            Some(Self::Peft)
        } else {
            None
        }
    }

    /// The configuration in it, whatever it says.
    ///
    /// # Errors
    /// If it cannot be read, or is no JSON.
    pub fn config(self, folder: &Path) -> Result<Value, AdapterError> {
        let path = folder.join(match self {
            Self::Neutral => saved::CONFIG,
            Self::Peft => peft::CONFIG,
        });
        parse(&path, &config_text(&path)?)
    }

    /// The weights in it.
    ///
    /// # Errors
    /// If they are not there as safetensors, or damaged.
    pub fn weights(self, folder: &Path) -> Result<TensorFile, AdapterError> {
        let name = match self {
            Self::Neutral => saved::WEIGHTS,
            Self::Peft => peft::WEIGHTS,
        };
        let path = folder.join(name);
        if !path.is_file() {
            let message = format!(
                "has no {name}; weights in another form must be saved as safetensors first"
            );
            return Err(wrong(folder, message));
        }
        Ok(TensorFile::open(&path)?)
    }
}

/// Reads an extension of either format onto a model, frozen.
///
/// # Errors
/// If the folder holds no extension, or as [`load_extension`] and [`read_peft`].
pub fn open_extension(
    folder: &Path,
    model: &TransformerConfig,
    device: Device,
) -> Result<Extension, AdapterError> {
    match ExtensionFolder::of(folder) {
        Some(ExtensionFolder::Neutral) => Ok(load_extension(folder, model, device)?.0),
        Some(ExtensionFolder::Peft) => Ok(read_peft(folder, model, device)?.extension),
        None => {
            let [ours, theirs] = [saved::CONFIG, peft::CONFIG];
            Err(wrong(folder, format!("is no extension: it has neither {ours} nor {theirs}")))
        }
    }
}

/// A folder or file that is not what it should be.
fn wrong(path: &Path, message: String) -> AdapterError {
    ModelError::Folder { path: path.to_path_buf(), message }.into()
}

/// A field of a configuration that is not what it should be.
pub(crate) fn wrong_field(
    path: &Path,
    field: &str,
    found: String,
    expected: String,
) -> AdapterError {
    let (path, field) = (path.to_path_buf(), field.to_owned());
    ModelError::ConfigFile { path, field, found, expected }.into()
}

/// Reads a configuration's text; its size is looked at first.
pub(crate) fn config_text(path: &Path) -> Result<String, AdapterError> {
    let mut text = String::new();
    File::open(path)
        .and_then(|file| file.take(LARGEST_CONFIG + 1).read_to_string(&mut text))
        .map_err(|e| wrong(path, format!("cannot be read: {e}")))?;
    if text.len() as u64 > LARGEST_CONFIG {
        let largest = LARGEST_CONFIG >> 20;
        return Err(wrong(path, format!("has more than {largest} MiB, which is no configuration")));
    }
    Ok(text)
}

/// A configuration as a type; what serde says is the message.
pub(crate) fn parse<T: DeserializeOwned>(path: &Path, text: &str) -> Result<T, AdapterError> {
    serde_json::from_str(text).map_err(|e| wrong(path, format!("is not such a configuration: {e}")))
}
