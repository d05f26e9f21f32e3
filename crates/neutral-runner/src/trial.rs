//! One trial: build, train, score, keep. A finished one is never run again.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use indicatif::MultiProgress;
use neutral_data::{Domain, MixConfig, MixedStream};
use neutral_model::{Extension, Transformer};
use neutral_spec::{Method, MixedCorpus, Plan, Trial};
use neutral_store::{
    Fingerprint, Lock, StoreError, read_json, remove_unfinished, sha256_file, write_json,
};
use neutral_torch::Group;
use neutral_train::{
    Anchor, TrainJob, TrainOutcome, TrainSummary, Trained, average_weights, train,
};
use serde::{Deserialize, Serialize};
use tch::Device;

use crate::base::Base;
use crate::environment;
use crate::exit::{Interrupted, is_interrupted};
use crate::failure::{Failure, caught};
use crate::group::{self, Next};
use crate::inputs::Inputs;
use crate::progress;
use crate::scores::{Scorer, Scores};
use crate::tasks::Tasks;
use crate::trial_file::{Extended, Loading, TRIAL_FILE, TrialBase, TrialFile, weights_name};

/// The record of a finished trial in its folder.
pub(crate) const RECORD: &str = "record.json";

/// The folder of what is needed to go on with a training.
pub(crate) const CHECKPOINT: &str = "checkpoint";

/// What is kept of a training, before it is scored.
pub(crate) const TRAINING: &str = "training.json";

/// What it answered to tasks.
pub(crate) const ANSWERS: &str = "answers.json";

/// What it scored on tasks.
pub(crate) const TASKS: &str = "tasks.json";

/// How its model compares with its base.
pub(crate) const NEUTRALITY: &str = "neutrality.json";

/// The fingerprint of the training whose files are in a trial's folder.
pub(crate) const MARK: &str = "fingerprint.json";

/// What is kept of a finished trial, in its folder's `record.json`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct TrialRecord {
    /// What it was made from.
    pub fingerprint: Fingerprint,
    /// The commit of the code that made it ([`environment::CODE`]); earlier versions did not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub git: Option<String>,
    /// The checksum of its weights; earlier versions did not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights: Option<String>,
    /// How the training went.
    pub training: TrainSummary,
    /// Scores on every corpus, by document.
    pub scores: Scores,
}

/// What is kept of a training, in its trial's `training.json`: however the trial is scored, it is not trained again.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct TrainingRecord {
    /// What it was made from.
    pub fingerprint: Fingerprint,
    /// The commit of the code that made it.
    pub git: Option<String>,
    /// The checksum of its weights.
    pub weights: String,
    /// How it went.
    pub summary: TrainSummary,
}

/// What the trials of a run have in common.
pub(crate) struct Shared<'a> {
    pub plan: &'a Plan,
    pub inputs: &'a Inputs,
    pub base: &'a Base,
    /// The tasks that are scored, if there are any.
    pub tasks: Option<&'a Tasks>,
    pub scorer: Scorer<'a>,
    pub device: Device,
    pub out: &'a Path,
    pub stop: &'a AtomicBool,
    pub bars: &'a MultiProgress,
    /// The processes that train each trial together.
    pub group: Option<&'a Group>,
}

