//! From what the user wrote to what it means: methods × sweeps × seeds, budgets solved.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use neutral_store::Fingerprint;

use crate::base::BaseSpec;
use crate::corpus_ref::CorpusRef;
use crate::domains;
use crate::draft::{Draft, origin, to_value};
use crate::error::{Problem, SpecError};
use crate::evaluation::EvaluationSpec;
use crate::experiment::{Experiment, TokenizerSpec};
use crate::field_path::FieldPath;
use crate::plan::{self, Evaluation, Plan, Trial};
use crate::schema::Schema;
use crate::sequence;
use crate::size::{ModelSize, solve};
use crate::sweep::{Setting, points};
use crate::validate::{self, label, slug};

/// What is known of the files that an experiment names, once they have been read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    /// Of the tokenizer to load.
    pub vocab_size: Option<usize>,
    /// Of the base to load.
    pub base: Option<ModelSize>,
}

/// The plan that an experiment means.
///
/// The base's size decides what a budget is a share of. That of a base to pretrain follows from its
/// shape and from the vocabulary; what has to be loaded is passed in.
///
/// # Errors
/// Everything that is wrong with the experiment, budgets too small for one unit included; without a
/// file's lines, see [`SpecError::located`].
pub fn resolve(experiment: &Experiment, loaded: Loaded) -> Result<Plan, SpecError> {
    let invalid = |problems| SpecError::Invalid { problems };
    let Some(model) = model_size(experiment, loaded) else {
        let path = match &experiment.base {
            BaseSpec::Load { .. } if loaded.base.is_none() => "base.source",
            _ => "tokenizer.path",
        };
        return Err(invalid(vec![Problem::new(
            FieldPath::dotted(path),
            "the budgets depend on the size of what is loaded; load it first",
        )]));
    };
    let drafts = drafts(experiment).map_err(invalid)?;
    let trials = size_all(experiment, drafts, &model).map_err(invalid)?;
    let evaluation = &experiment.evaluation;
    Ok(Plan {
        experiment: experiment.experiment.clone(),
        question: experiment.question.clone(),
        if_unavailable: experiment.if_unavailable.clone(),
        tokenizer: experiment.tokenizer.clone(),
        base: experiment.base.clone(),
        precision: experiment.precision,
        control: experiment.control.clone(),
        paper: experiment.paper.clone(),
        trials,
        evaluation: Evaluation {
            split: evaluation.split,
            original: evaluation.original.clone(),
            new: evaluation.new.clone(),
            max_bytes: evaluation.max_bytes,
            window: evaluation.window.unwrap_or(experiment.training.sequence_length),
        },
        neutrality_tokens: evaluation.neutrality_tokens,
        tasks: evaluation.tasks.clone(),
        checkpoint_every_steps: experiment.checkpoint_every_steps,
    })
}

/// All that can be found wrong without loading anything.
pub(crate) fn problems(experiment: &Experiment) -> Vec<Problem> {
    let found =
        drafts(experiment).and_then(|drafts| match model_size(experiment, Loaded::default()) {
            Some(model) => size_all(experiment, drafts, &model),
            None => Ok(Vec::new()),
        });
    found.err().unwrap_or_default()
}

/// Every corpus that an experiment reads, sorted, each once: as [`Plan::corpora`], before anything is loaded.
///
/// # Errors
/// Everything that is wrong with the experiment so far.
pub fn corpora(experiment: &Experiment) -> Result<Vec<CorpusRef>, SpecError> {
    let drafts = drafts(experiment).map_err(|problems| SpecError::Invalid { problems })?;
    let read = drafts.iter().map(|point| &point.draft.data);
    let EvaluationSpec { original, new, .. } = &experiment.evaluation;
    Ok(plan::corpora(&experiment.tokenizer, &experiment.base, read, [original, new]))
}

