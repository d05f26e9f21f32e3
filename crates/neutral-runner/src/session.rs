//! A run with everything at hand that its trials share, and what may be done with it: all of it in this
//! process, or one unit, which other processes complete.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use indicatif::MultiProgress;
use neutral_check::AllAnswers;
use neutral_data::{Control, Manifests};
use neutral_model::ModelFolder;
use neutral_spec::{Plan, Trial};
use neutral_store::{Cache, Lock, StoreError, write_json};
use neutral_torch::Group;
use tch::Device;

use crate::base::{self, Base};
use crate::cli::RunArgs;
use crate::executor::{self, attempts};
use crate::exit::{BadInput, Interrupted, is_interrupted};
use crate::failure::{Failure, is_full_disk};
use crate::group;
use crate::inputs::Inputs;
use crate::pretrain::Pretraining;
use crate::results::ResultsBuilder;
use crate::reuse::Elsewhere;
use crate::run_file::{DeviceKind, RunFile};
use crate::scores::Scorer;
use crate::tasks::{TaskScores, Tasks};
use crate::trial::{ANSWERS, NEUTRALITY, RECORD, Shared, TrialRecord};
use crate::unit::Unit;
use crate::{base_file, environment, results};

/// What a process needs to know before it reads any text.
pub(crate) struct Setting<'a> {
    pub args: &'a RunArgs,
    pub plan: &'a Plan,
    /// The experiment's folder.
    pub here: &'a Path,
    /// The run's.
    pub out: &'a Path,
    pub manifests: &'a Manifests,
    pub cache: &'a Cache,
    pub device: Device,
    pub stop: &'a Arc<AtomicBool>,
    pub bars: &'a MultiProgress,
    /// The processes that train together, of which this one is.
    pub group: Option<&'a Group>,
}

/// What trials share.
pub(crate) struct Session<'a> {
    setting: &'a Setting<'a>,
    inputs: Inputs,
    base: Base,
    tasks: Option<Tasks>,
}

/// Who runs the trials that have not finished.
#[derive(Clone, Copy, PartialEq)]
enum Trials {
    /// This process.
    Here,
    /// Others have, so what is not there has failed or was stopped.
    Elsewhere,
}

impl Setting<'_> {
    /// The whole run.
    pub(crate) fn whole(&self, folder: Option<ModelFolder>) -> anyhow::Result<()> {
        let _lock = Lock::acquire(self.out)?;
        let _no_executor = executor::hold(self.out)?;
        executor::refuse_jobs(self.out)?;
        self.run_file().write(self.out)?;
        // Records may be made anew here, of another form of the experiment.
        executor::forget_judged(self.out);
        attempts::clear(self.out);
        let session = self.session(folder)?;
        session.go_through(Trials::Here)
    }

    /// One unit of it.
    pub(crate) fn unit(&self, unit: &Unit, folder: Option<ModelFolder>) -> anyhow::Result<()> {
        let prepared = self.run_file().check(self.out)?;
        if *unit != Unit::Prepare {
            self.run_file().check_unit(prepared, self.out)?;
        }
        match unit {
            Unit::Trial(id) => {
                let trial = self.trial(id)?;
                let session = self.session(folder)?;
                session.shared().unit(trial)
            }
            Unit::Prepare => {
                let _lock = Lock::acquire(self.out)?;
                self.run_file().write(self.out)?;
                let session = self.session(folder)?;
                let shared = session.shared();
                session.base_results(&shared)?;
                session.take_finished(&shared)?;
                for trial in &self.plan.trials {
                    shared.forget(trial)?;
                    // Or every trial's process would tokenise the same text.
                    let finished = shared.folder(trial).join(RECORD).exists();
                    if !finished && shared.trained(trial)?.is_none() {
                        session.inputs.mixed(&trial.data)?;
                    }
                }
                // What waited in vain has not been looked at.
                if self.stop.load(Ordering::SeqCst) {
                    return Err(Interrupted.into());
                }
                Ok(executor::write_judged(self.out, self.plan)?)
            }
            Unit::Collect => {
                let _lock = Lock::acquire(self.out)?;
                let session = self.session(folder)?;
                session.go_through(Trials::Elsewhere)
            }
        }
    }

    fn run_file(&self) -> RunFile {
        RunFile::new(self.plan, Some(DeviceKind::of(self.device)))
    }

    /// The trial of an id.
    pub(crate) fn trial(&self, id: &str) -> Result<&Trial, BadInput> {
        self.plan.trial(id).ok_or_else(|| {
            let all: Vec<_> = self.plan.trials.iter().map(|trial| trial.id.as_str()).collect();
            let all = all.join(", ");
            BadInput(format!("{} has no trial `{id}`; it has {all}", self.plan.experiment))
        })
    }

    fn session(&self, folder: Option<ModelFolder>) -> anyhow::Result<Session<'_>> {
        let Self { args, plan, here, cache, .. } = *self;
        let control = self.control();
        let tasks = plan
            .tasks
            .as_ref()
            .map(|spec| Tasks::prepare(spec, here, &args.manifests, cache, &control));
        let tasks = tasks.transpose()?;
        let inputs = self.inputs(folder.as_ref())?;
        let base = base::prepare(&self.pretraining(&inputs), folder)?;
        Ok(Session { setting: self, inputs, base, tasks })
    }

    /// The same of a process that follows another, which has prepared all of it.
    pub(crate) fn opened(
        &self,
        inputs: Inputs,
        folder: Option<ModelFolder>,
    ) -> anyhow::Result<Session<'_>> {
        let base = base::open(&self.pretraining(&inputs), folder)?;
        Ok(Session { setting: self, inputs, base, tasks: None })
    }

    /// The text.
    pub(crate) fn inputs(&self, folder: Option<&ModelFolder>) -> anyhow::Result<Inputs> {
        let Self { plan, here, manifests, cache, .. } = *self;
        Inputs::prepare(plan, here, folder, manifests, cache, &self.control())
    }

    /// How the base is made of it.
    pub(crate) fn pretraining<'a>(&'a self, inputs: &'a Inputs) -> Pretraining<'a> {
        let Self { plan, cache, device, stop, bars, group, .. } = *self;
        Pretraining { plan, inputs, cache, device, stop, bars, group }
    }

    fn control(&self) -> Control {
        Control::new(self.bars.clone(), Arc::clone(self.stop))
    }
}

