//! `neutral bench eval`: how fast tasks are scored, and how far scores move with what shares a pass.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use clap::Args;
use clap::builder::RangedU64ValueParser;
use indicatif::{MultiProgress, ProgressBar};
use neutral_data::Control;
use neutral_eval::{BatchSize, ContinuationScore, Work, score_continuations};
use neutral_store::Cache;
use neutral_tasks::{Library, RequestOptions};
use serde::Serialize;

use super::BatchSizeArg;
use super::documents::Sources;
use super::evaluate::Asked;
use super::language_model::LanguageModel;
use super::tokens::RuleOptions;
use crate::model_source::ModelArgs;
use crate::signals;

/// Documents that are scored before the clock starts.
const WARM_UP: usize = 8;

/// Arguments of `neutral bench eval`.
#[derive(Debug, Args)]
pub(crate) struct BenchEvalArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    /// Tasks, groups and tags, separated by commas.
    #[arg(long, value_delimiter = ',', required = true)]
    pub tasks: Vec<String>,
    /// Folders of task files.
    #[arg(long, value_delimiter = ',', required = true)]
    pub include_path: Vec<PathBuf>,
    /// A folder of corpus manifests; may be given again [default: data-manifests here or above].
    #[arg(long, value_name = "FOLDER")]
    pub manifests: Vec<PathBuf>,
    /// Documents of each task.
    #[arg(long, value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    pub limit: Option<usize>,
    /// Examples before each document.
    #[arg(long)]
    pub num_fewshot: Option<usize>,
    /// Batch sizes to time, separated by commas; the last one's scores are what the others are held to.
    #[arg(long, value_delimiter = ',', default_value = "auto,1")]
    pub batch_size: Vec<BatchSizeArg>,
    /// How often each is timed.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub rounds: u32,
    /// One JSON line a task and batch size instead of a table.
    #[arg(long)]
    pub json: bool,
}

/// One line of the result.
#[derive(Debug, Serialize)]
struct EvalTiming {
    peer: &'static str,
    task: String,
    batch: BatchSize,
    dtype: &'static str,
    threads: usize,
    requests: usize,
    /// Tokens of all inputs, each by itself, and those that were computed.
    tokens: usize,
    computed: usize,
    passes: usize,
    /// Of the fastest round, from text to log-likelihoods.
    seconds: f64,
    requests_per_s: f64,
    tokens_per_s: f64,
    mean_log_likelihood: f64,
    /// The largest change of a log-likelihood against the last batch size, in nats, and relative to it.
    moved_nats: f64,
    moved_relative: f64,
    /// Greedy answers that changed.
    moved_greedy: usize,
}

/// Times every task at every batch size.
pub(crate) fn run(args: &BenchEvalArgs, bars: &MultiProgress) -> anyhow::Result<()> {
    let stop = signals::stop_flag()?;
    let control = Control::new(bars.clone(), Arc::clone(&stop));
    let cache = Cache::from_env()?;
    let rules = RuleOptions::default();
    let language_model = LanguageModel::open(&args.model, &rules, &cache, &control)?;
    let names: Vec<&str> = args.tasks.iter().map(String::as_str).collect();
    let selection = Library::open(&args.include_path)?.select(&names)?;
    let (here, manifests) = (Path::new("."), &args.manifests[..]);
    let sources = Sources { here, manifests, cache: &cache, control: &control };
    let requests = RequestOptions {
        num_fewshot: args.num_fewshot,
        limit: args.limit,
        ..RequestOptions::default()
    };
    let mut out = std::io::stdout().lock();
    if !args.json {
        writeln!(
            out,
            "{:20} {:>6} {:>9} {:>10} {:>10} {:>9} {:>11} {:>10} {:>11} {:>12} {:>7}",
            "task",
            "batch",
            "requests",
            "tokens",
            "computed",
            "seconds",
            "requests/s",
            "tokens/s",
            "moved, nats",
            "moved, rel.",
            "greedy"
        )?;
    }
    for (name, task) in &selection.tasks {
        let examples = task.examples(&sources.splits(task, &requests)?, &requests)?;
        let count: usize = examples.iter().map(|example| example.requests.len()).sum();
        let LanguageModel { model, extension, tokens, .. } = &language_model;
        let bar = ProgressBar::hidden();
        // Libraries start.
        let first = Asked::new(tokens, task, &examples[..examples.len().min(WARM_UP)])?;
        score_continuations(model, extension, &first.windows, BatchSize::Auto, &stop, &bar)?;
        let mut timed = Vec::new();
        for BatchSizeArg(batch) in &args.batch_size {
            let mut best: Option<(f64, Vec<ContinuationScore>, Work)> = None;
            for _ in 0..args.rounds {
                let clock = Instant::now();
                let asked = Asked::new(tokens, task, &examples)?;
                let (scores, work) =
                    score_continuations(model, extension, &asked.windows, *batch, &stop, &bar)?;
                let seconds = clock.elapsed().as_secs_f64();
                if best.as_ref().is_none_or(|(fastest, ..)| seconds < *fastest) {
                    best = Some((seconds, scores, work));
                }
            }
            timed.extend(best.map(|best| (*batch, best)));
        }
        let reference = timed.last().map(|(_, (_, scores, _))| scores.clone()).unwrap_or_default();
        for (batch, (seconds, scores, work)) in timed {
            let moved = scores.iter().zip(&reference);
            let apart = |(a, b): (&ContinuationScore, &ContinuationScore)| {
                (a.log_likelihood - b.log_likelihood).abs()
            };
            let timing = EvalTiming {
                peer: "neutral",
                task: name.clone(),
                batch,
                dtype: args.model.precision.name(),
                threads: neutral_torch::threads(),
                requests: count,
                tokens: work.tokens,
                computed: work.rows,
                passes: work.passes,
                seconds,
                requests_per_s: count as f64 / seconds,
                tokens_per_s: work.tokens as f64 / seconds,
                mean_log_likelihood: scores.iter().map(|s| s.log_likelihood).sum::<f64>()
                    / count as f64,
                moved_nats: moved.clone().map(apart).fold(0.0, f64::max),
                moved_relative: moved
                    .clone()
                    .map(|pair| apart(pair) / pair.1.log_likelihood.abs())
                    .fold(0.0, f64::max),
                moved_greedy: moved.filter(|(a, b)| a.is_greedy != b.is_greedy).count(),
            };
            timing.print(args.json, &mut out)?;
        }
    }
    Ok(())
}

impl EvalTiming {
    fn print(&self, json: bool, out: &mut impl Write) -> anyhow::Result<()> {
        if json {
            writeln!(out, "{}", serde_json::to_string(self)?)?;
            return Ok(());
        }
        let batch = match self.batch {
            BatchSize::Auto => "auto".to_owned(),
            BatchSize::Requests(n) => n.to_string(),
        };
        writeln!(
            out,
            "{:20} {batch:>6} {:>9} {:>10} {:>10} {:>9.2} {:>11.1} {:>10.0} {:>11.1e} {:>12.1e} {:>7}",
            self.task,
            self.requests,
            self.tokens,
            self.computed,
            self.seconds,
            self.requests_per_s,
            self.tokens_per_s,
            self.moved_nats,
            self.moved_relative,
            self.moved_greedy
        )?;
        Ok(())
    }
}
