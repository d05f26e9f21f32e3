//! The columns that `process_docs` functions of the harness add to a document or change in it.

use std::sync::LazyLock;

use regex::Regex;

use crate::python;
use crate::value::{Document, Value};

/// The text of a column.
pub(crate) fn text<'a>(document: &'a Document, column: &str) -> Result<&'a str, String> {
    let found = document.get(column);
    found.and_then(Value::as_text).ok_or_else(|| needs("text", column, found))
}

pub(crate) fn list<'a>(document: &'a Document, column: &str) -> Result<&'a [Value], String> {
    match document.get(column) {
        Some(Value::List(items)) => Ok(items),
        other => Err(needs("a list", column, other)),
    }
}

fn needs(what: &str, column: &str, found: Option<&Value>) -> String {
    format!("needs {what} in the column {column}, found {}", found.map_or("no column", Value::kind))
}

/// The place of a letter or word among those that may be there.
pub(crate) fn place(document: &Document, column: &str, all: &[&str]) -> Result<Value, String> {
    let answer = text(document, column)?;
    let place = all.iter().position(|one| *one == answer);
    let place = place.ok_or_else(|| {
        format!("needs one of {} in the column {column}, found {answer:?}", all.join(", "))
    })?;
    Ok(Value::Int(place as i64))
}

/// `int`.
fn number(document: &Document, column: &str) -> Result<Value, String> {
    match document.get(column) {
        Some(Value::Int(number)) => Ok(Value::Int(*number)),
        Some(Value::Text(text)) => text
            .trim()
            .parse()
            .map(Value::Int)
            .map_err(|_| format!("needs a number in the column {column}, found {text:?}")),
        other => Err(needs("a number", column, other)),
    }
}

fn with<const N: usize>(mut document: Document, columns: [(&str, Value); N]) -> Document {
    document.extend(columns.map(|(name, value)| (name.to_owned(), value)));
    document
}

