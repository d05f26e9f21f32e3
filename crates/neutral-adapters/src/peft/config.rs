//! `adapter_config.json`: the fields that matter, and a refusal of those that are not computed here.

use std::path::{Path, PathBuf};

use indexmap::IndexMap;
use neutral_model::ModelError;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::CONFIG;
use crate::AdapterError;
use crate::files::{config_text, parse};

/// Fields that do not change what a trained adapter computes: names and versions, training, and how
/// the weights were started.
const WITHOUT_INFLUENCE: [&str; 15] = [
    "auto_mapping",
    "corda_config",
    "ensure_weight_tying",
    "eva_config",
    "inference_mode",
    "loftq_config",
    "lora_dropout",
    "lora_ga_config",
    "megatron_core",
    "peft_type",
    "peft_version",
    "qalora_group_size",
    "revision",
    "runtime_config",
    "task_type",
];

/// Starts of the weights that leave the base as it is; the others change it, too.
const STARTS: [&str; 3] = ["gaussian", "orthogonal", "eva"];

/// Fields that are read.
const READ: [&str; 12] = [
    "alpha_pattern",
    "base_model_name_or_path",
    "exclude_modules",
    "init_lora_weights",
    "layers_pattern",
    "layers_to_transform",
    "lora_alpha",
    "r",
    "rank_pattern",
    "target_modules",
    "use_dora",
    "use_rslora",
];

/// Names of modules, or one regular expression for their whole paths.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Modules {
    Names(Vec<String>),
    Pattern(String),
}

/// What of the configuration is computed.
#[derive(Debug)]
pub(super) struct LoraConfig {
    pub(super) path: PathBuf,
    pub(super) rank: usize,
    pub(super) alpha: f64,
    /// In the file's order, in which the first that matches counts.
    pub(super) rank_pattern: IndexMap<String, usize>,
    pub(super) alpha_pattern: IndexMap<String, f64>,
    pub(super) rank_stabilised: bool,
    pub(super) dora: bool,
    pub(super) targets: Modules,
    pub(super) excluded: Option<Modules>,
    /// Only in these blocks.
    pub(super) layers: Option<Vec<u64>>,
    pub(super) base: Option<String>,
}

impl LoraConfig {
    pub(super) fn read(folder: &Path) -> Result<Self, AdapterError> {
        let path = folder.join(CONFIG);
        let text = config_text(&path)?;
        let patterns: Patterns = parse(&path, &text)?;
        let fields = Fields { fields: parse(&path, &text)?, path };
        fields.refuse()?;
        let targets = match fields.modules("target_modules")? {
            Some(targets) => targets,
            // PEFT's own choice for every family that is known here.
            None => Modules::Names(["q_proj", "v_proj"].map(str::to_owned).to_vec()),
        };
        Ok(Self {
            // PEFT's default of both is 8.
            rank: fields.get("r").map_or(Ok(8), |r| fields.rank("r", r))?,
            alpha: fields.get("lora_alpha").map_or(Ok(8.0), |a| fields.alpha("lora_alpha", a))?,
            rank_pattern: each(patterns.rank_pattern, |name, r| {
                fields.rank(&format!("rank_pattern.{name}"), r)
            })?,
            alpha_pattern: each(patterns.alpha_pattern, |name, alpha| {
                fields.alpha(&format!("alpha_pattern.{name}"), alpha)
            })?,
            rank_stabilised: fields.flag("use_rslora")?,
            dora: fields.flag("use_dora")?,
            excluded: fields.modules("exclude_modules")?,
            layers: fields.layers(&targets)?,
            base: fields.get("base_model_name_or_path").and_then(Value::as_str).map(str::to_owned),
            targets,
            path: fields.path,
        })
    }
}

/// The maps whose order matters, which [`Value`] would sort.
#[derive(Deserialize)]
struct Patterns {
    rank_pattern: Option<IndexMap<String, Value>>,
    alpha_pattern: Option<IndexMap<String, Value>>,
}

fn each<T>(
    pattern: Option<IndexMap<String, Value>>,
    read: impl Fn(&str, &Value) -> Result<T, AdapterError>,
) -> Result<IndexMap<String, T>, AdapterError> {
    let entries = pattern.into_iter().flatten();
    entries.map(|(name, value)| Ok((name.clone(), read(&name, &value)?))).collect()
}

struct Fields {
    path: PathBuf,
    fields: Map<String, Value>,
}

impl Fields {
    /// A field's value; `null` is no value.
    fn get(&self, name: &str) -> Option<&Value> {
        self.fields.get(name).filter(|value| !value.is_null())
    }

    fn wrong(&self, name: &str, value: &Value, expected: &str) -> AdapterError {
        ModelError::config_file(&self.path, name, Some(value), expected).into()
    }

