//! From a PEFT folder to an extension.

use std::collections::BTreeSet;
use std::path::Path;

use neutral_model::{Extension, TransformerConfig};
use neutral_torch::{ParamStore, TorchError};
use tch::{Device, Kind};

use super::config::LoraConfig;
use super::{target, tensors};
use crate::start::check;
use crate::{AdapterError, ExtensionFolder, LoraLayer};

/// What a PEFT folder holds.
#[derive(Debug)]
pub struct PeftLora {
    /// The products, their weights in fp32 and frozen.
    pub extension: Extension,
    /// Where they stand, in the order of blocks.
    pub layers: Vec<LoraLayer>,
    /// The base that the configuration names.
    pub base: Option<String>,
}

/// Reads a LoRA or `DoRA` folder of PEFT onto a model.
///
/// The files are not trusted: every name and shape is compared with what the configuration means in
/// this model before a tensor is read.
///
/// # Errors
/// If the configuration asks for something other than LoRA on linear layers of blocks, or the file
/// has not exactly the weights that the configuration means.
pub fn read_peft(
    folder: &Path,
    model: &TransformerConfig,
    device: Device,
) -> Result<PeftLora, AdapterError> {
    let config = LoraConfig::read(folder)?;
    let layers = target::layers(&config, model)?;
    let file = ExtensionFolder::Peft.weights(folder)?;
    let shape = |layer: &LoraLayer| <[usize; 2]>::from(model.linear_shape(layer.site));
    let mut expected = BTreeSet::new();
    for (name, _, shape) in layers.iter().flat_map(|layer| tensors(layer, shape(layer))) {
        check(&file, &name, &shape, &[Kind::Float, Kind::BFloat16, Kind::Half])?;
        expected.insert(name);
    }
    if let Some(name) = file.names().into_iter().find(|name| !expected.contains(name)) {
        return Err(TorchError::UnexpectedTensor { path: file.path().to_path_buf(), name }.into());
    }
    let mut extension = Extension::new(ParamStore::new(device));
    for layer in &layers {
        let params = extension.params_mut();
        for (theirs, ours, _) in tensors(layer, shape(layer)) {
            params.insert(ours, file.read(&theirs, device)?.to_kind(Kind::Float))?;
        }
        let delta = layer.delta(params)?;
        extension.add_delta(layer.block, layer.site, delta);
    }
    Ok(PeftLora { extension, layers, base: config.base })
}
