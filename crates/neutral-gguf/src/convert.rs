//! From a file to a folder.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;

use neutral_store::{write_atomic, write_json};
use serde::Serialize;

use crate::config::Config;
use crate::error::GgufError;
use crate::gguf::Gguf;
use crate::plan::{Weight, plan};
use crate::safetensors::{self, Failure};
use crate::source::Source;
use crate::tokenizer::{self, TokenizerConfig, TokenizerJson};

/// What a conversion found and wrote.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// Number of weights in `model.safetensors`.
    pub tensors: usize,
    /// Numbers in them.
    pub parameters: u64,
    /// Types in the file, with the number of tensors of each.
    pub types: BTreeMap<String, usize>,
}

/// Writes the model and the tokenizer of a GGUF file as a Hugging Face folder: `model.safetensors` in
/// bf16, `tokenizer.json`, `tokenizer_config.json`, `generation_config.json` and, last, `config.json`.
///
/// Everything is understood before anything is written, and every file appears whole. Memory stays at
/// some tens of MiB, most of it for the vocabulary.
///
/// # Errors
/// [`GgufError::Malformed`] for a damaged file, [`GgufError::Unsupported`] for what a plain Llama has
/// not, [`GgufError::Store`] if a file cannot be read or written.
pub fn convert(gguf: &Path, folder: &Path) -> Result<Summary, GgufError> {
    let gguf = Gguf::open(gguf)?;
    let conversion = Conversion::of(&gguf)?;
    // Or weights of one model could come to stand beside the configuration of another.
    let config = folder.join("config.json");
    match std::fs::remove_file(&config) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => {
            return Err(neutral_store::StoreError::io("remove", &config, e).into());
        }
        _ => {}
    }
    let mut unread = None;
    let written = write_atomic(&folder.join("model.safetensors"), |out| {
        conversion.write_weights(out).map_err(|failure| match failure {
            Failure::Write(cause) => cause,
            Failure::Read(error) => {
                unread = Some(error);
                io::Error::other("its source cannot be read")
            }
        })
    });
    if let Some(error) = unread {
        return Err(error);
    }
    written?;
    write_json(&folder.join("tokenizer.json"), &conversion.tokenizer)?;
    write_json(&folder.join("tokenizer_config.json"), &conversion.tokenizer_config)?;
    write_json(&folder.join("generation_config.json"), &conversion.generation)?;
    write_json(&config, &conversion.config)?;
    Ok(conversion.summary())
}

/// Does all that [`convert`] does with a file's bytes, and keeps nothing: for tests and fuzzing.
///
/// # Errors
/// As [`convert`].
pub fn rehearse(bytes: &[u8]) -> Result<Summary, GgufError> {
    let gguf = Gguf::read(Path::new("memory"), bytes)?;
    let conversion = Conversion::of(&gguf)?;
    let Conversion { config, generation, tokenizer, tokenizer_config, .. } = &conversion;
    let written = conversion.write_weights(&mut io::sink()).and_then(|()| {
        let all = &(config, generation, tokenizer, tokenizer_config);
        serde_json::to_writer(io::sink(), all).map_err(|e| Failure::Write(e.into()))
    });
    match written {
        Ok(()) => Ok(conversion.summary()),
        Err(Failure::Read(error)) => Err(error),
        // A sink takes everything.
        Err(Failure::Write(cause)) => {
            Err(neutral_store::StoreError::io("write", gguf.path(), cause).into())
        }
    }
}

/// `generation_config.json`: the tokens that end a generation.
#[derive(Debug, Serialize)]
struct GenerationConfig {
    _from_model_config: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    bos_token_id: Option<usize>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    eos_token_id: Vec<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pad_token_id: Option<usize>,
}

/// A file that has been understood.
struct Conversion<'a, S> {
    gguf: &'a Gguf<S>,
    config: Config,
    generation: GenerationConfig,
    weights: Vec<Weight<'a>>,
    tokenizer: TokenizerJson<'a>,
    tokenizer_config: TokenizerConfig<'a>,
}

impl<'a, S: Source> Conversion<'a, S> {
    fn of(gguf: &'a Gguf<S>) -> Result<Self, GgufError> {
        let config = Config::of(gguf)?;
        let weights = plan(gguf, &config)?;
        let (tokenizer, tokenizer_config) = tokenizer::read(gguf, &config)?;
        // Llama 3 ends a turn with another token than a text.
        let turn = gguf.get_size("tokenizer.ggml.eot_token_id")?;
        let turn = turn.filter(|id| *id < config.vocab_size && Some(*id) != config.eos_token_id);
        let generation = GenerationConfig {
            _from_model_config: true,
            bos_token_id: config.bos_token_id,
            eos_token_id: config.eos_token_id.into_iter().chain(turn).collect(),
            pad_token_id: config.pad_token_id,
        };
        Ok(Self { gguf, config, generation, weights, tokenizer, tokenizer_config })
    }

    fn write_weights(&self, out: &mut impl Write) -> Result<(), Failure> {
        safetensors::write(self.gguf, &self.weights, out)
    }

    fn summary(&self) -> Summary {
        let mut types = BTreeMap::new();
        for weight in &self.weights {
            *types.entry(weight.tensor.tensor_type.to_string()).or_default() += 1;
        }
        let parameters = self.weights.iter().map(|weight| weight.tensor.elements()).sum();
        Summary { tensors: self.weights.len(), parameters, types }
    }
}
