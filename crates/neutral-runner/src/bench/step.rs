//! `neutral bench step`: how fast the training step is that `run` uses, and nothing else.
//!
//! A training of random tokens runs through [`neutral_train::train`], and its own `metrics.jsonl`
//! says how long each step took: batch, forward, backward, clipping, optimizer. Keys of the JSON
//! lines are those of common PyTorch step benchmarks, so that the two can be laid side by side.

use std::io::Write;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use indicatif::ProgressBar;
use neutral_data::{MixConfig, MixedStream, TokenShards};
use neutral_model::Transformer;
use neutral_spec::{DocumentPolicy, Schedule, TrainingSpec, extension_size};
use neutral_store::Fingerprint;
use neutral_torch::peak_rss_bytes;
use neutral_train::metrics::{StepRecord, median};
use neutral_train::{Anchor, TrainJob, train};
use serde::Serialize;

use super::{BenchShape, method_of};
use crate::cli::BenchStepArgs;
use crate::trial::trained;

/// One line of the result.
#[derive(Debug, Serialize)]
struct StepTiming {
    peer: &'static str,
    method: String,
    shape: String,
    batch: usize,
    seq: usize,
    corpus_tokens: usize,
    dtype: &'static str,
    threads: usize,
    trainable: u64,
    total: u64,
    /// At the median of the timed steps.
    tokens_per_s: f64,
    /// At the fastest one.
    best: f64,
    /// Nats a token in the last step.
    loss: f64,
    /// Of this process so far; time one method at a time to compare it.
    peak_rss_mib: u64,
}

/// Times every method and prints it.
pub(crate) fn run(args: &BenchStepArgs) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    if !args.json {
        writeln!(
            out,
            "{:18} {:>11} {:>11} {:>10} {:>10} {:>8} {:>9}",
            "method", "trainable", "total", "tokens/s", "best", "loss", "peak MiB"
        )?;
    }
    for method in &args.method {
        let timing = time(args, method)?;
        if args.json {
            writeln!(out, "{}", serde_json::to_string(&timing)?)?;
            continue;
        }
        let StepTiming { method, trainable, total, tokens_per_s, best, loss, peak_rss_mib, .. } =
            timing;
        writeln!(
            out,
            "{method:18} {trainable:>11} {total:>11} {tokens_per_s:>10.1} {best:>10.1} {loss:>8.4} {peak_rss_mib:>9}"
        )?;
    }
    Ok(())
}

fn time(args: &BenchStepArgs, method: &str) -> anyhow::Result<StepTiming> {
    let device = args.machine.open()?;
    let spec = method_of(method, args.budget)?;
    let BenchShape { name, config } = &args.shape;
    let size = extension_size(&spec, &config.size())?;
    let mut model = Transformer::new(config.clone(), 0, device, args.precision)?;
    let mut extension = neutral_adapters::build(&spec, &size, &model, 0)?;
    let folder = tempfile::tempdir()?;
    let training = training(args);
    train(TrainJob {
        model: &mut model,
        extension: &mut extension,
        trained: trained(&spec),
        stream: &random_stream(args, config.vocab_size, folder.path())?,
        spec: &training,
        documents: DocumentPolicy::AttendAcross,
        local_loss: spec.local_loss(),
        anchor: Anchor::None,
        fingerprint: Fingerprint::of(&method),
        folder: folder.path(),
        checkpoint_every_steps: None,
        stop: &AtomicBool::new(false),
        progress: &ProgressBar::hidden(),
        group: None,
    })?;
    let text = std::fs::read_to_string(folder.path().join("metrics.jsonl"))?;
    let records: Vec<StepRecord> =
        text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let timed = records.iter().skip(args.warmup as usize);
    // Of times, as the peers take it.
    let times = timed.map(|r| training.tokens_per_step() as f64 / r.tokens_per_second);
    let rate = |seconds: f64| training.tokens_per_step() as f64 / seconds;
    Ok(StepTiming {
        peer: "neutral",
        method: method.to_owned(),
        shape: name.clone(),
        batch: args.batch,
        seq: args.seq,
        corpus_tokens: corpus_tokens(args),
        dtype: args.precision.name(),
        threads: neutral_torch::threads(),
        trainable: size.trainable_parameters,
        total: model.params().parameter_count() + size.extension_parameters,
        tokens_per_s: rate(median(times.clone())),
        best: rate(times.fold(f64::INFINITY, f64::min)),
        loss: records.last().and_then(|r| r.loss_nats_per_token).unwrap_or(f64::NAN),
        peak_rss_mib: peak_rss_bytes() >> 20,
    })
}

/// The same optimizer values for every method; only the time matters.
fn training(args: &BenchStepArgs) -> TrainingSpec {
    let steps = args.warmup + args.steps.max(1);
    TrainingSpec {
        tokens: steps * (args.batch * args.seq) as u64,
        sequence_length: args.seq,
        batch_size: args.batch,
        micro_batch_size: None,
        learning_rate: 2e-4,
        schedule: Schedule::Cosine { warmup_fraction: 0.0, final_fraction: 1.0 },
        weight_decay: 0.1,
        beta1: 0.9,
        beta2: 0.95,
        epsilon: 1e-8,
        gradient_clip: 1.0,
    }
}

fn corpus_tokens(args: &BenchStepArgs) -> usize {
    args.corpus_tokens.unwrap_or((args.batch * args.seq + 1) * 4)
}

/// Random tokens, a tenth of the sequences of a step original-domain, at least one.
fn random_stream(
    args: &BenchStepArgs,
    vocab_size: usize,
    folder: &Path,
) -> anyhow::Result<MixedStream> {
    let mut state = 1_u64;
    let mut token = || {
        // Knuth's multiplier; the upper bits are random enough to be no pattern.
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        ((state >> 33) % vocab_size as u64) as u32
    };
    let tokens: Vec<u32> = (0..corpus_tokens(args)).map(|_| token()).collect();
    let shard =
        TokenShards::from_tokens(&folder.join("tokens.bin"), &tokens, 0, vocab_size as u64)?;
    let original = (args.batch / 10).max(1) as f64 / args.batch as f64;
    let config = MixConfig { original_fraction: original, sequence_length: args.seq, seed: 0 };
    Ok(MixedStream::new(vec![shard.clone()], vec![shard], config)?)
}
