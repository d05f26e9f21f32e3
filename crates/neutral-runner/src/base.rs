//! The model that is extended: loaded, or pretrained once and then taken from the cache, as are
//! its scores.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;
use indicatif::MultiProgress;
use neutral_data::{MixConfig, MixedStream, Tokenizer};
use neutral_model::{
    Extension, ModelFolder, Transformer, TransformerConfig, write_config, write_model,
};
use neutral_spec::{BaseSpec, DocumentPolicy, LocalLossSpec, Plan, Precision, TrainingSpec};
use neutral_store::{Cache, Fingerprint, Lock, StoreError, read_entry, read_json, write_json};
use neutral_train::{Anchor, TrainJob, TrainOutcome, Trained, train};
use serde_json::Value;
use tch::{Device, Kind};

use crate::exit::Interrupted;
use crate::inputs::Inputs;
use crate::numerics::NUMERICS_VERSION;
use crate::progress;
use crate::scores::{Scorer, Scores};

/// How often a process that waits for another's base looks for it.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A base on disk, ready to be loaded by each trial.
pub(crate) struct Base {
    /// What it was made from.
    pub fingerprint: Fingerprint,
    /// The model; the baseline of forgetting.
    pub folder: ModelFolder,
    /// Checksums of the folder's files.
    pub digest: Vec<String>,
    precision: Precision,
    device: Device,
}

impl Base {
    /// A fresh, frozen copy, equal to the pristine base.
    pub(crate) fn load(&self) -> anyhow::Result<Transformer> {
        let mut model = self.folder.load(self.device, self.precision)?;
        model.freeze();
        Ok(model)
    }

    /// Number of weights.
    pub(crate) fn parameters(&self) -> u64 {
        self.config().size().parameters
    }

    /// What the model is.
    pub(crate) fn config(&self) -> &TransformerConfig {
        self.folder.config()
    }
}

/// The base that the plan asks for: loaded, from the cache, or pretrained now.
pub(crate) fn prepare(
    plan: &Plan,
    inputs: &Inputs,
    loaded: Option<ModelFolder>,
    cache: &Cache,
    device: Device,
    stop: &AtomicBool,
    bars: &MultiProgress,
) -> anyhow::Result<Base> {
    let (fingerprint, folder, digest) = match (&plan.base, loaded) {
        (BaseSpec::Pretrain { .. }, _) => {
            let (made_from, folder) = pretrained(plan, inputs, cache, device, stop, bars)?;
            let digest = folder.digest()?;
            (made_from, folder, digest)
        }
        (BaseSpec::Load { .. }, Some(folder)) => {
            let files = folder.digest()?;
            let made_from = (NUMERICS_VERSION, &files, plan.precision, device.is_cuda());
            (Fingerprint::of(&made_from), folder, files)
        }
        (BaseSpec::Load { .. }, None) => anyhow::bail!("the base has not been loaded"),
    };
    Ok(Base { fingerprint, folder, digest, precision: plan.precision, device })
}

