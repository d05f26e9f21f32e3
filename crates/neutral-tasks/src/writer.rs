//! The requests of one document: `ConfigurableTask.fewshot_context` and `construct_requests`.
//!
//! A context is the description, the few-shot examples, each with its answer and a delimiter after it, and
//! the document's own text. Multiple choice asks for every choice after the target delimiter; a
//! log-likelihood for the target as it is.

use indexmap::IndexSet;

use crate::config::{OutputType, Task};
use crate::fewshot::Draw;
use crate::metric::Metric;
use crate::python;
use crate::request::{Answer, Request};
use crate::source::Source;
use crate::value::{Document, Value};

/// A key, and what is wrong with it.
pub(crate) type Trouble = (String, String);

/// Writes the requests of documents. What the first document is like decides what kind of task it is.
pub(crate) struct Writer<'a> {
    task: &'a Task,
    columns: IndexSet<String>,
    /// The text is the number of a choice: choices are contexts then, as in Winogrande.
    many_contexts: bool,
    /// Targets are lists: any of them is right.
    many_targets: bool,
}

impl<'a> Writer<'a> {
    pub(crate) fn new(
        task: &'a Task,
        columns: IndexSet<String>,
        first: &Document,
    ) -> Result<Self, Trouble> {
        let mut writer = Self { task, columns, many_contexts: false, many_targets: false };
        writer.many_targets = matches!(writer.target(&task.target, first)?, Value::List(_));
        if task.output != OutputType::LogLikelihoodRolling && task.choice.is_some() {
            writer.many_contexts = matches!(writer.text(&task.text, first)?, Value::Int(_));
        }
        Ok(writer)
    }

    /// The value of a column, or what a template renders.
    fn field(&self, source: &Source, document: &Document) -> Result<(Value, bool), Trouble> {
        match source {
            Source::Fixed(value) => Ok((value.clone(), false)),
            Source::Function { key, field } => {
                let value = field.of(document);
                value.map(|value| (value, false)).map_err(|found| (key.clone(), found))
            }
            Source::Template { name, source } if self.columns.contains(source) => {
                let value = document.get(source).cloned();
                value
                    .map(|value| (value, false))
                    .ok_or_else(|| (name.clone(), format!("finds no column {source}")))
            }
            Source::Template { name, .. } => {
                let text = self.task.templates.render(name, document);
                text.map(|t| (Value::Text(t), true)).map_err(|found| (name.clone(), found))
            }
        }
    }

    /// A text; digits are the number of a choice where there are choices.
    fn text(&self, source: &Source, document: &Document) -> Result<Value, Trouble> {
        let (value, rendered) = self.field(source, document)?;
        if rendered { self.number("doc_to_text", value) } else { Ok(value) }
    }

    fn number(&self, key: &str, value: Value) -> Result<Value, Trouble> {
        let Some(text) = value.as_text() else { return Ok(value) };
        if !python::is_decimal(text) || self.task.choice.is_none() {
            return Ok(value);
        }
        let number = python::literal(text);
        number
            .ok_or_else(|| (key.to_owned(), format!("gives {text}, which is no number in Python")))
    }

    /// A target: digits are the number of a choice, and brackets a list where Python reads one.
    fn target(&self, source: &Source, document: &Document) -> Result<Value, Trouble> {
        let (value, rendered) = self.field(source, document)?;
        if !rendered {
            return Ok(value);
        }
        match self.number("doc_to_target", value)? {
            Value::Text(text) if text.starts_with('[') && text.ends_with(']') && text.len() > 1 => {
                Ok(python::literal(&text).unwrap_or(Value::Text(text)))
            }
            value => Ok(value),
        }
    }

