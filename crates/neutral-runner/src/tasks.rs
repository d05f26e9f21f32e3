//! The tasks of an experiment: found and read before anything is trained, scored for the base and for
//! every trial.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use indexmap::IndexMap;
use indicatif::MultiProgress;
use neutral_check::AllAnswers;
use neutral_data::Control;
use neutral_eval::BatchSize;
use neutral_report::{ByDomain, ByTask, TaskScore};
use neutral_spec::{TasksSpec, Trial};
use neutral_store::{Cache, Fingerprint, StoreError, read_json, write_json};
use neutral_tasks::{FEWSHOT_SEED, Library, RequestOptions, Score, Selection, Splits};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::answers;
use crate::eval::{
    Evaluated, Evaluation, LanguageModel, Parts, RequestTokenizer, RuleOptions, Sources,
};
use crate::exit::{BadInput, is_interrupted};
use crate::trial::{ANSWERS, Shared, TASKS};

/// Raised when the same answers would give other scores.
const TASKS_VERSION: u32 = 1;

/// `tasks.json`: scores that were made from the same are not asked for again.
#[derive(Debug, Serialize, Deserialize)]
struct TasksRecord {
    fingerprint: Fingerprint,
    scores: ByDomain<ByTask>,
}

/// Means alone have a standard error in a report: a perplexity's bootstraps would take longer than scoring.
const BOOTSTRAPS: Option<usize> = Some(0);

/// The tasks of an experiment with their documents.
pub(crate) struct Tasks {
    selection: Selection,
    splits: IndexMap<String, Splits>,
    /// Names of tasks and groups, each with a row in the report.
    names: ByDomain<Vec<String>>,
    requests: RequestOptions,
    rules: RuleOptions,
    limit: Option<usize>,
    cache: Cache,
    /// Of all that scores are determined by, but for the model.
    fingerprint: Fingerprint,
}

impl Tasks {
    /// Reads the task files and documents that a plan names; paths are relative to `here`.
    pub(crate) fn prepare(
        spec: &TasksSpec,
        here: &Path,
        manifests: &[PathBuf],
        cache: &Cache,
        control: &Control,
    ) -> anyhow::Result<Self> {
        let library = library(spec, here)?;
        say_broken(&library);
        let all: Vec<&str> = spec.original.iter().chain(&spec.new).map(String::as_str).collect();
        let selection = library.select(&all)?;
        let requests =
            RequestOptions { num_fewshot: spec.num_fewshot, limit: spec.limit, seed: FEWSHOT_SEED };
        let sources = Sources { here, manifests, cache, control };
        let mut splits = IndexMap::new();
        for (name, task) in &selection.tasks {
            splits.insert(name.clone(), sources.splits(task, &requests)?);
        }
        let rows = |names: &[String]| -> anyhow::Result<Vec<String>> {
            let mut rows = Vec::new();
            names.iter().try_for_each(|name| add_row(name, &selection, &mut rows))?;
            Ok(rows)
        };
        let names = ByDomain { original: rows(&spec.original)?, new: rows(&spec.new)? };
        let (limit, cache) = (spec.limit, cache.clone());
        let keys: IndexMap<_, _> =
            selection.tasks.iter().map(|(name, task)| (name, task.config())).collect();
        let mut fingerprint =
            Fingerprint::of(&(TASKS_VERSION, keys, &selection.groups, &splits, &names, &requests));
        if let Some(bos) = spec.add_bos_token {
            fingerprint = Fingerprint::of(&(fingerprint, bos));
        }
        let rules = RuleOptions { add_bos_token: spec.add_bos_token, ..RuleOptions::default() };
        Ok(Self { selection, splits, names, requests, rules, limit, cache, fingerprint })
    }

