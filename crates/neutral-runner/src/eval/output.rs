//! Result files in the harness's schema: `results_TIME.json` and `samples_TASK_TIME.jsonl`.

use std::io::Write;
use std::path::{Path, PathBuf};

use indexmap::IndexMap;
use neutral_store::{write_atomic, write_json};
use neutral_tasks::{Selection, Task, Value};
use serde_json::{Map, json};

use super::evaluate::Evaluated;

/// What a run says of itself, beside its scores.
pub(crate) struct Envelope {
    pub config: serde_json::Value,
    /// What only this program says: rules, failures.
    pub own: serde_json::Value,
    pub model_name: String,
    pub prefix: (String, u32),
    pub max_length: usize,
    pub git: Option<String>,
    pub started: jiff::Timestamp,
    pub seconds: f64,
}

/// The results of all tasks that did not fail, and of their groups.
pub(crate) fn results(
    selection: &Selection,
    done: &IndexMap<String, Evaluated>,
    envelope: &Envelope,
) -> serde_json::Value {
    let mut results = Map::new();
    for (name, evaluated) in done {
        results.insert(name.clone(), json!(evaluated.result));
    }
    let mut groups = Map::new();
    for (name, (group, below)) in &selection.groups {
        let members: Vec<_> = below.iter().filter_map(|task| done.get(task)).collect();
        // A mean over some of its tasks is not the group's.
        if members.len() == below.len() {
            let members: Vec<_> = members.iter().map(|evaluated| &evaluated.result).collect();
            let result = json!(group.aggregate(&members));
            if group.has_score() {
                groups.insert(name.clone(), result.clone());
            }
            results.insert(name.clone(), result);
        }
    }
    let tasks = || done.iter().map(|(name, evaluated)| (name, evaluated, &selection.tasks[name]));
    let by_task = |of: &dyn Fn(&Evaluated, &Task) -> serde_json::Value| -> Map<_, _> {
        tasks().map(|(name, evaluated, task)| (name.clone(), of(evaluated, task))).collect()
    };
    let mut versions = by_task(&|_, task| json!(task.version()));
    for (name, (group, _)) in &selection.groups {
        versions.insert(name.clone(), json!(group.version));
    }
    let members = selection.groups.iter();
    let members: Map<_, _> =
        members.map(|(name, (group, _))| (name.clone(), json!(group.members))).collect();
    let mut all = json!({
        "results": results,
        "group_subtasks": members,
        "configs": by_task(&|evaluated, task| config(evaluated, task)),
        "versions": versions,
        "n-shot": shots(selection, done),
        "higher_is_better": higher_is_better(selection, done),
        "n-samples": by_task(&|evaluated, _| json!({
            "original": evaluated.documents,
            "effective": evaluated.result.sample_len,
        })),
        "config": envelope.config,
        "git_hash": envelope.git,
        "date": envelope.started.as_microsecond() as f64 / 1e6,
        "tokenizer_bos_token": [envelope.prefix.0, envelope.prefix.1.to_string()],
        "max_length": envelope.max_length,
        "task_hashes": by_task(&|evaluated, _| json!(Task::hash(&evaluated.samples))),
        "model_source": "neutral",
        "model_name": envelope.model_name,
        "model_name_sanitized": sanitized(&envelope.model_name),
        "total_evaluation_time_seconds": envelope.seconds.to_string(),
        "neutral": envelope.own,
    });
    if !groups.is_empty() {
        all["groups"] = groups.into();
    }
    all
}

/// Examples before each document, of tasks and of groups whose own tasks all have as many; as in the harness,
/// groups within a group have no say.
pub(super) fn shots(
    selection: &Selection,
    done: &IndexMap<String, Evaluated>,
) -> IndexMap<String, usize> {
    let task = |(name, evaluated): (&String, &Evaluated)| (name.clone(), evaluated.shots);
    let mut shots: IndexMap<_, _> = done.iter().map(task).collect();
    for (name, (group, _)) in &selection.groups {
        let mut members = group.members.iter().filter_map(|member| Some(done.get(member)?.shots));
        if let Some(first) = members.next().filter(|first| members.all(|other| other == *first)) {
            shots.insert(name.clone(), first);
        }
    }
    shots
}

/// Whether more is better, by metric, of tasks and of groups; null where a group's own tasks disagree.
pub(super) fn higher_is_better(
    selection: &Selection,
    done: &IndexMap<String, Evaluated>,
) -> IndexMap<String, IndexMap<String, Option<bool>>> {
    let mut all: IndexMap<String, IndexMap<String, Option<bool>>> = IndexMap::new();
    for name in done.keys() {
        let metrics = selection.tasks[name].higher_is_better().into_iter();
        all.insert(name.clone(), metrics.map(|(metric, more)| (metric, Some(more))).collect());
    }
    for (name, (group, _)) in &selection.groups {
        let mut metrics: IndexMap<String, Option<bool>> = IndexMap::new();
        let tasks = group.members.iter().filter(|member| done.contains_key(*member));
        for (metric, more) in tasks.filter_map(|task| all.get(task)).flatten() {
            let known = metrics.entry(metric.clone()).or_insert(*more);
            if known != more {
                *known = None;
            }
        }
        if !metrics.is_empty() {
            all.insert(name.clone(), metrics);
        }
    }
    all
}

