//! A task, as its file says it: where documents come from, how a request is made of one, what is
//! measured.
//!
//! Keys and defaults are those of `TaskConfig` and `FewshotConfig` of lm-evaluation-harness 0.4.13.

use std::path::{Path, PathBuf};

use indexmap::IndexMap;

use crate::TaskError;
use crate::dataset::Dataset;
use crate::field::Results;
use crate::metric::MetricRule;
use crate::process::Process;
use crate::request::RequestOptions;
use crate::scoring;
use crate::source::Source;
use crate::template::Templates;
use crate::value::{Document, Value};
use crate::yaml::{self, Fields, Keys, Node};

/// Keys that change neither requests nor scores: names, what only generation reads, and `repeats`, since
/// of equal answers the first is taken.
const WITHOUT_EFFECT: [&str; 9] = [
    "tag",
    "group",
    "task_list",
    "should_decontaminate",
    "doc_to_decontamination_query",
    "generation_kwargs",
    "repeats",
    "metadata",
    "task_alias",
];

/// What a request asks of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputType {
    /// The log-likelihood of every choice after the context.
    MultipleChoice,
    /// The log-likelihood of one continuation, and whether greedy decoding gives it.
    LogLikelihood,
    /// The log-likelihood of a whole text.
    LogLikelihoodRolling,
}

/// How few-shot examples are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sampler {
    /// At random, for every document anew.
    Random,
    /// The first ones.
    FirstN,
}

/// Where few-shot examples come from and how they are written; what `fewshot_config` leaves out is the
/// task's own.
#[derive(Debug)]
pub(crate) struct Fewshot {
    pub(crate) sampler: Sampler,
    pub(crate) split: Option<String>,
    pub(crate) samples: Option<Vec<Document>>,
    pub(crate) process: Option<Process>,
    pub(crate) text: Source,
    pub(crate) choice: Option<Source>,
    pub(crate) target: Source,
    pub(crate) prefix: Option<Source>,
    pub(crate) target_delimiter: String,
    pub(crate) delimiter: String,
}

/// A task.
#[derive(Debug)]
pub struct Task {
    pub(crate) path: PathBuf,
    pub(crate) name: String,
    pub(crate) alias: String,
    pub(crate) version: Value,
    pub(crate) raw: Value,
    pub(crate) dataset: Dataset,
    pub(crate) training_split: Option<String>,
    pub(crate) validation_split: Option<String>,
    pub(crate) test_split: Option<String>,
    pub(crate) output: OutputType,
    pub(crate) process: Option<Process>,
    pub(crate) text: Source,
    pub(crate) choice: Option<Source>,
    pub(crate) target: Source,
    pub(crate) description: Option<Source>,
    /// What a model's answer begins with.
    pub(crate) prefix: Option<Source>,
    pub(crate) target_delimiter: String,
    pub(crate) fewshot: Fewshot,
    pub(crate) num_fewshot: Option<usize>,
    pub(crate) metrics: Vec<MetricRule>,
    /// What makes scores of answers, where that is not the rule of the output type.
    pub(crate) results: Option<Results>,
    /// Names under which results are told; each takes the first answer to a request.
    pub(crate) filters: Vec<String>,
    pub(crate) templates: Templates,
}

impl Task {
    /// Reads a task file and those that it includes.
    ///
    /// # Errors
    /// If a file cannot be read, or says what is not understood or not supported.
    pub fn load(path: &Path) -> Result<Self, TaskError> {
        Self::read(path, yaml::load(path)?)
    }

