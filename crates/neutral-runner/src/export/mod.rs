//! `neutral export`: a finished trial in a form that other tools read.
//!
//! Every export is loaded again from its files, and its logits are compared with the trial's own,
//! before its folder appears.

mod card;
mod check;
mod write;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use clap::{Args, ValueEnum};
use neutral_adapters::merges_adapters;
use neutral_model::{ModelFolder, TransformerConfig};
use neutral_spec::Method;
use neutral_store::write_folder;
use tch::Kind;

use crate::exit::{Abandoned, BadInput};
use crate::signals;
use crate::trial_file::FinishedTrial;

/// Arguments of `neutral export`.
#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// A finished trial: runs/quick/neutral-residues-s0, or its folder in runs/quick/trials.
    #[arg(value_name = "RUN/TRIAL")]
    pub trial: PathBuf,
    /// The form that it gets.
    #[arg(long, value_enum)]
    pub format: Format,
    /// Where to [default: RUN/exports/TRIAL-FORMAT]; must not be there, or be empty.
    #[arg(long)]
    pub out: Option<PathBuf>,
    /// The numbers that weights of a whole model are held in [default: the base's own].
    #[arg(long, value_enum)]
    pub dtype: Option<Dtype>,
    /// Also write base, export and logits to a folder in DIR, for scripts/verify-exports.
    #[arg(long, value_name = "DIR")]
    pub cases: Option<PathBuf>,
}

/// What weights are held in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Dtype {
    /// bfloat16, to which they are rounded once.
    Bf16,
    /// Single precision.
    Fp32,
}

/// What a trial can be exported as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// LoRA or `DoRA` as a folder of PEFT.
    Peft,
    /// A whole model as Hugging Face has it: fine-tuned, with LoRA or `DoRA` merged into its weights, with adapters
    /// without a gate in its feed-forward layers, or with new blocks among its own.
    Hf,
    /// The extension alone, in neutral's own format: neutral residues, adapters, LoRA, `DoRA`, new blocks.
    Neutral,
}

impl Format {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Peft => "peft",
            Self::Hf => "hf",
            Self::Neutral => "neutral",
        }
    }

    /// A method can have this form; if not, the error says which would do.
    fn check(self, method: &Method, base: &TransformerConfig) -> Result<(), BadInput> {
        let is = |format, reason| (self == format).then_some(reason);
        // All by name, so that whoever adds a method is asked.
        let refused = match method {
            Method::Finetune {}
            | Method::KlToBase { .. }
            | Method::L2Sp { .. }
            | Method::Ewc { .. }
            | Method::WiseFt { .. } => (self != Self::Hf)
                .then_some("a fine-tuned model is its base with other weights; use --format hf"),
            Method::Lora { .. } | Method::Dora { .. } => None,
            Method::Adapter { .. } | Method::NeutralResidues { .. } => {
                let merges = merges_adapters(method, base);
                let peft = is(
                    Self::Peft,
                    "PEFT has no such method and would misread it; use --format neutral",
                );
                let hf = is(
                    Self::Hf,
                    "only adapters beside feed-forward layers, without a gate or norm and with the base's σ, are units of these; use --format neutral",
                );
                peft.or(hf.filter(|_| !merges))
            }
            Method::BlockExpansion { .. } => is(
                Self::Peft,
                "PEFT has no new blocks; use --format hf, a deeper model, or neutral",
            ),
        };
        refused.map_or(Ok(()), |reason| {
            Err(BadInput(format!("--format {} is impossible here: {reason}", self.name())))
        })
    }
}

/// What is exported, and how.
pub(crate) struct Export {
    pub trial: FinishedTrial,
    pub base: ModelFolder,
    pub format: Format,
    /// Of the weights in the files.
    pub kind: Kind,
}

impl Export {
    fn new(args: &ExportArgs) -> anyhow::Result<Self> {
        let trial = FinishedTrial::open(&args.trial)?;
        if let Some(after) = &trial.file.trial.after {
            let message = format!(
                "{} goes on from {}: what it made is two extensions or more, for which no format has a place",
                trial.file.trial.id, after.trial
            );
            return Err(BadInput(message).into());
        }
        let base = trial.base()?;
        args.format.check(&trial.file.trial.method, base.config())?;
        let kind = match (args.format, args.dtype) {
            (Format::Hf, Some(Dtype::Bf16)) => Kind::BFloat16,
            (Format::Hf, None) => kind_of_base(&base)?,
            (_, Some(Dtype::Bf16)) => {
                let message = "--dtype bf16 is for --format hf; an extension keeps the fp32 weights that were trained";
                return Err(BadInput(message.to_owned()).into());
            }
            _ => Kind::Float,
        };
        Ok(Self { trial, base, format: args.format, kind })
    }

    /// `RUN/exports/TRIAL-FORMAT`, or beside a trial that lies in no run.
    fn place(&self) -> PathBuf {
        let folder = &self.trial.folder;
        let run = folder.parent().and_then(Path::parent).unwrap_or(Path::new(""));
        run.join("exports").join(self.case())
    }

    fn case(&self) -> String {
        format!("{}-{}", self.trial.file.trial.id, self.format.name())
    }
}

/// `neutral export`.
pub(crate) fn run(args: &ExportArgs) -> anyhow::Result<()> {
    let export = Export::new(args)?;
    let out = args.out.clone().unwrap_or_else(|| export.place());
    let stop = signals::stop_flag()?;
    let go_on = || if stop.load(Ordering::SeqCst) { Err(Abandoned) } else { Ok(()) };
    let results = export.trial.results().unwrap_or_else(|error| {
        tracing::warn!("the card will have no results: {error:#}");
        None
    });
    let mut checked = None;
    write_folder(&out, |folder| -> anyhow::Result<()> {
        write::write(&export, folder)?;
        go_on()?;
        let check = check::check(&export, folder)?;
        go_on()?;
        card::write(&export, &check, results.as_ref(), &out, folder)?;
        checked = Some(check);
        Ok(())
    })?;
    let Some(check) = checked else { anyhow::bail!("the export was not checked") };
    if let Some(cases) = &args.cases {
        check::write_case(&export, &check, &out, &cases.join(export.case()))?;
    }
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{}: {}", export.format.name(), out.display())?;
    writeln!(stdout, "{check}")?;
    Ok(())
}

/// The kind of number that most of a model is held in.
fn kind_of_base(base: &ModelFolder) -> anyhow::Result<Kind> {
    let tensors = base.tensors()?;
    let embeddings = tensors.iter().find(|(name, ..)| name == "model.embed_tokens.weight");
    Ok(embeddings.map_or(Kind::Float, |(_, kind, _)| *kind))
}
