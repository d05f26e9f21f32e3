//! The loop: batch, gradients, clip, update, log, checkpoint, and again.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use indicatif::ProgressBar;
use neutral_data::MixedStream;
use neutral_model::{Attention, Extension, Transformer};
use neutral_spec::{DocumentPolicy, LocalLossSpec, TrainingSpec};
use neutral_store::Fingerprint;
use neutral_torch::{Group, ParamStore, peak_rss_bytes};
use tch::Tensor;

use crate::anchor::fisher::FisherText;
use crate::anchor::quadratic::Quadratic;
use crate::checkpoint::{self, TrainState};
use crate::metrics::StepRecord;
use crate::optimizer::AdamW;
use crate::ranks::Ranks;
use crate::records::Records;
use crate::step::{StepSettings, gradients};
use crate::watch::GradientWatch;
use crate::{Anchor, TrainError, TrainOutcome, TrainSummary, clip, local_loss, schedule};

/// Whose weights are trained; the others are frozen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trained {
    /// Every weight of the base: pretraining and fine-tuning.
    Base,
    /// The extension's weights alone.
    Extension,
}

/// Everything that a training needs.
#[derive(Debug)]
pub struct TrainJob<'a> {
    /// The base.
    pub model: &'a mut Transformer,
    /// What is added to it; without weights of its own if the base is trained.
    pub extension: &'a mut Extension,
    /// Which of the two is trained.
    pub trained: Trained,
    /// The text.
    pub stream: &'a MixedStream,
    /// How it is trained.
    pub spec: &'a TrainingSpec,
    /// What attention does at document boundaries.
    pub documents: DocumentPolicy,
    /// The loss added to the language model's.
    pub local_loss: LocalLossSpec,
    /// What holds the base that trains, whose weights are taken to be the base's when [`train`] is called.
    pub anchor: Anchor<'a>,
    /// Of everything that determines the result; a checkpoint with another one is refused.
    pub fingerprint: Fingerprint,
    /// Gets `metrics.jsonl`, `tensorboard/` and `checkpoint/`.
    pub folder: &'a Path,
    /// Steps between checkpoints, besides those at the end and on a stop; none means none at all.
    pub checkpoint_every_steps: Option<u64>,
    /// Set by a signal handler to make the training checkpoint and leave after the current step.
    pub stop: &'a AtomicBool,
    /// Shows steps, loss and speed.
    pub progress: &'a ProgressBar,
    /// The processes that share the training; none if it is this one's alone.
    pub group: Option<&'a Group>,
}

/// Trains until the spec's tokens are seen or a stop is asked for, from a checkpoint if there is one.
///
/// The weights end up in `job.model` or `job.extension`. A checkpoint of the last step stays in the
/// folder, so that calling again returns at once (but for EWC's Fisher information, which is summed anew). Of a group
/// all processes call this and get the weights; rank 0 alone reads and writes files, and a stop that one of them is
/// asked for is everybody's.
///
/// # Errors
/// See [`TrainError`]; `metrics.jsonl` then holds everything up to the failed step. A process of the group that
/// is gone, or does not come in time, is [`neutral_torch::TorchError::Distributed`].
pub fn train(job: TrainJob<'_>) -> Result<TrainOutcome, TrainError> {
    let stop = job.stop;
    train_until(job, |_| stop.load(Ordering::Relaxed))
}

/// As [`train`], asked after each step whether to stop; in a group before the step, of which all then know.
pub(crate) fn train_until(
    job: TrainJob<'_>,
    stop_after: impl Fn(u64) -> bool,
) -> Result<TrainOutcome, TrainError> {
    check(&job)?;
    match job.trained {
        Trained::Base => job.model.make_trainable(),
        Trained::Extension => {
            job.model.freeze();
            job.extension.params_mut().set_trainable(true);
            let free = job.model.params().iter().find(|(_, tensor)| tensor.requires_grad());
            if let Some((name, _)) = free {
                return Err(TrainError::BaseNotFrozen { tensor: name.to_owned() });
            }
        }
    }
    match Loop::start(job) {
        Ok(ready) => ready.run(stop_after),
        // What came before the first step is done again.
        Err(TrainError::Stopped) => Ok(TrainOutcome::Interrupted { step: 0 }),
        Err(error) => Err(error),
    }
}

