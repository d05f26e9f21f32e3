//! What a model is asked about the documents of a task.

use indexmap::IndexSet;
use serde::Serialize;

use crate::config::Task;
use crate::dataset::Splits;
use crate::fewshot::Draw;
use crate::process::Process;
use crate::value::{Document, Value};
use crate::writer::{Trouble, Writer};
use crate::{TaskError, python};

/// The seed of few-shot samples, as the harness has it.
pub const FEWSHOT_SEED: u64 = 1234;

/// What a model is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// The log-likelihood of a continuation, and whether it is what greedy decoding gives.
    LogLikelihood {
        /// What is given.
        context: String,
        /// What is scored.
        continuation: String,
    },
    /// The log-likelihood of a text.
    Rolling {
        /// The text.
        text: String,
    },
}

/// A document with what a model is asked about it.
#[derive(Clone, Debug)]
pub struct Example {
    /// Its place in the split.
    pub id: usize,
    /// The document, as processed.
    pub document: Document,
    /// The requests, in order.
    pub requests: Vec<Request>,
    /// What `doc_to_target` gives.
    pub target: Value,
    /// What is right.
    pub(crate) answer: Answer,
}

#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// The choices, and which are right.
    Choices {
        choices: Vec<String>,
        right: Vec<usize>,
    },
    Continuation,
    Text {
        words: usize,
        bytes: usize,
    },
    /// Which choices are true.
    Labels(Vec<bool>),
}

impl Answer {
    pub(crate) fn text(text: &str) -> Self {
        Self::Text { words: python::count_words(text), bytes: text.len() }
    }
}

/// What a run may set.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct RequestOptions {
    /// Examples a document, in place of the task's number unless that is 0.
    pub num_fewshot: Option<usize>,
    /// How many documents, from the first; none: all.
    pub limit: Option<usize>,
    /// Of few-shot samples.
    pub seed: u64,
}

impl Default for RequestOptions {
    fn default() -> Self {
        Self { num_fewshot: None, limit: None, seed: FEWSHOT_SEED }
    }
}

impl Task {
    /// How many examples are shown.
    pub fn shots(&self, options: &RequestOptions) -> usize {
        match (self.num_fewshot, options.num_fewshot) {
            (Some(0), _) => 0,
            (own, set) => set.or(own).unwrap_or(0),
        }
    }

    /// All documents that are evaluated, with their requests, in order.
    ///
    /// # Errors
    /// If a split is missing or empty, or the task's rules fail on a document.
    pub fn examples(
        &self,
        splits: &Splits,
        options: &RequestOptions,
    ) -> Result<Vec<Example>, TaskError> {
        let split = self.evaluated_split()?;
        let mut documents = self.documents(splits, split, self.process.as_ref())?;
        let Some(first) = documents.first() else {
            return Err(self.wrong(format!("the split {split} has no documents")));
        };
        let columns: IndexSet<String> = first.keys().cloned().collect();
        let wrong = |document, trouble| self.wrong_document(split, document, trouble);
        let writer = Writer::new(self, columns, first).map_err(|trouble| wrong(0, trouble))?;
        let shots = self.shots(options);
        let mut draw = Draw::new(self.fewshot.sampler, self.pool(splits, shots)?, options.seed);
        documents.truncate(options.limit.unwrap_or(usize::MAX));
        let example = |(id, document): (usize, Document)| {
            let made = writer.requests(&document, shots, &mut draw);
            let (requests, target, mut answer) = made.map_err(|trouble| wrong(id, trouble))?;
            if let Some(results) = self.results {
                let key = || "process_results".to_owned();
                answer = results
                    .answer(&document, &answer)
                    .map_err(|found| wrong(id, (key(), found)))?;
            }
            Ok(Example { id, document, requests, target, answer })
        };
        documents.into_iter().enumerate().map(example).collect()
    }

    /// How many documents are evaluated without a limit: those of the split that the task keeps.
    ///
    /// # Errors
    /// As [`Task::examples`].
    pub fn count(&self, splits: &Splits) -> Result<usize, TaskError> {
        Ok(self.documents(splits, self.evaluated_split()?, self.process.as_ref())?.len())
    }

    fn wrong_document(&self, split: &str, document: usize, trouble: Trouble) -> TaskError {
        TaskError::Document {
            path: self.path.clone(),
            task: self.name.as_str().into(),
            split: split.into(),
            document,
            field: trouble.0.into(),
            found: trouble.1,
        }
    }

    fn documents(
        &self,
        splits: &Splits,
        split: &str,
        process: Option<&Process>,
    ) -> Result<Vec<Document>, TaskError> {
        let documents = splits.get(split).ok_or_else(|| {
            let names: Vec<_> = splits.keys().map(String::as_str).collect();
            self.wrong(format!("there is no split {split}, but {}", names.join(", ")))
        })?;
        let Some(process) = process else { return Ok(documents.clone()) };
        let processed = |(document, raw): (usize, &Document)| {
            let key = || "process_docs".to_owned();
            let done = process.apply(raw.clone());
            done.map_err(|found| self.wrong_document(split, document, (key(), found))).transpose()
        };
        documents.iter().enumerate().filter_map(processed).collect()
    }

    /// The documents that examples are drawn from.
    fn pool(&self, splits: &Splits, shots: usize) -> Result<Vec<Document>, TaskError> {
        match (shots, self.fewshot_split(), &self.fewshot.samples) {
            (0, _, _) => Ok(Vec::new()),
            (_, Some(split), _) => {
                let own = self.fewshot.split.is_some();
                let process = if own { &self.fewshot.process } else { &self.process };
                self.documents(splits, split, process.as_ref())
            }
            (_, None, samples) => Ok(samples.clone().unwrap_or_default()),
        }
    }
}
