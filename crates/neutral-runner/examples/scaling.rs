//! Trains random tokens with several processes of this machine, as one JSON line: speed, what goes between the
//! processes, and how long it is waited for.
//!
//!     cargo run --release -p neutral-runner --example scaling -- --processes 2 --method neutral_residues
//!
//! `scripts/scaling-model --measure` runs it for the table of `docs/scaling.md`.

#![expect(clippy::print_stdout, reason = "a program whose output is a line of JSON")]

use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{Child, Command};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::Parser;
use indicatif::ProgressBar;
use neutral_adapters::build;
use neutral_data::{MixConfig, MixedStream, TokenShards};
use neutral_model::{Transformer, TransformerConfig};
use neutral_spec::{
    DocumentPolicy, Method, Precision, Schedule, Shape, TrainingSpec, extension_size,
};
use neutral_store::Fingerprint;
use neutral_torch::{Group, ParamStore, Rendezvous, peak_rss_bytes, set_threads};
use neutral_train::checkpoint::{self, TrainState};
use neutral_train::metrics::{StepRecord, median};
use neutral_train::optimizer::AdamW;
use neutral_train::{Anchor, TrainJob, Trained, train};
use serde_json::json;
use tch::{Device, Kind, Tensor};

/// Numbers of one reduction for each process where the whole is timed by itself: as in a bucket.
const PIECE: i64 = 1 << 18;
/// Steps that are not timed; the first also finds the order of gradients.
const WARMUP: usize = 2;
/// Batches of text that are timed.
const BATCHES: u64 = 50;

#[derive(Clone, Debug, Parser)]
struct Args {
    /// Processes that share the training.
    #[arg(long, default_value_t = 2)]
    processes: usize,
    /// Threads of each.
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// `tiny` or `smollm2-135m`.
    #[arg(long, default_value = "tiny")]
    shape: String,
    /// `finetune` or a kind of extension, which holds 20 % of the base's weights.
    #[arg(long, default_value = "neutral_residues")]
    method: String,
    /// Sequences a step, of all processes together.
    #[arg(long, default_value_t = 8)]
    batch: usize,
    /// Tokens of a sequence.
    #[arg(long, default_value_t = 512)]
    seq: usize,
    /// Steps that are timed.
    #[arg(long, default_value_t = 8)]
    steps: usize,
    /// `bf16` or `fp32`.
    #[arg(long, default_value = "bf16")]
    precision: String,
    /// Which process this is; they are started without it.
    #[arg(long, hide = true)]
    rank: Option<usize>,
    #[arg(long, hide = true, default_value_t = 0)]
    port: u16,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let Some(rank) = args.rank else { return start(&args) };
    set_threads(args.threads);
    let timeout = Duration::from_mins(5);
    let address = Ipv4Addr::LOCALHOST.to_string();
    let (size, port) = (args.processes, args.port);
    let meeting = Rendezvous { rank, size, address, port, timeout };
    let group = (size > 1).then(|| Group::connect(&meeting, Device::Cpu)).transpose()?;
    let line = measure(&args, group.as_ref())?;
    if rank == 0 {
        println!("{line}");
    }
    Ok(())
}

/// Starts the processes and waits for all of them.
fn start(args: &Args) -> anyhow::Result<()> {
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
    let program = std::env::current_exe()?;
    let one = |rank: usize| {
        Command::new(&program)
            .args(std::env::args_os().skip(1))
            .args([format!("--rank={rank}"), format!("--port={port}")])
            .env("OMP_NUM_THREADS", args.threads.to_string())
            .spawn()
    };
    let mut children: Vec<Child> = (0..args.processes).map(one).collect::<Result<_, _>>()?;
    for (rank, child) in children.iter_mut().enumerate() {
        let status = child.wait()?;
        ensure!(status.success(), "rank {rank}: {status}");
    }
    Ok(())
}

fn measure(args: &Args, group: Option<&Group>) -> anyhow::Result<serde_json::Value> {
    let precision: Precision = serde_json::from_value(json!(args.precision))?;
    let method: Method = serde_json::from_value(match args.method.as_str() {
        "finetune" => json!({ "kind": "finetune" }),
        kind => json!({ "kind": kind, "budget": "20%" }),
    })?;
    let config = config(&args.shape)?;
    let size = extension_size(&method, &config.size())?;
    let mut model = Transformer::new(config.clone(), 0, Device::Cpu, precision)?;
    let mut extension = build(&method, &size, &model, 0)?;
    let folder = tempfile::tempdir()?;
    let stream = random_stream(args, config.vocab_size, folder.path())?;
    let spec = training(args);
    let before = loopback_bytes(group)?;
    train(TrainJob {
        model: &mut model,
        extension: &mut extension,
        trained: if method.trains_base() { Trained::Base } else { Trained::Extension },
        stream: &stream,
        spec: &spec,
        documents: DocumentPolicy::AttendAcross,
        local_loss: method.local_loss(),
        anchor: Anchor::None,
        fingerprint: Fingerprint::of(&args.method),
        folder: folder.path(),
        checkpoint_every_steps: None,
        stop: &AtomicBool::new(false),
        progress: &ProgressBar::hidden(),
        group,
    })?;
    let moved = loopback_bytes(group)? - before;
    let reduce_seconds = group.map(|group| reduction(group, 4 * size.trainable_parameters));
    if group.is_some_and(|group| group.rank() > 0) {
        reduce_seconds.transpose()?;
        return Ok(json!(null));
    }
    let params = if method.trains_base() { model.params() } else { extension.params() };
    let save_seconds = if group.is_none() { saving(params, &spec, folder.path())? } else { 0.0 };
    let batch_seconds = {
        let started = Instant::now();
        for step in 0..BATCHES {
            std::hint::black_box(stream.batch(step * args.batch as u64, args.batch));
        }
        started.elapsed().as_secs_f64() / BATCHES as f64
    };
    let text = std::fs::read_to_string(folder.path().join("metrics.jsonl"))?;
    let records: Vec<StepRecord> =
        text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let median = |of: &dyn Fn(&StepRecord) -> f64| median(records.iter().skip(WARMUP).map(of));
    let tokens_per_s = median(&|r| r.tokens_per_second);
    let last = records.last().context("no step")?;
    let exchange = last.exchange.unwrap_or_default();
    let exchanged = |r: &StepRecord| r.exchange.unwrap_or_default();
    Ok(json!({
        "shape": args.shape,
        "method": args.method,
        "precision": args.precision,
        "processes": args.processes,
        "threads": args.threads,
        "batch": args.batch,
        "seq": args.seq,
        "trainable": size.trainable_parameters,
        "tokens_per_s": tokens_per_s.round(),
        "step_seconds": (args.batch * args.seq) as f64 / tokens_per_s,
        "gradient_bytes": exchange.gradient_bytes,
        "early_bytes": exchange.early_bytes,
        "weight_bytes": exchange.weight_bytes,
        "link_bytes": moved / records.len() as u64,
        "gradient_wait_seconds": median(&|r| exchanged(r).gradient_wait_seconds),
        "straggler_seconds": median(&|r| exchanged(r).straggler_seconds),
        "weight_seconds": median(&|r| exchanged(r).weight_seconds),
        "reduce_seconds": reduce_seconds.transpose()?.unwrap_or(0.0),
        "save_seconds": save_seconds,
        "batch_seconds": batch_seconds,
        "loss": last.loss_nats_per_token,
        "peak_rss_mib": peak_rss_bytes() >> 20,
    }))
}