impl Session<'_> {
    pub(crate) fn shared(&self) -> Shared<'_> {
        let Setting { args, plan, out, device, stop, bars, group, .. } = *self.setting;
        let scorer = Scorer {
            evaluation: &plan.evaluation,
            inputs: &self.inputs,
            tokens_per_batch: args.score_tokens,
            stop,
            bars,
        };
        let tasks = self.tasks.as_ref();
        Shared {
            plan,
            inputs: &self.inputs,
            base: &self.base,
            tasks,
            scorer,
            device,
            out,
            stop,
            bars,
            group,
        }
    }

    /// The pristine base's scores, and `base.json`: results without a trial yet.
    fn base_results(&self, shared: &Shared) -> anyhow::Result<ResultsBuilder> {
        let Setting { plan, out, cache, device, group, .. } = *self.setting;
        let scores = base::scores(shared, cache)?;
        let environment = environment::describe(device, plan.precision, group);
        let (tasks, answers) = match shared.base_tasks()? {
            Some(TaskScores { scores, answers }) => (Some(scores), answers),
            None => (None, AllAnswers::default()),
        };
        let base_file = base_file::describe(plan, &self.inputs, &self.base, &scores, answers);
        write_json(&out.join("base.json"), &base_file)?;
        ResultsBuilder::new(shared, environment, &scores, tasks)
    }

    /// What this run's folder has under other names, or the runs named by `--reuse` have, for the trials that have not
    /// finished.
    fn take_finished(&self, shared: &Shared) -> anyhow::Result<()> {
        let Setting { args, plan, out, .. } = *self.setting;
        let aside = shared.set_aside()?;
        let runs = std::iter::once(out).chain(args.reuse.iter().map(PathBuf::as_path));
        let elsewhere = Elsewhere::of(runs)?;
        plan.trials.iter().try_for_each(|trial| shared.take(trial, &elsewhere))?;
        // Who is asked to stop takes nothing any more.
        if !self.setting.stop.load(Ordering::SeqCst) {
            for folder in aside {
                std::fs::remove_dir_all(&folder)
                    .map_err(|e| StoreError::io("remove", &folder, e))?;
            }
        }
        Ok(())
    }

    /// All trials in the order of the plan, and the results.
    fn go_through(&self, trials: Trials) -> anyhow::Result<()> {
        let shared = self.shared();
        let Setting { plan, out, .. } = *self.setting;
        let mut results = self.base_results(&shared)?;
        let mut interrupted = self.setting.args.stopped;
        if trials == Trials::Here {
            self.take_finished(&shared)?;
        }
        for (done, trial) in (1..).zip(&plan.trials) {
            match trials {
                Trials::Here => {
                    shared.run_here(trial, &mut results, &mut interrupted)?;
                    neutral_report::write_all(&results.without(&plan.trials[done..]), out)?;
                }
                Trials::Elsewhere => shared.collect(trial, &mut results, &mut interrupted)?,
            }
        }
        neutral_report::write_all(results.current(), out)?;
        results::print(results.current(), out)?;
        if interrupted {
            return Err(Interrupted.into());
        }
        results::verdict(results.current(), plan, out)
    }
}

