//! The fields of one `config.json`, and which of them have been read.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Map, Value};

use crate::ModelError;
use crate::config::Activation;

/// Fields that do not change what a model computes from tokens to logits: names and versions,
/// training, generation, and other programs' notes.
const WITHOUT_INFLUENCE: [&str; 32] = [
    "_attn_implementation",
    "_attn_implementation_autoset",
    "_name_or_path",
    "_sliding_window_pattern",
    "architectures",
    "attention_dropout",
    "bos_token_id",
    "cache_implementation",
    "chunk_size_feed_forward",
    "dtype",
    "eos_token_id",
    "id2label",
    "initializer_range",
    "is_llama_config",
    "label2id",
    "max_position_embeddings",
    "max_sequence_length",
    "model_type",
    "name_or_path",
    "output_attentions",
    "output_hidden_states",
    "pad_token_id",
    "pretraining_tp",
    "problem_type",
    "return_dict",
    "tokenizer_class",
    "torch_dtype",
    "transformers.js_config",
    "transformers_version",
    "unsloth_fixed",
    "unsloth_version",
    "use_cache",
];

/// No configuration asks for more blocks, or for larger sizes, and is meant so.
const MOST_LAYERS: usize = 1 << 16;

/// An object of the file, the file, and the names that were asked for.
pub(super) struct Fields<'a> {
    object: &'a Map<String, Value>,
    path: &'a Path,
    /// What the object is called, with a dot, if it lies within the file's own.
    prefix: String,
    asked: RefCell<BTreeSet<String>>,
}

impl<'a> Fields<'a> {
    pub(super) fn new(json: &'a Value, path: &'a Path) -> Result<Self, ModelError> {
        Self::within(json, path, "")
    }

    fn within(json: &'a Value, path: &'a Path, name: &str) -> Result<Self, ModelError> {
        let prefix = if name.is_empty() { String::new() } else { format!("{name}.") };
        if let Value::Object(object) = json {
            return Ok(Self { object, path, prefix, asked: RefCell::default() });
        }
        let name = if name.is_empty() { "the whole" } else { name };
        Err(ModelError::config_file(path, name, Some(json), "expected an object"))
    }

