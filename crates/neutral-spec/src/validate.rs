//! The rules between fields: what each field may be on its own is in the schema ([`crate::schema`]).
//!
//! Paths are those of the trial for [`trial`] (`training.…`, `data.…`, `method.…`) and those of the
//! file for [`experiment`]. An option that would be ignored is an error.

use std::collections::BTreeMap;

use crate::base::{BaseSpec, Shape};
use crate::domains;
use crate::draft::Draft;
use crate::error::Problem;
use crate::experiment::{Experiment, Schedule, TokenizerSpec, TrainingSpec};
use crate::field_path::FieldPath;
use crate::gate::{GateActivation, GatePer, GateSpec};
use crate::local_loss::LocalLossSpec;
use crate::method::Method;
use crate::paper::PaperSpec;
use crate::say::{nearest, quoted};
use crate::sequence;

/// The name of the entry in tables, and the form of it that folders are named by.
pub(crate) fn label(experiment: &Experiment, entry: usize) -> (String, String) {
    let entry = &experiment.methods[entry];
    let label = entry.label.clone().unwrap_or_else(|| entry.method.kind().to_owned());
    let slug = slug(&label);
    (label, slug)
}

/// Lowercase letters, digits and points; everything else becomes one hyphen.
pub(crate) fn slug(text: &str) -> String {
    let mut slug = String::new();
    for c in text.to_lowercase().chars() {
        if c.is_alphanumeric() || c == '.' {
            slug.push(c);
        } else if !slug.is_empty() && !slug.ends_with('-') {
            slug.push('-');
        }
    }
    slug.trim_matches(['-', '.']).to_owned()
}

/// What is wrong outside the trials.
pub(crate) fn experiment(experiment: &Experiment) -> Vec<Problem> {
    let mut found = Vec::new();
    let mut labels = BTreeMap::new();
    let methods = FieldPath::dotted("methods");
    for i in 0..experiment.methods.len() {
        let (label, slug) = label(experiment, i);
        if label.chars().any(char::is_control) {
            let message = format!("found {label:?}, expected one line of text");
            found.push(Problem::new(methods.index(i).key("label"), message));
        } else if slug.is_empty() {
            let message = format!("found {label:?}, expected a label with a letter or a digit");
            found.push(Problem::new(methods.index(i).key("label"), message));
        } else if let Some(first) = labels.insert(slug, i) {
            let message = format!(
                "its label `{label}` makes the same folder name as that of methods[{first}]; give each a `label` of its own"
            );
            found.push(Problem::new(methods.index(i), message));
        }
    }
    sequence::check(experiment, &mut found);
    if let Some(control) = &experiment.control {
        check_control(control, experiment, &mut found);
    }
    if let Some(paper) = &experiment.paper {
        check_paper(paper, experiment, &mut found);
    }
    match (&experiment.base, &experiment.tokenizer) {
        (BaseSpec::Pretrain { shape, training, .. }, tokenizer) => {
            check_shape(shape, &FieldPath::dotted("base.shape"), &mut found);
            check_training(training, &FieldPath::dotted("base.training"), &mut found);
            if matches!(tokenizer, TokenizerSpec::Base { .. }) {
                let message =
                    "a base that is pretrained here brings no tokenizer; train or load one";
                found.push(Problem::new(FieldPath::dotted("tokenizer.kind"), message));
            }
        }
        (BaseSpec::Load { .. }, TokenizerSpec::Train { .. }) => {
            let message = "a base that is loaded knows its own tokens only; write `tokenizer: { kind: base }`, or load the tokenizer that it was trained with";
            found.push(Problem::new(FieldPath::dotted("tokenizer.kind"), message));
        }
        (BaseSpec::Load { .. }, _) => {}
    }
    let evaluation = &experiment.evaluation;
    if evaluation.tasks.as_ref().is_some_and(|t| t.original.is_empty() && t.new.is_empty()) {
        let message = "names no task; fill `original` or `new`, or remove it";
        found.push(Problem::new(FieldPath::dotted("evaluation.tasks"), message));
    }
    let path = FieldPath::dotted("evaluation.new");
    domains::disjoint("corpus", &evaluation.original, &evaluation.new, &path, &mut found);
    if let Some(tasks) = &evaluation.tasks {
        let path = FieldPath::dotted("evaluation.tasks.new");
        domains::disjoint("task", &tasks.original, &tasks.new, &path, &mut found);
    }
    found
}

