//! Pretrained models: fetched, turned into a model folder if they are something else, and opened.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use neutral_adapters::ExtensionFolder;
use neutral_data::{Control, ModelFiles, Tokenizer, fetch_model, fetch_model_description};
use neutral_model::{Extension, ModelFolder, Transformer};
use neutral_spec::{ModelSource, Plan, Precision};
use neutral_store::{Cache, Fingerprint, sha256_file};
use tch::Device;

use crate::cli::{MachineArgs, one_of};
use crate::exit::BadInput;
use crate::trial_file::{FinishedTrial, Loading};

/// A model with what extends it, and what computes.
#[derive(Debug, Args)]
pub(crate) struct ModelArgs {
    /// A model folder as Hugging Face has it, a GGUF file, a finished trial (RUN/trials/TRIAL), or OWNER/NAME[@REVISION] on
    /// the hub.
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

/// What [`ModelArgs`] name, loaded and frozen.
pub(crate) struct Loaded {
    /// The base.
    pub folder: ModelFolder,
    /// The trial, if it is one's.
    pub trial: Option<FinishedTrial>,
    pub model: Transformer,
    pub extension: Extension,
}

impl ModelArgs {
    pub(crate) fn load(&self, cache: &Cache, control: &Control) -> anyhow::Result<Loaded> {
        let &Self { model: ref path, ref extension, precision, machine } = self;
        let device = machine.open()?;
        let trial = FinishedTrial::folder(path).map(|_| FinishedTrial::open(path)).transpose()?;
        if trial.is_some() && extension.is_some() {
            let message = format!("{} is a trial, which has its own extension", path.display());
            return Err(BadInput(message).into());
        }
        let folder = match &trial {
            Some(trial) => trial.base()?,
            None => open_path(path, cache, control)?,
        };
        let loading = Loading { base: &folder, device, precision };
        let (model, own) = match &trial {
            Some(trial) => trial.model(loading)?,
            None => loading.base()?,
        };
        let extension = match extension {
            Some(path) => open_extension(path, &folder, device)?,
            None => own,
        };
        Ok(Loaded { folder, trial, model, extension })
    }
}

/// Raised when the same file would be turned into another folder.
const CONVERSION_VERSION: u32 = 1;

/// Opens a model; paths are relative to `here`.
pub(crate) fn open(
    source: &ModelSource,
    here: &Path,
    cache: &Cache,
    control: &Control,
) -> anyhow::Result<ModelFolder> {
    opened(&fetch_model(source, here, cache, control)?, cache)
}

fn opened(files: &ModelFiles, cache: &Cache) -> anyhow::Result<ModelFolder> {
    let folder = if files.path().is_dir() {
        files.path().to_path_buf()
    } else {
        converted(files.path(), cache)?
    };
    Ok(ModelFolder::open(&folder)?)
}

/// The same for what a model is alone: of a folder on the hub that is not in the cache no weights are fetched.
pub(crate) fn open_description(
    source: &ModelSource,
    here: &Path,
    cache: &Cache,
    control: &Control,
) -> anyhow::Result<ModelFolder> {
    let files = fetch_model_description(source, here, cache, control)?;
    if !files.is_whole() {
        return Ok(ModelFolder::open_without_weights(files.path())?);
    }
    opened(&files, cache)
}

/// Opens an extension for a base that has its sizes, and says so if that is not the one that it was trained on: the same
/// weights may lie in other files, so it is no error.
pub(crate) fn open_extension(
    path: &Path,
    base: &ModelFolder,
    device: Device,
) -> anyhow::Result<Extension> {
    let extension = neutral_adapters::open_extension(path, base.config(), device)?;
    if ExtensionFolder::of(path) == Some(ExtensionFolder::Neutral) {
        let made_for = neutral_adapters::read_extension_config(path)?.base;
        if !made_for.digest.is_empty() && made_for.digest != base.digest()? {
            tracing::warn!(
                "{} was trained on {}, whose files are not those of {}",
                path.display(),
                made_for.name,
                base.path().display()
            );
        }
    }
    Ok(extension)
}

/// Opens the model of a path: a folder, a GGUF file, or, if nothing is there, a repository of the hub.
pub(crate) fn open_path(
    path: &Path,
    cache: &Cache,
    control: &Control,
) -> anyhow::Result<ModelFolder> {
    let here = Path::new("");
    if let Some(hub) = path.to_str().filter(|_| !path.exists()).and_then(repository) {
        let taken = || format!("nothing is at {}, so that it means a repository", path.display());
        return open(&hub, here, cache, control).with_context(taken);
    }
    open(&ModelSource::Path { path: path.display().to_string() }, here, cache, control)
}

/// The repository that `OWNER/NAME` or `OWNER/NAME@REVISION` means.
fn repository(text: &str) -> Option<ModelSource> {
    let (repo, revision) = text.split_once('@').unwrap_or((text, "main"));
    let (owner, name) = repo.split_once('/')?;
    let is_name = |part: &str| {
        let known = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        !part.is_empty() && !part.starts_with('.') && part.chars().all(known)
    };
    let is_repository = is_name(owner) && is_name(name) && !revision.is_empty();
    let (repo, revision) = (repo.to_owned(), revision.to_owned());
    is_repository.then_some(ModelSource::Hub { repo, revision, file: None })
}

/// The model folder of a GGUF file, made once.
fn converted(gguf: &Path, cache: &Cache) -> anyhow::Result<PathBuf> {
    let key = Fingerprint::of(&(sha256_file(gguf)?, CONVERSION_VERSION));
    cache.get_or_make("models", &key, |folder| -> anyhow::Result<()> {
        let summary = neutral_gguf::convert(gguf, folder)?;
        let types: Vec<_> =
            summary.types.iter().map(|(name, tensors)| format!("{tensors} of {name}")).collect();
        tracing::info!(
            "{}: {} weights, tensors: {}",
            gguf.display(),
            summary.parameters,
            types.join(", ")
        );
        Ok(())
    })
}

/// The tokenizer in a model's folder; the model has an embedding for each token of text.
pub(crate) fn tokenizer(folder: &ModelFolder) -> anyhow::Result<Tokenizer> {
    let Some(path) = folder.tokenizer() else {
        let message = format!(
            "{} has no tokenizer.json; `AutoTokenizer.from_pretrained(…).save_pretrained(…)` of transformers writes one",
            folder.path().display()
        );
        return Err(BadInput(message).into());
    };
    let tokenizer = Tokenizer::load(&path)?;
    knows(folder, &path, &tokenizer)?;
    Ok(tokenizer)
}

/// Says if sequences are longer than any that the model was trained on, which rotary positions allow.
pub(crate) fn warn_of_context(folder: &ModelFolder, plan: &Plan) {
    let of_trials = plan.trials.iter().map(|trial| trial.training.sequence_length);
    let longest = of_trials.chain([plan.evaluation.window]).max().unwrap_or(0);
    let known = folder.config_json()["max_position_embeddings"].as_u64();
    if let Some(known) = known.filter(|known| longest as u64 > *known) {
        tracing::warn!(
            "sequences of {longest} tokens, but {} knows {known} positions (`max_position_embeddings`): its scores beyond say little",
            folder.path().display()
        );
    }
}

/// Refuses a tokenizer with more tokens of text than the model has embeddings.
pub(crate) fn knows(
    folder: &ModelFolder,
    path: &Path,
    tokenizer: &Tokenizer,
) -> Result<(), BadInput> {
    let (tokens, rows) = (tokenizer.vocab_size_of_text(), folder.config().vocab_size);
    if tokens > rows {
        let shown = path.display();
        return Err(BadInput(format!("{shown} has {tokens} tokens, but the model knows {rows}")));
    }
    Ok(())
}

/// Refuses another tokenizer than the one in the model's folder, by which tasks and exports read and write.
pub(crate) fn has_no_other(
    folder: &ModelFolder,
    path: &Path,
    given: &Tokenizer,
) -> Result<(), BadInput> {
    let own = folder.tokenizer().and_then(|own| Tokenizer::load(&own).ok());
    if own.is_some_and(|own| !own.gives_the_same_as(given)) {
        return Err(BadInput(format!(
            "{} is not the tokenizer in {}, by which exports and tasks go; write `tokenizer: {{ kind: base }}`, or put the file there",
            path.display(),
            folder.path().display()
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_and_a_name_are_a_repository_and_paths_are_not() {
        let of = |text| match repository(text) {
            Some(ModelSource::Hub { repo, revision, file: None }) => Some((repo, revision)),
            _ => None,
        };
        let named = |repo: &str, revision: &str| Some((repo.to_owned(), revision.to_owned()));
        assert_eq!(of("Us-2/a_model.5"), named("Us-2/a_model.5", "main"));
        assert_eq!(of("us/model@v1"), named("us/model", "v1"));
        for path in ["model", "./model", "../model", "/us/model", "us/model/", "a/b/c", "us/m@"] {
            assert_eq!(of(path), None, "{path}");
        }
    }
}