    pub(crate) fn read(path: &Path, map: Keys) -> Result<Self, TaskError> {
        let raw = Node::Map(map.clone()).value();
        let mut fields = Fields::new(path, "", map);
        let Some(name) = fields.text("task")? else {
            return Err(fields.wrong("task", "is missing; it names the task"));
        };
        let alias = fields.text("task_alias")?.unwrap_or_else(|| name.clone());
        let version = match &raw {
            Value::Map(map) => match map.get("metadata") {
                Some(Value::Map(metadata)) => metadata.get("version").cloned(),
                _ => None,
            },
            _ => None,
        };
        let output = output(&mut fields)?;
        if fields.flag("unsafe_code")?.unwrap_or(false) {
            return Err(
                fields.wrong("unsafe_code", "is true; tasks that run code are not supported")
            );
        }
        fields.ignore(&WITHOUT_EFFECT);
        let mut templates = Templates::new();
        let process = fields.function("process_docs", Process::find)?;
        let mut source = |fields: &mut Fields, key| Source::read(fields, "", key, &mut templates);
        let text = source(&mut fields, "doc_to_text")?;
        let target = source(&mut fields, "doc_to_target")?;
        let Some(target) = target else {
            return Err(fields.wrong("doc_to_target", "is missing; it makes the answer"));
        };
        let choice = source(&mut fields, "doc_to_choice")?;
        if output == OutputType::MultipleChoice && choice.is_none() {
            return Err(fields.wrong("doc_to_choice", "is missing; multiple_choice needs it"));
        }
        let Some(text) = text else {
            return Err(fields.wrong("doc_to_text", "is missing; it makes the context"));
        };
        let description = source(&mut fields, "description")?;
        let prefix = source(&mut fields, "gen_prefix")?;
        let target_delimiter = fields.text("target_delimiter")?.unwrap_or_else(|| " ".to_owned());
        let delimiter = fields.text("fewshot_delimiter")?.unwrap_or_else(|| "\n\n".to_owned());
        let inherited = Fewshot {
            sampler: Sampler::Random,
            split: fields.text("fewshot_split")?,
            samples: None,
            process: process.clone(),
            text: text.clone(),
            choice: choice.clone(),
            target: target.clone(),
            prefix: prefix.clone(),
            target_delimiter: target_delimiter.clone(),
            delimiter,
        };
        let task = Self {
            path: path.to_path_buf(),
            name,
            alias,
            version: version.unwrap_or_else(|| Value::Text("Yaml".to_owned())),
            raw,
            dataset: Dataset::read(&mut fields)?,
            training_split: fields.text("training_split")?,
            validation_split: fields.text("validation_split")?,
            test_split: fields.text("test_split")?,
            output,
            process,
            text,
            choice,
            target,
            description,
            prefix,
            target_delimiter,
            fewshot: fewshot(&mut fields, inherited, &mut templates)?,
            num_fewshot: fields.count("num_fewshot")?,
            results: fields.function("process_results", Results::find)?,
            metrics: scoring::metrics(&mut fields, output)?,
            filters: scoring::filters(&mut fields)?,
            templates,
        };
        fields.finish()?;
        Ok(task)
    }

    /// The file that it was read from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The task's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// `metadata.version`, or `"Yaml"` where the file has none.
    pub fn version(&self) -> &Value {
        &self.version
    }

    /// All keys, with those of included files; functions by name.
    pub fn config(&self) -> &Value {
        &self.raw
    }

    /// Where its documents are.
    pub fn dataset(&self) -> &Dataset {
        &self.dataset
    }

    /// The split that is evaluated: the test split, else the validation split.
    ///
    /// # Errors
    /// If neither is named.
    pub fn evaluated_split(&self) -> Result<&str, TaskError> {
        let split = self.test_split.as_deref().or(self.validation_split.as_deref());
        split.ok_or_else(|| TaskError::Config {
            path: self.path.clone(),
            field: "test_split".to_owned(),
            found: "is missing, and so is validation_split; one of them is evaluated".to_owned(),
        })
    }

    /// The split that few-shot examples come from: `fewshot_split`, else the training split, else the
    /// one that is validated, else the test split. `None` where the file lists them itself.
    pub fn fewshot_split(&self) -> Option<&str> {
        let own = self.fewshot.split.as_deref();
        if own.is_none() && self.fewshot.samples.is_some() {
            return None;
        }
        own.or(self.training_split.as_deref())
            .or(self.validation_split.as_deref())
            .or(self.test_split.as_deref())
    }