/// Seconds that the reduction of so many bytes takes while nothing else is done: the median of five.
fn reduction(group: &Group, bytes: u64) -> anyhow::Result<f64> {
    let bucket = PIECE * group.size() as i64;
    let mut left = bytes as i64 / 4;
    let mut buckets = Vec::new();
    while left > 0 {
        buckets.push(Tensor::zeros([left.min(bucket)], (Kind::Float, Device::Cpu)));
        left -= bucket;
    }
    let mut times = [0.0; 5];
    for time in &mut times {
        group.barrier()?;
        let started = Instant::now();
        let begun: Vec<_> =
            buckets.iter().map(|b| group.start_all_reduce(b)).collect::<Result<_, _>>()?;
        begun.into_iter().try_for_each(neutral_torch::Pending::wait)?;
        *time = started.elapsed().as_secs_f64();
    }
    times.sort_by(f64::total_cmp);
    Ok(times[2])
}

/// Seconds that it takes to write a checkpoint of these weights, with moments.
fn saving(params: &ParamStore, spec: &TrainingSpec, folder: &Path) -> anyhow::Result<f64> {
    let optimizer = AdamW::new(params, spec);
    let (path, fingerprint) = (checkpoint::path(folder), Fingerprint::of(&"scaling"));
    let started = Instant::now();
    let state = TrainState::default();
    checkpoint::save(&path, &fingerprint, params, optimizer.moments(), &state)?;
    Ok(started.elapsed().as_secs_f64())
}

/// Bytes that the loopback interface has sent so far, at a moment at which no process is in a step.
fn loopback_bytes(group: Option<&Group>) -> anyhow::Result<u64> {
    let Some(group) = group else { return Ok(0) };
    group.barrier()?;
    let table = std::fs::read_to_string("/proc/net/dev")?;
    let line = table.lines().find_map(|line| line.trim().strip_prefix("lo:"));
    // Eight numbers of what came, then the bytes that went.
    let sent = line.and_then(|line| line.split_whitespace().nth(8));
    let bytes = sent.context("no interface `lo` in /proc/net/dev")?.parse()?;
    group.barrier()?;
    Ok(bytes)
}

fn config(shape: &str) -> anyhow::Result<TransformerConfig> {
    let [d_model, n_layers, n_heads, n_kv_heads, d_ff, vocab_size] = match shape {
        "tiny" => [256, 8, 4, 4, 704, 8192],
        "smollm2-135m" => [576, 30, 9, 3, 1536, 49152],
        other => anyhow::bail!("`{other}` is no shape; write tiny or smollm2-135m"),
    };
    let shape = Shape {
        d_model,
        n_layers,
        n_heads,
        n_kv_heads,
        d_ff,
        tie_embeddings: true,
        rope_theta: 10_000.0,
        norm_epsilon: 1e-5,
    };
    Ok(TransformerConfig::llama(&shape, vocab_size))
}

fn training(args: &Args) -> TrainingSpec {
    TrainingSpec {
        tokens: ((WARMUP + args.steps) * args.batch * args.seq) as u64,
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

/// Random tokens, the same in all processes; an eighth of the sequences are original-domain.
fn random_stream(args: &Args, vocab_size: usize, folder: &Path) -> anyhow::Result<MixedStream> {
    let mut state = 1_u64;
    let mut token = || {
        // Knuth's multiplier; the upper bits are random enough to be no pattern.
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        ((state >> 33) % vocab_size as u64) as u32
    };
    let tokens: Vec<u32> = (0..=4 * args.batch * args.seq).map(|_| token()).collect();
    let path = folder.join("tokens.bin");
    let shard = TokenShards::from_tokens(&path, &tokens, 0, vocab_size as u64)?;
    let config = MixConfig { original_fraction: 0.125, sequence_length: args.seq, seed: 0 };
    Ok(MixedStream::new(vec![shard.clone()], vec![shard], config)?)
}
