//! The command line.

use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, RangedU64ValueParser, TypedValueParser};
use clap::{Args, Parser, Subcommand};
use neutral_spec::{Budget, Precision};
use neutral_torch::DeviceChoice;

use crate::bench::BenchShape;
use crate::bench::generate::BenchGenerateArgs;
use crate::check::CheckArgs;
use crate::eval::EvalArgs;
use crate::eval::bench::BenchEvalArgs;
use crate::export::ExportArgs;
use crate::group::rendezvous::DEFAULT_TIMEOUT;
use crate::inspect::InspectArgs;
use crate::model_source::ModelArgs;
use crate::report::ReportArgs;
use crate::scores::TOKENS_PER_BATCH;
use crate::unit::Unit;

/// Extend a language model to a new language or domain without forgetting the old one, and prove it.
#[derive(Debug, Parser)]
#[command(name = "neutral", version)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run an experiment: data, base, trials, evaluation, results. Running it again goes on where it stopped.
    Run(Box<RunArgs>),
    /// Start several processes of `neutral run` on this machine, which train every trial together.
    Launch(LaunchArgs),
    /// Show how far the trials of a run are, wherever they run.
    Status(StatusArgs),
    /// Stop a run, with checkpoints: what `neutral run` works on here, or the jobs that it submitted.
    Cancel(CancelArgs),
    /// List the corpora of the manifests, or fetch and clean some of them and show what came out.
    Data(DataArgs),
    /// Score a model on tasks of lm-evaluation-harness.
    Eval(Box<EvalArgs>),
    /// Write text with a model, a token at a time.
    Generate(GenerateArgs),
    /// Write a finished trial as other tools read it, load that again and compare its logits.
    Export(ExportArgs),
    /// Show what is in a model, an extension, a trial or a run.
    Inspect(InspectArgs),
    /// Draw runs on one page: report.html, which needs nothing else, and report.md.
    Report(ReportArgs),
    /// Hold a run against a baseline: exit code 0 pass, 1 fail, 2 bad input, 3 inconclusive.
    Check(Box<CheckArgs>),
    /// Time the parts that decide how long a run takes.
    #[command(subcommand)]
    Bench(BenchCommand),
    /// Print the JSON Schema of experiment files, for editors.
    Schema,
    /// Say what this machine offers: libtorch, devices, precisions, threads, package clients.
    Doctor,
}

/// Arguments of `neutral run`.
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// The experiment file.
    pub experiment: PathBuf,
    /// The run's folder [default: runs/<experiment's name>].
    #[arg(long)]
    pub out: Option<PathBuf>,
    /// Print the plan and its cost, and run nothing.
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    pub machine: MachineArgs,
    /// Tokens of one forward pass when text is scored: bounds memory, and moves scores by rounding alone.
    #[arg(long, value_name = "TOKENS", default_value_t = TOKENS_PER_BATCH)]
    pub score_tokens: NonZeroUsize,
    /// A folder of corpus manifests; may be given again [default: data-manifests beside the experiment file or above].
    #[arg(long, value_name = "FOLDER")]
    pub manifests: Vec<PathBuf>,
    /// Take finished trials that were made from the same from another run's folder; may be given again.
    #[arg(long, value_name = "RUN")]
    pub reuse: Vec<PathBuf>,
    #[command(flatten)]
    pub executor: ExecutorArgs,
    /// Do one unit of the run, as executors have it done: prepare, trial:ID or collect.
    #[arg(long, value_name = "UNIT", conflicts_with_all = ["ExecutorArgs", "dry_run"])]
    pub only: Option<Unit>,
    /// The plan that a unit is of; another one is an error.
    #[arg(long, hide = true, requires = "only")]
    pub plan: Option<String>,
    /// The run is being stopped: a unit takes what is there, and measures nothing anew.
    #[arg(long, hide = true, requires = "only")]
    pub stopped: bool,
}