/// The base's size, if what it depends on is known.
pub fn model_size(experiment: &Experiment, loaded: Loaded) -> Option<ModelSize> {
    let BaseSpec::Pretrain { shape, .. } = &experiment.base else { return loaded.base };
    let vocab_size = match &experiment.tokenizer {
        TokenizerSpec::Train { vocab_size, .. } => Some(*vocab_size),
        TokenizerSpec::Load { .. } | TokenizerSpec::Base { .. } => loaded.vocab_size,
    };
    vocab_size.map(|vocab_size| shape.size(vocab_size))
}

/// A trial of one entry, for every seed, before its size is known.
struct Point {
    entry: usize,
    settings: Vec<Setting>,
    draft: Draft,
}

fn drafts(experiment: &Experiment) -> Result<Vec<Point>, Vec<Problem>> {
    let mut found = Schema::of::<Experiment>().check(&to_value(experiment));
    if !found.is_empty() {
        return Err(found);
    }
    found = validate::experiment(experiment);
    let schema = Schema::of::<Draft>();
    let mut drafts = Vec::new();
    for entry in 0..experiment.methods.len() {
        let of_entry = points(experiment, entry, &schema)
            .and_then(|points| drafts_of(experiment, entry, points, &schema));
        match of_entry {
            Ok(of_entry) => drafts.extend(of_entry),
            // What methods have in common would be said once for each.
            Err(new) => {
                let new: Vec<_> = new.into_iter().filter(|p| !found.contains(p)).collect();
                found.extend(new);
            }
        }
    }
    if found.is_empty() { Ok(drafts) } else { Err(found) }
}

fn drafts_of(
    experiment: &Experiment,
    entry: usize,
    points: Vec<Vec<Setting>>,
    schema: &Schema,
) -> Result<Vec<Point>, Vec<Problem>> {
    let unswept = Draft::of(experiment, entry);
    let mut seen = BTreeSet::new();
    let mut drafts = Vec::new();
    for settings in points {
        let draft = unswept.with(&settings, schema).map_err(|problems| {
            // What is wrong without the sweep too is not the sweep's fault.
            let always = unswept.with(&[], schema).err().unwrap_or_default();
            let place = |p: Problem| {
                let settings = if always.contains(&p) { &[] } else { settings.as_slice() };
                Problem {
                    path: origin(&p.path, settings, experiment, entry),
                    message: format!("{}{}", p.message, with_settings(settings)),
                    ..p
                }
            };
            problems.into_iter().map(place).collect::<Vec<_>>()
        })?;
        if experiment.methods[entry].after.is_none() {
            let crossed = domains::crossed(&draft.data, &experiment.evaluation);
            if !crossed.is_empty() {
                let place = |p: Problem| Problem {
                    path: origin(&p.path, &settings, experiment, entry),
                    ..p
                };
                return Err(crossed.into_iter().map(place).collect());
            }
        } else if let Some(message) = sequence::misfit(experiment, entry, &draft.method) {
            let path = FieldPath::dotted("methods").index(entry).key("after");
            let message = format!("{message}{}", with_settings(&settings));
            return Err(vec![Problem::new(path, message)]);
        }
        if !seen.insert(to_value(&draft).to_string()) {
            let path = settings.last().map_or_else(FieldPath::default, |s| s.path.clone());
            let message = format!("the same trial twice{}", with_settings(&settings));
            return Err(vec![Problem::new(path, message)]);
        }
        drafts.push(Point { entry, settings, draft });
    }
    Ok(drafts)
}

fn size_all(
    experiment: &Experiment,
    points: Vec<Point>,
    model: &ModelSize,
) -> Result<Vec<Trial>, Vec<Problem>> {
    let mut found: Vec<Problem> = Vec::new();
    let mut trials = Vec::new();
    for Point { entry, settings, draft } in points {
        let size = match solve(&draft.method, model) {
            Ok(size) => size,
            Err(message) => {
                let path = FieldPath::dotted("method.budget");
                let path = origin(&path, &settings, experiment, entry);
                let problem = Problem::new(path, message);
                if !found.contains(&problem) {
                    found.push(problem);
                }
                continue;
            }
        };
        let (label, slug) = label(experiment, entry);
        let name = name(&slug, &settings);
        let varied: Vec<_> =
            settings.into_iter().map(|setting| (setting.key, setting.value)).collect();
        trials.extend(experiment.seeds.iter().map(|&seed| Trial {
            id: format!("{name}-s{seed}"),
            label: label.clone(),
            varied: varied.clone(),
            seed,
            after: None,
            method: draft.method.clone(),
            size,
            data: draft.data.clone(),
            training: draft.training.clone(),
        }));
    }
    if found.is_empty() {
        tell_apart(&mut trials);
        sequence::link(experiment, &mut trials);
        Ok(trials)
    } else {
        Err(found)
    }
}

