//! The model that is extended: loaded, or pretrained once and then taken from the cache, as are
//! its scores.

use neutral_data::pinned;
use neutral_model::{ModelFolder, TransformerConfig};
use neutral_spec::BaseSpec;
use neutral_store::{Cache, Fingerprint, read_entry, write_json};

use crate::numerics::NUMERICS_VERSION;
use crate::pretrain::Pretraining;
use crate::scores::{Scorer, Scores, TOKENS_PER_BATCH};
use crate::trial::Shared;

/// A base on disk, ready to be loaded by each trial.
pub(crate) struct Base {
    /// Where it comes from, a repository at its commit.
    pub source: BaseSpec,
    /// What it was made from.
    pub fingerprint: Fingerprint,
    /// The model; the baseline of forgetting.
    pub folder: ModelFolder,
    /// Checksums of the folder's files.
    pub digest: Vec<String>,
}

impl Base {
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
pub(crate) fn prepare(work: &Pretraining, loaded: Option<ModelFolder>) -> anyhow::Result<Base> {
    of(work, loaded, || work.folder())
}

/// The base that another process has prepared in the same cache. Writes no file.
pub(crate) fn open(work: &Pretraining, loaded: Option<ModelFolder>) -> anyhow::Result<Base> {
    of(work, loaded, || work.open())
}

fn of(
    work: &Pretraining,
    loaded: Option<ModelFolder>,
    pretrained: impl FnOnce() -> anyhow::Result<ModelFolder>,
) -> anyhow::Result<Base> {
    let Pretraining { plan, device, cache, .. } = *work;
    let source = match &plan.base {
        BaseSpec::Load { source } => BaseSpec::Load { source: pinned(source, cache) },
        pretrained @ BaseSpec::Pretrain { .. } => pretrained.clone(),
    };
    let (fingerprint, folder) = match (&plan.base, loaded) {
        (BaseSpec::Pretrain { .. }, _) => (Some(work.fingerprint()?), pretrained()?),
        (BaseSpec::Load { .. }, Some(folder)) => (None, folder),
        (BaseSpec::Load { .. }, None) => anyhow::bail!("the base has not been loaded"),
    };
    let digest = folder.digest()?;
    let of_files =
        || Fingerprint::of(&(NUMERICS_VERSION, &digest, plan.precision, device.is_cuda()));
    let fingerprint = fingerprint.unwrap_or_else(of_files);
    Ok(Base { source, fingerprint, folder, digest })
}

/// The pristine base's scores: the baseline of forgetting and of learning, computed once.
pub(crate) fn scores(shared: &Shared, cache: &Cache) -> anyhow::Result<Scores> {
    let Shared { base, ref scorer, .. } = *shared;
    let Scorer { evaluation, inputs, .. } = scorer;
    let corpora = evaluation.original.iter().chain(&evaluation.new);
    // The digest too: a base that was made anew may have other weights, by threads or processes.
    let made_from = (&base.fingerprint, &base.digest);
    let key = (made_from, evaluation, inputs.fingerprint(corpora));
    let key = match scorer.tokens_per_batch {
        TOKENS_PER_BATCH => Fingerprint::of(&key),
        // Rounding is what somebody wants to see then.
        other => Fingerprint::of(&(key, other)),
    };
    let place = cache.get_or_make("base-scores", &key, |folder| -> anyhow::Result<()> {
        let (model, nothing) = shared.loading().base()?;
        let scores = scorer.score(&model, &nothing, "base")?;
        Ok(write_json(&folder.join("scores.json"), &scores)?)
    })?;
    Ok(read_entry(&place, "scores.json")?)
}
