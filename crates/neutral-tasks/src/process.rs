//! Counterparts of the Python functions by which tasks process their documents.
//!
//! A function is known by its name in [`MODULE`], the module that neutral's own task files name, or by
//! its name and the SHA-256 of the file that holds it, as lm-evaluation-harness 0.4.13 ships it: another
//! file of the same name may do anything.

use std::sync::LazyLock;

use regex::Regex;

use crate::python;
use crate::value::{Document, Value};
use crate::yaml::{Function, no_python};

/// The Python module beside neutral's task files whose functions have counterparts here.
const MODULE: &str = "neutral_tasks";

/// A function over documents, `process_docs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Process {
    /// `query`, `choices` and `gold` of `HellaSwag`, in any language.
    HellaSwag,
    /// `query`, `choices` and `gold` of ARC's translations (`option_a` to `option_e`).
    ArcMultilingual,
}

/// Function, SHA-256 of its file, counterpart.
const KNOWN: [(&str, &str, Process); 2] = [
    (
        "utils.process_docs",
        "07d23b60b28f2a4f658dcf8440623a63fe6644854ce9b846a114dde980dc1214",
        Process::HellaSwag,
    ),
    (
        "utils.process_docs",
        "928f11eec23acc717775f156d8a308cc26dd623f54e91eb6bda3da09ca9e3281",
        Process::ArcMultilingual,
    ),
];

impl Process {
    /// The counterpart of a function, or what to say of it.
    pub(crate) fn find(function: &Function) -> Result<Self, String> {
        match function.name.strip_prefix(MODULE).and_then(|rest| rest.strip_prefix('.')) {
            Some("hellaswag") => return Ok(Self::HellaSwag),
            Some("arc_multilingual") => return Ok(Self::ArcMultilingual),
            _ => {}
        }
        let module = function.name.rsplit_once('.').map_or("", |(module, _)| module);
        let file = function.folder.join(module.replace('.', "/")).with_extension("py");
        let hash = neutral_store::sha256_file(&file).unwrap_or_default();
        let known = KNOWN.iter().find(|(name, sha, _)| *name == function.name && *sha == hash);
        known.map(|(_, _, process)| *process).ok_or_else(|| no_python(&function.name))
    }

    /// The document with the columns that the function adds.
    pub(crate) fn apply(self, mut document: Document) -> Result<Document, String> {
        let (query, choices, gold) = match self {
            Self::HellaSwag => hellaswag(&document)?,
            Self::ArcMultilingual => arc_multilingual(&document)?,
        };
        let choices = choices.into_iter().map(Value::Text).collect();
        document.insert("query".to_owned(), Value::Text(query));
        document.insert("choices".to_owned(), Value::List(choices));
        document.insert("gold".to_owned(), Value::Int(gold));
        Ok(document)
    }
}

type Columns = (String, Vec<String>, i64);

fn text<'a>(document: &'a Document, column: &str) -> Result<&'a str, String> {
    let found = document.get(column);
    found.and_then(Value::as_text).ok_or_else(|| {
        format!(
            "needs text in the column {column}, found {}",
            found.map_or("no column", Value::kind)
        )
    })
}

/// `HellaSwag`'s text is `WikiHow`'s in part: titles end the sentence before them, brackets are left out,
/// and two spaces become one, in one pass.
fn clean(text: &str) -> String {
    static BRACKETS: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"\[.*?\]").expect("a sound pattern"));
    let text = text.trim_matches(python::is_space).replace(" [title]", ". ");
    BRACKETS.replace_all(&text, "").replace("  ", " ")
}

/// The context is `activity_label: ctx_a Ctx_b`, where capitalising lowers all but the first letter.
fn hellaswag(document: &Document) -> Result<Columns, String> {
    let second = python::capitalize(text(document, "ctx_b")?);
    let context =
        format!("{}: {} {second}", text(document, "activity_label")?, text(document, "ctx_a")?);
    let Some(Value::List(endings)) = document.get("endings") else {
        return Err("needs a list in the column endings".to_owned());
    };
    let ending = |value: &Value| {
        value.as_text().map(clean).ok_or_else(|| format!("has an ending that is {}", value.kind()))
    };
    let gold = match document.get("label") {
        Some(Value::Int(label)) => Ok(*label),
        Some(Value::Text(label)) => label
            .trim()
            .parse()
            .map_err(|_| format!("needs a number in the column label, found {label:?}")),
        other => Err(format!(
            "needs a number in the column label, found {}",
            other.map_or("no column", Value::kind)
        )),
    };
    Ok((clean(&context), endings.iter().map(ending).collect::<Result<_, _>>()?, gold?))
}

fn arc_multilingual(document: &Document) -> Result<Columns, String> {
    let query = format!("Question: {}\nAnswer:", clean(text(document, "instruction")?));
    let mut choices = Vec::new();
    for letter in ["a", "b", "c", "d", "e"] {
        match document.get(&format!("option_{letter}")) {
            Some(Value::Text(option)) if !option.is_empty() => choices.push(clean(option)),
            Some(Value::Text(_) | Value::Null) => {}
            other => {
                let kind = other.map_or("no column", Value::kind);
                return Err(format!("needs text in the column option_{letter}, found {kind}"));
            }
        }
    }
    let answer = text(document, "answer")?;
    let gold = ["A", "B", "C", "D", "E"].iter().position(|letter| *letter == answer);
    let gold = gold.ok_or_else(|| {
        format!("needs a letter from A to E in the column answer, found {answer:?}")
    })?;
    Ok((query, choices, gold as i64))
}
