//! `README.md` of an export: where it comes from, what it learned and forgot, how to load it.

use std::fmt::Write as _;
use std::io::Write;
use std::path::Path;

use neutral_report::{BaseResult, ByCorpus, Metrics, TrialResult};
use neutral_spec::{BaseSpec, BranchPlacement, Method, MixedCorpus, ModelSource, Trial};
use neutral_store::write_atomic;

use super::check::Check;
use super::{Export, Format};

/// Writes the card of an export that will lie in `out` to the folder where it is being made.
pub(super) fn write(
    export: &Export,
    check: &Check,
    results: Option<&(BaseResult, TrialResult)>,
    out: &Path,
    folder: &Path,
) -> anyhow::Result<()> {
    let text = card(export, check, results, out);
    Ok(write_atomic(&folder.join("README.md"), |file| file.write_all(text.as_bytes()))?)
}

fn card(
    export: &Export,
    check: &Check,
    results: Option<&(BaseResult, TrialResult)>,
    out: &Path,
) -> String {
    let file = &export.trial.file;
    let Trial { method, size, data, training, seed, label, .. } = &file.trial;
    let mut text = front_matter(export);
    let _ = write!(
        text,
        "# {label}, {}\n\nMade by [neutral](https://github.com/neutral-residues/neutral): a language model extended to a \
         new domain without forgetting the old one. {}\n\n",
        file.experiment,
        what_it_is(export),
    );
    let corpora = |corpora: &[MixedCorpus]| {
        let names: Vec<_> = corpora.iter().map(|corpus| format!("`{corpus}`")).collect();
        if names.is_empty() { "none".to_owned() } else { names.join(", ") }
    };
    let steps = training.steps();
    let _ = write!(
        text,
        "- **base**: {}\n\
         - **data**: original domain {}, new domain {}; share of the original domain in the mix {}\n\
         - **training**: {} tokens in {steps} steps, learning rate {}, seed {seed}, {}\n\
         - **method**: `{}`\n\
         - **weights**: {} added, {} trained; {}\n\
         - **fingerprint**: `{}`, of all that determined the weights\n\n",
        base(export),
        corpora(&data.original),
        corpora(&data.new),
        data.original_fraction,
        steps * training.tokens_per_step(),
        training.learning_rate,
        file.precision.name(),
        serde_json::to_string(method).unwrap_or_default(),
        size.extension_parameters,
        size.trainable_parameters,
        units(method, size.units),
        file.fingerprint,
    );
    if let Some((base, trial)) = results {
        push_results(&mut text, base, trial);
    }
    let _ = write!(text, "## Use\n\n```python\n{}\n```\n\n{check}.\n", usage(export, out));
    text
}

/// What the hub reads of a card.
fn front_matter(export: &Export) -> String {
    let file = &export.trial.file;
    let library = match export.format {
        Format::Peft => "peft",
        Format::Hf => "transformers",
        Format::Neutral => "neutral",
    };
    let mut text = "---\n".to_owned();
    if let Some(repository) = file.base.repository() {
        let relation = if export.format == Format::Hf { "finetune" } else { "adapter" };
        // JSON's quotes are YAML's.
        let _ = writeln!(text, "base_model: {}", serde_json::json!(repository));
        let _ = writeln!(text, "base_model_relation: {relation}");
    }
    let _ = writeln!(text, "library_name: {library}\npipeline_tag: text-generation\ntags:");
    for tag in ["neutral", "model-extension", &file.trial.method.kind().replace('_', "-")] {
        let _ = writeln!(text, "- {tag}");
    }
    text + "---\n\n"
}

fn what_it_is(export: &Export) -> &'static str {
    match (export.format, &export.trial.file.trial.method) {
        (Format::Peft, Method::Dora { .. }) => "This is a DoRA adapter in PEFT's format.",
        (Format::Peft, _) => "This is a LoRA adapter in PEFT's format.",
        (Format::Hf, Method::Lora { .. }) => {
            "This is the whole model, with LoRA merged into its weights."
        }
        (Format::Hf, Method::Dora { .. }) => {
            "This is the whole model, with DoRA merged into its weights."
        }
        (Format::Hf, Method::BlockExpansion { .. }) => {
            "This is the whole model, with new blocks among its own (block expansion)."
        }
        (Format::Hf, Method::Adapter { .. } | Method::NeutralResidues { .. }) => {
            "This is the whole model, with adapters as further units of its feed-forward layers."
        }
        (Format::Hf, _) => "This is the whole fine-tuned model.",
        (Format::Neutral, Method::NeutralResidues { .. }) => {
            "These are neutral residues (Signe Talla, Grave, Jégou, ICML 2025, arXiv 2410.02744), to be put on their base."
        }
        (Format::Neutral, _) => "This is an extension, to be put on its base.",
    }
}

