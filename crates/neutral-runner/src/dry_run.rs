//! `--dry-run`: what a run would do and cost.

use std::io::Write;
use std::time::Duration;

use neutral_report::thousands;
use neutral_spec::{
    BaseSpec, CostEstimate, Evaluation, Method, ModelSize, Plan, TasksSpec, TokenizerSpec, Trial,
    extension_size, training_cost,
};
use neutral_torch::kind_of;
use tch::Device;

use crate::inputs;
use crate::speed::matmul_flops_per_second;

/// Share of the machine's matrix-product rate that a training step reaches, by the operations that
/// neutral-spec counts: 0.75 to 0.95 with `neutral bench step` at the shapes of `docs/performance.md`.
const TYPICAL_EFFICIENCY: f64 = 0.8;

/// Prints the plan: trials, weights, tokens, and estimates of FLOPs, memory and time.
pub(crate) fn print(plan: &Plan, model: &ModelSize, device: Device) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    let rate = matmul_flops_per_second(kind_of(plan.precision), device) * TYPICAL_EFFICIENCY;
    writeln!(out, "{}: {}", plan.experiment, plan.question)?;
    writeln!(
        out,
        "plan {}, {} trials, {}",
        plan.fingerprint(),
        plan.trials.len(),
        plan.precision.name()
    )?;
    if let TokenizerSpec::Train { vocab_size, .. } = plan.tokenizer {
        writeln!(out, "tokenizer: byte-level BPE of {vocab_size} tokens, trained")?;
    }
    let corpora: Vec<_> = plan.corpora().iter().map(ToString::to_string).collect();
    writeln!(out, "corpora: {}", corpora.join(", "))?;
    if let Some(control) = &plan.control {
        writeln!(out, "control: {control}")?;
    }
    let Evaluation { original, new, split, max_bytes, .. } = &plan.evaluation;
    let text = max_bytes.map_or_else(
        || "all of it, which `max_bytes` would bound".to_owned(),
        |bytes| format!("at most {} bytes of each", thousands(bytes)),
    );
    writeln!(
        out,
        "scored by the base and after every training: {} corpora, {} pages, {text}",
        original.len() + new.len(),
        inputs::scored(*split).name()
    )?;
    if let Some(TasksSpec { original, new, limit, .. }) = &plan.tasks {
        let names: Vec<_> = original.iter().chain(new).map(String::as_str).collect();
        let limit =
            limit.map_or_else(String::new, |limit| format!(", at most {limit} documents of each"));
        writeln!(out, "tasks: {}{limit}", names.join(", "))?;
    }
    if plan.neutrality_tokens > 0 {
        let tokens = thousands(plan.neutrality_tokens as u64);
        writeln!(out, "beside the base: {tokens} tokens of each corpus")?;
    }
    writeln!(out)?;
    let widest = plan.trials.iter().map(|t| t.id.len()).max().unwrap_or(0).max(16);
    writeln!(
        out,
        "{:widest$} {:>11} {:>11} {:>6} {:>11} {:>8} {:>9} {:>8}",
        "trial", "extension", "trainable", "units", "tokens", "PFLOP", "memory", "time"
    )?;
    let parameters = model.parameters;
    let mut total = 0.0;
    if let BaseSpec::Pretrain { training, .. } = &plan.base {
        let whole = extension_size(&Method::Finetune {}, model)?;
        let cost = training_cost(model, None, whole, training, 0.0, plan.precision);
        total = cost.flops;
        let weights = [0, parameters];
        line(&mut out, widest, "(base, unless cached)", weights, 0, &cost, rate)?;
    }
    for trial in &plan.trials {
        let Trial { method, size, training, data, .. } = trial;
        let p = data.original_fraction;
        let mut cost = training_cost(model, Some(method), *size, training, p, plan.precision);
        // Its training is that of the fine-tuning above it.
        let tuned = trial.as_fine_tuning().map(|tuned| tuned.fingerprint());
        let mut above = plan.trials.iter().take_while(|other| other.id != trial.id);
        if tuned.is_some_and(|tuned| above.any(|other| other.fingerprint() == tuned)) {
            cost.flops = 0.0;
        }
        total += cost.flops;
        let weights = [trial.size.extension_parameters, trial.size.trainable_parameters];
        line(&mut out, widest, &trial.id, weights, trial.size.units, &cost, rate)?;
    }
    writeln!(out)?;
    writeln!(
        out,
        "base: {parameters} weights; all trainings: {:.2} PFLOP, about {} here (evaluation and data not counted)",
        total / 1e15,
        duration(total / rate)
    )?;
    Ok(())
}

fn line(
    out: &mut impl Write,
    widest: usize,
    name: &str,
    [extension, trainable]: [u64; 2],
    units: usize,
    cost: &CostEstimate,
    rate: f64,
) -> std::io::Result<()> {
    writeln!(
        out,
        "{name:widest$} {extension:>11} {trainable:>11} {units:>6} {:>11} {:>8.3} {:>6.0} MB {:>8}",
        cost.tokens,
        cost.flops / 1e15,
        cost.memory_bytes as f64 / 1e6,
        duration(cost.flops / rate)
    )
}

fn duration(seconds: f64) -> String {
    let duration = Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX);
    indicatif::HumanDuration(duration).to_string()
}
