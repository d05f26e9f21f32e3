//! Model folders as Hugging Face has them: `config.json`, safetensors in one file or in shards.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use neutral_spec::Precision;
use neutral_store::{read_json, sha256_bytes, sha256_file, write_json};
use neutral_torch::{ParamStore, TensorFile, kind_of};
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};

use crate::weights::{HEAD, Weight};
use crate::{ModelError, Transformer, TransformerConfig};

const CONFIG: &str = "config.json";
const WEIGHTS: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// A folder that was opened: its configuration is understood and its weights are all there.
#[derive(Debug)]
pub struct ModelFolder {
    path: PathBuf,
    json: Value,
    config: TransformerConfig,
    files: Vec<TensorFile>,
    /// The file of every tensor.
    places: BTreeMap<String, usize>,
}

impl ModelFolder {
    /// Reads a folder's configuration and the headers of its weights; no weight itself.
    ///
    /// # Errors
    /// If a file is missing or no such file, if the configuration asks for something that is not
    /// computed here, or if weights are missing, too many, or of another shape.
    pub fn open(path: &Path) -> Result<Self, ModelError> {
        let without = Self::open_without_weights(path)?;
        let files = weight_files(path)?;
        let mut places = BTreeMap::new();
        for (index, file) in files.iter().enumerate() {
            for name in file.names() {
                if places.insert(name.clone(), index).is_some() {
                    let message = format!("the tensor `{name}` is in two files");
                    return Err(ModelError::Weights { path: path.to_path_buf(), message });
                }
            }
        }
        let folder = Self { files, places, ..without };
        folder.check()?;
        Ok(folder)
    }

    /// Opens a folder for what its `config.json` says; it may have no weights, and none can be loaded.
    ///
    /// # Errors
    /// If the folder has no `config.json`, or one that says what is not supported.
    pub fn open_without_weights(path: &Path) -> Result<Self, ModelError> {
        let config_path = path.join(CONFIG);
        if !config_path.is_file() {
            let message = format!("is no model: it has no {CONFIG}");
            return Err(ModelError::Folder { path: path.to_path_buf(), message });
        }
        let json: Value = read_json(&config_path)?;
        let config = TransformerConfig::from_hugging_face(&json, &config_path)?;
        let (files, places) = (Vec::new(), BTreeMap::new());
        Ok(Self { path: path.to_path_buf(), json, config, files, places })
    }

    /// Where the folder is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the model is.
    pub fn config(&self) -> &TransformerConfig {
        &self.config
    }

    /// `config.json` as it is.
    pub fn config_json(&self) -> &Value {
        &self.json
    }

    /// `tokenizer.json`, if it is there.
    pub fn tokenizer(&self) -> Option<PathBuf> {
        Some(self.path.join("tokenizer.json")).filter(|path| path.is_file())
    }

    /// Every tensor's name, kind of number and shape, sorted by name.
    ///
    /// # Errors
    /// If libtorch has no such kind.
    pub fn tensors(&self) -> Result<Vec<(String, Kind, Vec<i64>)>, ModelError> {
        let describe = |(name, &file): (&String, &usize)| {
            let (kind, shape) = self.files[file].describe(name)?;
            Ok((name.clone(), kind, shape))
        };
        self.places.iter().map(describe).collect()
    }

    /// Checksums of all that determines what the model computes.
    ///
    /// # Errors
    /// If a file cannot be read.
    pub fn digest(&self) -> Result<Vec<String>, ModelError> {
        let weights = self.files.iter().map(|file| sha256_file(file.path()));
        let config = sha256_bytes(self.json.to_string().as_bytes());
        let all: Result<Vec<_>, _> = [Ok(config)].into_iter().chain(weights).collect();
        Ok(all?)
    }

    /// The model, its weights in the files' kind: see [`Transformer::freeze`].
    ///
    /// # Errors
    /// If a file cannot be read.
    pub fn load(&self, device: Device, precision: Precision) -> Result<Transformer, ModelError> {
        let mut params = ParamStore::new(device);
        for Weight { name, .. } in self.config.weights() {
            let tensor = self.read(&name, device)?;
            params.insert(name, tensor)?;
        }
        Transformer::with_params(self.config.clone(), params, kind_of(precision))
    }