/// What is wrong with a trial.
pub(crate) fn trial(draft: &Draft) -> Vec<Problem> {
    let mut found = Vec::new();
    check_training(&draft.training, &FieldPath::dotted("training"), &mut found);
    domains::check(&draft.data, &draft.training, &mut found);
    if let Method::NeutralResidues { gate, local_loss, .. } = &draft.method {
        check_gate(*gate, *local_loss, &mut found);
        check_window(*gate, &draft.training, &mut found);
        check_classes(*local_loss, draft.data.original_fraction, &mut found);
    }
    if draft.data.original_fraction == 0.0 {
        let unfed = match &draft.method {
            Method::NeutralResidues { local_loss, .. } if local_loss.is_of_original() => {
                let kind = local_loss.kind().unwrap_or_default();
                let message = format!(
                    "the {kind} loss is over tokens of the original domain, of which `data.original_fraction: 0` leaves none; write `local_loss: {{ kind: none }}`"
                );
                Some(("method.local_loss", message))
            }
            Method::KlToBase { .. } | Method::Ewc { .. } => Some((
                "method",
                "holds on to the original domain, of which `data.original_fraction: 0` leaves no text; raise it, or write `kind: finetune`".to_owned(),
            )),
            _ => None,
        };
        found.extend(unfed.map(|(path, message)| Problem::new(FieldPath::dotted(path), message)));
    }
    found
}

/// The control is one of the methods, and each of its seeds is one trial.
fn check_control(control: &str, experiment: &Experiment, found: &mut Vec<Problem>) {
    let entry = match labelled(control, experiment) {
        Ok(entry) => entry,
        Err(message) => return found.push(Problem::new(FieldPath::dotted("control"), message)),
    };
    let problems = once_a_seed(experiment, entry).into_iter();
    found.extend(problems.map(|message| Problem::new(FieldPath::dotted("control"), message)));
}

/// The entry of a label, or why there is none.
fn labelled(wanted: &str, experiment: &Experiment) -> Result<usize, String> {
    let labels: Vec<_> = (0..experiment.methods.len()).map(|i| label(experiment, i).0).collect();
    let labels: Vec<_> = labels.iter().map(String::as_str).collect();
    let found = labels.iter().position(|label| *label == wanted);
    found.ok_or_else(|| no_label(wanted, "no method", &labels))
}

/// That none of some methods has a label, with those that they have.
pub(crate) fn no_label(wanted: &str, methods: &str, labels: &[&str]) -> String {
    let hint = nearest(wanted, labels.iter().copied());
    let hint = hint.map_or(String::new(), |label| format!("; did you mean `{label}`?"));
    let labels = match labels {
        [] => "there is none".to_owned(),
        labels => format!("the labels: {}", quoted(labels)),
    };
    format!("{methods} has the label `{wanted}`{hint} ({labels})")
}

/// What makes more than one trial a seed of an entry that another part of the file points at.
pub(crate) fn once_a_seed(experiment: &Experiment, entry: usize) -> Vec<String> {
    let label = label(experiment, entry).0;
    let remedies = [
        (experiment.methods[entry].sweep.is_some(), format!("remove methods[{entry}].sweep")),
        (
            experiment.sweep.is_some(),
            "put `sweep` into each of the other methods instead".to_owned(),
        ),
    ];
    let swept = remedies.into_iter().filter(|(swept, _)| *swept);
    let message = |remedy| format!("`{label}` is swept, expected one trial a seed; {remedy}");
    swept.map(|(_, remedy)| message(remedy)).collect()
}