    /// A field's value; `null` is no value.
    pub(super) fn get(&self, name: &str) -> Option<&'a Value> {
        self.asked.borrow_mut().insert(name.to_owned());
        self.object.get(name).filter(|value| !value.is_null())
    }

    /// The field is there, be it `null`.
    pub(super) fn has(&self, name: &str) -> bool {
        self.object.contains_key(name)
    }

    /// An object within this one, if there is one.
    pub(super) fn object(&self, name: &str) -> Result<Option<Fields<'a>>, ModelError> {
        let name_here = format!("{}{name}", self.prefix);
        self.get(name).map(|value| Self::within(value, self.path, &name_here)).transpose()
    }

    pub(super) fn text(&self, name: &str) -> Result<&'a str, ModelError> {
        let text = self.get(name).and_then(Value::as_str);
        text.ok_or_else(|| self.wrong(name, "expected a name in quotes"))
    }

    pub(super) fn size(&self, name: &str) -> Result<usize, ModelError> {
        let size = self.get(name).and_then(Value::as_u64).filter(|n| (1..=1 << 24).contains(n));
        size.map(|n| n as usize).ok_or_else(|| self.wrong(name, "expected 1 to 16777216"))
    }

    pub(super) fn size_or(&self, name: &str, default: usize) -> Result<usize, ModelError> {
        if self.get(name).is_some() { self.size(name) } else { Ok(default) }
    }

    /// The window of blocks that slide: none where the file says `null`, transformers' own where it says nothing.
    pub(super) fn window(&self) -> Result<Option<usize>, ModelError> {
        let name = "sliding_window";
        match (self.has(name), self.get(name)) {
            (true, None) => Ok(None),
            _ => self.size_or(name, 4096).map(Some),
        }
    }

    /// Number of blocks.
    pub(super) fn layers(&self) -> Result<usize, ModelError> {
        let name = "num_hidden_layers";
        let layers = self.size(name)?;
        if layers > MOST_LAYERS {
            return Err(self.wrong(name, format!("expected at most {MOST_LAYERS}")));
        }
        Ok(layers)
    }

    pub(super) fn number(&self, name: &str) -> Result<f64, ModelError> {
        let number = self.get(name).and_then(Value::as_f64);
        number.ok_or_else(|| self.wrong(name, "expected a number"))
    }

    pub(super) fn number_or(&self, name: &str, default: f64) -> Result<f64, ModelError> {
        Ok(self.number_if_any(name)?.unwrap_or(default))
    }

    pub(super) fn number_if_any(&self, name: &str) -> Result<Option<f64>, ModelError> {
        self.get(name).is_some().then(|| self.number(name)).transpose()
    }

    pub(super) fn flag_or(&self, name: &str, default: bool) -> Result<bool, ModelError> {
        let Some(value) = self.get(name) else { return Ok(default) };
        value.as_bool().ok_or_else(|| self.wrong(name, "expected true or false"))
    }

    pub(super) fn activation_or(
        &self,
        name: &str,
        default: Activation,
    ) -> Result<Activation, ModelError> {
        let Some(value) = self.get(name) else { return Ok(default) };
        match value.as_str() {
            Some("silu" | "swish") => Ok(Activation::Silu),
            Some("gelu_pytorch_tanh") => Ok(Activation::GeluTanh),
            _ => Err(self.wrong(name, "expected silu or gelu_pytorch_tanh")),
        }
    }

    /// What kind of attention each block has, if the file says so: does it slide?
    pub(super) fn sliding(&self, layers: usize) -> Result<Option<Vec<bool>>, ModelError> {
        let name = "layer_types";
        let Some(value) = self.get(name) else { return Ok(None) };
        let slides = |kind: &Value| match kind.as_str() {
            Some("sliding_attention") => Some(true),
            Some("full_attention") => Some(false),
            _ => None,
        };
        let all: Option<Vec<bool>> =
            value.as_array().and_then(|kinds| kinds.iter().map(slides).collect());
        all.filter(|all| all.len() == layers).map(Some).ok_or_else(|| {
            let expected =
                format!("expected full_attention or sliding_attention for each of {layers} layers");
            self.wrong(name, expected)
        })
    }

    /// Refuses a field that is there and has none of some values.
    pub(super) fn only(&self, name: &str, values: &[Value]) -> Result<(), ModelError> {
        match self.get(name) {
            Some(value) if !values.contains(value) => {
                let known: Vec<_> = values.iter().map(ToString::to_string).collect();
                let known = if known.is_empty() { "null".to_owned() } else { known.join(" or ") };
                Err(self.wrong(name, format!("only {known} can be computed here")))
            }
            _ => Ok(()),
        }
    }

    /// Refuses fields that nobody asked for.
    pub(super) fn finish(&self) -> Result<(), ModelError> {
        let asked = self.asked.borrow();
        let unread = self.object.iter().find(|(name, value)| {
            let harmless = WITHOUT_INFLUENCE.contains(&name.as_str());
            let empty = value.is_null() || **value == Value::Bool(false);
            !harmless && !empty && !asked.contains(*name)
        });
        match unread {
            Some((name, _)) => Err(self.wrong(
                name,
                "not known to this family: it may change what the model computes; remove it if it does not",
            )),
            None => Ok(()),
        }
    }

    /// The error of a field that is missing or wrong.
    pub(super) fn wrong(&self, name: &str, expected: impl Into<String>) -> ModelError {
        let field = format!("{}{name}", self.prefix);
        ModelError::config_file(self.path, &field, self.object.get(name), &expected.into())
    }

    /// The same for an error that knows the field by our own name.
    pub(super) fn invalid(&self, error: ModelError) -> ModelError {
        match error {
            ModelError::Config { field, value, expected } => ModelError::ConfigFile {
                path: self.path.to_path_buf(),
                field: field.to_owned(),
                found: value,
                expected,
            },
            other => other,
        }
    }
}
