//! What was asked and answered about a document: a line of the harness's `samples_*.jsonl`.

use indexmap::IndexMap;
use neutral_store::sha256_bytes;

use crate::config::{OutputType, Task};
use crate::metric::Metric;
use crate::request::{Example, Request};
use crate::score::{Item, Response};
use crate::value::Value;
use crate::{TaskError, json, python};

/// The line of a document, and what the task's hash is made of.
#[derive(Clone, Debug)]
pub struct Sample {
    /// JSON as Python writes it, without a line's end.
    pub line: String,
    /// Hashes of the document, its first context and its target, one after another.
    pub hashes: String,
    /// Hash of all that was asked about it: every context and continuation, and so its choices.
    pub asked: String,
}

impl Task {
    /// The lines of all documents, once for each filter.
    ///
    /// # Errors
    /// If there are not as many responses as requests.
    pub fn samples(
        &self,
        examples: &[Example],
        responses: &[Vec<Response>],
    ) -> Result<Vec<Sample>, TaskError> {
        let pairs = || examples.iter().zip(responses);
        let filters = self.filters.iter();
        let all = filters.flat_map(|filter| pairs().map(move |(e, r)| self.sample(e, r, filter)));
        all.collect()
    }

    fn sample(
        &self,
        example: &Example,
        responses: &[Response],
        filter: &str,
    ) -> Result<Sample, TaskError> {
        let metrics = self.measure(example, responses)?;
        let mut arguments = IndexMap::new();
        let (mut answers, mut filtered) = (Vec::new(), Vec::new());
        for (i, (request, response)) in example.requests.iter().zip(responses).enumerate() {
            let texts = match request {
                Request::LogLikelihood { context, continuation } => vec![context, continuation],
                Request::Rolling { text } => vec![text],
            };
            let named = texts.into_iter().enumerate();
            let named = named.map(|(j, text)| (format!("arg_{j}"), Value::Text(text.clone())));
            arguments.insert(format!("gen_args_{i}"), Value::Map(named.collect()));
            let likelihood = Value::Text(python::float(response.log_likelihood));
            let answer = match request {
                Request::Rolling { .. } => likelihood,
                Request::LogLikelihood { .. } => {
                    let greedy = Value::Bool(response.is_greedy).to_string();
                    Value::List(vec![likelihood, Value::Text(greedy)])
                }
            };
            answers.push(Value::List(vec![answer.clone()]));
            filtered.push(answer);
        }
        let target = match &example.target {
            Value::Text(text) => text.clone(),
            other => other.to_string(),
        };
        let prompt = match &example.requests[0] {
            Request::LogLikelihood { context, .. } => context,
            Request::Rolling { text } => text,
        };
        let document = Value::Map(example.document.clone());
        let hashes = [&json::dumps(&document, Some(2)), prompt, &target]
            .map(|text| sha256_bytes(text.as_bytes()));
        let arguments = Value::Map(arguments);
        let asked = sha256_bytes(json::dumps(&arguments, None).as_bytes());
        let text = |text: &str| Value::Text(text.to_owned());
        let names = metrics.keys().map(|metric| Value::Text(metric.to_string())).collect();
        let mut line = IndexMap::from([
            ("doc_id".to_owned(), Value::Int(example.id as i64)),
            ("doc".to_owned(), document),
            ("target".to_owned(), Value::Text(target.clone())),
            ("arguments".to_owned(), arguments),
            ("resps".to_owned(), Value::List(answers)),
            ("filtered_resps".to_owned(), Value::List(filtered)),
            ("filter".to_owned(), text(filter)),
            ("metrics".to_owned(), Value::List(names)),
            ("doc_hash".to_owned(), text(&hashes[0])),
            ("prompt_hash".to_owned(), text(&hashes[1])),
            ("target_hash".to_owned(), text(&hashes[2])),
        ]);
        line.extend(metrics.into_iter().map(|(m, item)| (m.to_string(), self.printed(m, item))));
        let line = json::dumps(&Value::Map(line), None);
        Ok(Sample { line, hashes: hashes.concat(), asked })
    }

    /// A value as the harness has it: some flags are whole numbers, and lengths are.
    fn printed(&self, metric: Metric, item: Item) -> Value {
        let whole = metric == Metric::ExactMatch || self.output == OutputType::LogLikelihood;
        match item {
            Item::Plain(x) if whole && metric != Metric::Perplexity => Value::Int(x as i64),
            Item::Plain(x) => Value::Float(x),
            Item::Labels(right, picked) => {
                Value::List([right, picked].map(|label| Value::Int(label as i64)).to_vec())
            }
            Item::Weighted(x, length) => {
                Value::List(vec![Value::Float(x), Value::Int(length as i64)])
            }
        }
    }

    /// The hash of a task's samples, as the harness makes it.
    pub fn hash<'a>(samples: impl IntoIterator<Item = &'a Sample>) -> String {
        let all: String = samples.into_iter().map(|sample| sample.hashes.as_str()).collect();
        sha256_bytes(all.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RequestOptions;

    const TASK: &str = "task: t\ndataset_path: json\ndataset_kwargs: {data_files: {test: d.jsonl}}\n\
        test_split: test\noutput_type: multiple_choice\ndoc_to_text: '{{q}}'\ndoc_to_target: a\n";

    /// The sample of one document.
    fn sample(choices: &str) -> Sample {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.yaml");
        std::fs::write(&path, format!("{TASK}{choices}\n")).unwrap();
        std::fs::write(folder.path().join("d.jsonl"), r#"{"q": "one", "a": "x"}"#).unwrap();
        let task = Task::load(&path).unwrap();
        let splits = task.dataset().load(folder.path()).unwrap();
        let examples = task.examples(&splits, &RequestOptions::default()).unwrap();
        let response = Response { log_likelihood: -1.0, is_greedy: false };
        let responses = vec![response; examples[0].requests.len()];
        task.samples(&examples, &[responses]).unwrap().remove(0)
    }

    #[test]
    fn other_choices_are_another_question_of_the_same_document() {
        let first = sample("doc_to_choice: [x, y]");
        assert_eq!(sample("doc_to_choice: [x, y]").asked, first.asked);
        for changed in ["doc_to_choice: [x, z]", "doc_to_choice: [x, y]\ntarget_delimiter: ''"] {
            let changed = sample(changed);
            assert_eq!(changed.hashes, first.hashes);
            assert_ne!(changed.asked, first.asked);
        }
    }
}