/// `neutral-residues-learning-rate-0.002`: keys by their last word, by all words where that is shared.
fn name(slug: &str, settings: &[Setting]) -> String {
    let last = |key: &str| key.rsplit('.').next().unwrap_or_default().to_owned();
    let mut name = slug.to_owned();
    for Setting { key, value, .. } in settings {
        let shared = settings.iter().filter(|s| last(&s.key) == last(key)).count() > 1;
        let short = if shared { key.clone() } else { last(key) };
        let short = short.replace(['.', '_'], "-");
        name = format!("{name}-{short}-{}", in_a_name(value));
    }
    name
}

fn in_a_name(value: &Value) -> String {
    match value {
        Value::Number(n) => n.to_string(),
        Value::String(text) => self::slug(text),
        Value::Object(map) => {
            // What kind it is first, then the rest by name.
            let kind = map.get("kind").map(in_a_name);
            let rest = map.iter().filter(|(key, _)| *key != "kind");
            let rest = rest.map(|(k, v)| format!("{}-{}", self::slug(k), in_a_name(v)));
            kind.into_iter().chain(rest).collect::<Vec<_>>().join("-")
        }
        Value::Array(list) => list.iter().map(in_a_name).collect::<Vec<_>>().join("-"),
        other => other.to_string(),
    }
}

/// Long names are cut and, as those that came out equal, get digits: of the label and of what is varied, which all
/// seeds have in common, for by their name they are put together.
fn tell_apart(trials: &mut [Trial]) {
    const LONGEST: usize = 120;
    let mut count: BTreeMap<String, usize> = BTreeMap::new();
    for trial in trials.iter() {
        *count.entry(trial.id.clone()).or_default() += 1;
    }
    for trial in trials {
        let name = trial.id.rsplit_once("-s").map_or("", |(name, _)| name);
        if count[&trial.id] > 1 || name.len() > LONGEST {
            let short = &name[..name.floor_char_boundary(LONGEST / 4 * 3)];
            let digits = Fingerprint::of(&(&trial.label, &trial.varied));
            trial.id = format!("{short}-{digits}-s{}", trial.seed);
        }
    }
}

fn with_settings(settings: &[Setting]) -> String {
    if settings.is_empty() {
        return String::new();
    }
    let each: Vec<_> = settings.iter().map(|s| format!("{} = {}", s.key, s.value)).collect();
    format!(" (in the trial with {})", each.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn settings(of: &[(&str, Value)]) -> Vec<Setting> {
        let setting = |(key, value): &(&str, Value)| Setting {
            key: (*key).to_owned(),
            value: value.clone(),
            path: FieldPath::default(),
        };
        of.iter().map(setting).collect()
    }

    #[test]
    fn a_trial_is_named_by_what_varies() {
        let one = settings(&[("training.learning_rate", json!(0.002))]);
        assert_eq!(name("lora", &one), "lora-learning-rate-0.002");
        let shared = settings(&[("method.gate.x", json!(-1)), ("training.x", json!(true))]);
        assert_eq!(name("a", &shared), "a-method-gate-x--1-training-x-true");
        let whole = settings(&[("method.local_loss", json!({"weight": 1, "kind": "l1"}))]);
        assert_eq!(name("a", &whole), "a-local-loss-l1-weight-1");
        let list = settings(&[("data.new", json!(["a/fr", "b/de"]))]);
        assert_eq!(name("a", &list), "a-new-a-fr-b-de");
    }
}