    fn choices(&self, source: &Source, document: &Document) -> Result<Vec<String>, Trouble> {
        let trouble = |found: String| ("doc_to_choice".to_owned(), found);
        let (mut value, rendered) = self.field(source, document)?;
        if let (true, Value::Text(text)) = (rendered, &value) {
            let list = python::literal(text);
            value = list.ok_or_else(|| trouble(format!("gives {text:?}, which is no list")))?;
        }
        let Value::List(items) = value else {
            return Err(trouble(format!("gives {}; a list is needed", value.kind())));
        };
        if items.is_empty() {
            return Err(trouble("gives no choices".to_owned()));
        }
        let choice = |item: Value| match item {
            Value::Text(text) if text.is_empty() => {
                Err(trouble("gives an empty choice".to_owned()))
            }
            Value::Text(text) => Ok(text),
            other => Err(trouble(format!("gives {other} as a choice; text is needed"))),
        };
        items.into_iter().map(choice).collect()
    }

    pub(crate) fn requests(
        &self,
        document: &Document,
        shots: usize,
        draw: &mut Draw,
    ) -> Result<(Vec<Request>, Value, Answer), Trouble> {
        let task = self.task;
        let target = self.target(&task.target, document)?;
        if task.output == OutputType::LogLikelihoodRolling {
            let text = needs_text("doc_to_target", target.clone())?;
            let answer = Answer::text(&text);
            return Ok((vec![Request::Rolling { text }], target, answer));
        }
        let mut before = self.description(document)?;
        before += &self.shown(document, shots, draw)?;
        let text = self.text(&task.text, document)?;
        let ask = |context: String, continuation: String| Request::LogLikelihood {
            context,
            continuation,
        };
        let prefix = self.prefix(task.prefix.as_ref(), document)?;
        let delimiter = &task.target_delimiter;
        let begun = |text: &str, delimiter: &str| {
            format!("{before}{text}{}{prefix}", between(text, &prefix, delimiter))
        };
        let (Some(choice), OutputType::MultipleChoice) = (&task.choice, task.output) else {
            let context = begun(&needs_text("doc_to_text", text)?, delimiter);
            let continuation = needs_text("doc_to_target", target.clone())?;
            return Ok((vec![ask(context, continuation)], target, Answer::Continuation));
        };
        let choices = self.choices(choice, document)?;
        let (mut requests, right): (Vec<_>, _) = if self.many_contexts {
            let continuation =
                format!("{delimiter}{}", needs_text("doc_to_target", target.clone())?);
            let one = |choice: &String| ask(begun(choice, ""), continuation.clone());
            (choices.iter().map(one).collect(), vec![place("doc_to_text", &text, &choices)?])
        } else {
            let context = begun(&needs_text("doc_to_text", text)?, delimiter);
            let one = |choice: &String| ask(context.clone(), format!("{delimiter}{choice}"));
            (choices.iter().map(one).collect(), self.right(&target, &choices)?)
        };
        if task.metrics.iter().any(|rule| rule.metric == Metric::AccMutualInfo) {
            // What choices are worth without a context.
            let alone = |choice: &String| ask(String::new(), format!("{delimiter}{choice}"));
            requests.extend(choices.iter().map(alone));
        }
        Ok((requests, target, Answer::Choices { choices, right }))
    }

    fn description(&self, document: &Document) -> Result<String, Trouble> {
        let Some(source) = &self.task.description else { return Ok(String::new()) };
        needs_text("description", self.field(source, document)?.0)
    }

    /// What an answer begins with; empty: nothing.
    fn prefix(&self, source: Option<&Source>, document: &Document) -> Result<String, Trouble> {
        let Some(source) = source else { return Ok(String::new()) };
        match self.field(source, document)?.0 {
            Value::Null => Ok(String::new()),
            value => needs_text("gen_prefix", value),
        }
    }

    fn right(&self, target: &Value, choices: &[String]) -> Result<Vec<usize>, Trouble> {
        match (self.many_targets, target) {
            (true, Value::List(targets))
                if !self.task.metrics.iter().any(|rule| {
                    matches!(rule.metric, Metric::AccMutualInfo | Metric::F1 | Metric::Mcc)
                }) =>
            {
                targets.iter().map(|t| place("doc_to_target", t, choices)).collect()
            }
            (false, Value::Bool(_) | Value::Int(_) | Value::Text(_)) => {
                Ok(vec![place("doc_to_target", target, choices)?])
            }
            (many, other) => {
                let wanted = if many {
                    "as many targets as the first document's list, without acc_mutual_info, f1 and mcc,"
                } else {
                    "one target"
                };
                Err(("doc_to_target".to_owned(), format!("gives {other}; {wanted} is needed")))
            }
        }
    }

