//! The model that is evaluated: a base, what extends it, and how it reads text.

use std::path::{Path, PathBuf};

use super::tokens::{RequestTokenizer, RuleOptions};
use crate::cli::{MachineArgs, one_of};
use crate::exit::BadInput;
use crate::model_source;
use crate::numerics::{NUMERICS_VERSION, forward};
use crate::trial_file::{FinishedTrial, Loading};
use anyhow::Context as _;
use clap::Args;
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

/// The model that is scored, and what computes.
#[derive(Debug, Args)]
pub(crate) struct ModelArgs {
    /// A model folder as Hugging Face has it, a GGUF file, or a finished trial (RUN/trials/TRIAL).
    #[arg(long)]
    pub model: PathBuf,
    /// What extends the model: a folder of `neutral export --format neutral`, or of PEFT.
    #[arg(long)]
    pub extension: Option<PathBuf>,
    /// The numbers that matrix products are computed in; fp64 is slow, and equal to the printed digit whatever the
    /// order of sums.
    #[arg(long, value_parser = one_of([Precision::Bf16, Precision::Fp32, Precision::Fp64]), default_value = "bf16")]
    pub precision: Precision,
    #[command(flatten)]
    pub machine: MachineArgs,
}

impl LanguageModel {
    /// Loads a model and what extends it.
    pub(crate) fn open(
        args: &ModelArgs,
        rules: &RuleOptions,
        cache: &Cache,
        control: &Control,
    ) -> anyhow::Result<Self> {
        let ModelArgs { model: path, extension, precision, machine } = args;
        let (precision, device) = (*precision, machine.open()?);
        let trial = FinishedTrial::folder(path).map(|_| FinishedTrial::open(path)).transpose()?;
        let folder = if let Some(trial) = &trial {
            trial.base()?
        } else {
            model_source::open_path(path, cache, control)?
        };
        let (model, extension, made_from) = match (&trial, extension) {
            (Some(_), Some(_)) => {
                let message = format!("{} is a trial, which has its own extension", path.display());
                return Err(BadInput(message).into());
            }
            (Some(trial), None) => {
                let (model, extension) =
                    trial.model(Loading { base: &folder, device, precision })?;
                (model, extension, trial.file.made_from(&trial.folder)?)
            }
            (None, extension) => {
                let (model, none) = Loading { base: &folder, device, precision }.base()?;
                let (extension, files) = match extension {
                    None => (none, Vec::new()),
                    Some(path) => {
                        let extension =
                            neutral_adapters::open_extension(path, folder.config(), device)?;
                        let mut made_from = digest(path)?;
                        made_from.push(forward());
                        (extension, made_from)
                    }
                };
                (model, extension, files)
            }
        };
        let parts = Parts { model, extension, digest: folder.digest()?, made_from };
        Self::assemble(parts, &folder, precision, rules)
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
