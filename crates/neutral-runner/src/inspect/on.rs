//! `neutral inspect … --on TEXT`: an extension beside its base, on any text.

use std::io::Write;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use indicatif::MultiProgress;
use neutral_data::{Control, EvalDocument, Split, Tokenizer, evaluation_documents, prepare};
use neutral_model::ModelFolder;
use neutral_report::{Divergence, thousands};
use neutral_spec::{CorpusRef, Precision};
use neutral_store::{Cache, StoreError};
use neutral_torch::DeviceChoice;
use serde_json::json;

use super::InspectArgs;
use crate::cli::{TRAINING, one_of};
use crate::exit::BadInput;
use crate::neutrality::{Beside, cut, most_bytes};
use crate::scores::TOKENS_PER_BATCH;
use crate::table::aligned;
use crate::trial_file::{Extended, FinishedTrial, Loading};
use crate::{inputs, model_source, progress, signals};

/// The longest context of an extension, which does not say on what it was trained.
const WINDOW: usize = 512;

/// Arguments about text.
#[derive(Debug, Args)]
pub(crate) struct OnArgs {
    /// Compare an extension or a trial with its base, token by token, on a text file or on a corpus'
    /// test pages, such as libreoffice-help/fr.
    #[arg(long, value_name = "FILE|CORPUS")]
    pub on: Option<String>,
    /// The base of an extension: a model folder or a GGUF file. A trial knows its own.
    #[arg(long, requires = "on")]
    pub model: Option<PathBuf>,
    /// Tokens to compare on, at most.
    #[arg(long, default_value = "8192", requires = "on")]
    pub tokens: NonZeroUsize,
    /// Longest context in tokens [default: that of the trial's training; 512 of an extension].
    #[arg(long, requires = "on")]
    pub window: Option<usize>,
    /// The numbers that matrix products are computed in.
    #[arg(long, value_parser = one_of(TRAINING), default_value = "fp32", requires = "on")]
    pub precision: Precision,
    /// Where to compute: auto, cpu, cuda or cuda:N.
    #[arg(long, default_value = "auto", requires = "on")]
    pub device: DeviceChoice,
    /// A folder of corpus manifests; may be given again [default: data-manifests here or above].
    #[arg(long, value_name = "FOLDER", requires = "on")]
    pub manifests: Vec<PathBuf>,
}

/// What is compared.
struct Subject {
    folder: ModelFolder,
    /// What was extended, if it is another model or has extensions itself.
    pristine: Option<Extended>,
    after: Extended,
    /// The longest context that it was trained on, if that is known.
    window: Option<usize>,
}

/// Compares what `args` names with its base, and prints how far it is from it.
pub(super) fn run(args: &InspectArgs, on: &str, bars: &MultiProgress) -> anyhow::Result<()> {
    let stop = signals::stop_flag()?;
    let control = Control::new(bars.clone(), Arc::clone(&stop));
    let cache = Cache::from_env()?;
    let subject = subject(args, &cache, &control)?;
    let tokenizer = model_source::tokenizer(&subject.folder)?;
    let documents = documents(on, &args.text, &tokenizer, &cache, &control)?;
    let beside = Beside {
        pristine: subject.pristine.as_ref(),
        after: &subject.after,
        tokenizer: &tokenizer,
        window: args.text.window.or(subject.window).unwrap_or(WINDOW),
        tokens_per_batch: TOKENS_PER_BATCH,
    };
    control.check()?;
    let bar = progress::bar(bars, "beside the base");
    let (divergence, sample) = beside.corpus(documents, &stop, &bar)?;
    bar.finish_and_clear();
    let mut out = std::io::stdout().lock();
    if args.json {
        writeln!(out, "{:#}", json!({"on": on, "divergence": divergence, "sample": sample}))?;
        return Ok(());
    }
    writeln!(out, "{} beside its base, on {on}\n", args.path.display())?;
    write!(out, "{}", aligned(&facts(&divergence), &[false, true]))?;
    if !divergence.gates.is_empty() {
        let rows = divergence.gates.iter();
        let rows = rows.map(|g| vec![g.block.to_string(), percent(g.zero_fraction)]);
        let mut table = vec![vec!["block".to_owned(), "gates zero".to_owned()]];
        table.extend(rows);
        write!(out, "\n{}", aligned(&table, &[true, true]))?;
    }
    Ok(())
}

