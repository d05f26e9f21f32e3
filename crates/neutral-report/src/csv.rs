//! `results.csv`: one row a trial, one column a number, for spreadsheets and data frames.
//!
//! Fields are quoted as RFC 4180 has it; numbers are written in full. Lines end in a plain newline.

use std::fmt::Write;

use crate::Divergence;
use crate::format::unquoted;
use crate::results::{ByCorpus, ByDomain, Metrics, Results, TrialResult};
use crate::series::varied_paths;
use crate::tasks::{ByTask, TaskScore};

/// What a table of results says of every trial, swept or not, by its place in the trial's spec.
const SPEC: [&str; 6] = [
    "size.units",
    "data.original_fraction",
    "training.tokens",
    "training.sequence_length",
    "training.batch_size",
    "training.learning_rate",
];

type Field = fn(&Metrics) -> f64;
type Get<'a> = Box<dyn Fn(&TrialResult) -> Option<String> + 'a>;

/// All trials in the order of the plan, unfinished ones too: their numbers are empty.
pub fn csv(results: &Results) -> String {
    let columns = columns(results);
    let mut out = columns.iter().map(|(name, _)| quoted(name)).collect::<Vec<_>>().join(",");
    out.push('\n');
    for trial in &results.trials {
        let row: Vec<_> =
            columns.iter().map(|(_, get)| quoted(&get(trial).unwrap_or_default())).collect();
        let _ = writeln!(out, "{}", row.join(","));
    }
    out
}

fn columns(results: &Results) -> Vec<(String, Get<'_>)> {
    let mut all: Vec<(String, Get<'_>)> = Vec::new();
    let mut plain = |name: &str, get: fn(&TrialResult) -> Option<String>| {
        all.push((name.to_owned(), Box::new(get)));
    };
    plain("id", |t| Some(t.id.clone()));
    plain("method", |t| Some(t.method.clone()));
    plain("label", |t| Some(t.label.clone()));
    plain("seed", |t| Some(t.seed.to_string()));
    plain("status", |t| Some(t.status.name().to_owned()));
    plain("error", |t| t.error.clone());
    plain("base_parameters", |t| Some(t.parameters.base.to_string()));
    plain("extension_parameters", |t| Some(t.parameters.extension.to_string()));
    plain("trainable_parameters", |t| Some(t.parameters.trainable.to_string()));
    for path in SPEC {
        let get =
            |t: &TrialResult| t.spec.pointer(&format!("/{}", path.replace('.', "/"))).map(unquoted);
        all.push((path.to_owned(), Box::new(get)));
    }
    for path in varied_paths(results).into_iter().filter(|path| !SPEC.contains(path)) {
        let get = move |t: &TrialResult| {
            t.varied().into_iter().find(|(p, _)| *p == path).map(|(_, v)| unquoted(v))
        };
        all.push((path.to_owned(), Box::new(get)));
    }
    for corpus in results.base.metrics.original.keys() {
        let get = |t: &TrialResult| t.forgetting.as_ref()?.get(corpus).map(f64::to_string);
        all.push((format!("forgetting:{corpus}"), Box::new(get)));
    }
    for corpus in results.control.iter().flat_map(|_| results.base.metrics.original.keys()) {
        let get =
            |t: &TrialResult| t.forgetting_from_control.as_ref()?.get(corpus).map(f64::to_string);
        all.push((format!("forgetting_from_control:{corpus}"), Box::new(get)));
    }
    for corpus in results.base.metrics.new.keys() {
        let get = |t: &TrialResult| t.learning.as_ref()?.get(corpus).map(f64::to_string);
        all.push((format!("learning:{corpus}"), Box::new(get)));
    }
    let base = &results.base.metrics;
    push_metrics(&mut all, "original", &base.original, |t| Some(&t.metrics.as_ref()?.original));
    push_metrics(&mut all, "new", &base.new, |t| Some(&t.metrics.as_ref()?.new));
    push_tasks(&mut all, results);
    push_divergence(&mut all, results);
    let mut plain = |name: &str, get: fn(&TrialResult) -> Option<String>| {
        all.push((name.to_owned(), Box::new(get)));
    };
    plain("gate_zero_fraction:original", |t| Some(t.gates_zero()?.original.to_string()));
    plain("gate_zero_fraction:new", |t| Some(t.gates_zero()?.new.to_string()));
    plain("residue_l1:original", |t| Some(t.neutrality.as_ref()?.original.residue_l1.to_string()));
    plain("residue_l1:new", |t| Some(t.neutrality.as_ref()?.new.residue_l1.to_string()));
    plain("tokens", |t| t.tokens.map(|n| n.to_string()));
    plain("tokens_per_second", |t| t.tokens_per_second.map(|n| n.to_string()));
    plain("peak_rss_bytes", |t| t.peak_rss_bytes.map(|n| n.to_string()));
    plain("elapsed_seconds", |t| t.elapsed_seconds.map(|n| n.to_string()));
    plain("fingerprint", |t| t.fingerprint.as_ref().map(ToString::to_string));
    all
}

/// Scores on tasks with their standard errors.
fn push_tasks<'a>(all: &mut Vec<(String, Get<'a>)>, results: &'a Results) {
    let Some(base) = &results.base.tasks else { return };
    let domains: [(&str, &ByTask, fn(&ByDomain<ByTask>) -> &ByTask); 2] =
        [("original", &base.original, |of| &of.original), ("new", &base.new, |of| &of.new)];
    for (domain, tasks, of) in domains {
        for (task, TaskScore { metric, .. }) in tasks {
            let score = move |t: &TrialResult| of(t.tasks.as_ref()?).get(task).cloned();
            let value = move |t: &TrialResult| Some(score(t)?.value.to_string());
            all.push((format!("{metric}:{domain}:{task}"), Box::new(value)));
            let stderr = move |t: &TrialResult| Some(score(t)?.stderr?.to_string());
            all.push((format!("{metric}_stderr:{domain}:{task}"), Box::new(stderr)));
        }
    }
}

