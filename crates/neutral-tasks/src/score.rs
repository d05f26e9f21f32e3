//! Scores of documents, and what a task's are together: `ConfigurableTask.process_results` and
//! `_compute_task_aggregations` of the harness.

use indexmap::IndexMap;

use crate::TaskError;
use crate::config::Task;
use crate::metric::{Aggregation, Items, Metric};
use crate::request::{Answer, Example};
use crate::results::{Score, TaskResult};

/// What a model says to a request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Response {
    /// The sum over the tokens.
    pub log_likelihood: f64,
    /// Whether every token is the most likely one.
    pub is_greedy: bool,
}

/// A document's value of a metric.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Item {
    /// A number.
    Plain(f64),
    /// A log-likelihood, and a length.
    Weighted(f64, f64),
    /// The right choice, and the one that was picked.
    Labels(usize, usize),
}

impl Task {
    /// The document's metrics, in the order of results.
    ///
    /// # Errors
    /// If there are not as many responses as requests.
    pub fn measure(
        &self,
        example: &Example,
        responses: &[Response],
    ) -> Result<IndexMap<Metric, Item>, TaskError> {
        if responses.len() != example.requests.len() {
            let (id, asked, given) = (example.id, example.requests.len(), responses.len());
            return Err(
                self.wrong(format!("document {id} has {asked} requests and {given} responses"))
            );
        }
        let likelihoods: Vec<f64> = responses.iter().map(|r| r.log_likelihood).collect();
        let value = |metric: Metric| match &example.answer {
            Answer::Continuation => continuation(metric, responses[0]),
            Answer::Labels(labels) => mass(metric, labels, &likelihoods),
            Answer::Text { words, bytes } => text(metric, likelihoods[0], *words, *bytes),
            Answer::Choices { choices, right } => {
                let greedy = |i: &usize| responses[*i].is_greedy;
                choice(metric, choices, right, &likelihoods, right.iter().any(greedy))
            }
        };
        let wanted = |metric: &Metric| self.metrics.iter().any(|rule| rule.metric == *metric);
        let pair = |metric: Metric| value(metric).map(|item| (metric, item));
        Ok(Metric::all().filter(wanted).filter_map(pair).collect())
    }

    /// The task's result, of the responses to every example's requests, with standard errors:
    /// [`Aggregation::standard_error`]. (The harness's 0 bootstraps are `None`: no standard errors at all.)
    ///
    /// # Errors
    /// If there are not as many responses as requests.
    pub fn score(
        &self,
        examples: &[Example],
        responses: &[Vec<Response>],
        bootstraps: Option<usize>,
    ) -> Result<TaskResult, TaskError> {
        let mut scores = Vec::new();
        for (metric, values) in self.values(examples, responses)? {
            let items = items(&values);
            for rule in self.metrics.iter().filter(|rule| rule.metric == metric) {
                self.check_labels(rule.aggregation, &items)?;
                let error = rule.aggregation.standard_error(&items, bootstraps);
                scores.push((metric, rule.aggregation.of(&items), error));
            }
        }
        let mut metrics = IndexMap::new();
        for filter in &self.filters {
            for (metric, score, error) in &scores {
                metrics.insert(format!("{metric},{filter}"), Score::Number(*score));
                metrics.insert(format!("{metric}_stderr,{filter}"), (*error).into());
            }
        }
        let (name, alias) = (self.name.clone(), self.alias.clone());
        Ok(TaskResult { name, alias, sample_len: examples.len(), metrics })
    }

    /// Whether each document was answered right, by every metric that says so and is the mean of it.
    ///
    /// # Errors
    /// If there are not as many responses as requests.
    pub fn right_answers(
        &self,
        examples: &[Example],
        responses: &[Vec<Response>],
    ) -> Result<IndexMap<String, Vec<bool>>, TaskError> {
        let is_mean = |metric: &Metric| {
            let mut rules = self.metrics.iter();
            rules.any(|rule| rule.metric == *metric && rule.aggregation == Aggregation::Mean)
        };
        let right = |item: &Item| match item {
            Item::Plain(value) if *value == 1.0 => Some(true),
            Item::Plain(value) if *value == 0.0 => Some(false),
            _ => None,
        };
        let means = self.values(examples, responses)?.into_iter().filter(|(m, _)| is_mean(m));
        let answers = means.filter_map(|(metric, items)| {
            let right: Option<_> = items.iter().map(right).collect();
            Some((metric.to_string(), right?))
        });
        Ok(answers.collect())
    }