    /// The scores of a model, and its answers one by one.
    pub(crate) fn scores(
        &self,
        language_model: &LanguageModel,
        stop: &AtomicBool,
        bars: &MultiProgress,
    ) -> anyhow::Result<TaskScores> {
        let evaluation = Evaluation {
            requests: self.requests,
            limit: self.limit.map(|limit| limit as f64),
            batch_size: BatchSize::Auto,
            bootstraps: BOOTSTRAPS,
            cache: Some(&self.cache),
            stop,
            bars,
        };
        let mut done: IndexMap<&str, Evaluated> = IndexMap::new();
        for (name, task) in &self.selection.tasks {
            done.insert(name, evaluation.run(language_model, task, &self.splits[name])?);
        }
        let mut all = TaskScores::default();
        let names = &self.names;
        let domains = [
            (&names.original, &mut all.scores.original, &mut all.answers.original),
            (&names.new, &mut all.scores.new, &mut all.answers.new),
        ];
        for (names, scores, answers) in domains {
            for name in names {
                let (score, members) = self.score(name, &done);
                let score = score.ok_or_else(|| BadInput(format!("task {name} has no metric")))?;
                check_finite(name, &score)?;
                let group = self.selection.groups.get(name).map(|(group, _)| group);
                answers.extend(answers::by_row(name, group, &score.metric, &members));
                scores.insert(name.clone(), score);
            }
        }
        Ok(all)
    }

    /// The score of a task or group, and the tasks that it is of.
    fn score<'a>(
        &self,
        name: &str,
        done: &'a IndexMap<&str, Evaluated>,
    ) -> (Option<TaskScore>, Vec<&'a Evaluated>) {
        match self.selection.groups.get(name) {
            None => {
                let task = done.get(name);
                let result = task.map(|task| &task.result);
                let score = result.and_then(|of| main_score(&of.metrics, |_| of.sample_len));
                (score, task.into_iter().collect())
            }
            Some((group, below)) => {
                let members: Vec<_> =
                    below.iter().filter_map(|task| done.get(task.as_str())).collect();
                let results: Vec<_> = members.iter().map(|task| &task.result).collect();
                let result = group.aggregate(&results);
                // A member without the metric counts for nothing.
                let documents = |key: &str| result.sample_count.get(key).copied().unwrap_or(0);
                (main_score(&result.metrics, documents), members)
            }
        }
    }
}

/// The task files of a plan.
pub(crate) fn library(spec: &TasksSpec, here: &Path) -> anyhow::Result<Library> {
    let folders: Vec<_> = spec.include_path.iter().map(|path| here.join(path)).collect();
    Ok(Library::open(&folders)?)
}

/// Names the files that stand for no task: another folder's of the same name may be asked in their place.
pub(crate) fn say_broken(library: &Library) {
    if let [first, others @ ..] = library.broken() {
        let more =
            if others.is_empty() { String::new() } else { format!(" ({} more)", others.len()) };
        tracing::warn!("a task file is not read{more}: {first}");
    }
}

/// What a model scored on tasks.
#[derive(Default)]
pub(crate) struct TaskScores {
    pub scores: ByDomain<ByTask>,
    /// For `neutral check`.
    pub answers: AllAnswers,
}

/// A row of the report, or, of a group that has no score of its own, those of its members.
fn add_row(name: &str, selection: &Selection, rows: &mut Vec<String>) -> anyhow::Result<()> {
    match selection.groups.get(name) {
        Some((group, _)) if !group.has_score() => {
            group.members.iter().try_for_each(|member| add_row(member, selection, rows))
        }
        Some((group, below)) => {
            let measured: BTreeSet<String> = below
                .iter()
                .flat_map(|task| selection.tasks[task].higher_is_better().into_keys())
                .collect();
            let averaged: Vec<_> = group.averages().map(|(metric, _)| metric).collect();
            if !averaged.iter().any(|metric| measured.contains(*metric)) {
                let (averaged, measured) =
                    (averaged.join(", "), Vec::from_iter(measured).join(", "));
                let message = format!(
                    "the group {name} averages {averaged}, and its tasks measure {measured}"
                );
                return Err(BadInput(message).into());
            }
            rows.push(name.to_owned());
            Ok(())
        }
        None if !selection.tasks.contains_key(name) => {
            let message = format!("{name} is a tag; name its tasks, or a group of them");
            Err(BadInput(message).into())
        }
        _ => {
            rows.push(name.to_owned());
            Ok(())
        }
    }
}

