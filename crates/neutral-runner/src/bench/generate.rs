//! `neutral bench generate`: what an extension costs when the model is used, beside the base without one.
//!
//! Random tokens are read at once, then others are written one at a time with keys and values kept, as
//! `neutral generate` does both. Methods take turns, so that a machine which slows down slows all of them.

use std::io::Write;
use std::time::Instant;

use clap::Args;
use neutral_model::{Extension, Generation, Sampling, Transformer};
use neutral_spec::{Budget, Precision, extension_size};
use neutral_train::metrics::median;
use serde::Serialize;

use super::{BenchShape, method_of};
use crate::cli::{MachineArgs, TRAINING, one_of};

/// The base alone: what the others are held to.
const BASE: &str = "base";

/// Arguments of `neutral bench generate`.
#[derive(Debug, Args)]
pub(crate) struct BenchGenerateArgs {
    /// tiny, small, smollm2-135m, or d,L,heads,kv,ffn,vocab.
    #[arg(long, default_value = "tiny")]
    pub shape: BenchShape,
    /// Methods to time beside the base, separated by commas; merged LoRA and fine-tuned models are the base;
    /// `neutral_residues:N` has a gate that reads N tokens.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "lora,dora,adapter,neutral_residues,block_expansion"
    )]
    pub method: Vec<String>,
    /// Extra weights, as a share of the base's.
    #[arg(long, default_value = "20%")]
    pub budget: Budget,
    /// Tokens that are read.
    #[arg(long, default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..))]
    pub prompt: u32,
    /// Tokens that are written.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..))]
    pub tokens: u32,
    /// How often each is timed; a first round is not counted.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pub rounds: u32,
    /// The numbers that matrix products are computed in.
    #[arg(long, value_parser = one_of(TRAINING), default_value = "bf16")]
    pub precision: Precision,
    #[command(flatten)]
    pub machine: MachineArgs,
    /// One JSON line a method instead of a table.
    #[arg(long)]
    pub json: bool,
}

/// One line of the result, at the median of the rounds.
#[derive(Debug, Serialize)]
struct GenerateTiming<'a> {
    method: &'a str,
    shape: &'a str,
    prompt: u32,
    tokens: u32,
    dtype: &'a str,
    threads: usize,
    /// Weights that the extension adds.
    extension: u64,
    read_tokens_per_s: f64,
    written_tokens_per_s: f64,
    /// Of a token, against the base's.
    read_time_ratio: f64,
    written_time_ratio: f64,
}

/// Seconds of each round.
#[derive(Default)]
struct Seconds {
    reading: Vec<f64>,
    writing: Vec<f64>,
}

/// Times the base and every method and prints it.
pub(crate) fn run(args: &BenchGenerateArgs) -> anyhow::Result<()> {
    let device = args.machine.open()?;
    let BenchShape { name, config } = &args.shape;
    let mut model = Transformer::new(config.clone(), 0, device, args.precision)?;
    let mut extensions = vec![(BASE, Extension::none())];
    for method in &args.method {
        let spec = method_of(method, args.budget)?;
        let size = extension_size(&spec, &config.size())?;
        let mut extension = neutral_adapters::build(&spec, &size, &model, 0)?;
        extension.params_mut().set_trainable(false);
        extensions.push((method, extension));
    }
    model.freeze();
    let mut seconds: Vec<Seconds> = extensions.iter().map(|_| Seconds::default()).collect();
    for round in 0..=args.rounds {
        for ((_, extension), seconds) in extensions.iter().zip(&mut seconds) {
            let [reading, writing] = time(&model, extension, args)?;
            if round > 0 {
                seconds.reading.push(reading);
                seconds.writing.push(writing);
            }
        }
    }
    let medians: Vec<[f64; 2]> =
        seconds.into_iter().map(|s| [s.reading, s.writing].map(median)).collect();
    let mut out = std::io::stdout().lock();
    if !args.json {
        writeln!(
            out,
            "{:18} {:>11} {:>12} {:>10} {:>12} {:>10}",
            "method", "extra", "read tok/s", "time/base", "write tok/s", "time/base"
        )?;
    }
    for ((method, extension), [reading, writing]) in extensions.iter().zip(&medians) {
        let timing = GenerateTiming {
            method,
            shape: name,
            prompt: args.prompt,
            tokens: args.tokens,
            dtype: args.precision.name(),
            threads: neutral_torch::threads(),
            extension: extension.params().parameter_count(),
            read_tokens_per_s: f64::from(args.prompt) / reading,
            written_tokens_per_s: f64::from(args.tokens) / writing,
            read_time_ratio: reading / medians[0][0],
            written_time_ratio: writing / medians[0][1],
        };
        if args.json {
            writeln!(out, "{}", serde_json::to_string(&timing)?)?;
            continue;
        }
        let GenerateTiming { extension, read_tokens_per_s: read, read_time_ratio, .. } = timing;
        let (write, write_ratio) = (timing.written_tokens_per_s, timing.written_time_ratio);
        writeln!(
            out,
            "{method:18} {extension:>11} {read:>12.0} {read_time_ratio:>10.2} {write:>12.1} {write_ratio:>10.2}"
        )?;
    }
    Ok(())
}

/// Seconds of reading the prompt, and of writing all tokens.
fn time(
    model: &Transformer,
    extension: &Extension,
    args: &BenchGenerateArgs,
) -> anyhow::Result<[f64; 2]> {
    let vocab_size = model.config().vocab_size as i64;
    // Any tokens cost the same; a step that the vocabulary's size rarely shares a factor with.
    let prompt: Vec<i64> = (1..=i64::from(args.prompt)).map(|i| i * 7_919 % vocab_size).collect();
    let sampling = Sampling { temperature: 0.0, top_p: 1.0, seed: 0 };
    let started = Instant::now();
    let (mut generation, _) = Generation::new(model, extension, &prompt, sampling);
    // What is asked of a GPU is not done yet.
    let elapsed = |started: Instant| {
        if let tch::Device::Cuda(index) = model.params().device() {
            tch::Cuda::synchronize(index as i64);
        }
        started.elapsed().as_secs_f64()
    };
    let reading = elapsed(started);
    let started = Instant::now();
    for _ in 0..args.tokens {
        generation.next_token()?;
    }
    Ok([reading, elapsed(started)])
}