impl Shared<'_> {
    /// Writes down what a trial is and stands on.
    pub(crate) fn describe(&self, trial: &Trial) -> anyhow::Result<TrialFile> {
        let file = self.file(trial)?;
        write_json(&self.folder(trial).join(TRIAL_FILE), &file)?;
        Ok(file)
    }

    /// What a trial is and stands on.
    pub(crate) fn file(&self, trial: &Trial) -> anyhow::Result<TrialFile> {
        let Base { source, fingerprint, folder, digest } = self.base;
        let base = TrialBase {
            source: source.clone(),
            path: std::path::absolute(folder.path())?,
            fingerprint: fingerprint.clone(),
            digest: digest.clone(),
        };
        Ok(TrialFile {
            fingerprint: self.fingerprint(trial),
            experiment: self.plan.experiment.clone(),
            trial: trial.clone(),
            precision: self.plan.precision,
            after_fingerprint: self.before(trial).map(|before| self.fingerprint(before)),
            after_weights: self.after_weights(trial)?,
            base,
        })
    }

    /// How the run's models are loaded.
    pub(crate) fn loading(&self) -> Loading<'_> {
        Loading { base: &self.base.folder, device: self.device, precision: self.plan.precision }
    }

    /// Holds a trial for this process; waits for another that does. None if asked to stop meanwhile.
    pub(crate) fn hold(&self, trial: &Trial) -> anyhow::Result<Option<Lock>> {
        let stopped = || self.stop.load(Ordering::SeqCst);
        if stopped() {
            return Ok(None);
        }
        let mut said = false;
        Lock::wait(&self.folder(trial), |owner| {
            if !said {
                tracing::info!("{}: process {owner} runs it, waiting", trial.id);
            }
            said = true;
            Ok(!stopped())
        })
    }

    /// Runs a trial to its end; why it failed, if it does, is kept in its folder.
    pub(crate) fn attempt(&self, trial: &Trial) -> anyhow::Result<TrialRecord> {
        let folder = self.folder(trial);
        Failure::clear(&folder);
        let done = self.contained(|| self.run(trial));
        if let Err(error) = &done
            && !is_interrupted(error)
        {
            tracing::error!("{}: {error:#}", trial.id);
            Failure::new(self.fingerprint(trial), error).keep(&folder);
        }
        done
    }

    /// Work on one trial, whose panic is an error of that trial's. Of a group, the others would wait for this process:
    /// it ends, and they notice.
    pub(crate) fn contained<T>(
        &self,
        work: impl FnOnce() -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        if self.group.is_none() { caught(work) } else { work() }
    }

    /// From its training if it has been trained, from its checkpoint if it has one.
    fn run(&self, trial: &Trial) -> anyhow::Result<TrialRecord> {
        let folder = self.folder(trial);
        self.clear_if_stale(trial)?;
        remove_unfinished(&folder);
        // Of other weights, or of other text.
        for measured in [RECORD, NEUTRALITY, ANSWERS, TASKS] {
            let _ = std::fs::remove_file(folder.join(measured));
        }
        let file = self.describe(trial)?;
        let (training, (model, extension)) = match self.trained(trial)? {
            Some(training) => {
                tracing::info!("{}: trained earlier, scored anew", trial.id);
                (training, file.after(&folder, self.loading())?)
            }
            None => self.train_and_keep(trial, &file)?,
        };
        let scores = self.scorer.score(&model, &extension, &trial.id)?;
        let TrainingRecord { git, weights, summary, .. } = training;
        let record = TrialRecord {
            fingerprint: self.fingerprint(trial),
            git,
            weights: Some(weights),
            training: summary,
            scores,
        };
        write_json(&folder.join(RECORD), &record)?;
        self.remove_checkpoint(trial);
        Ok(record)
    }

    /// Trains a trial, and keeps its weights.
    fn train_and_keep(
        &self,
        trial: &Trial,
        file: &TrialFile,
    ) -> anyhow::Result<(TrainingRecord, Extended)> {
        let folder = self.folder(trial);
        let (mut model, mut extension) = self.build(trial, file)?;
        let summary = match self.take_fine_tuning(trial, &mut model)? {
            Some(training) => training,
            None => self.train(trial, &mut model, &mut extension)?,
        };
        if let Method::WiseFt { share } = trial.method {
            let (before, _) = file.before(&folder, self.loading())?;
            average_weights(model.params(), before.params(), share)?;
        }
        let fingerprint = self.training_fingerprint(trial);
        let params = if trial.method.trains_base() { model.params() } else { extension.params() };
        let metadata = BTreeMap::from([("fingerprint".to_owned(), fingerprint.to_string())]);
        let path = folder.join(weights_name(&trial.method));
        params.save(&path, &metadata)?;
        let git = environment::CODE.map(str::to_owned);
        let training = TrainingRecord { fingerprint, git, weights: sha256_file(&path)?, summary };
        write_json(&folder.join(TRAINING), &training)?;
        Ok((training, (model, extension)))
    }

    /// With the weights and the record safe, the checkpoint is dead weight.
    pub(crate) fn remove_checkpoint(&self, trial: &Trial) {
        let _ = std::fs::remove_dir_all(self.folder(trial).join(CHECKPOINT));
    }

    /// What a trial trains, before its training.
    pub(crate) fn build(&self, trial: &Trial, file: &TrialFile) -> anyhow::Result<Extended> {
        let (model, below) = file.before(&self.folder(trial), self.loading())?;
        let seed = self.draws(trial);
        let own = neutral_adapters::build(&trial.method, &trial.size, &model, seed)?;
        Ok((model, own.upon(below)))
    }

    /// Empties the folder of a trial that was made from something else.
    ///
    /// A trial's folder belongs to its training: after an edit of what that is made from, its old checkpoint, metrics
    /// and weights mean nothing.
    fn clear_if_stale(&self, trial: &Trial) -> anyhow::Result<()> {
        let folder = self.folder(trial);
        let fingerprint = self.training_fingerprint(trial);
        let mark = folder.join(MARK);
        let other = mark.exists() && read_json::<Fingerprint>(&mark)? != fingerprint;
        if other || !self.stands(trial, &folder)? {
            tracing::info!(
                "{}: made from another spec, other data or another base, run anew",
                folder.display()
            );
            self.empty(trial)?;
        }
        Ok(write_json(&mark, &fingerprint)?)
    }

    /// Removes all that is in a trial's folder but its lock, which this process holds.
    pub(crate) fn empty(&self, trial: &Trial) -> Result<(), StoreError> {
        let folder = self.folder(trial);
        empty(&folder).map_err(|e| StoreError::io("empty", &folder, e))
    }

    /// The training alone. Of a group, every process calls it, and rank 0 alone writes.
    pub(crate) fn train(
        &self,
        trial: &Trial,
        model: &mut Transformer,
        extension: &mut Extension,
    ) -> anyhow::Result<TrainSummary> {
        let [original, new] = trial.data.mixed();
        let mix = MixConfig {
            original_fraction: trial.data.original_fraction,
            sequence_length: trial.training.sequence_length,
            seed: self.draws(trial),
        };
        let [original_shards, new_shards] = self.inputs.mixed(&trial.data)?;
        let stream = MixedStream::new(original_shards, new_shards, mix)?
            .weighted(Domain::Original, &MixedCorpus::weights(original))?
            .weighted(Domain::New, &MixedCorpus::weights(new))?
            .beginning_with(self.inputs.tokenizer.sequence_start());
        say_passes(trial, &stream);
        let folder = &self.folder(trial);
        let base = match trial.method {
            Method::KlToBase { .. } => Some(self.file(trial)?.before(folder, self.loading())?.0),
            _ => None,
        };
        group::announce(self.group, &Next::Trial(trial.id.clone()))?;
        let bar = progress::bar(self.bars, &trial.id);
        let outcome = train(TrainJob {
            model,
            extension,
            trained: trained(&trial.method),
            stream: &stream,
            spec: &trial.training,
            documents: trial.data.documents,
            local_loss: trial.method.local_loss(),
            anchor: anchor(&trial.method, base.as_ref()),
            fingerprint: self.training_fingerprint(trial),
            folder,
            checkpoint_every_steps: Some(self.plan.checkpoint_every_steps),
            stop: self.stop,
            progress: &bar,
            group: self.group,
        });
        bar.finish_and_clear();
        match outcome? {
            TrainOutcome::Finished(summary) => Ok(summary),
            TrainOutcome::Interrupted { .. } => Err(Interrupted.into()),
        }
    }

    pub(crate) fn folder(&self, trial: &Trial) -> PathBuf {
        self.out.join("trials").join(&trial.id)
    }
}