/// Figures are of methods, and ratios need something to divide by.
fn check_paper(paper: &PaperSpec, experiment: &Experiment, found: &mut Vec<Problem>) {
    let path = FieldPath::dotted("paper.figures");
    let unknown =
        paper.figures.keys().filter_map(|label| Some((label, labelled(label, experiment).err()?)));
    found.extend(unknown.map(|(label, message)| Problem::new(path.key(label), message)));
    match paper.figures.get("adapter") {
        None => {
            found.push(Problem::new(path, "`adapter` is missing, which the others are divided by"));
        }
        Some(adapter) if adapter.forgetting == 0.0 || adapter.learning == 0.0 => {
            let message = "found a 0, expected numbers that the others can be divided by";
            found.push(Problem::new(path.key("adapter"), message));
        }
        Some(_) => {}
    }
}

fn check_shape(shape: &Shape, path: &FieldPath, found: &mut Vec<Problem>) {
    let Shape { d_model, n_heads, n_kv_heads, .. } = *shape;
    let mut problem = |key, message| found.push(Problem::new(path.key(key), message));
    if !d_model.is_multiple_of(n_heads) {
        problem("n_heads", format!("{n_heads} heads do not divide d_model = {d_model}"));
    } else if !(d_model / n_heads).is_multiple_of(2) {
        let head_dim = d_model / n_heads;
        problem(
            "n_heads",
            format!(
                "d_model / n_heads = {head_dim} is odd, but rotary positions turn pairs; expected an even number"
            ),
        );
    }
    if !n_heads.is_multiple_of(n_kv_heads) {
        problem("n_kv_heads", format!("{n_kv_heads} does not divide n_heads = {n_heads}"));
    }
}

fn check_training(training: &TrainingSpec, path: &FieldPath, found: &mut Vec<Problem>) {
    let batch = training.batch_size;
    if let Some(micro) = training.micro_batch_size
        && !batch.is_multiple_of(micro)
    {
        let message = format!("{micro} does not divide batch_size = {batch}");
        found.push(Problem::new(path.key("micro_batch_size"), message));
    }
    if let Schedule::WarmupStableDecay { warmup_fraction: warmup, decay_fraction: decay, .. } =
        training.schedule
        && warmup + decay > 1.0
    {
        let message =
            format!("warmup_fraction {warmup} and decay_fraction {decay} are more than 1 together");
        found.push(Problem::new(path.key("schedule"), message));
    }
}

fn check_gate(gate: GateSpec, local_loss: LocalLossSpec, found: &mut Vec<Problem>) {
    let path = FieldPath::dotted("method.gate");
    for (field, _, why) in gate.ignored() {
        let message = format!("a gate of activation `none` {why}; remove it");
        found.push(Problem::new(path.key(field), message));
    }
    let GateSpec { activation, per, .. } = gate;
    let misfit = match local_loss {
        LocalLossSpec::DomainClassifier { .. }
            if activation != GateActivation::Sigmoid || per != GatePer::Token =>
        {
            "the local loss `domain_classifier` reads the gate as a probability; expected `gate: { activation: sigmoid, per: token }`"
        }
        LocalLossSpec::L0 { .. } if activation != GateActivation::HardSigmoid => {
            "the local loss `l0` counts gates that can be exactly 0 and 1; expected `gate: { activation: hard_sigmoid }`"
        }
        LocalLossSpec::GateL1 { .. } if activation == GateActivation::None => {
            "the local loss `gate_l1` is of the gate, and there is none; expected another activation, or `local_loss: { kind: l1, … }`"
        }
        _ => return,
    };
    found.push(Problem::new(path, misfit));
}

/// In training no passage is longer than a sequence.
fn check_window(gate: GateSpec, training: &TrainingSpec, found: &mut Vec<Problem>) {
    let longest = training.sequence_length;
    if let Some(window) = gate.window
        && window > longest
    {
        let message =
            format!("{window} tokens, but training sequences have {longest}; expected no more");
        found.push(Problem::new(FieldPath::dotted("method.gate.window"), message));
    }
}

