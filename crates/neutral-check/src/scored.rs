//! What a run's models scored on every document: all that a check reads, and all that a baseline holds.

use std::path::{Path, PathBuf};

use neutral_report::{
    ByCorpus, ByDomain, ByTask, Environment, Status, TrialResult, made_from, read,
};
use neutral_store::{read_json, write_json};
use serde::{Deserialize, Serialize};

use crate::gate::{Domain, new, original};
use crate::{AllAnswers, Answers, CheckError, Fingerprints};

/// The number of the schema of `baseline.json`.
pub const BASELINE_SCHEMA: u64 = 1;

/// Nats of every document, in the order of [`Documents`]: `Σ −ln p(token | tokens before it)`.
pub type Nats = ByDomain<ByCorpus<Vec<f64>>>;

/// The documents of a corpus.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Documents {
    /// Their names within the corpus.
    pub ids: Vec<String>,
    /// UTF-8 bytes of each.
    pub bytes: Vec<u64>,
}

/// `base.json` in a run's folder: what the pristine base scored, and what the scores are of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BaseFile {
    /// What must be equal for another run to be comparable.
    pub fingerprints: Fingerprints,
    /// The documents of the evaluation.
    pub documents: ByDomain<ByCorpus<Documents>>,
    /// The base's scores.
    pub nats: Nats,
    /// Its answers to tasks.
    #[serde(default, skip_serializing_if = "is_empty")]
    pub tasks: AllAnswers,
}

/// The scores of a trial.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrialScores {
    /// The trial without its seed: what is the same in the baseline.
    pub name: String,
    /// Its seed.
    pub seed: u64,
    /// Whether it trains on original text alone, so that there is no learning to check.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_control: bool,
    /// What it scored.
    pub nats: Nats,
    /// What it answered to tasks.
    #[serde(default, skip_serializing_if = "is_empty")]
    pub tasks: AllAnswers,
}

fn is_empty(answers: &AllAnswers) -> bool {
    answers.original.is_empty() && answers.new.is_empty()
}

/// A trial that has no scores, and never will.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The trial's id.
    pub trial: String,
    /// `failed` or `diverged`, and why.
    pub error: String,
}

/// A run's scores, document by document.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scored {
    /// [`BASELINE_SCHEMA`].
    pub schema: u64,
    /// The experiment's name.
    pub experiment: String,
    /// What it was computed on, with the commit.
    pub environment: Environment,
    /// The pristine base, the documents, and their fingerprints.
    pub base: BaseFile,
    /// The trials, in the order of the plan.
    pub trials: Vec<TrialScores>,
    /// Trials that failed; a baseline has none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failures: Vec<Failure>,
}

impl Scored {
    /// Reads a run's folder: `results.json`, `base.json`, and of every trial `record.json` and, where tasks were
    /// scored, `answers.json`.
    ///
    /// # Errors
    /// If a file is missing or is something else, a trial has not ended, or two models were scored on
    /// different documents.
    pub fn of_run(run: &Path) -> Result<Self, CheckError> {
        let missing = |file: &str, advice| {
            let (folder, file) = (run.to_path_buf(), file.to_owned());
            Err(CheckError::Missing { folder, file, advice })
        };
        if !run.join("results.json").is_file() {
            return missing("results.json", "expected the folder of a run, such as runs/quick");
        }
        if !run.join("base.json").is_file() {
            let advice = "run its experiment again, which keeps what is finished and adds the file";
            return missing("base.json", advice);
        }
        let results = read(&run.join("results.json"))?;
        let base: BaseFile = read_json(&run.join("base.json"))?;
        let (mut trials, mut failures) = (Vec::new(), Vec::new());
        for trial in &results.trials {
            match trial.status {
                Status::Finished => {
                    let name = name_without_seed(trial);
                    let nats = trial_nats(run, trial, &base.documents)?;
                    let tasks = trial_answers(run, trial)?;
                    let (seed, is_control) = (trial.seed, is_control(trial));
                    trials.push(TrialScores { name, seed, is_control, nats, tasks });
                }
                Status::Failed | Status::Diverged => {
                    let why = trial.error.as_deref().unwrap_or("no reason was kept");
                    let error = format!("{}: {why}", trial.status.name());
                    failures.push(Failure { trial: trial.id.clone(), error });
                }
                Status::Interrupted => {
                    let (run, trial) = (run.to_path_buf(), trial.id.clone());
                    let status = Status::Interrupted.name();
                    return Err(CheckError::Unfinished { run, trial, status });
                }
            }
        }
        let (experiment, environment) = (results.experiment, results.environment);
        Ok(Self { schema: BASELINE_SCHEMA, experiment, environment, base, trials, failures })
    }

