//! Counterparts of the Python functions by which tasks process their documents.

use crate::columns::{self, list, text};
use crate::functions::Known;
use crate::value::{Document, Value};
use crate::yaml::{Function, no_python};

/// A function over documents, `process_docs`: it adds columns, or leaves documents out.
#[derive(Clone, Debug)]
pub(crate) struct Process {
    /// What of the function's name tells it from its like.
    name: String,
    call: Call,
}

/// The document that is made of one; none: it is left out.
type Call = fn(&str, Document) -> Result<Option<Document>, String>;

impl Process {
    /// The counterpart of a function, or what to say of it.
    pub(crate) fn find(function: &Function) -> Result<Self, String> {
        let known = Known::find(function).and_then(|known| Some((known.name, call(known)?)));
        let (name, call) = known.ok_or_else(|| no_python(&function.name))?;
        Ok(Self { name: name.to_owned(), call })
    }

    pub(crate) fn apply(&self, document: Document) -> Result<Option<Document>, String> {
        (self.call)(&self.name, document)
    }
}

fn call(known: Known) -> Option<Call> {
    Some(match (known.module, known.name) {
        ("hellaswag", "process_docs") => |_, document| columns::hellaswag(document).map(Some),
        ("arc_multilingual", "process_docs") => {
            |_, document| columns::arc_multilingual(document).map(Some)
        }
        ("truthfulqa_multilingual", "process_docs") => {
            |_, document| columns::truthfulqa(document).map(Some)
        }
        ("mmlusr", "process_docs") => |_, document| columns::mmlusr(document).map(Some),
        ("tmmluplus", "process_docs") => |_, document| columns::tmmlu(document, &[]).map(Some),
        ("tmlu", "process_docs") => |_, document| columns::tmmlu(document, &["E", "F"]).map(Some),
        ("alghafa", "process_docs") => |_, document| columns::alghafa(document).map(Some),
        ("arabic_boolean", "process_docs") => {
            |_, document| columns::arabic_boolean(document).map(Some)
        }
        ("arabic_mmlu", "process_docs") => |_, document| columns::arabic_mmlu(document).map(Some),
        ("arithmetic", "process_docs") => |_, document| columns::arithmetic(document).map(Some),
        ("paws_x", "process_docs_paraphrases") => |_, document| columns::paws_x(document),
        ("bigbench", "filter_multiple_choice") => |_, document| {
            let targets = list(&document, "multiple_choice_targets")?;
            Ok((!targets.is_empty()).then_some(document))
        },
        ("eus_exams", "process_docs") => |_, document| {
            let blank = |value: &Value| value.as_text() == Some("");
            let candidates = list(&document, "candidates")?;
            let empty = candidates.len() == 4 && candidates.iter().all(blank);
            let answered = matches!(document.get("answer"), Some(Value::Int(0..=3)));
            Ok((answered && !empty).then_some(document))
        },
        ("global_mmlu_full", _) => |name, document| keep(document, "subject", name, str::to_owned),
        ("openai_mmmlu", _) => |name, document| {
            // Some rows have the name of a file: `anatomy_test.csv_sw-KE.csv`.
            let subject = |text: &str| {
                let end = text.find("_test.csv").or_else(|| text.find("_test-"));
                text[..end.unwrap_or(text.len())].to_owned()
            };
            keep(document, "Subject", name, subject)
        },
        ("global_mmlu", _) => |name, document| keep(document, "subject_category", name, slug),
        ("include_base", _) => |name, document| keep(document, "domain", name, slug),
        ("uncheatable_eval", _) => |name, document| keep(document, "category", name, str::to_owned),
        ("winogender", _) => |name, document| keep(document, "gender", name, str::to_owned),
        _ => return None,
    })
}

/// Keeps a document whose column, written as functions are named, is what the function's name says
/// after its first word.
fn keep(
    document: Document,
    column: &str,
    function: &str,
    written: fn(&str) -> String,
) -> Result<Option<Document>, String> {
    let wanted = function.split_once('_').map_or(function, |(_, wanted)| wanted);
    let found = match document.get(column) {
        Some(Value::Null) => return Ok(None),
        _ => written(text(&document, column)?),
    };
    Ok((found == wanted).then_some(document))
}

fn slug(category: &str) -> String {
    category.to_lowercase().replace(" & ", "_").replace(' ', "_")
}