fn base(export: &Export) -> String {
    let config = export.base.config();
    let size = format!(
        "{} weights, family `{}`, width {}, {} blocks, {} tokens",
        config.size().parameters,
        config.model_type,
        config.d_model,
        config.n_layers(),
        config.vocab_size
    );
    let base = &export.trial.file.base;
    let from = match &base.source {
        BaseSpec::Pretrain { corpora, training, .. } => {
            let corpora: Vec<_> = corpora.iter().map(|corpus| format!("`{corpus}`")).collect();
            format!(
                "pretrained by neutral on {} tokens of {}",
                training.steps() * training.tokens_per_step(),
                corpora.join(", ")
            )
        }
        BaseSpec::Load { source } => match source {
            ModelSource::Path { path } => format!("`{path}`"),
            ModelSource::Hub { repo, revision, file: None } => {
                format!("`{repo}`, revision `{revision}`")
            }
            ModelSource::Hub { repo, revision, file: Some(file) } => {
                format!("`{file}` of `{repo}`, revision `{revision}`")
            }
            ModelSource::Pypi { package, version, file, .. } => {
                format!("`{file}` of the Python package `{package}` {version}")
            }
        },
    };
    format!("{from} ({size}); fingerprint `{}`", base.fingerprint)
}

fn units(method: &Method, units: usize) -> String {
    match method {
        Method::Lora { .. } | Method::Dora { .. } => format!("rank {units}"),
        Method::Adapter { .. } | Method::NeutralResidues { .. } => format!("width {units}"),
        Method::BlockExpansion { .. } => format!("{units} new blocks"),
        Method::Finetune {}
        | Method::KlToBase { .. }
        | Method::L2Sp { .. }
        | Method::Ewc { .. }
        | Method::WiseFt { .. } => "the base's own".to_owned(),
    }
}

/// Bits per byte before and after, a corpus a row.
fn push_results(text: &mut String, base: &BaseResult, trial: &TrialResult) {
    let Some(after) = trial.finished() else { return };
    text.push_str(
        "## Results\n\nBits per byte on held-out text. Forgetting is after − before, learning before − after.\n\n\
         | domain | corpus | before | after | forgetting | learning |\n|---|---|---:|---:|---:|---:|\n",
    );
    let mut rows = |domain: &str, before: &ByCorpus<Metrics>, after: &ByCorpus<Metrics>| {
        for (corpus, before) in before {
            let Some(after) = after.get(corpus) else { continue };
            let (before, after) = (before.bits_per_byte, after.bits_per_byte);
            let [forgetting, learning] = match domain {
                "original" => [format!("{:.4}", after - before), String::new()],
                _ => [String::new(), format!("{:.4}", before - after)],
            };
            let _ = writeln!(
                text,
                "| {domain} | `{corpus}` | {before:.4} | {after:.4} | {forgetting} | {learning} |"
            );
        }
    };
    rows("original", &base.metrics.original, &after.original);
    rows("new", &base.metrics.new, &after.new);
    if let Some(zero) = trial.gates_zero() {
        let [original, new] = [zero.original, zero.new].map(|share| share * 100.0);
        let _ = write!(
            text,
            "\nGates are exactly zero at {original:.0} % of tokens of the original domain and at {new:.0} % of the new one \
             (mean over blocks).\n"
        );
    }
    text.push('\n');
}

/// How to load it.
fn usage(export: &Export, out: &Path) -> String {
    let name = out.file_name().unwrap_or_default().to_string_lossy();
    let here = serde_json::json!(format!("path/to/{name}"));
    let of = &export.trial.file.base;
    let base = match (of.repository(), of.revision()) {
        (Some(repository), Some(revision)) => {
            format!("{}, revision={}", serde_json::json!(repository), serde_json::json!(revision))
        }
        _ => "\"path/to/base\"".to_owned(),
    };
    let plain = "from transformers import AutoModelForCausalLM";
    match (export.format, &export.trial.file.trial.method) {
        (Format::Hf, _) => format!("{plain}\n\nmodel = AutoModelForCausalLM.from_pretrained({here})"),
        (Format::Peft, _) => format!(
            "from peft import PeftModel\n{plain}\n\nmodel = AutoModelForCausalLM.from_pretrained({base})\n\
             model = PeftModel.from_pretrained(model, {here})"
        ),
        (Format::Neutral, Method::Lora { .. } | Method::Dora { .. }) => "# LoRA in neutral's own format is for neutral; for Python export it with --format peft or hf".to_owned(),
        (Format::Neutral, Method::BlockExpansion { .. }) => "# new blocks in neutral's own format are for neutral; for Python export them with --format hf".to_owned(),
        (Format::Neutral, Method::NeutralResidues { input_norm: true, .. }) => "# the norm of an adapter's input is not known to neutral_transformers; this extension is for neutral".to_owned(),
        (Format::Neutral, Method::NeutralResidues { placement: BranchPlacement::Both, .. } | Method::Adapter { placement: BranchPlacement::Both, .. }) => "# adapters beside both sub-layers are not known to neutral_transformers; this extension is for neutral".to_owned(),
        (Format::Neutral, _) => format!(
            "from neutral_transformers import load_extension\n{plain}\n\nmodel = AutoModelForCausalLM.from_pretrained({base})\n\
             model = load_extension(model, {here})"
        ),
    }
}