/// `acc_norm` where there is one, else `acc`, else `bits_per_byte`, else the first. Of a corpus the first is the
/// perplexity by word, an exponential that nothing bounds where words are not told apart by spaces.
fn main_score(
    metrics: &IndexMap<String, Score>,
    documents: impl Fn(&str) -> usize,
) -> Option<TaskScore> {
    let keys = || metrics.keys().filter(|key| !key.contains("_stderr,"));
    let named = |name: &str| keys().find(|key| key.split(',').next() == Some(name));
    let key = ["acc_norm", "acc", "bits_per_byte"].into_iter().find_map(named);
    let key = key.or_else(|| keys().next())?;
    let (metric, filter) = key.split_once(',')?;
    let stderr = metrics.get(&format!("{metric}_stderr,{filter}"));
    Some(TaskScore {
        metric: metric.to_owned(),
        value: metrics[key].number()?,
        stderr: stderr.and_then(|error| error.number()),
        documents: documents(key) as u64,
    })
}

/// Refuses a score that `results.json` cannot hold.
fn check_finite(task: &str, score: &TaskScore) -> Result<(), BadInput> {
    let TaskScore { metric, value, .. } = score;
    if value.is_finite() {
        return Ok(());
    }
    let advice = "of text without spaces between words, measure bits_per_byte";
    Err(BadInput(format!("task {task}: {metric} is {value}, expected a finite number; {advice}")))
}