    fn read(&self, name: &str, device: Device) -> Result<Tensor, ModelError> {
        Ok(self.files[self.places[name]].read(name, device)?)
    }

    /// The files hold what the configuration announces, and nothing else that matters.
    fn check(&self) -> Result<(), ModelError> {
        let fail = |message| ModelError::Weights { path: self.path.clone(), message };
        let mut expected = BTreeSet::new();
        for Weight { name, shape, .. } in self.config.weights() {
            let Some(&file) = self.places.get(&name) else {
                return Err(fail(format!("the tensor `{name}` is missing")));
            };
            let (kind, found) = self.files[file].describe(&name)?;
            if !found.iter().map(|&n| n as usize).eq(shape.iter().copied()) {
                let message = format!("`{name}` has shape {found:?}, config.json wants {shape:?}");
                return Err(fail(message));
            }
            if !matches!(kind, Kind::Float | Kind::BFloat16 | Kind::Half | Kind::Double) {
                return Err(fail(format!("`{name}` holds {kind:?}, which are no weights")));
            }
            expected.insert(name);
        }
        for name in self.places.keys().filter(|name| !expected.contains(*name)) {
            // Older checkpoints keep the rotation's frequencies, which follow from the configuration.
            if name.ends_with(".rotary_emb.inv_freq") {
                continue;
            }
            if name == HEAD {
                let read = |name: &str| self.read(name, Device::Cpu);
                if read(HEAD)?.equal(&read("model.embed_tokens.weight")?) {
                    continue;
                }
                let message = format!(
                    "`{HEAD}` differs from the embeddings, but config.json says tie_word_embeddings: correct either"
                );
                return Err(fail(message));
            }
            return Err(fail(format!(
                "the tensor `{name}` has no place in a model of the family `{}`",
                self.config.model_type
            )));
        }
        Ok(())
    }
}

/// The safetensors files of a folder, headers read. Of a folder that was saved to twice, whole and in parts, the
/// whole, as transformers does.
fn weight_files(folder: &Path) -> Result<Vec<TensorFile>, ModelError> {
    let single = folder.join(WEIGHTS);
    if single.is_file() {
        return Ok(vec![TensorFile::open(&single)?]);
    }
    let index = folder.join(INDEX);
    if !index.is_file() {
        let message = format!(
            "has neither {WEIGHTS} nor {INDEX}; weights in another form must be saved as safetensors first"
        );
        return Err(ModelError::Folder { path: folder.to_path_buf(), message });
    }
    let wrong = |found: String| ModelError::ConfigFile {
        path: index.clone(),
        field: "weight_map".to_owned(),
        found,
        expected: "expected the name of a file in this folder for each tensor".to_owned(),
    };
    let json: Value = read_json(&index)?;
    let map = json.get("weight_map").and_then(Value::as_object);
    let map = map.ok_or_else(|| wrong("no object".to_owned()))?;
    let mut names = BTreeSet::new();
    for file in map.values() {
        let name = file.as_str().ok_or_else(|| wrong(file.to_string()))?;
        let mut parts = Path::new(name).components();
        let plain = matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None));
        if !plain {
            return Err(wrong(format!("{name:?}")));
        }
        names.insert(name);
    }
    let files: Vec<_> = names
        .into_iter()
        .map(|name| TensorFile::open(&folder.join(name)))
        .collect::<Result<_, _>>()?;
    for (tensor, file) in map {
        let held = files.iter().any(|f| {
            f.path().file_name().and_then(|n| n.to_str()) == file.as_str() && f.has(tensor)
        });
        if !held {
            return Err(wrong(format!("{file} for `{tensor}`, which is not in it")));
        }
    }
    Ok(files)
}

/// Writes `config.json` and `model.safetensors`; each is whole or absent.
///
/// # Errors
/// If a file cannot be written.
pub fn write_model(
    folder: &Path,
    config_json: &Value,
    model: &Transformer,
    kind: Kind,
) -> Result<(), ModelError> {
    let tensors: BTreeMap<String, Tensor> = model
        .params()
        .iter()
        .map(|(name, tensor)| (name.to_owned(), tensor.detach().to_kind(kind)))
        .collect();
    let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
    neutral_torch::save_tensors(&folder.join(WEIGHTS), &tensors, &metadata)?;
    write_config(folder, config_json, kind)
}