/// Where trials run; each option that is given stands in place of the experiment's, and `--sbatch` beside it.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct ExecutorArgs {
    /// Where trials run [default: the experiment's, else in-process].
    #[arg(long, value_enum)]
    pub executor: Option<ExecutorKind>,
    /// local: trials at a time; threads are divided among them, and CUDA devices shared out.
    #[arg(long, value_name = "N")]
    pub jobs: Option<NonZeroUsize>,
    /// slurm: partition of the jobs.
    #[arg(long)]
    pub partition: Option<String>,
    /// slurm: time limit of each job, after which it goes on in a new one.
    #[arg(long)]
    pub time: Option<String>,
    /// slurm: generic resources of each job, such as gpu:1.
    #[arg(long)]
    pub gres: Option<String>,
    /// slurm: memory of each job.
    #[arg(long)]
    pub mem: Option<String>,
    /// slurm: account that is charged.
    #[arg(long)]
    pub account: Option<String>,
    /// slurm: trials at a time at most.
    #[arg(long, value_name = "N")]
    pub max_parallel: Option<NonZeroUsize>,
    /// slurm: times that a failed trial is tried again [default: 2].
    #[arg(long, value_name = "N")]
    pub retries: Option<u32>,
    /// slurm: a further option of sbatch, as it is; may be given again.
    #[arg(long, value_name = "OPTION", allow_hyphen_values = true)]
    pub sbatch: Vec<String>,
    /// slurm: submit and end; else the command waits for the jobs, which go on without it.
    #[arg(long)]
    pub detach: bool,
}

/// [`neutral_spec::ExecutorSpec`] on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum ExecutorKind {
    /// One after another in this process.
    InProcess,
    /// Side by side on this machine, a process each.
    Local,
    /// As jobs of SLURM.
    Slurm,
}

/// Arguments of `neutral launch`.
#[derive(Debug, Args)]
pub(crate) struct LaunchArgs {
    /// Processes; threads are divided among them, and so must CUDA devices be, one each.
    #[arg(long, value_name = "N", aliases = ["nproc-per-node", "nproc_per_node"])]
    pub processes: NonZeroUsize,
    /// The port on loopback that they meet at [default: a free one].
    #[arg(long, aliases = ["master-port", "master_port"], value_parser = clap::value_parser!(u16).range(1..))]
    pub port: Option<u16>,
    /// Seconds that they wait for each other before they take one for lost.
    #[arg(long, value_name = "SECONDS", default_value_t = DEFAULT_TIMEOUT.as_secs(), value_parser = clap::value_parser!(u64).range(1..))]
    pub timeout: u64,
    /// `run`, with its arguments.
    #[arg(
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "COMMAND"
    )]
    pub command: Vec<OsString>,
}

/// Arguments of `neutral status`.
#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// The run's folder.
    pub run: PathBuf,
    /// JSON instead of a table.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `neutral cancel`.
#[derive(Debug, Args)]
pub(crate) struct CancelArgs {
    /// The run's folder.
    pub run: PathBuf,
}

/// What computes.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct MachineArgs {
    /// Where to compute: auto, cpu, cuda or cuda:N.
    #[arg(long, default_value = "auto")]
    pub device: DeviceChoice,
    /// Threads of the tensor library [default: all cores].
    #[arg(long, value_parser = RangedU64ValueParser::<usize>::new().range(1..=1024))]
    pub threads: Option<usize>,
}

impl MachineArgs {
    /// The device, with the tensor library's threads set.
    pub(crate) fn open(self) -> Result<tch::Device, neutral_torch::TorchError> {
        self.open_as(None)
    }

    /// The same for one of this machine's processes, to which devices that `auto` means are shared out.
    pub(crate) fn open_as(
        self,
        local_rank: Option<usize>,
    ) -> Result<tch::Device, neutral_torch::TorchError> {
        let choice = match local_rank {
            None => self.device,
            Some(local_rank) => {
                let all = neutral_torch::devices(self.device)?;
                all[local_rank % all.len()]
            }
        };
        let device = neutral_torch::device(choice)?;
        if let Some(threads) = self.threads {
            neutral_torch::set_threads(threads);
        }
        Ok(device)
    }
}