    /// The splits that [`Task::examples`] reads: the one that is evaluated and, where examples are shown,
    /// the one that they come from.
    ///
    /// # Errors
    /// If no split is named that could be evaluated.
    pub fn splits(&self, options: &RequestOptions) -> Result<Vec<&str>, TaskError> {
        let mut splits = vec![self.evaluated_split()?];
        if self.shots(options) > 0 {
            splits.extend(self.fewshot_split().filter(|split| *split != splits[0]));
        }
        Ok(splits)
    }

    /// Metric to whether more is better.
    pub fn higher_is_better(&self) -> IndexMap<String, bool> {
        let pair = |rule: &MetricRule| (rule.metric.to_string(), rule.higher_is_better);
        self.metrics.iter().map(pair).collect()
    }

    pub(crate) fn wrong(&self, found: impl Into<String>) -> TaskError {
        TaskError::Task { path: self.path.clone(), task: self.name.clone(), found: found.into() }
    }
}

fn output(fields: &mut Fields) -> Result<OutputType, TaskError> {
    match fields.text("output_type")?.as_deref() {
        Some("multiple_choice") => Ok(OutputType::MultipleChoice),
        Some("loglikelihood") => Ok(OutputType::LogLikelihood),
        Some("loglikelihood_rolling") => Ok(OutputType::LogLikelihoodRolling),
        other => Err(fields.wrong(
            "output_type",
            format!(
                "is {}; multiple_choice, loglikelihood and loglikelihood_rolling are supported",
                other.unwrap_or("missing, which means generate_until")
            ),
        )),
    }
}

fn fewshot(
    fields: &mut Fields,
    mut own: Fewshot,
    templates: &mut Templates,
) -> Result<Fewshot, TaskError> {
    let Some(mut fields) = fields.map("fewshot_config")? else { return Ok(own) };
    // A key without a value overrides what the task has; the harness cannot do without these.
    for key in ["sampler", "doc_to_text", "doc_to_target", "target_delimiter", "fewshot_delimiter"]
    {
        if fields.is_null(key) {
            return Err(
                fields.wrong(key, "is null, which is not the task's own; leave the key out")
            );
        }
    }
    if fields.is_null("split") {
        own.split = None;
    }
    if fields.is_null("process_docs") {
        own.process = None;
    }
    if fields.is_null("doc_to_choice") {
        own.choice = None;
    }
    if fields.is_null("gen_prefix") {
        own.prefix = None;
    }
    let mut source =
        |fields: &mut Fields, key| Source::read(fields, "fewshot_config.", key, templates);
    own.sampler = match fields.text("sampler")?.as_deref() {
        None | Some("default") => Sampler::Random,
        Some("first_n") => Sampler::FirstN,
        Some(other) => {
            return Err(
                fields.wrong("sampler", format!("is {other}; default and first_n are known"))
            );
        }
    };
    own.split = fields.text("split")?.or(own.split);
    own.process = fields.function("process_docs", Process::find)?.or(own.process);
    if let Some(text) = source(&mut fields, "doc_to_text")? {
        own.text = text;
    }
    if let Some(target) = source(&mut fields, "doc_to_target")? {
        own.target = target;
    }
    own.choice = source(&mut fields, "doc_to_choice")?.or(own.choice);
    own.prefix = source(&mut fields, "gen_prefix")?.or(own.prefix);
    own.target_delimiter = fields.text("target_delimiter")?.unwrap_or(own.target_delimiter);
    own.delimiter = fields.text("fewshot_delimiter")?.unwrap_or(own.delimiter);
    own.samples = match fields.value("samples")? {
        None => None,
        Some(Value::List(items)) => {
            let document = |item| match item {
                Value::Map(document) => Ok(document),
                other => {
                    Err(fields.wrong("samples", format!("holds {}, no mapping", other.kind())))
                }
            };
            Some(items.into_iter().map(document).collect::<Result<_, _>>()?)
        }
        Some(other) => return Err(fields.wrong("samples", format!("is {}, no list", other.kind()))),
    };
    fields.finish()?;
    Ok(own)
}
