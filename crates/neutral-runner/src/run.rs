//! The order of a run: parse, plan, and then here, in one unit, or by an executor: data, base, trials, results.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use indicatif::{MultiProgress, ProgressDrawTarget};
use neutral_data::{Control, Tokenizer};
use neutral_model::ModelFolder;
use neutral_spec::{
    BaseSpec, Experiment, Loaded, LocalLossSpec, Method, ModelSize, Plan, SpecError, TokenizerSpec,
    Trial, model_size, resolve,
};
use neutral_store::{Cache, StoreError};

use crate::cli::RunArgs;
use crate::exit::BadInput;
use crate::group::rendezvous::Place;
use crate::group::{self, follow};
use crate::run_file::RunFile;
use crate::session::Setting;
use crate::{dry_run, executor, inputs, model_source, names, signals};

/// `neutral run`.
pub(crate) fn run(args: &RunArgs, bars: &MultiProgress) -> anyhow::Result<()> {
    let here = args.experiment.parent().unwrap_or(Path::new("."));
    let text = std::fs::read_to_string(&args.experiment)
        .map_err(|e| SpecError::from(StoreError::io("read", &args.experiment, e)))?;
    let experiment = Experiment::from_yaml(&text, &args.experiment)?;
    // Used when the base is there, which may take hours.
    for other in &args.reuse {
        RunFile::read(other)?;
    }
    let executor = match args.only {
        Some(_) => None,
        None => executor::choose(&args.executor, experiment.executor.as_ref(), args.machine)?,
    };
    // The host that jobs are submitted from may lack what they compute on.
    let elsewhere = executor.as_ref().is_some_and(|executor| executor.is_elsewhere());
    let place = Place::of_process()?;
    if let Some(place) = &place {
        group::check(args, executor.is_some())?;
        if place.meeting.rank > 0 {
            bars.set_draw_target(ProgressDrawTarget::hidden());
        }
    }
    let local_rank = place.as_ref().map(|place| place.local_rank);
    let device = if elsewhere && !args.dry_run {
        tch::Device::Cpu
    } else {
        args.machine.open_as(local_rank)?
    };
    let stop = if args.only.is_some() || place.is_some() {
        signals::stop_flag_of_unit()?
    } else {
        signals::stop_flag()?
    };
    executor::end_with_parent()?;
    let control = Control::new(bars.clone(), Arc::clone(&stop));
    let cache = Cache::from_env()?;
    let manifests = inputs::manifests(&args.manifests, here)?;
    names::check(&experiment, &manifests, &args.experiment, &text)?;
    let Resolved { plan, model, folder } = resolved(&experiment, &text, args, &cache, &control)?;
    if let Some(place) = &place {
        group::fits(&plan, place.meeting.size)?;
    }
    if args.only.is_none() {
        warn_of_rare_original(&plan);
    }
    if args.dry_run {
        return dry_run::print(&plan, &model, device);
    }
    if args.plan.as_ref().is_some_and(|submitted| executor::form(&plan).as_str() != submitted) {
        let message = format!(
            "{} has changed since its jobs were submitted; cancel them and run it again",
            args.experiment.display()
        );
        return Err(BadInput(message).into());
    }
    let out = args.out.clone().unwrap_or_else(|| PathBuf::from("runs").join(&plan.experiment));
    if let Some(executor) = executor {
        return executor.run(&executor::Work { args, plan: &plan, out: &out, stop: &stop, bars });
    }
    let group = place.map(|place| place.connect(device)).transpose()?;
    let setting = Setting {
        args,
        plan: &plan,
        here,
        out: &out,
        manifests: &manifests,
        cache: &cache,
        device,
        stop: &stop,
        bars,
        group: group.as_ref(),
    };
    if let Some(group) = &group
        && group.rank() > 0
    {
        return follow::run(&setting, folder, group);
    }
    let done = match &args.only {
        Some(unit) => setting.unit(unit, folder),
        None => setting.whole(folder),
    };
    if let Some(group) = &group {
        group::end(group, &done);
    }
    done
}

/// Local losses and the KL to the base are of original text, a mean over that of the step: where most steps have none,
/// they act in few, and an α means less than it does at a larger share.
fn warn_of_rare_original(plan: &Plan) {
    let sequences = |trial: &Trial| {
        let held = matches!(trial.method, Method::KlToBase { .. })
            || trial.method.local_loss() != LocalLossSpec::None {};
        let a_step = trial.data.original_fraction * trial.training.batch_size as f64;
        (held && a_step > 0.0 && a_step < 1.0).then_some(a_step)
    };
    let rare: Vec<_> = plan.trials.iter().filter_map(|t| Some((sequences(t)?, &t.id))).collect();
    if let Some((a_step, id)) = rare.iter().min_by(|a, b| a.0.total_cmp(&b.0)) {
        tracing::warn!(
            "{} trials have less than a sequence of original text a step: {id} sees any in {:.0} % of its steps alone, so that the weight of the loss on it counts for as much less; a larger `batch_size` or `original_fraction` has it act in each",
            rare.len(),
            100.0 * a_step
        );
    }
}

/// An experiment, and what it says must be loaded before it means anything.
struct Resolved {
    plan: Plan,
    model: ModelSize,
    /// The base's, if it is loaded and not pretrained.
    folder: Option<ModelFolder>,
}

fn resolved(
    experiment: &Experiment,
    text: &str,
    args: &RunArgs,
    cache: &Cache,
    control: &Control,
) -> anyhow::Result<Resolved> {
    let file = &args.experiment;
    let here = file.parent().unwrap_or(Path::new("."));
    let folder = match &experiment.base {
        BaseSpec::Pretrain { .. } => None,
        BaseSpec::Load { source } => {
            let open =
                if args.dry_run { model_source::open_description } else { model_source::open };
            let opened = open(source, here, cache, control);
            let place = || format!("{}: base.source", file.display());
            Some(opened.with_context(place)?)
        }
    };
    let vocab_size = match &experiment.tokenizer {
        TokenizerSpec::Train { vocab_size, .. } => Some(*vocab_size),
        TokenizerSpec::Load { path } => {
            let path = here.join(path);
            let tokenizer = Tokenizer::load(&path)?;
            let tokens = tokenizer.vocab_size();
            if let Some(folder) = &folder {
                model_source::knows(folder, &path, &tokenizer)?;
                model_source::has_no_other(folder, &path, &tokenizer)?;
            }
            Some(tokens)
        }
        TokenizerSpec::Base { .. } => None,
    };
    let base = folder.as_ref().map(|folder| folder.config().size());
    let loaded = Loaded { vocab_size, base };
    let plan = resolve(experiment, loaded).map_err(|e| e.located(file, text))?;
    if let Some(folder) = &folder {
        model_source::warn_of_context(folder, &plan);
    }
    let model =
        model_size(experiment, loaded).ok_or_else(|| anyhow::anyhow!("a plan without a model"))?;
    Ok(Resolved { plan, model, folder })
}