fn pretrained(
    plan: &Plan,
    inputs: &Inputs,
    cache: &Cache,
    device: Device,
    stop: &AtomicBool,
    bars: &MultiProgress,
) -> anyhow::Result<(Fingerprint, ModelFolder)> {
    let BaseSpec::Pretrain { shape, corpora, training, seed } = &plan.base else {
        anyhow::bail!("the base is not one to pretrain");
    };
    let config = TransformerConfig::llama(shape, inputs.tokenizer.vocab_size());
    let fingerprint = Fingerprint::of(&(
        NUMERICS_VERSION,
        &plan.base,
        plan.precision,
        device.is_cuda(),
        inputs.fingerprint(corpora),
    ));
    let place = cache.path("bases", &fingerprint);
    let Some((work, lock)) = workspace(cache, &fingerprint, stop)? else {
        tracing::info!("base {fingerprint}: taken from {}", place.display());
        cache.clear_workspace("bases", &fingerprint);
        // Earlier versions kept the weights alone; and it is the weights that take long to make again.
        let tokenizer = place.join("tokenizer.json");
        let has_config = read_json::<Value>(&place.join("config.json")).is_ok();
        if Tokenizer::load(&tokenizer).is_err() || !has_config {
            inputs.tokenizer.save(&tokenizer)?;
            write_config(&place, &config_json(&config)?, Kind::Float)?;
        }
        let damaged =
            || format!("base {fingerprint} is damaged; delete its folder to have it made again");
        let folder = ModelFolder::open(&place).with_context(damaged)?;
        return Ok((fingerprint, folder));
    };
    let mut model = Transformer::new(config, *seed, device, plan.precision)?;
    let stream = pretraining_stream(inputs, corpora, training, *seed)?;
    let bar = progress::bar(bars, "base: pretraining");
    let outcome = train(TrainJob {
        model: &mut model,
        extension: &mut Extension::none(),
        trained: Trained::Base,
        stream: &stream,
        spec: training,
        documents: DocumentPolicy::AttendAcross,
        separator_id: inputs.tokenizer.separator_id(),
        local_loss: LocalLossSpec::None {},
        anchor: Anchor::None,
        fingerprint: fingerprint.clone(),
        folder: &work,
        checkpoint_every_steps: Some(plan.checkpoint_every_steps),
        device,
        stop,
        progress: &bar,
    })?;
    bar.finish_and_clear();
    let TrainOutcome::Finished(summary) = outcome else { return Err(Interrupted.into()) };
    tracing::info!(
        "base {fingerprint}: pretrained on {} tokens in {:.0} s",
        summary.tokens,
        summary.elapsed_seconds
    );
    cache.get_or_make("bases", &fingerprint, |folder: &Path| -> anyhow::Result<()> {
        // A model folder like any other, so that other tools can read it too.
        write_model(folder, &config_json(model.config())?, &model, Kind::Float)?;
        inputs.tokenizer.save(&folder.join("tokenizer.json"))?;
        Ok(write_json(&folder.join("summary.json"), &summary)?)
    })?;
    drop(lock);
    // The checkpoints have served.
    cache.clear_workspace("bases", &fingerprint);
    Ok((fingerprint, ModelFolder::open(&place)?))
}

/// Where to pretrain a base, once no other process does; none if the base is there.
fn workspace(
    cache: &Cache,
    fingerprint: &Fingerprint,
    stop: &AtomicBool,
) -> anyhow::Result<Option<(PathBuf, Lock)>> {
    let place = cache.path("bases", fingerprint);
    let mut said = false;
    loop {
        if place.is_dir() {
            return Ok(None);
        }
        match cache.workspace("bases", fingerprint) {
            // The process that held it may just have ended with the base.
            Ok(held) => return Ok(Some(held).filter(|_| !place.is_dir())),
            Err(_) if place.is_dir() => return Ok(None),
            Err(StoreError::Locked { owner, .. }) => {
                if !said {
                    tracing::info!("base {fingerprint}: process {owner} pretrains it, waiting");
                }
                said = true;
            }
            Err(error) => return Err(error.into()),
        }
        if stop.load(Ordering::SeqCst) {
            return Err(Interrupted.into());
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

fn config_json(config: &TransformerConfig) -> anyhow::Result<Value> {
    config.to_hugging_face().context("a base that is no Llama")
}

fn pretraining_stream(
    inputs: &Inputs,
    corpora: &[neutral_spec::CorpusRef],
    training: &TrainingSpec,
    seed: u64,
) -> anyhow::Result<MixedStream> {
    let config =
        MixConfig { original_fraction: 0.0, sequence_length: training.sequence_length, seed };
    Ok(MixedStream::new(Vec::new(), inputs.shards(corpora)?, config)?)
}

/// The pristine base's scores: the baseline of forgetting and of learning, computed once.
pub(crate) fn scores(base: &Base, scorer: &Scorer, cache: &Cache) -> anyhow::Result<Scores> {
    let Scorer { evaluation, inputs, .. } = scorer;
    let corpora = evaluation.original.iter().chain(&evaluation.new);
    let key = Fingerprint::of(&(&base.fingerprint, evaluation, inputs.fingerprint(corpora)));
    let place = cache.get_or_make("base-scores", &key, |folder| -> anyhow::Result<()> {
        let scores = scorer.score(&base.load()?, &Extension::none(), "base")?;
        Ok(write_json(&folder.join("scores.json"), &scores)?)
    })?;
    Ok(read_entry(&place, "scores.json")?)
}