/// What the task's file says, and what was made of it.
fn config(evaluated: &Evaluated, task: &Task) -> serde_json::Value {
    let mut config = json!(task.config());
    config["num_fewshot"] = json!(evaluated.shots);
    if !config["metadata"].is_object() {
        config["metadata"] = json!({});
    }
    config["metadata"]["config_source"] = json!(task.path().display().to_string());
    config
}

/// Writes the files below `out`, in a folder that is named after the model, as the harness does.
pub(crate) fn write(
    out: &Path,
    results: &serde_json::Value,
    done: &IndexMap<String, Evaluated>,
    samples: bool,
    envelope: &Envelope,
) -> anyhow::Result<PathBuf> {
    let folder = out.join(sanitized(&envelope.model_name));
    let time = envelope.started.strftime("%Y-%m-%dT%H-%M-%S%.6f");
    if samples {
        for (name, evaluated) in done {
            let path = folder.join(format!("samples_{}_{time}.jsonl", sanitized(name)));
            write_atomic(&path, |file| {
                evaluated.samples.iter().try_for_each(|sample| writeln!(file, "{}", sample.line))
            })?;
        }
    }
    let path = folder.join(format!("results_{time}.json"));
    write_json(&path, results)?;
    Ok(path)
}

/// A name without what folders cannot have, as the harness has it, but not hidden where a path begins with a dot.
fn sanitized(name: &str) -> String {
    let mut clean = String::new();
    let mut replaced = false;
    for c in name.chars() {
        let bad = "\"<>:/|\\?*[]".contains(c);
        if !bad {
            clean.push(c);
        } else if !replaced {
            clean.push_str("__");
        }
        replaced = bad;
    }
    if clean.starts_with('.') { clean.trim_start_matches(['.', '_']).to_owned() } else { clean }
}

/// A version as tables show it.
pub(crate) fn shown(version: &Value) -> String {
    version.as_text().map_or_else(|| version.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use neutral_tasks::{Library, Score, TaskResult};

    use super::*;

    fn evaluated(name: &str) -> Evaluated {
        Evaluated {
            result: TaskResult {
                name: name.to_owned(),
                alias: name.to_owned(),
                sample_len: 1,
                metrics: IndexMap::from([("acc,none".to_owned(), Score::Number(1.0))]),
            },
            samples: Vec::new(),
            right: IndexMap::new(),
            shots: 0,
            documents: 1,
        }
    }

    /// As `_to_eval_results` of the harness: children by their names, and under `groups` those with scores.
    #[test]
    fn groups_are_told_with_what_their_names_stand_for() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            std::fs::write(folder.path().join(format!("{name}.yaml")), text).unwrap();
        };
        for name in ["a", "b"] {
            let rest = "tag: one\ndataset_path: us/set\ntest_split: test\noutput_type: multiple_choice\n\
                doc_to_text: q\ndoc_to_choice: [x, y]\ndoc_to_target: 0\n";
            write(name, &format!("task: {name}\n{rest}"));
        }
        let scored = "{group: s, task: [one], aggregate_metric_list: [{metric: acc}]}";
        write("g", &format!("group: g\ntask: [{scored}, one, a]\n"));
        let library = Library::open(&[folder.path().to_path_buf()]).unwrap();
        let selection = library.select(&["g"]).unwrap();
        let done = ["a", "b"].map(|name| (name.to_owned(), evaluated(name)));
        let envelope = Envelope {
            config: json!({}),
            own: json!({}),
            model_name: "m".to_owned(),
            prefix: (String::new(), 0),
            max_length: 1,
            git: None,
            started: jiff::Timestamp::UNIX_EPOCH,
            seconds: 0.0,
        };
        let all = results(&selection, &IndexMap::from(done), &envelope);
        assert_eq!(all["group_subtasks"], json!({"g::s": ["a", "b"], "g": ["g::s", "a", "b"]}));
        let groups: Vec<_> = all["groups"].as_object().unwrap().keys().collect();
        assert_eq!(groups, ["g::s"]);
        assert_eq!(all["results"]["g"], json!({"alias": "g", "name": "g"}));
        assert_eq!(all["n-shot"]["g"], 0);
        assert_eq!(all["higher_is_better"]["g"]["acc"], true);
    }

    #[test]
    fn names_of_models_become_names_of_folders_as_in_the_harness() {
        assert_eq!(sanitized("org/model"), "org__model");
        assert_eq!(sanitized("/a//b:c*"), "__a__b__c__");
        assert_eq!(sanitized("../a/b.c"), "a__b.c");
    }
}
