//! `neutral inspect`: what is in a model, an extension, a trial or a run.

mod facts;
mod gates;
mod on;
mod tensors;

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use indicatif::MultiProgress;
use neutral_adapters::ExtensionFolder;
use neutral_model::ModelFolder;
use neutral_report::{Style, terminal_table};
use neutral_spec::Method;
use neutral_torch::TensorFile;
use serde::Serialize;
use serde_json::{Value, json};

use self::gates::BlockRow;
use self::on::OnArgs;
use self::tensors::TensorRow;
use crate::exit::BadInput;
use crate::results::neutrality;
use crate::table::aligned;
use crate::trial_file::{FinishedTrial, weights_name};

/// Arguments of `neutral inspect`.
#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    /// A model folder, a GGUF file, an extension's folder (neutral's or PEFT's), a run's or a trial's.
    #[arg(value_name = "MODEL|EXTENSION|RUN")]
    pub path: PathBuf,
    /// JSON instead of tables.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub text: OnArgs,
}

/// What was found.
#[derive(Debug, Serialize)]
struct Inspection {
    /// `model`, `gguf`, `extension`, `peft`, `trial`.
    kind: &'static str,
    path: PathBuf,
    /// What the files say of themselves.
    config: Value,
    /// Equal ones of several blocks as one.
    tensors: Vec<TensorRow>,
    /// Number of weights.
    parameters: u64,
    /// What the branches' weights are like, and what a trial's gates did.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    blocks: Vec<BlockRow>,
}

/// `neutral inspect`.
pub(crate) fn run(args: &InspectArgs, bars: &MultiProgress) -> anyhow::Result<()> {
    if let Some(on) = &args.text.on {
        return on::run(args, on, bars);
    }
    let path = &args.path;
    let mut out = std::io::stdout().lock();
    // A run is its results.
    let results = path.join("results.json");
    if results.is_file() {
        let results = neutral_report::read(&results)?;
        if args.json {
            writeln!(out, "{:#}", json!(results))?;
            return Ok(());
        }
        writeln!(out, "run: {}\n\n{}", path.display(), terminal_table(&results, Style::Plain))?;
        for trial in &results.trials {
            writeln!(out, "trial {}: {}", trial.id, trial.status.name())?;
        }
        return Ok(());
    }
    let inspection = inspect(path)?;
    if args.json {
        writeln!(out, "{:#}", json!(inspection))?;
    } else {
        print(&inspection, &mut out)?;
    }
    Ok(())
}

fn inspect(path: &Path) -> anyhow::Result<Inspection> {
    if path.is_file() {
        return gguf(path);
    }
    if let Some(format) = ExtensionFolder::of(path) {
        let file = format.weights(path)?;
        let (kind, config, blocks) = match format {
            ExtensionFolder::Neutral => {
                let config = neutral_adapters::read_extension_config(path)?;
                ("extension", json!(config), gates::rows(&file, None)?)
            }
            ExtensionFolder::Peft => ("peft", format.config(path)?, Vec::new()),
        };
        return Ok(Inspection::new(kind, path, config, tensors::of_file(&file)?, blocks));
    }
    if FinishedTrial::folder(path).is_some() {
        return trial(&FinishedTrial::open(path)?);
    }
    if !path.join("config.json").is_file() {
        let message = format!(
            "{} is nothing that can be shown: expected a folder with config.json, extension_config.json, adapter_config.json, record.json or results.json, or a GGUF file",
            path.display()
        );
        return Err(BadInput(message).into());
    }
    let folder = ModelFolder::open(path)?;
    let tensors = folder.tensors()?.into_iter();
    let tensors = tensors.map(|(name, kind, shape)| (name, format!("{kind:?}"), shape));
    Ok(Inspection::new("model", path, folder.config_json().clone(), tensors.collect(), Vec::new()))
}

fn gguf(path: &Path) -> anyhow::Result<Inspection> {
    let description = neutral_gguf::describe(path)?;
    let tensors = description.tensors.into_iter().map(|tensor| {
        let shape = tensor.shape.into_iter().map(|n| i64::try_from(n).unwrap_or(i64::MAX));
        (tensor.name, tensor.tensor_type, shape.collect())
    });
    let config: serde_json::Map<_, _> =
        description.metadata.into_iter().map(|(key, value)| (key, Value::from(value))).collect();
    Ok(Inspection::new("gguf", path, config.into(), tensors.collect(), Vec::new()))
}

fn trial(trial: &FinishedTrial) -> anyhow::Result<Inspection> {
    let method = &trial.file.trial.method;
    let file = TensorFile::open(&trial.folder.join(weights_name(method)))?;
    let neutrality = neutrality(&trial.record.scores);
    let blocks = match method {
        Method::Adapter { .. } | Method::NeutralResidues { .. } => {
            gates::rows(&file, neutrality.as_ref())?
        }
        _ => Vec::new(),
    };
    Ok(Inspection::new("trial", &trial.folder, json!(trial.file), tensors::of_file(&file)?, blocks))
}

impl Inspection {
    fn new(
        kind: &'static str,
        path: &Path,
        config: Value,
        tensors: Vec<(String, String, Vec<i64>)>,
        blocks: Vec<BlockRow>,
    ) -> Self {
        let tensors = tensors::fold(tensors);
        let parameters = tensors.iter().fold(0, |sum: u64, row| sum.saturating_add(row.parameters));
        Self { kind, path: path.to_path_buf(), config, tensors, parameters, blocks }
    }
}

fn print(inspection: &Inspection, out: &mut impl Write) -> std::io::Result<()> {
    let Inspection { kind, path, config, tensors, parameters, blocks } = inspection;
    writeln!(out, "{kind}: {}\n", path.display())?;
    writeln!(
        out,
        "{}",
        aligned(&tensors::table(tensors, *parameters), &[false, false, false, true])
    )?;
    if !blocks.is_empty() {
        writeln!(out, "{}", gates::table(blocks))?;
    }
    write!(out, "{}", aligned(&facts::facts(config), &[false, false]))
}