/// Writes the `config.json` of weights of a kind, atomically.
///
/// # Errors
/// If it cannot be written.
pub fn write_config(folder: &Path, config_json: &Value, kind: Kind) -> Result<(), ModelError> {
    let mut json = with_both_forms_of_rope(config_json.clone());
    let dtype = match kind {
        Kind::BFloat16 => "bfloat16",
        Kind::Half => "float16",
        Kind::Double => "float64",
        _ => "float32",
    };
    for name in ["dtype", "torch_dtype"] {
        json[name] = json!(dtype);
    }
    Ok(write_json(&folder.join(CONFIG), &json)?)
}

/// Adds the older form of rotary fields to the newer one, or the other way round, so that every
/// version of the field's tools reads the same. Gemma 3 has two rotations, and keeps its own form.
fn with_both_forms_of_rope(mut json: Value) -> Value {
    let newer = json.get("rope_parameters").filter(|v| v.is_object()).cloned();
    match newer {
        Some(newer) if newer.get("full_attention").is_none() => {
            if let Some(theta) = newer.get("rope_theta") {
                json["rope_theta"] = theta.clone();
            }
            let mut scaling = newer;
            if let Some(fields) = scaling.as_object_mut() {
                fields.remove("rope_theta");
            }
            let plain = scaling.get("rope_type").is_none_or(|kind| kind == "default");
            json["rope_scaling"] = if plain { Value::Null } else { scaling };
        }
        None if json.get("rope_theta").is_some_and(Value::is_number)
            && json.get("rope_local_base_freq").is_none()
            // Its angles differ by kind of layer, said or not.
            && json.get("model_type").is_none_or(|kind| kind != "gemma3_text") =>
        {
            let older = json.get("rope_scaling").filter(|v| v.is_object()).cloned();
            let mut parameters = older.unwrap_or_else(|| json!({"rope_type": "default"}));
            if parameters.get("rope_type").is_none()
                && let Some(kind) = parameters.get("type").cloned()
            {
                parameters["rope_type"] = kind;
            }
            parameters["rope_theta"] = json["rope_theta"].clone();
            json["rope_parameters"] = parameters;
        }
        _ => {}
    }
    json
}

impl TransformerConfig {
    /// The `config.json` of a plain Llama, as models that are pretrained here are; `None` for others,
    /// which come with their own.
    pub fn to_hugging_face(&self) -> Option<Value> {
        let block = *self.blocks.first()?;
        let shape = neutral_spec::Shape {
            d_model: self.d_model,
            n_layers: self.n_layers(),
            n_heads: self.n_heads,
            n_kv_heads: self.n_kv_heads,
            d_ff: self.d_ff,
            tie_embeddings: self.tie_embeddings,
            rope_theta: block.rotary.theta,
            norm_epsilon: self.norm_epsilon,
        };
        if Self::llama(&shape, self.vocab_size) != *self {
            return None;
        }
        Some(json!({
            "architectures": ["LlamaForCausalLM"],
            "attention_bias": false,
            "head_dim": self.head_dim,
            "hidden_act": "silu",
            "hidden_size": self.d_model,
            "intermediate_size": self.d_ff,
            "mlp_bias": false,
            "model_type": "llama",
            "num_attention_heads": self.n_heads,
            "num_hidden_layers": self.n_layers(),
            "num_key_value_heads": self.n_kv_heads,
            "rms_norm_eps": self.norm_epsilon,
            "rope_theta": block.rotary.theta,
            "tie_word_embeddings": self.tie_embeddings,
            "vocab_size": self.vocab_size,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gemma_of_the_third_generation_keeps_its_form_and_others_get_both() {
        let of =
            |kind: &str| with_both_forms_of_rope(json!({"model_type": kind, "rope_theta": 1e6}));
        assert_eq!(of("llama")["rope_parameters"]["rope_theta"], 1e6);
        // Even where it leaves the other rotation to its default.
        assert!(of("gemma3_text").get("rope_parameters").is_none());
    }
}