    /// The run taken apart into one a seed, all called seed 0: runs that differ in what should not matter.
    pub fn by_seed(&self) -> Vec<Self> {
        let mut seeds: Vec<_> = self.trials.iter().map(|trial| trial.seed).collect();
        seeds.sort_unstable();
        seeds.dedup();
        let of_seed = |seed| {
            let mut one = self.clone();
            one.trials.retain(|trial| trial.seed == seed);
            one.trials.iter_mut().for_each(|trial| trial.seed = 0);
            one
        };
        seeds.into_iter().map(of_seed).collect()
    }

    /// The names of the trials, each once.
    pub(crate) fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for trial in &self.trials {
            if !names.contains(&trial.name.as_str()) {
                names.push(&trial.name);
            }
        }
        names
    }

    /// Whether the trials of a name are controls.
    pub(crate) fn is_control(&self, name: &str) -> bool {
        self.named(name).any(|trial| trial.is_control)
    }

    /// Whether some seed of a name failed or diverged.
    pub(crate) fn has_failed(&self, name: &str) -> bool {
        let is_seed =
            |rest: &str| rest.strip_prefix("-s").is_some_and(|s| s.parse::<u64>().is_ok());
        self.failures.iter().any(|failure| failure.trial.strip_prefix(name).is_some_and(is_seed))
    }

    /// A trial and a task that the base has answered and the trial has not: scoring it failed or was stopped.
    fn unanswered(&self) -> Option<(String, &str)> {
        self.trials.iter().find_map(|trial| {
            let missing = |of: Domain<ByTask<Answers>>| {
                of(&self.base.tasks).keys().find(|task| !of(&trial.tasks).contains_key(*task))
            };
            let task = [original as Domain<_>, new].into_iter().find_map(missing)?;
            Some((format!("{}-s{}", trial.name, trial.seed), task.as_str()))
        })
    }

    /// The trials of a name, a seed each.
    pub(crate) fn named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a TrialScores> {
        self.trials.iter().filter(move |trial| trial.name == name)
    }
}

/// The trial's id without the seed that ends it.
fn name_without_seed(trial: &TrialResult) -> String {
    let seed = format!("-s{}", trial.seed);
    trial.id.strip_suffix(&seed).unwrap_or(&trial.id).to_owned()
}

/// Whether a trial is the base, trained on original text alone.
fn is_control(trial: &TrialResult) -> bool {
    let of = |path| trial.spec.pointer(path).filter(|value| !value.is_null());
    let share = of("/data/original_fraction").and_then(serde_json::Value::as_f64);
    share == Some(1.0) && of("/after").is_none()
}

/// What a check reads of a trial's `record.json`.
#[derive(Deserialize)]
struct Record {
    scores: ByDomain<ByCorpus<RecordedCorpus>>,
}

#[derive(Deserialize)]
struct RecordedCorpus {
    per_document: Vec<RecordedDocument>,
}

#[derive(Deserialize)]
struct RecordedDocument {
    id: String,
    nats: f64,
    bytes: u64,
}