    fn values(
        &self,
        examples: &[Example],
        responses: &[Vec<Response>],
    ) -> Result<IndexMap<Metric, Vec<Item>>, TaskError> {
        if examples.len() != responses.len() {
            let (documents, given) = (examples.len(), responses.len());
            return Err(
                self.wrong(format!("there are {documents} documents and {given} responses"))
            );
        }
        let mut values: IndexMap<Metric, Vec<Item>> = IndexMap::new();
        for (example, responses) in examples.iter().zip(responses) {
            for (metric, item) in self.measure(example, responses)? {
                values.entry(metric).or_default().push(item);
            }
        }
        Ok(values)
    }

    /// F1 alone is that of label 1 against label 0; of more labels it has to be told how they are
    /// averaged.
    fn check_labels(&self, aggregation: Aggregation, items: &Items) -> Result<(), TaskError> {
        let (Aggregation::F1, Items::Labels(pairs)) = (aggregation, items) else { return Ok(()) };
        match pairs.iter().flat_map(|(right, picked)| [right, picked]).find(|label| **label > 1) {
            None => Ok(()),
            Some(label) => Err(self.wrong(format!(
                "metric_list has f1, which is of choices 0 and 1, and there is a choice {label}"
            ))),
        }
    }
}

fn items(values: &[Item]) -> Items {
    let plain = |item: &Item| if let Item::Plain(x) = item { Some(*x) } else { None };
    let pair = |item: &Item| if let Item::Weighted(a, b) = item { Some((*a, *b)) } else { None };
    let labels = |item: &Item| if let Item::Labels(a, b) = item { Some((*a, *b)) } else { None };
    if let Some(plain) = values.iter().map(plain).collect() {
        return Items::Plain(plain);
    }
    match values.iter().map(labels).collect() {
        Some(labels) => Items::Labels(labels),
        None => Items::Weighted(values.iter().filter_map(pair).collect()),
    }
}

fn flag(is: bool) -> Item {
    Item::Plain(f64::from(u8::from(is)))
}

fn continuation(metric: Metric, response: Response) -> Option<Item> {
    match metric {
        Metric::Perplexity => Some(Item::Plain(response.log_likelihood)),
        Metric::Acc => Some(flag(response.is_greedy)),
        _ => None,
    }
}

/// The share of the choices' probability that the true ones have.
fn mass(metric: Metric, labels: &[bool], likelihoods: &[f64]) -> Option<Item> {
    let masses: Vec<f64> = likelihoods.iter().map(|likelihood| likelihood.exp()).collect();
    let all: f64 = masses.iter().sum();
    let right = masses.iter().zip(labels).filter(|(_, label)| **label);
    (metric == Metric::Acc).then(|| Item::Plain(right.map(|(mass, _)| mass / all).sum()))
}

/// Lengths count at least one word, as Python splits.
fn text(metric: Metric, log_likelihood: f64, words: usize, bytes: usize) -> Option<Item> {
    match metric {
        Metric::WordPerplexity => Some(Item::Weighted(log_likelihood, words as f64)),
        Metric::BytePerplexity | Metric::BitsPerByte => {
            Some(Item::Weighted(log_likelihood, bytes as f64))
        }
        _ => None,
    }
}

fn choice(
    metric: Metric,
    choices: &[String],
    right: &[usize],
    likelihoods: &[f64],
    greedy: bool,
) -> Option<Item> {
    let (given, alone) = likelihoods.split_at(choices.len());
    let by = |length: fn(&str) -> usize| {
        let each = given.iter().zip(choices);
        largest(each.map(|(likelihood, choice)| likelihood / length(choice) as f64))
    };
    let best = || largest(given.iter().copied());
    let picked = match metric {
        Metric::Acc => best(),
        Metric::F1 | Metric::Mcc => return Some(Item::Labels(*right.first()?, best())),
        Metric::AccNorm => by(|choice| choice.chars().count()),
        Metric::AccBytes => by(str::len),
        Metric::AccMutualInfo => largest(given.iter().zip(alone).map(|(with, out)| with - out)),
        Metric::ExactMatch => return Some(flag(greedy)),
        _ => return None,
    };
    Some(flag(right.contains(&picked)))
}

/// `numpy.argmax`: the first of the largest, or the first that is no number.
fn largest(values: impl Iterator<Item = f64>) -> usize {
    let mut best = (0, f64::NEG_INFINITY);
    for (i, value) in values.enumerate() {
        if value.is_nan() {
            return i;
        }
        if value > best.1 {
            best = (i, value);
        }
    }
    best.0
}
