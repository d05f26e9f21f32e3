//! `neutral eval`: a model's scores on tasks of lm-evaluation-harness.

pub(crate) mod bench;
mod documents;
mod evaluate;
mod language_model;
mod output;
mod table;
mod tokens;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Instant;

use anyhow::Context as _;
use clap::Args;
use indexmap::IndexMap;
use indicatif::MultiProgress;
use neutral_data::Control;
use neutral_eval::BatchSize;
use neutral_store::Cache;
use neutral_tasks::{BOOTSTRAP_ITERATIONS, FEWSHOT_SEED, Library, RequestOptions};
use serde_json::json;

pub(crate) use self::documents::Sources;
pub(crate) use self::evaluate::{Evaluated, Evaluation};
pub(crate) use self::language_model::{LanguageModel, Parts};
use self::output::Envelope;
use self::tokens::RollingPrefix;
pub(crate) use self::tokens::{RequestTokenizer, RuleOptions};
use crate::environment;
use crate::exit::{self, BadInput};
use crate::failure::caught;
use crate::inputs::find_upwards;
use crate::model_source::ModelArgs;
use crate::signals;
use crate::tasks::say_broken;

/// Arguments of `neutral eval`; names are those of lm-evaluation-harness.
#[derive(Debug, Args)]
pub(crate) struct EvalArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    /// Tasks, groups and tags, separated by commas.
    #[arg(long, value_delimiter = ',', required = true)]
    pub tasks: Vec<String>,
    /// Folders of task files; of equal names the last folder's counts [default: experiments/tasks here or above].
    #[arg(long, alias = "include_path", value_delimiter = ',')]
    pub include_path: Vec<PathBuf>,
    /// Documents of each task: so many, or below 1 this share of them.
    #[arg(long)]
    pub limit: Option<f64>,
    /// Examples before each document, in place of the task's number unless that is 0.
    #[arg(long, alias = "num_fewshot")]
    pub num_fewshot: Option<usize>,
    /// Requests of a pass, or auto. With 1, a score depends on its own request alone, to the last bit.
    #[arg(long, alias = "batch_size", default_value = "auto")]
    pub batch_size: BatchSizeArg,
    /// Where results go, into a folder that is named after the model.
    #[arg(long, alias = "output_path")]
    pub output_path: Option<PathBuf>,
    /// Write each document's requests and answers too; needs --output-path.
    #[arg(long, alias = "log_samples", requires = "output_path")]
    pub log_samples: bool,
    /// Of few-shot examples.
    #[arg(long, default_value_t = FEWSHOT_SEED)]
    pub seed: u64,
    /// Samples that the standard errors of perplexities are drawn from; 0: no standard errors at all.
    #[arg(long, alias = "bootstrap_iters", default_value_t = BOOTSTRAP_ITERATIONS)]
    pub bootstrap_iters: usize,
    /// Special tokens around a text: BOS always or never, in place of what the tokenizer's template does.
    #[arg(long, alias = "add_bos_token")]
    pub add_bos_token: Option<bool>,
    /// What stands before a rolling text.
    #[arg(long, value_enum, default_value_t = RollingPrefix::Harness)]
    pub rolling_prefix: RollingPrefix,
    /// Tokens that the model reads at once [default: what its files say].
    #[arg(long, alias = "max_length")]
    pub max_length: Option<usize>,
    /// Compute answers that the cache has, too.
    #[arg(long)]
    pub no_cache: bool,
    /// A folder of corpus manifests; may be given again [default: data-manifests here or above].
    #[arg(long)]
    pub manifests: Vec<PathBuf>,
}

/// [`BatchSize`] on the command line.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BatchSizeArg(pub BatchSize);

impl FromStr for BatchSizeArg {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse() {
            Ok(0) | Err(_) if text != "auto" => {
                Err(format!("`{text}` is no batch size; write a number from 1 on, or auto"))
            }
            Ok(n) => Ok(Self(BatchSize::Requests(n))),
            Err(_) => Ok(Self(BatchSize::Auto)),
        }
    }
}