impl Shared<'_> {
    /// How the tasks' text becomes tokens, for `results.json`; null without tasks.
    pub(crate) fn task_rules(&self) -> anyhow::Result<Value> {
        let Some(tasks) = self.tasks else { return Ok(Value::Null) };
        RequestTokenizer::of(&self.base.folder, &tasks.rules)?.describe()
    }

    /// The pristine base's scores on the tasks; answers that the cache has are not computed again.
    pub(crate) fn base_tasks(&self) -> anyhow::Result<Option<TaskScores>> {
        let Some(tasks) = self.tasks else { return Ok(None) };
        let (model, extension) = self.loading().base()?;
        let (digest, made_from) = (self.base.digest.clone(), Vec::new());
        let parts = Parts { model, extension, digest, made_from };
        self.score_tasks(tasks, parts).map(Some)
    }

    /// A finished trial's scores on the tasks, its answers in `answers.json`: from its folder, or asked for now. Nothing
    /// if that fails, which is said, or if the run is asked to stop meanwhile.
    pub(crate) fn trial_tasks(
        &self,
        trial: &Trial,
        interrupted: &mut bool,
    ) -> anyhow::Result<Option<ByDomain<ByTask>>> {
        let Some(tasks) = self.tasks else { return Ok(None) };
        if let Some(kept) = self.kept_tasks(trial)? {
            return Ok(Some(kept));
        }
        if *interrupted {
            return Ok(None);
        }
        let folder = self.folder(trial);
        let scored = || {
            let file = self.file(trial)?;
            let (model, extension) = file.after(&folder, self.loading())?;
            let made_from = file.made_from(&folder)?;
            let parts = Parts { model, extension, digest: self.base.digest.clone(), made_from };
            self.score_tasks(tasks, parts)
        };
        let of_the_store = |error: &anyhow::Error| error.downcast_ref::<StoreError>().is_some();
        match self.contained(scored) {
            Err(error) if is_interrupted(&error) => {
                *interrupted = true;
                Ok(None)
            }
            // A full disk or a damaged cache is no matter of this trial.
            Err(error) if of_the_store(&error) => Err(error),
            Err(error) => {
                tracing::error!("{}: no scores on tasks: {error:#}", trial.id);
                Ok(None)
            }
            Ok(TaskScores { scores, answers }) => {
                write_json(&folder.join(ANSWERS), &answers)?;
                let fingerprint = self.tasks_fingerprint(trial, tasks);
                let record = TasksRecord { fingerprint, scores };
                write_json(&folder.join(TASKS), &record)?;
                Ok(Some(record.scores))
            }
        }
    }

    /// What the trial's folder has, if the same was asked of the same.
    pub(crate) fn kept_tasks(&self, trial: &Trial) -> anyhow::Result<Option<ByDomain<ByTask>>> {
        let Some(tasks) = self.tasks else { return Ok(None) };
        let folder = self.folder(trial);
        let path = folder.join(TASKS);
        if !path.exists() || !folder.join(ANSWERS).exists() {
            return Ok(None);
        }
        let kept: TasksRecord = read_json(&path)?;
        let holds = kept.fingerprint == self.tasks_fingerprint(trial, tasks);
        Ok(holds.then_some(kept.scores))
    }

    fn tasks_fingerprint(&self, trial: &Trial, tasks: &Tasks) -> Fingerprint {
        Fingerprint::of(&(self.fingerprint(trial), &tasks.fingerprint))
    }

    fn score_tasks(&self, tasks: &Tasks, parts: Parts) -> anyhow::Result<TaskScores> {
        let (base, precision) = (&self.base.folder, self.plan.precision);
        let language_model = LanguageModel::assemble(parts, base, precision, &tasks.rules)?;
        tasks.scores(&language_model, self.stop, self.bars)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The keys of a task but for its name and tags.
    const REST: &str = "dataset_path: json\ndataset_kwargs: {data_files: {test: d.jsonl}}\n\
        test_split: test\noutput_type: multiple_choice\ndoc_to_text: q\ndoc_to_choice: [x, y]\n\
        doc_to_target: a\nmetric_list: [{metric: acc}]\n";

    fn metrics(values: &[(&str, f64)]) -> IndexMap<String, Score> {
        values.iter().map(|(key, value)| ((*key).to_owned(), Score::Number(*value))).collect()
    }

    #[test]
    fn a_corpus_is_scored_in_bits_a_byte_and_a_question_by_its_accuracy() {
        let rolling =
            metrics(&[("word_perplexity,none", f64::INFINITY), ("bits_per_byte,none", 1.5)]);
        let score = main_score(&rolling, |_| 7).unwrap();
        assert_eq!((score.metric.as_str(), score.value), ("bits_per_byte", 1.5));
        let choices = metrics(&[("acc,none", 0.25), ("acc_norm,none", 0.5)]);
        assert_eq!(main_score(&choices, |_| 7).unwrap().metric, "acc_norm");
    }

    #[test]
    fn a_score_that_is_not_finite_is_refused_with_task_and_metric() {
        let words =
            main_score(&metrics(&[("word_perplexity,none", f64::INFINITY)]), |_| 7).unwrap();
        let error = check_finite("corpus_ja", &words).unwrap_err().to_string();
        assert!(error.contains("task corpus_ja: word_perplexity is inf"), "{error}");
    }

    /// `child_names` of the harness's group has the same names.
    #[test]
    fn a_group_without_a_score_has_the_rows_of_what_its_names_stand_for() {
        let folder = tempfile::tempdir().unwrap();
        for (name, tags) in [("a", "one"), ("b", "one, two"), ("c", "two")] {
            let task = format!("task: {name}\ntag: [{tags}]\n{REST}");
            std::fs::write(folder.path().join(format!("{name}.yaml")), task).unwrap();
        }
        let own = REST.replace('\n', "\n    ");
        let group = format!("group: g\ntask:\n  - one\n  - two\n  - task: own\n    {own}\n");
        std::fs::write(folder.path().join("g.yaml"), group).unwrap();
        let library = Library::open(&[folder.path().to_path_buf()]).unwrap();
        let selection = library.select(&["g"]).unwrap();
        let mut rows = Vec::new();
        add_row("g", &selection, &mut rows).unwrap();
        assert_eq!(rows, ["a", "b", "c", "g::own"]);
        assert!(
            add_row("one", &selection, &mut rows).unwrap_err().to_string().contains("is a tag")
        );
    }

    /// A group of tasks a and b, and the selection.
    pub(crate) fn group_of(average: &str) -> Selection {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a", "b"] {
            let task = format!("task: {name}\n{REST}");
            std::fs::write(folder.path().join(format!("{name}.yaml")), task).unwrap();
        }
        let group = format!("group: g\ntask: [a, b]\naggregate_metric_list: [{average}]\n");
        std::fs::write(folder.path().join("g.yaml"), group).unwrap();
        Library::open(&[folder.path().to_path_buf()]).unwrap().select(&["g"]).unwrap()
    }

    #[test]
    fn a_group_of_what_its_tasks_do_not_measure_is_refused_before_anything_is_trained() {
        let selection = group_of("{metric: bits_per_byte}");
        let error = add_row("g", &selection, &mut Vec::new()).unwrap_err().to_string();
        assert_eq!(error, "the group g averages bits_per_byte, and its tasks measure acc");
    }
}