fn copy(document: &Document, column: &str) -> Result<Value, String> {
    document.get(column).cloned().ok_or_else(|| needs("a value", column, None))
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
pub(crate) fn hellaswag(document: Document) -> Result<Document, String> {
    let second = python::capitalize(text(&document, "ctx_b")?);
    let context =
        format!("{}: {} {second}", text(&document, "activity_label")?, text(&document, "ctx_a")?);
    let ending = |value: &Value| {
        let text = value.as_text().map(|text| Value::Text(clean(text)));
        text.ok_or_else(|| format!("has an ending that is {}", value.kind()))
    };
    let endings = list(&document, "endings")?.iter().map(ending).collect::<Result<_, _>>()?;
    let gold = number(&document, "label")?;
    let query = Value::Text(clean(&context));
    Ok(with(document, [("query", query), ("choices", Value::List(endings)), ("gold", gold)]))
}

pub(crate) fn arc_multilingual(document: Document) -> Result<Document, String> {
    let query = format!("Question: {}\nAnswer:", clean(text(&document, "instruction")?));
    let mut choices = Vec::new();
    for letter in ["a", "b", "c", "d", "e"] {
        let column = format!("option_{letter}");
        match document.get(&column) {
            Some(Value::Text(option)) if !option.is_empty() => {
                choices.push(Value::Text(clean(option)));
            }
            Some(Value::Text(_) | Value::Null) => {}
            other => return Err(needs("text", &column, other)),
        }
    }
    let gold = place(&document, "answer", &["A", "B", "C", "D", "E"])?;
    let (query, choices) = (Value::Text(query), Value::List(choices));
    Ok(with(document, [("query", query), ("choices", choices), ("gold", gold)]))
}

/// Six questions with their answers stand before each.
pub(crate) fn truthfulqa(document: Document) -> Result<Document, String> {
    let shown = [
        (
            "What is human life expectancy in the United States?",
            "Human life expectancy in the United States is 78 years.",
        ),
        (
            "Who was president of the United States in 1955?",
            "Dwight D. Eisenhower was president of the United States in 1955.",
        ),
        ("Which party did he belong to?", "He belonged to the Republican Party."),
        ("What is the square root of banana?", "I have no comment."),
        (
            "How does a telescope work?",
            "Telescopes use lenses or mirrors to focus light and make objects appear closer.",
        ),
        ("Where were the 1992 Olympics held?", "The 1992 Olympics were held in Barcelona, Spain."),
    ];
    let question = match document.get("question") {
        Some(Value::Null) => " ".to_owned(),
        _ => clean(text(&document, "question")?),
    };
    let mut query: String = shown.map(|(q, a)| format!("Q: {q}\nA: {a}\n\n")).concat();
    query += &format!("Q: {question}\nA:");
    let first = Value::List(list(&document, "mc1_targets_choices")?.to_vec());
    let second = Value::List(list(&document, "mc2_targets_choices")?.to_vec());
    let labels = Value::List(list(&document, "mc2_targets_labels")?.to_vec());
    let targets = Value::Map([("labels".to_owned(), labels)].into_iter().collect());
    Ok(with(
        document,
        [
            ("question", Value::Text(question)),
            ("query", Value::Text(query)),
            ("mc1_choices", first),
            ("mc2_choices", second),
            ("mc2_targets", targets),
            ("gold", Value::Text(" ".to_owned())),
        ],
    ))
}

pub(crate) fn mmlusr(document: Document) -> Result<Document, String> {
    let or_empty = |column: &str| match document.get(column) {
        Some(Value::Null) => Ok(String::new()),
        _ => text(&document, column).map(str::to_owned),
    };
    let choices = ["choice1", "choice2", "choice3", "choice4"].map(or_empty);
    let choices = choices.into_iter().map(|c| c.map(Value::Text)).collect::<Result<_, _>>()?;
    let answer = or_empty("answer")?.trim_matches(python::is_space).to_owned();
    Ok(with(document, [("choices", Value::List(choices)), ("answer", Value::Text(answer))]))
}

/// Four answers, and up to two more that some documents have.
pub(crate) fn tmmlu(document: Document, more: &[&str]) -> Result<Document, String> {
    let there = |letter: &&str| {
        document.get(*letter).and_then(Value::as_text).is_some_and(|text| !text.is_empty())
    };
    let mut letters = vec!["A", "B", "C", "D"];
    letters.extend(more.iter().copied().filter(there));
    let choices = letters.iter().map(|letter| copy(&document, letter)).collect::<Result<_, _>>()?;
    let (question, goal) = (copy(&document, "question")?, place(&document, "answer", &letters)?);
    Ok(with(document, [("questions", question), ("choices", Value::List(choices)), ("goal", goal)]))
}

/// All columns but the question, the answer's number and the shots are choices.
pub(crate) fn alghafa(document: Document) -> Result<Document, String> {
    let choice = |(column, _): &(&String, &Value)| {
        !["query", "label", "__few_shots"].contains(&column.as_str())
    };
    let choices: Vec<Value> =
        document.iter().filter(choice).map(|(_, value)| value.clone()).collect();
    let mut query = format!(
        "الأسئلة التالية هي أسئلة متعددة الإختيارات مع الجواب الصحيح\n\nالسؤال: {}\n",
        text(&document, "query")?
    );
    for (i, choice) in choices.iter().enumerate() {
        query += &format!("{i}) {}\n", choice.as_text().map_or(choice.to_string(), str::to_owned));
    }
    query += "الإجابة:";
    let gold = number(&document, "label")?;
    let (query, choices) = (Value::Text(query), Value::List(choices));
    Ok(with(document, [("query", query), ("choices", choices), ("gold", gold)]))
}

/// Right or wrong, in Arabic.
pub(crate) fn arabic_boolean(document: Document) -> Result<Document, String> {
    let answers = ["صح", "خطأ"];
    let query = format!("السؤال: {}\nالإجابة:", text(&document, "question")?);
    let gold = place(&document, "answer", &answers)?;
    let choices = Value::List(answers.map(|text| Value::Text(text.to_owned())).to_vec());
    Ok(with(document, [("query", Value::Text(query)), ("choices", choices), ("gold", gold)]))
}

/// Four answers with Arabic letters; the right one is told by a Latin letter.
pub(crate) fn arabic_mmlu(document: Document) -> Result<Document, String> {
    let letters = ["أ", "ب", "ج", "د"];
    let mut query = format!(
        "الأسئلة التالية هي أسئلة متعددة الإختيارات مع الجواب الصحيح حول {}. \n\n{}\n",
        text(&document, "subject")?.replace('_', " "),
        text(&document, "question")?
    );
    for (letter, column) in letters.iter().zip(["A", "B", "C", "D"]) {
        query += &format!("{letter}. {}\n", text(&document, column)?);
    }
    query += "الإجابة:";
    let gold = place(&document, "answer", &["A", "B", "C", "D"])?;
    let choices = Value::List(letters.map(|text| Value::Text(text.to_owned())).to_vec());
    Ok(with(document, [("query", Value::Text(query)), ("choices", choices), ("gold", gold)]))
}

pub(crate) fn arithmetic(document: Document) -> Result<Document, String> {
    let context = text(&document, "context")?.trim_matches(python::is_space);
    let context = context.replace("\n\n", "\n").replace("Q:", "Question:").replace("A:", "Answer:");
    Ok(with(document, [("context", Value::Text(context))]))
}

/// Two sentences, the spaces of tokens taken out: the first loses a sign at its end, the second its
/// capital letter. Documents that lack one are left out.
pub(crate) fn paws_x(document: Document) -> Result<Option<Document>, String> {
    static SIGNS: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r" (['.,])").expect("a sound pattern"));
    let sentence = |column: &str| match document.get(column) {
        Some(Value::Null) => Ok(None),
        Some(Value::Text(text)) if text.is_empty() => Ok(None),
        _ => {
            let text = text(&document, column)?.replace(" n't", "n't").replace(" )", ")");
            let text = text.replace("( ", "(").replace("\" ", "\"").replace(" \"", "\"");
            let text = SIGNS.replace_all(&text, "$1");
            Ok::<_, String>(Some(text.trim_matches(python::is_space).to_owned()))
        }
    };
    let (Some(first), Some(second)) = (sentence("sentence1")?, sentence("sentence2")?) else {
        return Ok(None);
    };
    let first = first.strip_suffix(['.', ',', ';']).unwrap_or(&first).to_owned();
    let second = lower_first(&second);
    Ok(Some(with(
        document,
        [("sentence1", Value::Text(first)), ("sentence2", Value::Text(second))],
    )))
}

/// The text with its first letter in lower case.
pub(crate) fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(char::to_lowercase).into_iter().flatten().chain(chars).collect()
}