fn subject(args: &InspectArgs, cache: &Cache, control: &Control) -> anyhow::Result<Subject> {
    let &OnArgs { ref model, precision, device, .. } = &args.text;
    let device = neutral_torch::device(device)?;
    if FinishedTrial::folder(&args.path).is_some() {
        let trial = FinishedTrial::open(&args.path)?;
        if model.is_some() {
            let message =
                "--model: a trial is compared with the base that it extends; leave it out";
            return Err(BadInput(message.to_owned()).into());
        }
        let folder = trial.base()?;
        let loading = Loading { base: &folder, device, precision };
        let after = trial.file.after(&trial.folder, loading)?;
        let pristine = trial.file.pristine(&trial.folder, loading)?;
        let window = Some(trial.file.trial.training.sequence_length);
        return Ok(Subject { folder, pristine, after, window });
    }
    let Some(path) = model else {
        let message = format!(
            "{} is no trial, which would know its base; name the base with --model",
            args.path.display()
        );
        return Err(BadInput(message).into());
    };
    let folder = model_source::open_path(path, cache, control)?;
    let (model, _) = Loading { base: &folder, device, precision }.base()?;
    let extension = model_source::open_extension(&args.path, &folder, device)?;
    Ok(Subject { folder, pristine: None, after: (model, extension), window: None })
}

/// At most so many tokens of a file, or of a corpus' test pages.
fn documents(
    on: &str,
    args: &OnArgs,
    tokenizer: &Tokenizer,
    cache: &Cache,
    control: &Control,
) -> anyhow::Result<Vec<EvalDocument>> {
    let (tokens, manifests) = (args.tokens.get(), &args.manifests);
    let path = Path::new(on);
    if path.is_file() {
        let text = std::fs::read_to_string(path).map_err(|e| StoreError::io("read", path, e))?;
        let (id, bytes) = (on.to_owned(), text.len() as u64);
        let document = EvalDocument { id, tokens: tokenizer.encode(&text)?, bytes };
        return Ok(cut(vec![document], tokens));
    }
    let reference = CorpusRef::try_from(on.to_owned())
        .map_err(|e| BadInput(format!("--on: there is no file `{on}`, and as a corpus: {e}")))?;
    let manifests = inputs::manifests(manifests, Path::new("."))?;
    let corpus = prepare(&reference, &manifests, cache, control)?;
    let max_bytes = Some(most_bytes(tokens));
    Ok(cut(evaluation_documents(&corpus, Split::Test, max_bytes, tokenizer)?, tokens))
}

fn facts(divergence: &Divergence) -> Vec<Vec<String>> {
    let mut rows = vec![("tokens", thousands(divergence.tokens))];
    if let Some(prefixes) = divergence.neutral_prefixes {
        rows.push(("neutral prefixes", percent(prefixes.fraction)));
        rows.push(("  violations", thousands(prefixes.violations)));
    }
    rows.push(("same bits", percent(divergence.same_bits_fraction)));
    rows.push(("same top token", percent(divergence.top1_agreement)));
    let kl = divergence.kl_nats;
    let kl = [
        ("KL, mean", kl.mean),
        ("  median", kl.p50),
        ("  p90", kl.p90),
        ("  p99", kl.p99),
        ("  max", kl.max),
    ];
    rows.extend(kl.map(|(name, nats)| (name, nats_of(nats))));
    rows.into_iter().map(|(name, value)| vec![name.to_owned(), value]).collect()
}

fn nats_of(nats: f64) -> String {
    if nats > 0.0 && nats < 1e-3 { format!("{nats:.1e} nats") } else { format!("{nats:.4} nats") }
}

fn percent(share: f64) -> String {
    format!("{:.2} %", 100.0 * share)
}