/// How far predictions are from the base's, where that was measured.
fn push_divergence<'a>(all: &mut Vec<(String, Get<'a>)>, results: &'a Results) {
    let Some(any) = results.trials.iter().find_map(|t| t.against_base.as_ref()) else { return };
    type Of = fn(&ByDomain<ByCorpus<Divergence>>) -> &ByCorpus<Divergence>;
    let domains: [(&str, Of); 2] = [("original", |of| &of.original), ("new", |of| &of.new)];
    for (domain, of) in domains {
        for corpus in of(&any.divergence).keys() {
            let found = move |t: &'_ TrialResult| {
                of(&t.against_base.as_ref()?.divergence).get(corpus).cloned()
            };
            let kl = move |t: &TrialResult| Some(found(t)?.kl_nats.mean.to_string());
            all.push((format!("kl_nats:{domain}:{corpus}"), Box::new(kl)));
            let agreement = move |t: &TrialResult| Some(found(t)?.top1_agreement.to_string());
            all.push((format!("top1_agreement:{domain}:{corpus}"), Box::new(agreement)));
        }
    }
}

fn push_metrics<'a>(
    all: &mut Vec<(String, Get<'a>)>,
    domain: &str,
    corpora: &'a ByCorpus<Metrics>,
    of: fn(&TrialResult) -> Option<&ByCorpus<Metrics>>,
) {
    const FIELDS: [(&str, Field); 3] = [
        ("bits_per_byte", |m| m.bits_per_byte),
        ("nats_per_token", |m| m.nats_per_token),
        ("perplexity", |m| m.perplexity),
    ];
    for corpus in corpora.keys() {
        for (name, field) in FIELDS {
            let get = move |t: &TrialResult| of(t)?.get(corpus).map(|m| field(m).to_string());
            all.push((format!("{name}:{domain}:{corpus}"), Box::new(get)));
        }
    }
}

/// A field, in quotes if it must be.
fn quoted(field: &str) -> String {
    if field.contains(['"', ',', '\n', '\r']) {
        format!("\"{}\"", field.replace('"', "\"\""))
    } else {
        field.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    #[test]
    fn quick_looks_like_this() {
        insta::assert_snapshot!(csv(&sample::quick()));
    }

    #[test]
    fn forgetting_from_a_control_has_a_column_a_corpus() {
        let text = csv(&sample::control());
        let mut lines = text.lines().map(|line| line.split(',').collect::<Vec<_>>());
        let heads = lines.next().unwrap();
        let at = heads.iter().position(|h| *h == "forgetting_from_control:manpages/en").unwrap();
        let values: Vec<_> = lines.map(|fields| fields[at].to_owned()).collect();
        let lora = sample::control().trials[1].forgetting_from_control.clone().unwrap();
        assert_eq!((values[1].clone(), values[4].as_str()), (lora["manpages/en"].to_string(), ""));
        assert!(!csv(&sample::quick()).contains("control"));
    }

    #[test]
    fn rates_tasks_and_distances_have_columns_swept_or_not() {
        let mut results = sample::against_base();
        let score = |value: f64| TaskScore {
            metric: "acc_norm".to_owned(),
            value,
            stderr: Some(0.01),
            documents: 500,
        };
        let scores = |value| ByDomain {
            original: ByTask::from([("arc_easy".to_owned(), score(value))]),
            new: ByTask::new(),
        };
        results.base.tasks = Some(scores(0.5));
        let trial = results.trials.last_mut().unwrap();
        trial.tasks = Some(scores(0.4));
        trial.spec =
            serde_json::json!({"training": {"learning_rate": 0.008}, "size": {"units": 7}});
        let kl = trial.against_base.as_ref().unwrap().divergence.original[0].kl_nats.mean;
        let corpus = results.base.metrics.original.keys().next().unwrap();
        let text = csv(&results);
        let mut lines = text.lines().map(|line| line.split(',').collect::<Vec<_>>());
        let (heads, last) = (lines.next().unwrap(), lines.next_back().unwrap());
        for (head, expected) in [
            ("training.learning_rate", "0.008".to_owned()),
            ("size.units", "7".to_owned()),
            ("acc_norm:original:arc_easy", "0.4".to_owned()),
            ("acc_norm_stderr:original:arc_easy", "0.01".to_owned()),
            (&format!("kl_nats:original:{corpus}"), kl.to_string()),
        ] {
            let at = heads.iter().position(|found| *found == head).unwrap();
            assert_eq!(last[at], expected, "{head}");
        }
    }

    #[test]
    fn a_field_that_would_break_the_line_is_quoted() {
        let mut results = sample::sweep();
        results.trials[0].label = "ELU, \"soft\"\ngate".to_owned();
        assert!(csv(&results).contains("\"ELU, \"\"soft\"\"\ngate\""));
    }

    #[test]
    fn every_row_has_every_column() {
        let text = csv(&sample::sweep());
        // Outside of quotes, that is in every other piece between them.
        let commas =
            |l: &str| l.split('"').step_by(2).map(|p| p.matches(',').count()).sum::<usize>();
        let columns: Vec<_> = text.lines().map(commas).collect();
        assert!(columns.iter().all(|n| *n == columns[0]), "{columns:?}");
    }
}
