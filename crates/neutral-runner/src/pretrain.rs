//! A base that is pretrained here, once, and kept in the cache as a model folder like any other.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;
use indicatif::MultiProgress;
use neutral_data::{MixConfig, MixedStream, Tokenizer};
use neutral_model::{
    Extension, ModelFolder, Transformer, TransformerConfig, write_config, write_model,
};
use neutral_spec::{BaseSpec, CorpusRef, DocumentPolicy, LocalLossSpec, Plan, Shape, TrainingSpec};
use neutral_store::{Cache, Fingerprint, Lock, read_json, write_json};
use neutral_torch::Group;
use neutral_train::{Anchor, TrainJob, TrainOutcome, TrainSummary, Trained, train};
use serde_json::{Value, json};
use tch::{Device, Kind};

use crate::exit::Interrupted;
use crate::group::{self, Next};
use crate::inputs::Inputs;
use crate::numerics::NUMERICS_VERSION;
use crate::progress;

/// The file that transformers reads a tokenizer's kind and special tokens from.
const TOKENIZER_CONFIG: &str = "tokenizer_config.json";

/// What a base is pretrained from, and by whom.
#[derive(Clone, Copy)]
pub(crate) struct Pretraining<'a> {
    pub plan: &'a Plan,
    pub inputs: &'a Inputs,
    pub cache: &'a Cache,
    pub device: Device,
    pub stop: &'a AtomicBool,
    pub bars: &'a MultiProgress,
    /// The processes that do it together.
    pub group: Option<&'a Group>,
}

/// What the plan says of it.
struct Recipe<'a> {
    shape: &'a Shape,
    corpora: &'a [CorpusRef],
    training: &'a TrainingSpec,
    seed: u64,
}