/// Removes all that is in a folder but its lock, which this process holds. The record goes first and what says from
/// what all was made last: what a kill leaves is no finished trial, and is known to be stale.
fn empty(folder: &Path) -> std::io::Result<()> {
    let mut entries = std::fs::read_dir(folder)?.collect::<Result<Vec<_>, _>>()?;
    entries.retain(|entry| entry.file_name() != ".lock");
    entries.sort_by_key(|entry| {
        let name = entry.file_name();
        (name == MARK || name == TRIAL_FILE, name != RECORD)
    });
    for entry in entries {
        if entry.file_type()?.is_dir() {
            std::fs::remove_dir_all(entry.path())?;
        } else {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// How often a training reads its text. Up to about four times text that is read again teaches nearly as much as new
/// text would (Muennighoff et al., *Scaling Data-Constrained Language Models*, 2023).
fn say_passes(trial: &Trial, stream: &MixedStream) {
    let sequences = trial.training.steps() * trial.training.batch_size as u64;
    let (original, new) = stream.passes(sequences);
    let id = &trial.id;
    let domain = |name: &str, corpora: &[MixedCorpus], passes: &[f64]| match passes {
        [all] => format!("its {name} text {all:.2} times"),
        each => {
            let each = MixedCorpus::corpora(corpora).zip(each);
            let each: Vec<_> = each.map(|(c, passes)| format!("{c} {passes:.2} times")).collect();
            each.join(", ")
        }
    };
    tracing::info!(
        "{id}: reads {}, {}",
        domain("original", &trial.data.original, &original),
        domain("new", &trial.data.new, &new)
    );
    if original.iter().chain(&new).any(|passes| *passes > 4.0) {
        tracing::warn!("{id}: the same text more than four times teaches less and less; add text");
    }
}

/// Which weights a method trains.
pub(crate) fn trained(method: &Method) -> Trained {
    if method.trains_base() { Trained::Base } else { Trained::Extension }
}

/// What holds the base that a method trains; `base` is another copy of it, for methods that ask it.
fn anchor<'a>(method: &Method, base: Option<&'a Transformer>) -> Anchor<'a> {
    match *method {
        Method::KlToBase { weight } => {
            base.map_or(Anchor::None, |base| Anchor::Kl { weight, base })
        }
        Method::L2Sp { weight } => Anchor::L2Sp { weight },
        Method::Ewc { weight, fisher_sequences } => Anchor::Ewc { weight, fisher_sequences },
        // Each is named, so that whoever adds a method is asked.
        Method::Finetune {}
        | Method::WiseFt { .. }
        | Method::Lora { .. }
        | Method::Dora { .. }
        | Method::Adapter { .. }
        | Method::NeutralResidues { .. }
        | Method::BlockExpansion { .. } => Anchor::None,
    }
}