    /// Refuses what is not computed here.
    fn refuse(&self) -> Result<(), AdapterError> {
        let only = |name: &str, value: &str, expected: &str| match self.get(name) {
            Some(found) if found != value => Err(self.wrong(name, found, expected)),
            _ => Ok(()),
        };
        let peft_type = self.fields.get("peft_type").unwrap_or(&Value::Null);
        if peft_type != "LORA" {
            return Err(self.wrong("peft_type", peft_type, "of PEFT's methods only LORA is known"));
        }
        only("bias", "none", "biases that were trained are not supported, only \"none\"")?;
        only("task_type", "CAUSAL_LM", "expected CAUSAL_LM")?;
        if let Some(start) = self.get("init_lora_weights") {
            let plain = start.is_boolean() || start.as_str().is_some_and(|s| STARTS.contains(&s));
            if !plain {
                let expected = "a start that changes the base's weights is not supported; PEFT can \
                    turn such an adapter into plain LoRA when it saves it";
                return Err(self.wrong("init_lora_weights", start, expected));
            }
        }
        for (name, value) in &self.fields {
            let known = READ.contains(&name.as_str()) || WITHOUT_INFLUENCE.contains(&name.as_str());
            let empty = match value {
                Value::Null | Value::Bool(false) => true,
                Value::Array(all) => all.is_empty(),
                Value::Object(all) => all.is_empty(),
                _ => false,
            };
            if !known && !empty && name != "bias" {
                return Err(self.wrong(name, value, not_supported(name)));
            }
        }
        Ok(())
    }

    fn flag(&self, name: &str) -> Result<bool, AdapterError> {
        let Some(value) = self.get(name) else { return Ok(false) };
        value.as_bool().ok_or_else(|| self.wrong(name, value, "expected true or false"))
    }

    fn rank(&self, name: &str, value: &Value) -> Result<usize, AdapterError> {
        let rank = value.as_u64().filter(|r| (1..=1 << 24).contains(r));
        let rank =
            rank.ok_or_else(|| self.wrong(name, value, "expected a rank of 1 to 16777216"))?;
        Ok(rank as usize)
    }

    fn alpha(&self, name: &str, value: &Value) -> Result<f64, AdapterError> {
        value.as_f64().ok_or_else(|| self.wrong(name, value, "expected a number"))
    }

    fn modules(&self, name: &str) -> Result<Option<Modules>, AdapterError> {
        let wrong =
            |value| self.wrong(name, value, "expected a list of names or one regular expression");
        match self.get(name) {
            None => Ok(None),
            Some(Value::String(pattern)) => Ok(Some(Modules::Pattern(pattern.clone()))),
            Some(value) => {
                let names = value.as_array().and_then(|names| {
                    names.iter().map(|n| n.as_str().map(str::to_owned)).collect::<Option<_>>()
                });
                Ok(Some(Modules::Names(names.ok_or_else(|| wrong(value))?)))
            }
        }
    }

    /// The blocks of `layers_to_transform`; an empty list is none, as in PEFT.
    fn layers(&self, targets: &Modules) -> Result<Option<Vec<u64>>, AdapterError> {
        let name = "layers_to_transform";
        let Some(value) = self.get(name) else { return Ok(None) };
        if let Modules::Pattern(_) = targets {
            let expected = "does not go with a regular expression as target_modules";
            return Err(self.wrong(name, value, expected));
        }
        let name_of_blocks = "layers_pattern";
        if let Some(pattern) = self.get(name_of_blocks) {
            let layers = |p: &Value| p == "layers";
            let plain = layers(pattern) || pattern.as_array().is_some_and(|p| p.iter().all(layers));
            if !plain {
                return Err(self.wrong(
                    name_of_blocks,
                    pattern,
                    "the blocks are called \"layers\"",
                ));
            }
        }
        let layers = match value {
            Value::Array(all) => all.iter().map(Value::as_u64).collect(),
            one => one.as_u64().map(|one| vec![one]),
        };
        let layers: Vec<u64> =
            layers.ok_or_else(|| self.wrong(name, value, "expected numbers of blocks"))?;
        Ok(Some(layers).filter(|layers| !layers.is_empty()))
    }
}

/// Why a field is refused, for those that are met most.
fn not_supported(name: &str) -> &'static str {
    match name {
        "modules_to_save" => "modules that were trained whole are not supported; train LoRA alone",
        "fan_in_fan_out" => "weights stored as [in, out] are not supported; expected false",
        "lora_bias" => "a bias beside the product is not supported; expected false",
        "layer_replication" => "a model with repeated layers is another model; not supported",
        "trainable_token_indices" => "trained embeddings are not supported; train LoRA alone",
        _ => "not supported: it may change what the adapter computes; remove it if it does not",
    }
}