fn check(job: &TrainJob<'_>) -> Result<(), TrainError> {
    let spec = job.spec;
    let numbers = [
        ("tokens", spec.tokens),
        ("sequence_length", spec.sequence_length as u64),
        ("batch_size", spec.batch_size as u64),
        ("micro_batch_size", spec.micro_batch_size.unwrap_or(1) as u64),
    ];
    if let Some((field, _)) = numbers.into_iter().find(|&(_, n)| n == 0) {
        return Err(TrainError::Spec { field, value: "0".to_owned(), problem: "write at least 1" });
    }
    if spec.sequence_length != job.stream.sequence_length() {
        return Err(TrainError::Spec {
            field: "sequence_length",
            value: spec.sequence_length.to_string(),
            problem: "the data stream was made with another one",
        });
    }
    if job.group.is_some_and(|group| spec.batch_size < group.size()) {
        return Err(TrainError::Spec {
            field: "batch_size",
            value: spec.batch_size.to_string(),
            problem: "every process needs a sequence of a step; raise it, or start fewer processes",
        });
    }
    match (job.trained, job.local_loss.kind()) {
        (Trained::Base, Some(kind)) => {
            Err(TrainError::LocalLoss { kind, reason: "the base is trained, without an extension" })
        }
        (Trained::Base, None) if !job.extension.params().is_empty() => {
            Err(TrainError::ExtensionOnTrainedBase)
        }
        (Trained::Extension, _) if !matches!(job.anchor, Anchor::None) => {
            Err(TrainError::AnchoredExtension)
        }
        (Trained::Extension, _) if job.extension.params().is_empty() => {
            Err(TrainError::NothingToTrain)
        }
        _ => Ok(()),
    }
}

/// The weights that the optimizer is given, and no others.
fn trained_params<'j>(job: &'j TrainJob<'_>) -> &'j ParamStore {
    match job.trained {
        Trained::Base => job.model.params(),
        Trained::Extension => job.extension.params(),
    }
}

/// The loop's parts, all set up and restored.
struct Loop<'a> {
    job: TrainJob<'a>,
    optimizer: AdamW,
    settings: StepSettings<'a>,
    penalty: Option<Quadratic>,
    state: TrainState,
    ranks: Option<Ranks<'a>>,
    /// None on ranks other than 0.
    records: Option<Records<'a>>,
    steps: u64,
}

impl<'a> Loop<'a> {
    fn start(job: TrainJob<'a>) -> Result<Self, TrainError> {
        let attention = match job.documents {
            DocumentPolicy::AttendAcross => Attention::Causal,
            DocumentPolicy::AttendWithin => {
                Attention::WithinDocument { separator_id: i64::from(job.stream.separator_id()) }
            }
        };
        let settings = StepSettings {
            local_loss: job.local_loss,
            local_weight: 0.0,
            anchor: job.anchor,
            attention,
            micro_batch_size: job.spec.micro_batch_size.unwrap_or(job.spec.batch_size),
            stop: false,
        };
        let params = trained_params(&job);
        let ranks = job.group.and_then(|group| Ranks::new(group, job.trained, params));
        if let Some(ranks) = &ranks {
            ranks.agree(&[
                ("fingerprint", job.fingerprint.to_string()),
                ("interval between checkpoints", format!("{:?}", job.checkpoint_every_steps)),
                ("base to start from", job.model.params().digest()),
                ("extension to start from", job.extension.params().digest()),
            ])?;
        }
        // Before a checkpoint: the weights are still the base's.
        let text = FisherText { stream: job.stream, settings, stop: job.stop };
        let penalty =
            job.anchor.penalty(job.model, job.extension, params, &text, ranks.as_ref())?;
        let keeps = |tensor| ranks.as_ref().is_none_or(|ranks| ranks.keeps(tensor));
        let mut optimizer = AdamW::of(params, job.spec, keeps);
        let path = checkpoint::path(job.folder);
        let restored = match &ranks {
            Some(ranks) => ranks.restore(&path, &job.fingerprint, params, &optimizer)?,
            None => checkpoint::restore(&path, &job.fingerprint, params, optimizer.moments())?,
        };
        let state = restored.unwrap_or_else(|| TrainState {
            gradients: GradientWatch::new(params.iter().map(|(name, _)| name)),
            ..TrainState::default()
        });
        optimizer.set_steps(state.step);
        if state.step > 0 {
            tracing::info!(step = state.step, "training goes on from its checkpoint");
        }
        let steps = job.spec.steps();
        let writes = ranks.as_ref().is_none_or(Ranks::leads);
        let open = || Records::open(job.folder, job.progress, state.step, steps);
        let records = writes.then(open).transpose()?;
        Ok(Self { job, optimizer, settings, penalty, state, ranks, records, steps })
    }

