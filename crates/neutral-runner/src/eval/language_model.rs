//! The model that is evaluated: a base, what extends it, and how it reads text.

use std::path::Path;

use super::tokens::{RequestTokenizer, RuleOptions};
use crate::model_source::{Loaded, ModelArgs};
use crate::numerics::{NUMERICS_VERSION, forward};
use anyhow::Context as _;
use neutral_data::Control;
use neutral_model::{Extension, ModelFolder, Transformer};
use neutral_spec::Precision;
use neutral_store::{Cache, Fingerprint, sha256_file};

/// A model, its extension and its tokenizer.
pub(crate) struct LanguageModel {
    pub model: Transformer,
    pub extension: Extension,
    pub tokens: RequestTokenizer,
    /// Of everything that its answers depend on, but tokens.
    pub identity: Fingerprint,
    /// Checksums of the model's files.
    pub digest: Vec<String>,
}

/// A model that is loaded, and what it was made from.
pub(crate) struct Parts {
    pub model: Transformer,
    pub extension: Extension,
    /// Checksums of the base's files.
    pub digest: Vec<String>,
    /// What was added to the base: nothing, for the pristine one.
    pub made_from: Vec<String>,
}

impl LanguageModel {
    /// Loads a model and what extends it.
    pub(crate) fn open(
        args: &ModelArgs,
        rules: &RuleOptions,
        cache: &Cache,
        control: &Control,
    ) -> anyhow::Result<Self> {
        let Loaded { folder, trial, model, extension } = args.load(cache, control)?;
        let made_from = match (&trial, &args.extension) {
            (Some(trial), _) => trial.file.made_from(&trial.folder)?,
            (None, Some(path)) => [digest(path)?, vec![forward()]].concat(),
            (None, None) => Vec::new(),
        };
        let parts = Parts { model, extension, digest: folder.digest()?, made_from };
        Self::assemble(parts, &folder, args.precision, rules)
    }

    /// A model that is loaded, with the tokenizer of its base's folder.
    pub(crate) fn assemble(
        parts: Parts,
        base: &ModelFolder,
        precision: Precision,
        rules: &RuleOptions,
    ) -> anyhow::Result<Self> {
        let Parts { model, extension, digest, made_from } = parts;
        let cuda = model.device().is_cuda();
        let identity = Fingerprint::of(&(NUMERICS_VERSION, &digest, made_from, precision, cuda));
        let tokens = RequestTokenizer::of(base, rules)?;
        Ok(Self { model, extension, tokens, identity, digest })
    }

    /// Number of weights, the extension's included.
    pub(crate) fn parameters(&self) -> u64 {
        self.model.params().parameter_count() + self.extension.parameter_count()
    }
}

/// Checksums of an extension's files.
fn digest(folder: &Path) -> anyhow::Result<Vec<String>> {
    let entries = std::fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    let mut files = entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
    files.retain(|path| {
        path.extension().is_some_and(|kind| kind == "safetensors" || kind == "json")
    });
    files.sort();
    Ok(files.iter().map(|path| sha256_file(path)).collect::<Result<_, _>>()?)
}
