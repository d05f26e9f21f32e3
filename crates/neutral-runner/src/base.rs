//! The model that is extended: pretrained once, then taken from the cache, as are its scores.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use indicatif::MultiProgress;
use neutral_data::{MixConfig, MixedStream};
use neutral_model::{Extension, Transformer, TransformerConfig};
use neutral_spec::{
    BaseSpec, DocumentPolicy, LocalLossSpec, Plan, Precision, TrainingSpec, base_parameters,
};
use neutral_store::{Cache, Fingerprint, read_json, write_json};
use neutral_train::{TrainJob, TrainOutcome, Trained, train};
use tch::Device;

use crate::exit::Interrupted;
use crate::inputs::Inputs;
use crate::numerics::NUMERICS_VERSION;
use crate::progress;
use crate::scores::{Scores, score_all};

/// A base on disk, ready to be loaded by each trial.
pub(crate) struct Base {
    /// What it was made from.
    pub fingerprint: Fingerprint,
    config: TransformerConfig,
    precision: Precision,
    device: Device,
    weights: PathBuf,
}

impl Base {
    /// A fresh, frozen copy, equal to the pristine base.
    pub(crate) fn load(&self) -> anyhow::Result<Transformer> {
        let mut model = Transformer::new(self.config, 0, self.device, self.precision)?;
        model.make_trainable();
        model.params_mut().load(&self.weights)?;
        model.freeze();
        Ok(model)
    }

    /// Number of weights.
    pub(crate) fn parameters(&self) -> u64 {
        base_parameters(&self.config.shape, self.config.vocab_size)
    }

    /// The size of the model.
    pub(crate) fn config(&self) -> &TransformerConfig {
        &self.config
    }
}

/// Takes the base from the cache, or pretrains it.
pub(crate) fn prepare(
    plan: &Plan,
    inputs: &Inputs,
    cache: &Cache,
    device: Device,
    stop: &AtomicBool,
    bars: &MultiProgress,
) -> anyhow::Result<Base> {
    let BaseSpec::Pretrain { shape, corpora, training, seed } = &plan.base;
    let config = TransformerConfig { shape: *shape, vocab_size: inputs.tokenizer.vocab_size() };
    let fingerprint = Fingerprint::of(&(
        NUMERICS_VERSION,
        &plan.base,
        plan.precision,
        device.is_cuda(),
        inputs.fingerprint(corpora),
    ));
    let place = cache.path("bases", &fingerprint);
    let weights = place.join("model.safetensors");
    let base = Base { fingerprint, config, precision: plan.precision, device, weights };
    if place.is_dir() {
        tracing::info!("base {}: taken from {}", base.fingerprint, place.display());
        return Ok(base);
    }
    let mut model = Transformer::new(config, *seed, device, plan.precision)?;
    let stream = pretraining_stream(inputs, corpora, training, *seed)?;
    let (folder, lock) = cache.workspace("bases", &base.fingerprint)?;
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
        fingerprint: base.fingerprint.clone(),
        folder: &folder,
        checkpoint_every_steps: Some(plan.checkpoint_every_steps),
        device,
        stop,
        progress: &bar,
    })?;
    bar.finish_and_clear();
    let TrainOutcome::Finished(summary) = outcome else { return Err(Interrupted.into()) };
    tracing::info!(
        "base {}: pretrained on {} tokens in {:.0} s",
        base.fingerprint,
        summary.tokens,
        summary.elapsed_seconds
    );
    cache.get_or_make("bases", &base.fingerprint, |folder: &Path| -> anyhow::Result<()> {
        model
            .params()
            .save(&folder.join("model.safetensors"), &std::collections::BTreeMap::new())?;
        write_json(&folder.join("summary.json"), &summary)?;
        Ok(())
    })?;
    drop(lock);
    // The checkpoints have served; a failure to remove them costs disk space, not correctness.
    let _ = std::fs::remove_dir_all(&folder);
    Ok(base)
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
pub(crate) fn scores(
    base: &Base,
    plan: &Plan,
    inputs: &Inputs,
    cache: &Cache,
    stop: &AtomicBool,
    bars: &MultiProgress,
) -> anyhow::Result<Scores> {
    let evaluation = &plan.evaluation;
    let corpora = evaluation.original.iter().chain(&evaluation.new);
    let key = Fingerprint::of(&(&base.fingerprint, evaluation, inputs.fingerprint(corpora)));
    let place = cache.get_or_make("base-scores", &key, |folder| -> anyhow::Result<()> {
        let model = base.load()?;
        let none = Extension::none();
        let scores = score_all(&model, &none, evaluation, inputs, base.device, stop, bars, "base")?;
        Ok(write_json(&folder.join("scores.json"), &scores)?)
    })?;
    Ok(read_json(&place.join("scores.json"))?)
}
