//! Counterparts of the Python functions that make a text, a target or choices of a document, and of those
//! that make scores of answers.

use std::sync::LazyLock;

use regex::{Captures, Regex};

use crate::columns::{list, lower_first, place, text};
use crate::functions::Known;
use crate::python;
use crate::request::Answer;
use crate::value::{Document, Value};
use crate::yaml::{Function, no_python};

/// A function of a document.
#[derive(Clone, Debug)]
pub(crate) struct Field {
    /// The function's name, which tells it from its like.
    name: String,
    call: Call,
}

type Call = fn(&str, &Document) -> Result<Value, String>;

impl Field {
    /// The counterpart of a function, or what to say of it.
    pub(crate) fn find(function: &Function) -> Result<Self, String> {
        let known = Known::find(function).and_then(|known| Some((known.name, call(known)?)));
        let (name, call) = known.ok_or_else(|| no_python(&function.name))?;
        Ok(Self { name: name.to_owned(), call })
    }

    pub(crate) fn of(&self, document: &Document) -> Result<Value, String> {
        (self.call)(&self.name, document)
    }
}

fn call(known: Known) -> Option<Call> {
    Some(match (known.module, known.name) {
        ("afrixnli_1" | "afrixnli_3", "doc_to_target") => {
            |_, document| label(document, ["entailment", "neutral", "contradiction"])
        }
        ("afrixnli_2", "doc_to_target") => {
            |_, document| label(document, ["True", "Neither", "False"])
        }
        ("afrixnli_5", "doc_to_target") => {
            |_, document| label(document, ["true", "false", "inconclusive"])
        }
        ("paloma", "doc_to_target") => {
            |_, document| Ok(Value::Text(text(document, "text")?.to_owned()))
        }
        ("race", "doc_to_text") => |_, document| race_text(document),
        ("race", "doc_to_target") => |_, document| race_letter(&race_last(document)?),
        ("race", "doc_to_choice") => |_, document| {
            let options = list(&race_last(document)?, "options")?.to_vec();
            Ok(Value::List(options.into_iter().take(4).collect()))
        },
        ("wikitext", "wikitext_detokenizer") => {
            |_, document| text(document, "page").map(detokenize).map(Value::Text)
        }
        ("winogrande", "doc_to_text") => |_, document| place(document, "answer", &["1", "2"]),
        ("winogrande", "doc_to_target") => |_, document| {
            let after = blank(document)?.1.trim_matches(python::is_space);
            Ok(Value::Text(after.to_owned()))
        },
        ("winogrande", "doc_to_choice") => |_, document| {
            let before = blank(document)?.0;
            let option = |column| {
                text(document, column).map(|option| Value::Text(format!("{before}{option}")))
            };
            Ok(Value::List(vec![option("option1")?, option("option2")?]))
        },
        ("xcopa", "doc_to_choice") => |_, document| {
            let choice = |column| text(document, column).map(|t| Value::Text(lower_first(t)));
            Ok(Value::List(vec![choice("choice1")?, choice("choice2")?]))
        },
        ("xcopa", name) if connectors(name).is_some() => |name, document| {
            let connectors = connectors(name).unwrap_or_default();
            let Value::Int(which) = place(document, "question", &["cause", "effect"])? else {
                return Err(String::new());
            };
            let connector = if which == 0 { connectors.0 } else { connectors.1 };
            let mut premise = text(document, "premise")?.trim_matches(python::is_space).chars();
            // The full stop goes.
            premise.next_back();
            Ok(Value::Text(format!("{} {connector}", premise.as_str())))
        },
        _ => return None,
    })
}

fn label(document: &Document, names: [&str; 3]) -> Result<Value, String> {
    let name = match document.get("label") {
        Some(Value::Int(label)) => usize::try_from(*label).ok().and_then(|label| names.get(label)),
        _ => None,
    };
    let name = name.ok_or("needs a number from 0 to 2 in the column label")?;
    Ok(Value::Text((*name).to_owned()))
}

/// What stands before and after the blank of a sentence.
fn blank(document: &Document) -> Result<(&str, &str), String> {
    let sentence = text(document, "sentence")?;
    sentence.split_once('_').ok_or_else(|| format!("needs a _ in the sentence {sentence:?}"))
}

/// What joins a premise to its cause and to its effect, by language.
fn connectors(function: &str) -> Option<(&'static str, &'static str)> {
    Some(match function.strip_prefix("doc_to_text_")? {
        "et" => ("sest", "seetõttu"),
        "ht" => ("poukisa", "donk sa"),
        "it" => ("perché", "quindi"),
        "id" => ("karena", "maka"),
        "qu" => ("imataq", "chaymi"),
        "sw" => ("kwa sababu", "kwa hiyo"),
        "zh" => ("因为", "所以"),
        "ta" => ("காரணமாக", "எனவே"),
        "th" => ("เพราะ", "ดังนั้น"),
        "tr" => ("çünkü", "bu yüzden"),
        "vi" => ("bởi vì", "vì vậy"),
        _ => return None,
    })
}

/// The problems of an article, which are written as Python writes them.
fn race_problems(document: &Document) -> Result<Vec<Document>, String> {
    let problem = |value| if let Value::Map(problem) = value { Some(problem) } else { None };
    let problems = match python::literal(text(document, "problems")?) {
        Some(Value::List(items)) => items.into_iter().map(problem).collect(),
        _ => None,
    };
    problems.ok_or_else(|| "needs a list of problems in the column problems".to_owned())
}

fn race_last(document: &Document) -> Result<Document, String> {
    race_problems(document)?.pop().ok_or_else(|| "has no problems".to_owned())
}

fn race_letter(problem: &Document) -> Result<Value, String> {
    place(problem, "answer", &["A", "B", "C", "D"])
}