impl Pretraining<'_> {
    fn recipe(&self) -> anyhow::Result<Recipe<'_>> {
        match &self.plan.base {
            BaseSpec::Pretrain { shape, corpora, training, seed } => {
                Ok(Recipe { shape, corpora, training, seed: *seed })
            }
            BaseSpec::Load { .. } => anyhow::bail!("the base is not one to pretrain"),
        }
    }

    /// Fingerprint of everything that determines it.
    pub(crate) fn fingerprint(&self) -> anyhow::Result<Fingerprint> {
        Ok(Fingerprint::of(&(
            NUMERICS_VERSION,
            &self.plan.base,
            self.plan.precision,
            self.device.is_cuda(),
            self.inputs.fingerprint(self.recipe()?.corpora),
        )))
    }

    /// The base, from the cache if it is there.
    pub(crate) fn folder(&self) -> anyhow::Result<ModelFolder> {
        let Self { inputs, cache, stop, .. } = *self;
        let config = self.config()?;
        let fingerprint = self.fingerprint()?;
        let place = cache.path("bases", &fingerprint);
        let Some((work, lock)) = workspace(cache, &fingerprint, stop)? else {
            tracing::info!("base {fingerprint}: taken from {}", place.display());
            cache.clear_workspace("bases", &fingerprint);
            // Earlier versions kept the weights alone; and it is the weights that take long to make again.
            let tokenizer = place.join("tokenizer.json");
            let has_config = read_json::<Value>(&place.join("config.json")).is_ok();
            if Tokenizer::load(&tokenizer).is_err() || !has_config {
                inputs.tokenizer.save(&tokenizer)?;
                write_config(&place, &self.config_json(&config)?, Kind::Float)?;
            }
            // A cache of others may be one that this user cannot write; only exports miss the files.
            if !place.join(TOKENIZER_CONFIG).is_file()
                && let Err(error) = write_special_tokens(&place, &inputs.tokenizer)
            {
                tracing::warn!("base {fingerprint}: {error:#}");
            }
            let damaged = || {
                format!("base {fingerprint} is damaged; delete its folder to have it made again")
            };
            return ModelFolder::open(&place).with_context(damaged);
        };
        let (model, summary) = self.train(&work)?;
        tracing::info!(
            "base {fingerprint}: pretrained on {} tokens in {:.0} s",
            summary.tokens,
            summary.elapsed_seconds
        );
        cache.get_or_make("bases", &fingerprint, |folder: &Path| -> anyhow::Result<()> {
            // A model folder like any other, so that other tools can read it too.
            write_model(folder, &self.config_json(model.config())?, &model, Kind::Float)?;
            inputs.tokenizer.save(&folder.join("tokenizer.json"))?;
            write_special_tokens(folder, &inputs.tokenizer)?;
            Ok(write_json(&folder.join("summary.json"), &summary)?)
        })?;
        drop(lock);
        // The checkpoints have served.
        cache.clear_workspace("bases", &fingerprint);
        Ok(ModelFolder::open(&place)?)
    }

    /// The base that is in the cache.
    pub(crate) fn open(&self) -> anyhow::Result<ModelFolder> {
        let place = self.cache.path("bases", &self.fingerprint()?);
        ModelFolder::open(&place).with_context(|| {
            let cache = self.cache.root().display();
            format!("the cache {cache} lacks the base; all processes of a run need one cache")
        })
    }

    /// The training with rank 0, of which nothing is kept.
    pub(crate) fn follow(&self) -> anyhow::Result<()> {
        self.train(&self.cache.path("bases", &self.fingerprint()?)).map(drop)
    }

    /// Trains, with checkpoints in a folder, from the one that is there.
    fn train(&self, work: &Path) -> anyhow::Result<(Transformer, TrainSummary)> {
        let Self { plan, inputs, device, stop, bars, group, .. } = *self;
        let Recipe { corpora, training, seed, .. } = self.recipe()?;
        let mut model = Transformer::new(self.config()?, seed, device, plan.precision)?;
        let mix =
            MixConfig { original_fraction: 0.0, sequence_length: training.sequence_length, seed };
        let stream = MixedStream::new(Vec::new(), inputs.shards(corpora)?, mix)
            .context("base.corpora, for base.training")?;
        group::announce(group, &Next::Base)?;
        let bar = progress::bar(bars, "base: pretraining");
        let outcome = train(TrainJob {
            model: &mut model,
            extension: &mut Extension::none(),
            trained: Trained::Base,
            stream: &stream,
            spec: training,
            documents: DocumentPolicy::AttendAcross,
            local_loss: LocalLossSpec::None {},
            anchor: Anchor::None,
            fingerprint: self.fingerprint()?,
            folder: work,
            checkpoint_every_steps: Some(plan.checkpoint_every_steps),
            stop,
            progress: &bar,
            group,
        });
        bar.finish_and_clear();
        match outcome.context("pretraining the base")? {
            TrainOutcome::Finished(summary) => Ok((model, summary)),
            TrainOutcome::Interrupted { .. } => Err(Interrupted.into()),
        }
    }

    fn config(&self) -> anyhow::Result<TransformerConfig> {
        Ok(TransformerConfig::llama(self.recipe()?.shape, self.inputs.tokenizer.vocab_size()))
    }

    /// Also says how long the texts were, which tasks are not to exceed; readers take 2,048 tokens where a file says nothing.
    fn config_json(&self, config: &TransformerConfig) -> anyhow::Result<Value> {
        let mut json = config.to_hugging_face().context("a base that is no Llama")?;
        json["max_position_embeddings"] = self.recipe()?.training.sequence_length.into();
        Ok(json)
    }
}

/// Where to pretrain a base, once no other process does; none if the base is there.
fn workspace(
    cache: &Cache,
    fingerprint: &Fingerprint,
    stop: &AtomicBool,
) -> anyhow::Result<Option<(PathBuf, Lock)>> {
    let place = cache.path("bases", fingerprint);
    if place.is_dir() {
        return Ok(None);
    }
    let mut said = false;
    let held = cache.workspace("bases", fingerprint, |owner| {
        if !said {
            tracing::info!("base {fingerprint}: process {owner} pretrains it, waiting");
        }
        said = true;
        if stop.load(Ordering::SeqCst) { Err(Interrupted.into()) } else { Ok(!place.is_dir()) }
    });
    // The process that held it may just have ended with the base.
    if place.is_dir() { Ok(None) } else { held }
}

/// What transformers would guess, and wrongly: the kind of the tokenizer, and the token that begins and ends a text.
fn write_special_tokens(folder: &Path, tokenizer: &Tokenizer) -> anyhow::Result<()> {
    let id = tokenizer.separator_id();
    let name = tokenizer.prompts().name(id);
    let generation = json!({ "bos_token_id": id, "eos_token_id": id });
    write_json(&folder.join("generation_config.json"), &generation)?;
    // Last, since it says that both are there.
    let config = json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": name,
        "eos_token": name,
        "clean_up_tokenization_spaces": false,
    });
    Ok(write_json(&folder.join(TOKENIZER_CONFIG), &config)?)
}