    fn run(mut self, stop_after: impl Fn(u64) -> bool) -> Result<TrainOutcome, TrainError> {
        while self.state.step < self.steps {
            self.settings.stop = self.ranks.is_some() && stop_after(self.state.step + 1);
            let agreed = match self.step() {
                Ok(stop) => stop,
                Err(error) => {
                    // The record of what went wrong is worth more than the state it went wrong in.
                    if let Err(lost) = self.flush() {
                        tracing::warn!("{lost}");
                    }
                    return Err(error);
                }
            };
            let step = self.state.step;
            let asked = if self.ranks.is_some() { agreed } else { stop_after(step) };
            let stop = asked && step < self.steps;
            let due = |every| stop || step == self.steps || step.is_multiple_of(every);
            if self.job.checkpoint_every_steps.is_some_and(due) {
                self.checkpoint()?;
            }
            if stop {
                self.flush()?;
                return Ok(TrainOutcome::Interrupted { step });
            }
        }
        self.flush()?;
        Ok(TrainOutcome::Finished(self.summary()))
    }

    /// One optimizer step and its records; whether a process of a group asks for a stop after it.
    fn step(&mut self) -> Result<bool, TrainError> {
        let started = Instant::now();
        let spec = self.job.spec;
        let index = self.state.step;
        let step = index + 1;
        let rate = schedule::learning_rate(&spec.schedule, spec.learning_rate, self.steps, index);
        let first_sequence = index * spec.batch_size as u64;
        let batch = self.job.stream.batch(first_sequence, spec.batch_size);
        let vocab_size = self.job.model.config().vocab_size;
        let ids = batch.tokens.iter().chain(&batch.targets);
        if let Some(&token) = ids.max().filter(|&&token| token as usize >= vocab_size) {
            return Err(TrainError::UnknownToken { token, vocab_size });
        }
        let params = trained_params(&self.job);
        let parameters: Vec<(&str, &Tensor)> = params.iter().collect();
        let local_weight = local_loss::weight(&self.job.local_loss, self.steps, index);
        let settings = StepSettings { local_weight, ..self.settings };
        let ranks = self.ranks.as_ref();
        let (model, extension) = (&*self.job.model, &*self.job.extension);
        let mut output = gradients(model, extension, &parameters, &batch, &settings, ranks)?;
        let undefined = parameters.iter().zip(&output.gradients).find(|(_, g)| !g.defined());
        if let Some(((name, _), _)) = undefined {
            return Err(TrainError::NoGradient { tensor: (*name).to_owned(), step });
        }
        if let Some(penalty) = &self.penalty {
            output.losses.anchor = Some(penalty.add_to(params, &mut output.gradients));
        }
        let norms = clip::norms(&output.gradients);
        let gradient_norm = clip::global_norm(&norms);
        let losses = &output.losses;
        let mut record = StepRecord::new(step, step * spec.tokens_per_step(), rate, losses);
        record.gradient_norm = Some(gradient_norm).filter(|norm| norm.is_finite());

        let warmup = schedule::warmup_steps(&spec.schedule, self.steps);
        let healthy =
            self.state.loss.observe(step, warmup, losses.total, gradient_norm).and_then(|()| {
                let norms = parameters.iter().map(|(name, _)| *name).zip(norms);
                self.state.gradients.observe(step, self.steps, norms, &losses.gated_blocks)
            });
        if healthy.is_ok() {
            let scale = clip::scale(gradient_norm, spec.gradient_clip);
            self.optimizer.step(params, &output.gradients, scale, rate);
            if let Some(ranks) = ranks {
                ranks.share_weights(params)?;
            }
            self.state.step = step;
        }
        let seconds = started.elapsed().as_secs_f64();
        self.state.elapsed_seconds += seconds;
        record.tokens_per_second = spec.tokens_per_step() as f64 / seconds;
        record.peak_rss_bytes = peak_rss_bytes();
        record.exchange = ranks.map(Ranks::exchange);
        if let Some(records) = &mut self.records {
            records.add(&record, self.state.loss.mean())?;
        }
        healthy.map(|()| output.stop)
    }

    fn flush(&mut self) -> Result<(), TrainError> {
        self.records.as_mut().map_or(Ok(()), Records::flush)
    }

    fn checkpoint(&mut self) -> Result<(), TrainError> {
        // The log first: a checkpoint must never be ahead of it.
        self.flush()?;
        let path = checkpoint::path(self.job.folder);
        let (params, fingerprint) = (trained_params(&self.job), &self.job.fingerprint);
        match &self.ranks {
            Some(ranks) => ranks.save(&path, fingerprint, params, &self.optimizer, &self.state),
            None => {
                checkpoint::save(&path, fingerprint, params, self.optimizer.moments(), &self.state)
            }
        }
    }

    fn summary(&self) -> TrainSummary {
        let tokens = self.steps * self.job.spec.tokens_per_step();
        TrainSummary {
            steps: self.steps,
            tokens,
            elapsed_seconds: self.state.elapsed_seconds,
            tokens_per_second: tokens as f64 / self.state.elapsed_seconds,
            peak_rss_bytes: peak_rss_bytes(),
            final_loss_nats_per_token: self.state.loss.mean(),
        }
    }
}
