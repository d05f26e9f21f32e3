//! One task: documents to requests, requests to answers, answers to a result. Answers are kept in the
//! cache, so that the same question is never computed twice.

use std::sync::atomic::AtomicBool;

use indexmap::IndexMap;
use indicatif::{MultiProgress, ProgressBar};
use neutral_eval::{BatchSize, Continuation, ContinuationScore, EvalError, score_continuations};
use neutral_store::{Cache, Fingerprint, read_entry, sha256_bytes, write_json};
use neutral_tasks::{Example, Request, RequestOptions, Response, Sample, Splits, Task, TaskResult};
use rayon::prelude::*;

use super::language_model::LanguageModel;
use super::tokens::RequestTokenizer;
use crate::exit::{BadInput, Interrupted};
use crate::progress;

/// What a run of tasks has in common.
pub(crate) struct Evaluation<'a> {
    pub requests: RequestOptions,
    /// Documents of a task: so many, or below 1 this share of them.
    pub limit: Option<f64>,
    pub batch_size: BatchSize,
    pub bootstraps: Option<usize>,
    /// Where answers are kept; nowhere, if absent.
    pub cache: Option<&'a Cache>,
    pub stop: &'a AtomicBool,
    pub bars: &'a MultiProgress,
}

/// A task that is done.
pub(crate) struct Evaluated {
    pub result: TaskResult,
    pub samples: Vec<Sample>,
    /// Whether each document was answered right, by metric.
    pub right: IndexMap<String, Vec<bool>>,
    pub shots: usize,
    /// Documents that there are, evaluated or not.
    pub documents: usize,
}

impl Evaluation<'_> {
    /// Scores a task's documents under a model.
    pub(crate) fn run(
        &self,
        language_model: &LanguageModel,
        task: &Task,
        splits: &Splits,
    ) -> anyhow::Result<Evaluated> {
        let documents = task.count(splits)?;
        let limit = self.limit.map(|limit| {
            if limit < 1.0 { (documents as f64 * limit).ceil() as usize } else { limit as usize }
        });
        let options = RequestOptions { limit, ..self.requests };
        let examples = task.examples(splits, &options)?;
        let bar = progress::bar(self.bars, task.name());
        let responses = self.responses(language_model, task, &examples, &bar);
        bar.finish_and_clear();
        let responses = responses?;
        let result = task.score(&examples, &responses, self.bootstraps)?;
        let samples = task.samples(&examples, &responses)?;
        let right = task.right_answers(&examples, &responses)?;
        Ok(Evaluated { result, samples, right, shots: task.shots(&options), documents })
    }

    /// Answers to all requests of each example.
    fn responses(
        &self,
        language_model: &LanguageModel,
        task: &Task,
        examples: &[Example],
        bar: &ProgressBar,
    ) -> anyhow::Result<Vec<Vec<Response>>> {
        let Asked { windows, counts, documents } =
            Asked::new(&language_model.tokens, task, examples)?;
        let answers = self.answers(language_model, &windows, bar);
        let answers = answers.map_err(|error| match error.downcast_ref() {
            Some(EvalError::Interrupted) => Interrupted.into(),
            Some(EvalError::Request { request, found }) => {
                // The request whose windows reach beyond this one.
                let ends = counts.iter().scan(0, |end, count| {
                    *end += count;
                    Some(*end)
                });
                let of = ends.take_while(|end| end <= request).count();
                BadInput(format!("{}: a request {found}", place(task, documents[of]))).into()
            }
            _ => error,
        })?;
        let mut answers = answers.into_iter();
        let mut responses = counts.into_iter().map(|count| {
            let none = Response { log_likelihood: 0.0, is_greedy: true };
            answers.by_ref().take(count).fold(none, |sum, answer| Response {
                log_likelihood: sum.log_likelihood + answer.log_likelihood,
                is_greedy: sum.is_greedy && answer.is_greedy,
            })
        });
        let each = |example: &Example| responses.by_ref().take(example.requests.len()).collect();
        Ok(examples.iter().map(each).collect())
    }

    fn answers(
        &self,
        language_model: &LanguageModel,
        windows: &[Continuation],
        bar: &ProgressBar,
    ) -> anyhow::Result<Vec<ContinuationScore>> {
        bar.set_length(windows.len() as u64);
        let LanguageModel { model, extension, identity, .. } = language_model;
        let score =
            || score_continuations(model, extension, windows, self.batch_size, self.stop, bar);
        let Some(cache) = self.cache else { return Ok(score()?.0) };
        let asked: Vec<String> = windows.iter().map(checksum).collect();
        let key = Fingerprint::of(&(identity, self.batch_size, asked));
        let folder = cache.get_or_make("task-scores", &key, |folder| -> anyhow::Result<()> {
            Ok(write_json(&folder.join("scores.json"), &score()?.0)?)
        })?;
        Ok(read_entry(&folder, "scores.json")?)
    }
}

/// The tokens of all requests of some examples.
pub(super) struct Asked {
    pub windows: Vec<Continuation>,
    /// How many windows each request has.
    counts: Vec<usize>,
    /// The document of each request.
    documents: Vec<usize>,
}

impl Asked {
    pub(super) fn new(
        tokens: &RequestTokenizer,
        task: &Task,
        examples: &[Example],
    ) -> anyhow::Result<Self> {
        let (documents, requests): (Vec<usize>, Vec<&Request>) = examples
            .iter()
            .flat_map(|example| example.requests.iter().map(|request| (example.id, request)))
            .unzip();
        let windows: Vec<Vec<Continuation>> = requests
            .par_iter()
            .zip(&documents)
            .map(|(request, document)| {
                let windows = tokens.continuations(request);
                windows.map_err(|error| error.context(place(task, *document)))
            })
            .collect::<anyhow::Result<_>>()?;
        let counts = windows.iter().map(Vec::len).collect();
        Ok(Self { windows: windows.into_iter().flatten().collect(), counts, documents })
    }
}

/// Of the tokens that are read and those that are scored.
fn checksum(Continuation { input, targets }: &Continuation) -> String {
    let read = u32::try_from(input.len()).unwrap_or(u32::MAX);
    let numbers = [read].into_iter().chain(input.iter().copied()).chain(targets.iter().copied());
    sha256_bytes(&numbers.flat_map(u32::to_le_bytes).collect::<Vec<_>>())
}

fn place(task: &Task, document: usize) -> String {
    format!("task {}, document {document}", task.name())
}