fn race_text(document: &Document) -> Result<Value, String> {
    let mut problems = race_problems(document)?;
    let last = problems.pop().ok_or("has no problems")?;
    let mut out = format!("Article: {}\n\n", text(document, "article")?);
    for problem in problems {
        let question = text(&problem, "question")?;
        let options = list(&problem, "options")?;
        let answer = match race_letter(&problem)? {
            Value::Int(place) => options.get(place as usize).and_then(Value::as_text),
            _ => None,
        };
        let answer = answer.ok_or("has a problem without its answer")?;
        out += &match question.strip_suffix("  _  .") {
            Some(rest) => format!("{rest} {answer}\n"),
            None => format!("Question: {question}\nAnswer: {answer}\n"),
        };
    }
    Ok(Value::Text(out + text(&last, "question")?))
}

/// Takes the spaces of `WikiText`'s tokens out.
fn detokenize(page: &str) -> String {
    static BRACKETS: LazyLock<[(Regex, [&str; 2]); 5]> = LazyLock::new(|| {
        let patterns = [
            (r"\(\s*([^\)]*?)\s*\)", ["(", ")"]),
            (r"\[\s*([^\]]*?)\s*\]", ["[", "]"]),
            (r"\{\s*([^}]*?)\s*\}", ["{", "}"]),
            (r#""\s*([^"]*?)\s*""#, ["\"", "\""]),
            (r"'\s*([^']*?)\s*'", ["'", "'"]),
        ];
        patterns.map(|(pattern, around)| {
            // Python's white space has ASCII's four separators too.
            let pattern = pattern.replace(r"\s", r"[\s\x1c-\x1f]");
            (Regex::new(&pattern).expect("a sound pattern"), around)
        })
    });
    /// A slip of the harness: what it puts in is the pattern itself.
    static NUMBER: LazyLock<Regex> =
        LazyLock::new(|| Regex::new("/' [0-9]/").expect("a sound pattern"));
    let before = [
        (" @-@ ", "-"),
        (" @,@ ", ","),
        (" @.@ ", "."),
        (" : ", ": "),
        (" ; ", "; "),
        (" . ", ". "),
        (" ! ", "! "),
        (" ? ", "? "),
        (" , ", ", "),
    ];
    let after = [
        ("= = = =", "===="),
        ("= = =", "==="),
        ("= =", "=="),
        (" ° ", "°"),
        (" \n", "\n"),
        ("\n ", "\n"),
        (" N ", " 1 "),
        (" 's", "'s"),
    ];
    let mut out = page.replace("s '", "s'");
    out = NUMBER.replace_all(&out, "/'[0-9]/").into_owned();
    out = before.into_iter().fold(out, |out, (from, to)| out.replace(from, to));
    for (pattern, [open, close]) in BRACKETS.iter() {
        let inner = |found: &Captures| format!("{open}{}{close}", &found[1]);
        out = pattern.replace_all(&out, inner).into_owned();
    }
    after.into_iter().fold(out, |out, (from, to)| out.replace(from, to))
}

/// A function of a document and its answers, `process_results`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Results {
    /// Words and bytes are those of the page before it was changed.
    WikiText,
    /// `acc` is the share of probability that true answers have.
    TrueMass,
    /// Choices and right ones are columns.
    Columns,
}

impl Results {
    /// The counterpart of a function, or what to say of it.
    pub(crate) fn find(function: &Function) -> Result<Self, String> {
        let known = Known::find(function).ok_or_else(|| no_python(&function.name))?;
        match (known.module, known.name) {
            ("wikitext", "process_results") => Ok(Self::WikiText),
            ("truthfulqa" | "truthfulqa_multilingual", "process_results_mc2") => Ok(Self::TrueMass),
            ("agieval", "process_results_mcqa") => Ok(Self::Columns),
            _ => Err(no_python(&function.name)),
        }
    }

    /// What answers to the document are held against, in place of what its requests were made of.
    pub(crate) fn answer(self, document: &Document, asked: &Answer) -> Result<Answer, String> {
        match (self, asked) {
            (Self::WikiText, Answer::Text { .. }) => Ok(Answer::text(text(document, "page")?)),
            (Self::TrueMass, Answer::Choices { choices: asked, .. }) => {
                let labels = match document.get("mc2_targets") {
                    Some(Value::Map(targets)) => list(targets, "labels")?,
                    _ => return Err("needs a mapping in the column mc2_targets".to_owned()),
                };
                as_many("labels in the column mc2_targets", labels.len(), asked.len())?;
                Ok(Answer::Labels(labels.iter().map(|label| *label == Value::Int(1)).collect()))
            }
            (Self::Columns, Answer::Choices { choices: asked, .. }) => {
                let choice = |value: &Value| value.as_text().map(str::to_owned);
                let choices = list(document, "choices")?;
                as_many("texts in the column choices", choices.len(), asked.len())?;
                let choices = choices.iter().map(choice).collect();
                let place = |value: &Value| match value {
                    Value::Int(place) => usize::try_from(*place).ok().filter(|n| *n < asked.len()),
                    _ => None,
                };
                let right = list(document, "gold")?.iter().map(place).collect();
                let both = Option::zip(choices, right);
                let both =
                    both.ok_or("needs texts in the column choices and their places in gold")?;
                Ok(Answer::Choices { choices: both.0, right: both.1 })
            }
            (Self::WikiText, _) => Err("needs the output_type loglikelihood_rolling".to_owned()),
            _ => Err("needs the output_type multiple_choice".to_owned()),
        }
    }
}

fn as_many(what: &str, found: usize, asked: usize) -> Result<(), String> {
    if found == asked {
        return Ok(());
    }
    Err(format!("has {found} {what}, and doc_to_choice gives {asked}"))
}