impl Shared<'_> {
    /// Runs a trial unless it is there, and adds what came out.
    fn run_here(
        &self,
        trial: &Trial,
        results: &mut ResultsBuilder,
        interrupted: &mut bool,
    ) -> anyhow::Result<()> {
        let lock = if *interrupted { None } else { self.hold(trial)? };
        *interrupted |= lock.is_none();
        if let Some(record) = self.finished(trial)? {
            tracing::info!("{}: finished earlier, kept", trial.id);
            return self.add(results, trial, &record, interrupted);
        }
        if *interrupted {
            results.interrupted(trial);
            return Ok(());
        }
        if let Some(failure) = self.failed_before(trial)? {
            tracing::error!("{}: {}", trial.id, failure.error);
            failure.keep(&self.folder(trial));
            results.failed(trial, failure);
            return Ok(());
        }
        match self.attempt(trial) {
            Ok(record) => {
                say_speed(trial, &record);
                self.add(results, trial, &record, interrupted)?;
            }
            Err(error) if is_interrupted(&error) => {
                *interrupted = true;
                results.interrupted(trial);
            }
            // Others are in the middle of that training, if they are there at all.
            Err(error) if self.group.is_some() && !group::is_shared(&error) => return Err(error),
            Err(error) if is_full_disk(&error) => return Err(error),
            Err(error) => results.failed(trial, Failure::new(self.fingerprint(trial), &error)),
        }
        Ok(())
    }

    /// Adds what another process made of a trial.
    fn collect(
        &self,
        trial: &Trial,
        results: &mut ResultsBuilder,
        interrupted: &mut bool,
    ) -> anyhow::Result<()> {
        if let Some(record) = self.finished(trial)? {
            return self.add(results, trial, &record, interrupted);
        }
        let fingerprint = self.fingerprint(trial);
        let kept = Failure::read(&self.folder(trial))?;
        let kept = kept.filter(|failure| failure.fingerprint == fingerprint);
        match kept.or_else(|| attempts::failure(self.out, &trial.id, &fingerprint)) {
            Some(failure) => results.failed(trial, failure),
            None => results.interrupted(trial),
        }
        Ok(())
    }

    /// Removes a record, a failure or what was measured that does not hold, so that whoever looks at files alone sees
    /// that the trial is to be run or measured.
    fn forget(&self, trial: &Trial) -> anyhow::Result<()> {
        let folder = self.folder(trial);
        let failure = Failure::read(&folder)?;
        if failure.is_some_and(|failure| failure.fingerprint != self.fingerprint(trial)) {
            Failure::clear(&folder);
        }
        let record = folder.join(RECORD);
        if !record.exists() {
            return Ok(());
        }
        // Not one that a process writes meanwhile.
        let Some(_lock) = self.hold(trial)? else { return Ok(()) };
        if self.finished(trial)?.is_none() {
            let _ = std::fs::remove_file(record);
        }
        // What cannot be read does not hold either.
        let beside = self.kept_beside(trial).ok().flatten();
        if self.plan.neutrality_tokens > 0 && beside.is_none() {
            let _ = std::fs::remove_file(folder.join(NEUTRALITY));
        }
        let tasks = self.kept_tasks(trial).ok().flatten();
        if self.tasks.is_some() && tasks.is_none() {
            let _ = std::fs::remove_file(folder.join(ANSWERS));
        }
        Ok(())
    }

    /// Adds a finished trial, with what is measured of its weights.
    fn add(
        &self,
        results: &mut ResultsBuilder,
        trial: &Trial,
        record: &TrialRecord,
        interrupted: &mut bool,
    ) -> anyhow::Result<()> {
        let against_base = self.against_base(trial, interrupted)?;
        let tasks = self.trial_tasks(trial, interrupted)?;
        let made_from = neutral_report::made_from(&self.folder(trial))?;
        results.finished(trial, record, made_from, against_base, tasks);
        Ok(())
    }

    /// Why a trial cannot begin, if what it goes on from has failed.
    pub(crate) fn failed_before(&self, trial: &Trial) -> anyhow::Result<Option<Failure>> {
        let Some(before) = self.before(trial) else { return Ok(None) };
        if self.finished(before)?.is_some() {
            return Ok(None);
        }
        let (folder, made_from) = (self.folder(before), self.fingerprint(before));
        let kept = Failure::read(&folder)?.filter(|failure| failure.fingerprint == made_from);
        Ok(kept.map(|failure| failure.of_next(&before.id, self.fingerprint(trial))))
    }
}

pub(crate) fn say_speed(trial: &Trial, TrialRecord { training, .. }: &TrialRecord) {
    tracing::info!(
        "{}: {:.0} tokens/s, {:.0} s",
        trial.id,
        training.tokens_per_second,
        training.elapsed_seconds
    );
}