/// `neutral eval`.
pub(crate) fn run(args: &EvalArgs, bars: &MultiProgress) -> anyhow::Result<()> {
    let (started, clock) = (jiff::Timestamp::now(), Instant::now());
    check(args)?;
    let folders = match &args.include_path[..] {
        [] => vec![find_upwards(Path::new("."), "experiments/tasks", "--include-path")?],
        given => given.to_vec(),
    };
    let names: Vec<&str> = args.tasks.iter().map(String::as_str).collect();
    let library = Library::open(&folders)?;
    say_broken(&library);
    let selection = library.select(&names)?;
    let stop = signals::stop_flag()?;
    let control = Control::new(bars.clone(), std::sync::Arc::clone(&stop));
    let cache = Cache::from_env()?;
    let rules = RuleOptions {
        add_bos_token: args.add_bos_token,
        rolling_prefix: args.rolling_prefix,
        max_length: args.max_length,
    };
    let language_model = LanguageModel::open(&args.model, &rules, &cache, &control)?;
    let (here, manifests) = (Path::new("."), &args.manifests[..]);
    let sources = Sources { here, manifests, cache: &cache, control: &control };
    let (num_fewshot, seed) = (args.num_fewshot, args.seed);
    let evaluation = Evaluation {
        requests: RequestOptions { num_fewshot, limit: None, seed },
        limit: args.limit,
        batch_size: args.batch_size.0,
        // As in the harness, 0 means no standard errors at all.
        bootstraps: Some(args.bootstrap_iters).filter(|n| *n > 0),
        cache: (!args.no_cache).then_some(&cache),
        stop: &stop,
        bars,
    };
    let mut done: IndexMap<String, Evaluated> = IndexMap::new();
    let mut failed = IndexMap::new();
    for (name, task) in &selection.tasks {
        let evaluated = sources
            .splits(task, &evaluation.requests)
            .and_then(|splits| caught(|| evaluation.run(&language_model, task, &splits)));
        match evaluated {
            Ok(evaluated) => _ = done.insert(name.clone(), evaluated),
            Err(error) if exit::is_interrupted(&error) => return Err(error),
            Err(error) => {
                tracing::error!("{name}: {error:#}");
                failed.insert(name.clone(), error);
            }
        }
    }
    let envelope = envelope(args, &language_model, &failed, started, clock)?;
    // Before the table, whose reader may have gone.
    let written = args.output_path.as_ref().map(|folder| {
        let results = output::results(&selection, &done, &envelope);
        output::write(folder, &results, &done, args.log_samples, &envelope)
    });
    let written = written.transpose()?;
    let mut out = std::io::stdout().lock();
    write!(out, "{}", table::table(&selection, &done))?;
    if let Some(path) = written {
        writeln!(out, "\nresults: {}", path.display())?;
    }
    match failed.into_iter().next() {
        None => Ok(()),
        // The others' results are safe; the first error decides how the command ends.
        Some((name, error)) => Err(error).context(format!("task {name} failed")),
    }
}

fn check(args: &EvalArgs) -> anyhow::Result<()> {
    let wrong = |flag: &str, found: String, expected: &str| -> anyhow::Result<()> {
        Err(BadInput(format!("{flag} is {found}, expected {expected}")).into())
    };
    match args.limit {
        Some(limit) if limit <= 0.0 || !limit.is_finite() => {
            wrong("--limit", limit.to_string(), "a number above 0")
        }
        _ if args.max_length == Some(0) => wrong("--max-length", "0".to_owned(), "at least 1"),
        _ => Ok(()),
    }
}

fn envelope(
    args: &EvalArgs,
    language_model: &LanguageModel,
    failed: &IndexMap<String, anyhow::Error>,
    started: jiff::Timestamp,
    clock: Instant,
) -> anyhow::Result<Envelope> {
    let LanguageModel { tokens, digest, extension, .. } = language_model;
    let rules = &tokens.rules;
    let device = language_model.model.device();
    let environment = environment::describe(device, args.model.precision, None);
    let errors: IndexMap<_, _> =
        failed.iter().map(|(task, error)| (task, format!("{error:#}"))).collect();
    let own = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "rules": tokens.describe()?,
        "extension": extension.describe(),
        "model_files": digest,
        "environment": environment,
        "failed": errors,
    });
    let shown = |path: &PathBuf| path.display().to_string();
    let config = json!({
        "model": "neutral",
        "model_args": {
            "pretrained": shown(&args.model.model),
            "extension": args.model.extension.as_ref().map(shown),
            "dtype": environment.precision,
            "add_bos_token": args.add_bos_token,
            "max_length": args.max_length,
        },
        "model_num_parameters": language_model.parameters(),
        "model_dtype": environment.precision,
        "batch_size": args.batch_size.0,
        "device": environment.device,
        "limit": args.limit,
        "bootstrap_iters": args.bootstrap_iters,
        "fewshot_seed": args.seed,
    });
    Ok(Envelope {
        config,
        own,
        model_name: shown(&args.model.model),
        prefix: (tokens.prefix_text(), rules.prefix_token),
        max_length: rules.max_length,
        git: environment.git,
        started,
        seconds: clock.elapsed().as_secs_f64(),
    })
}
