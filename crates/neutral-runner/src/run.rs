//! The order of a run: parse, plan, data, base, trials, results.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use indicatif::MultiProgress;
use neutral_check::AllAnswers;
use neutral_data::{Control, Tokenizer};
use neutral_model::ModelFolder;
use neutral_spec::{
    BaseSpec, Experiment, Loaded, ModelSize, Plan, SpecError, TokenizerSpec, Trial, model_size,
    resolve,
};
use neutral_store::{Cache, Lock, StoreError, write_json};

use crate::cli::RunArgs;
use crate::environment;
use crate::exit::Interrupted;
use crate::inputs::{self, Inputs};
use crate::results::ResultsBuilder;
use crate::scores::Scorer;
use crate::tasks::{TaskScores, Tasks};
use crate::trial::{Shared, TrialRecord};
use crate::{base, base_file, dry_run, exit, model_source, signals};

/// `neutral run`.
pub(crate) fn run(args: &RunArgs, bars: &MultiProgress) -> anyhow::Result<()> {
    let here = args.experiment.parent().unwrap_or(Path::new("."));
    let device = args.machine.open()?;
    let stop = signals::stop_flag()?;
    let control = Control::new(bars.clone(), Arc::clone(&stop));
    let cache = Cache::from_env();
    let Resolved { plan, model, folder } = resolved(&args.experiment, here, &cache, &control)?;
    let manifests = inputs::manifests(args.manifests.as_deref(), here)?;
    for corpus in plan.corpora() {
        manifests.check(&corpus)?;
    }
    if args.dry_run {
        return dry_run::print(&plan, &model, device);
    }

    let out = args.out.clone().unwrap_or_else(|| PathBuf::from("runs").join(&plan.experiment));
    let _lock = Lock::acquire(&out)?;
    let tasks = plan
        .tasks
        .as_ref()
        .map(|spec| Tasks::prepare(spec, here, args.manifests.as_deref(), &cache, &control));
    let tasks = tasks.transpose()?;
    let inputs = Inputs::prepare(&plan, here, folder.as_ref(), &manifests, &cache, &control)?;
    let base = base::prepare(&plan, &inputs, folder, &cache, device, &stop, bars)?;
    let scorer = Scorer {
        evaluation: &plan.evaluation,
        inputs: &inputs,
        device,
        tokens_per_batch: args.score_tokens,
        stop: &stop,
        bars,
    };
    let base_scores = base::scores(&base, &scorer, &cache)?;
    let shared = Shared {
        plan: &plan,
        inputs: &inputs,
        base: &base,
        tasks: tasks.as_ref(),
        scorer,
        device,
        out: &out,
        stop: &stop,
        bars,
    };
    let environment = environment::describe(device, plan.precision);
    let (base_tasks, answers) = match shared.base_tasks()? {
        Some(TaskScores { scores, answers }) => (Some(scores), answers),
        None => (None, AllAnswers::default()),
    };
    let base_file = base_file::describe(&plan, &inputs, &base, &base_scores, answers);
    write_json(&out.join("base.json"), &base_file)?;
    let mut results = ResultsBuilder::new(&shared, environment, &base_scores, base_tasks);
    let mut interrupted = false;
    for trial in &plan.trials {
        if let Some(record) = shared.finished(trial)? {
            tracing::info!("{}: finished earlier, kept", trial.id);
            add(&mut results, &shared, trial, &record, &mut interrupted)?;
            continue;
        }
        if interrupted {
            results.interrupted(trial);
            continue;
        }
        match shared.run(trial) {
            Ok(record) => {
                tracing::info!(
                    "{}: {:.0} tokens/s, {:.0} s",
                    trial.id,
                    record.training.tokens_per_second,
                    record.training.elapsed_seconds
                );
                add(&mut results, &shared, trial, &record, &mut interrupted)?;
            }
            Err(error) if exit::is_interrupted(&error) => {
                interrupted = true;
                results.interrupted(trial);
            }
            Err(error) => {
                tracing::error!("{}: {error:#}", trial.id);
                results.failed(trial, &error);
            }
        }
        neutral_report::write_all(results.current(), &out)?;
    }
    neutral_report::write_all(results.current(), &out)?;
    results.print(&out)?;
    if interrupted {
        return Err(Interrupted.into());
    }
    match results.failures() {
        0 => Ok(()),
        n => anyhow::bail!(
            "{n} of {} trials failed; their errors stand in {}",
            plan.trials.len(),
            out.join("results.json").display()
        ),
    }
}

/// Adds a finished trial, with what is measured of its weights.
fn add(
    results: &mut ResultsBuilder,
    shared: &Shared,
    trial: &Trial,
    record: &TrialRecord,
    interrupted: &mut bool,
) -> anyhow::Result<()> {
    let against_base = shared.against_base(trial, interrupted)?;
    let tasks = shared.trial_tasks(trial, interrupted)?;
    results.finished(trial, record, against_base, tasks);
    Ok(())
}

/// An experiment file, and what it says must be loaded before it means anything.
struct Resolved {
    plan: Plan,
    model: ModelSize,
    /// The base's, if it is loaded and not pretrained.
    folder: Option<ModelFolder>,
}

fn resolved(
    file: &Path,
    here: &Path,
    cache: &Cache,
    control: &Control,
) -> anyhow::Result<Resolved> {
    let text = std::fs::read_to_string(file)
        .map_err(|e| SpecError::from(StoreError::io("read", file, e)))?;
    let experiment = Experiment::from_yaml(&text, file)?;
    let folder = match &experiment.base {
        BaseSpec::Pretrain { .. } => None,
        BaseSpec::Load { source } => Some(model_source::open(source, here, cache, control)?),
    };
    let vocab_size = match &experiment.tokenizer {
        TokenizerSpec::Train { vocab_size, .. } => Some(*vocab_size),
        TokenizerSpec::Load { path } => Some(Tokenizer::load(&here.join(path))?.vocab_size()),
        TokenizerSpec::Base {} => None,
    };
    let base = folder.as_ref().map(|folder| folder.config().size());
    let loaded = Loaded { vocab_size, base };
    let plan = resolve(&experiment, loaded).map_err(|e| e.located(file, &text))?;
    let model =
        model_size(&experiment, loaded).ok_or_else(|| anyhow::anyhow!("a plan without a model"))?;
    Ok(Resolved { plan, model, folder })
}