    /// The few-shot examples: text, delimiter, answer, delimiter. One without an answer is its text
    /// alone.
    fn shown(&self, document: &Document, shots: usize, draw: &mut Draw) -> Result<String, Trouble> {
        let mut shown = String::new();
        if shots == 0 {
            return Ok(shown);
        }
        let (task, rules) = (self.task, &self.task.fewshot);
        // Only where both splits have the same name, or neither is named, is the document left out.
        let without = (rules.split == task.test_split).then_some(document);
        let examples = draw.examples(shots, without).map_err(|f| ("num_fewshot".to_owned(), f))?;
        let of = |(field, found): Trouble| (field, format!("{found} (in a few-shot example)"));
        for example in examples {
            let text = self.text(&rules.text, example).map_err(of)?;
            let choices = rules.choice.as_ref().map(|c| self.choices(c, example)).transpose();
            let choices = choices.map_err(of)?;
            let target = self.target(&rules.target, example).map_err(of)?;
            let choice = |key: &str, value: &Value| match (&choices, value) {
                (Some(choices), Value::Bool(_) | Value::Int(_)) => {
                    Ok(choices[place(key, value, choices)?].clone())
                }
                _ => needs_text(key, value.clone()),
            };
            let text = choice("doc_to_text", &text).map_err(of)?;
            let prefix = self.prefix(rules.prefix.as_ref(), example).map_err(of)?;
            shown += &text;
            let joined = between(&text, &prefix, &rules.target_delimiter);
            let answer = match &target {
                // Where choices are contexts, numbers are no targets.
                target if self.many_contexts => needs_text("doc_to_target", target.clone()),
                Value::List(several) => {
                    let first = several.first().cloned().unwrap_or(Value::Null);
                    needs_text("doc_to_target", first)
                }
                target => choice("doc_to_target", target),
            };
            let answer = match &target {
                Value::Text(text) if text.is_empty() => None,
                _ => Some(answer.map_err(of)?),
            };
            let parts: [&str; 5] = match &answer {
                None => [joined, &prefix, "", "", ""],
                Some(answer) if prefix.is_empty() => {
                    [&rules.target_delimiter, answer, &rules.delimiter, "", ""]
                }
                Some(answer) => {
                    [joined, &prefix, between(&prefix, answer, " "), answer, &rules.delimiter]
                }
            };
            shown.extend(parts);
        }
        Ok(shown)
    }
}

/// What joins two texts: the delimiter, unless one of them is empty or there is white space already.
fn between<'a>(first: &str, second: &str, delimiter: &'a str) -> &'a str {
    let spaced = |c: Option<char>| c.is_none_or(python::is_space);
    let joined = spaced(first.chars().next_back()) || spaced(second.chars().next());
    if joined { "" } else { delimiter }
}

fn needs_text(key: &str, value: Value) -> Result<String, Trouble> {
    match value {
        Value::Text(text) => Ok(text),
        other => Err((key.to_owned(), format!("gives {other}; text is needed"))),
    }
}

/// The choice that a target is: by number, which truth values are in Python, or by its text.
fn place(key: &str, target: &Value, choices: &[String]) -> Result<usize, Trouble> {
    let place = match target {
        Value::Bool(flag) => Some(usize::from(*flag)).filter(|n| *n < choices.len()),
        Value::Int(n) => usize::try_from(*n).ok().filter(|n| *n < choices.len()),
        Value::Text(text) => choices.iter().position(|choice| choice == text),
        _ => None,
    };
    place.ok_or_else(|| {
        let last = choices.len() - 1;
        (
            key.to_owned(),
            format!("gives {target}; a number from 0 to {last}, or one of {choices:?}, is needed"),
        )
    })
}