/// Arguments of `neutral data`.
#[derive(Debug, Args)]
pub(crate) struct DataArgs {
    /// Corpora to prepare, such as `libreoffice-help/fr`; none lists them all.
    pub corpora: Vec<String>,
    /// A folder of corpus manifests; may be given again [default: data-manifests here or above].
    #[arg(long, value_name = "FOLDER")]
    pub manifests: Vec<PathBuf>,
}

/// Arguments of `neutral generate`.
#[derive(Debug, Args)]
pub(crate) struct GenerateArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    /// Where the text begins [default: what standard input holds].
    #[arg(long)]
    pub prompt: Option<String>,
    /// Tokens at most.
    #[arg(long, default_value_t = 128)]
    pub max_tokens: usize,
    /// Logits are divided by it; 0 takes the likeliest token.
    #[arg(long, default_value_t = 0.0)]
    pub temperature: f64,
    /// Choose among the likeliest tokens that have this probability together.
    #[arg(long, default_value_t = 1.0)]
    pub top_p: f64,
    /// Of the chance that tokens are chosen by.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Colour each token, the prompt's too, by the share of blocks whose gate is open.
    #[arg(long)]
    pub show_gates: bool,
}

/// Reads `--precision`, one of some.
pub(crate) fn one_of<const N: usize>(
    precisions: [Precision; N],
) -> impl TypedValueParser<Value = Precision> {
    PossibleValuesParser::new(precisions.map(Precision::name)).map(move |name| {
        let named = precisions.into_iter().find(|precision| precision.name() == name);
        named.expect("the parser lets no other pass")
    })
}

/// The precisions that a model can train in.
pub(crate) const TRAINING: [Precision; 2] = [Precision::Bf16, Precision::Fp32];

/// What `neutral bench` can time.
#[derive(Debug, Subcommand)]
pub(crate) enum BenchCommand {
    /// Time the training step that `run` uses, on random tokens.
    Step(Box<BenchStepArgs>),
    /// Time reading and writing of text, with each method's extension beside the base without one.
    Generate(Box<BenchGenerateArgs>),
    /// Time the scoring that `eval` uses, on tasks, at several batch sizes.
    Eval(Box<BenchEvalArgs>),
}

/// Arguments of `neutral bench step`.
#[derive(Debug, Args)]
pub(crate) struct BenchStepArgs {
    /// tiny, small, smollm2-135m, or d,L,heads,kv,ffn,vocab.
    #[arg(long, default_value = "tiny")]
    pub shape: BenchShape,
    /// Methods to time, separated by commas; `neutral_residues` has the paper's gate and local loss, `neutral_residues:N` a gate that reads N tokens.
    #[arg(long, value_delimiter = ',', default_value = "finetune,lora,adapter,neutral_residues")]
    pub method: Vec<String>,
    /// Extra weights, as a share of the base's.
    #[arg(long, default_value = "20%")]
    pub budget: Budget,
    /// Sequences a step.
    #[arg(long, default_value_t = 8, value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    pub batch: usize,
    /// Tokens of a sequence.
    #[arg(long, default_value_t = 512, value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    pub seq: usize,
    /// Random tokens to draw from [default: four steps' worth].
    #[arg(long)]
    pub corpus_tokens: Option<usize>,
    /// The numbers that matrix products are computed in.
    #[arg(long, value_parser = one_of(TRAINING), default_value = "bf16")]
    pub precision: Precision,
    /// Steps that are timed.
    #[arg(long, default_value_t = 8)]
    pub steps: u64,
    /// Steps before them.
    #[arg(long, default_value_t = 2)]
    pub warmup: u64,
    #[command(flatten)]
    pub machine: MachineArgs,
    /// One JSON line a method instead of a table.
    #[arg(long)]
    pub json: bool,
}