/// A classifier needs both domains.
fn check_classes(local_loss: LocalLossSpec, p: f64, found: &mut Vec<Problem>) {
    if matches!(local_loss, LocalLossSpec::DomainClassifier { .. }) && (p == 0.0 || p == 1.0) {
        let message = format!(
            "the local loss `domain_classifier` tells two domains apart, and `data.original_fraction: {p}` leaves one"
        );
        found.push(Problem::new(FieldPath::dotted("method.local_loss"), message));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use GateActivation::{HardSigmoid, None as Off, Relu, Sigmoid};

    #[test]
    fn a_slug_is_fit_for_a_folder() {
        assert_eq!(slug("neutral_residues"), "neutral-residues");
        assert_eq!(slug(" LoRA, r=8 (α 0.5) "), "lora-r-8-α-0.5");
        assert_eq!(slug("../..//"), "");
    }

    #[test]
    fn each_local_loss_gets_the_gate_that_it_needs_and_no_gate_has_no_options() {
        let spec =
            |activation, per, bias| GateSpec { activation, per, bias, shared: false, window: None };
        let problems = |gate, loss| {
            let mut found = Vec::new();
            check_gate(gate, loss, &mut found);
            found.len()
        };
        let count = |activation, per, bias, loss| problems(spec(activation, per, bias), loss);
        let classifier = LocalLossSpec::DomainClassifier { weight: 1.0, warmup_fraction: None };
        assert_eq!(count(Sigmoid, GatePer::Token, Some(1.0), classifier), 0);
        assert_eq!(count(Sigmoid, GatePer::Channel, None, classifier), 1);
        assert_eq!(count(Relu, GatePer::Token, None, classifier), 1);
        assert_eq!(count(Off, GatePer::Token, None, LocalLossSpec::default()), 0);
        assert_eq!(count(Off, GatePer::Channel, Some(0.0), LocalLossSpec::default()), 2);
        let shared =
            |activation| GateSpec { shared: true, ..spec(activation, GatePer::Token, None) };
        assert_eq!(problems(shared(Relu), LocalLossSpec::default()), 0);
        assert_eq!(problems(shared(Off), LocalLossSpec::default()), 1);
        let windowed = |activation, window| {
            let gate = spec(activation, GatePer::Token, None);
            problems(GateSpec { window: Some(window), ..gate }, LocalLossSpec::default())
        };
        assert_eq!(windowed(Relu, 2), 0);
        assert_eq!(windowed(Off, 2), 1);
        let l0 = LocalLossSpec::L0 { weight: 1.0, warmup_fraction: Some(0.5) };
        assert_eq!(count(HardSigmoid, GatePer::Channel, None, l0), 0);
        assert_eq!(count(Sigmoid, GatePer::Token, None, l0), 1);
        let gate_l1 = LocalLossSpec::GateL1 { weight: 1.0, warmup_fraction: None };
        assert_eq!(count(Relu, GatePer::Token, None, gate_l1), 0);
        assert_eq!(count(Off, GatePer::Token, None, gate_l1), 1);
        let kl = LocalLossSpec::Kl { weight: 1.0, warmup_fraction: None };
        assert_eq!(count(Off, GatePer::Token, None, kl), 0);
    }

    #[test]
    fn heads_divide_the_width_into_even_parts() {
        let paths = |d_model, n_heads, n_kv_heads| {
            let shape = Shape {
                d_model,
                n_layers: 1,
                n_heads,
                n_kv_heads,
                d_ff: 8,
                tie_embeddings: true,
                rope_theta: 1e4,
                norm_epsilon: 1e-5,
            };
            let mut found = Vec::new();
            check_shape(&shape, &FieldPath::default(), &mut found);
            found.iter().map(|p| p.message.clone()).collect::<Vec<_>>()
        };
        assert_eq!(paths(192, 4, 2), [""; 0]);
        assert_eq!(paths(190, 4, 2), ["4 heads do not divide d_model = 190"]);
        assert!(paths(12, 4, 2)[0].contains("= 3 is odd"));
        assert_eq!(paths(192, 4, 3), ["3 does not divide n_heads = 4"]);
    }
}