fn trial_nats(
    run: &Path,
    trial: &TrialResult,
    documents: &ByDomain<ByCorpus<Documents>>,
) -> Result<Nats, CheckError> {
    let folder = run.join("trials").join(&trial.id);
    let path = folder.join("record.json");
    if !path.is_file() {
        let advice = "a check needs the run's folder with its trials";
        return Err(CheckError::Missing { folder, file: "record.json".to_owned(), advice });
    }
    let record: Record = read_json(&path)?;
    if trial.fingerprint.is_some() && made_from(&folder)? != trial.fingerprint {
        let (run, trial) = (run.to_path_buf(), trial.id.clone());
        return Err(CheckError::Unfinished { run, trial, status: "made anew" });
    }
    let domain = |documents: &ByCorpus<Documents>, scores: ByCorpus<RecordedCorpus>| {
        let mut nats = ByCorpus::new();
        for (corpus, score) in scores {
            let expected = documents.get(&corpus).cloned().unwrap_or_default();
            let score = score.per_document;
            let found = Documents {
                ids: score.iter().map(|document| document.id.clone()).collect(),
                bytes: score.iter().map(|document| document.bytes).collect(),
            };
            expected.check(&found, &corpus)?;
            nats.insert(corpus, score.into_iter().map(|document| document.nats).collect());
        }
        Ok::<_, CheckError>(nats)
    };
    Ok(ByDomain {
        original: domain(&documents.original, record.scores.original)?,
        new: domain(&documents.new, record.scores.new)?,
    })
}

/// A trial's answers; none if none were asked for, whatever an earlier run left in its folder.
fn trial_answers(run: &Path, trial: &TrialResult) -> Result<AllAnswers, CheckError> {
    if trial.tasks.is_none() {
        return Ok(AllAnswers::default());
    }
    let folder = run.join("trials").join(&trial.id);
    let path = folder.join("answers.json");
    if !path.is_file() {
        let advice = "run its experiment again, which keeps what is finished and adds the file";
        return Err(CheckError::Missing { folder, file: "answers.json".to_owned(), advice });
    }
    Ok(read_json(&path)?)
}

impl Documents {
    /// Refuses other documents, or the same in another order.
    pub(crate) fn check(&self, found: &Self, corpus: &str) -> Result<(), CheckError> {
        let describe = |documents: &Self, at: usize| match documents.ids.get(at) {
            Some(id) => format!("`{id}` of {} bytes", documents.bytes[at]),
            None => "missing".to_owned(),
        };
        let longest = self.ids.len().max(found.ids.len());
        let differ = |at: &usize| {
            self.ids.get(*at) != found.ids.get(*at) || self.bytes.get(*at) != found.bytes.get(*at)
        };
        match (0..longest).find(differ) {
            None => Ok(()),
            Some(at) => Err(CheckError::Documents {
                corpus: corpus.to_owned(),
                at,
                found: describe(found, at),
                expected: describe(self, at),
            }),
        }
    }
}

/// Writes a run's scores as a baseline, whole or not at all.
///
/// # Errors
/// [`CheckError::NoBaseline`] if a trial failed or was not scored on every task, or the commit that computed it is
/// unknown or was changed: a baseline must be one that can be made again. Or if the file cannot be written.
pub fn write_baseline(run: &Path, scored: &Scored, path: &Path) -> Result<(), CheckError> {
    let refuse = |reason: String| {
        let run = PathBuf::from(run);
        Err(CheckError::NoBaseline { run, reason })
    };
    if let Some(Failure { trial, error }) = scored.failures.first() {
        return refuse(format!("trial {trial} {error}"));
    }
    if let Some((trial, task)) = scored.unanswered() {
        return refuse(format!(
            "trial {trial} has no answers to {task}, which its base has; run its experiment again"
        ));
    }
    match scored.environment.git.as_deref() {
        None => refuse("the program was built outside of a checkout, of no known commit; build it with NEUTRAL_CODE=<commit>".to_owned()),
        Some(git) if git.contains("-dirty") => refuse(format!(
            "it was computed by {git}, with changes that no commit has; commit them and run it again in another folder"
        )),
        Some(_) => Ok(write_json(path, scored)?),
    }
}

/// Reads what [`write_baseline`] wrote.
///
/// # Errors
/// If it cannot be read or is of another schema.
pub fn read_baseline(path: &Path) -> Result<Scored, CheckError> {
    #[derive(Deserialize)]
    struct Numbered {
        schema: u64,
    }
    let Numbered { schema } = read_json(path)?;
    if schema != BASELINE_SCHEMA {
        return Err(CheckError::Schema { path: path.to_path_buf(), found: schema });
    }
    Ok(read_json(path)?)
}
