//! Jinja templates that render as they do in Python: an undefined name is an error, the last newline
//! stays, and values are written as `str` writes them.

use minijinja::syntax::SyntaxConfig;
use minijinja::value::ValueKind;
use minijinja::{Environment, Error, ErrorKind, State, UndefinedBehavior, Value as Jinja};

use crate::python;
use crate::substitute::substitute;
use crate::value::{Document, Value};

/// Filters that give something else than Jinja's.
const REFUSED_FILTERS: [&str; 3] = ["indent", "e", "escape"];

/// The templates of a task, compiled, by name.
pub(crate) struct Templates {
    environment: Environment<'static>,
}

impl std::fmt::Debug for Templates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Templates")
    }
}

impl Templates {
    pub(crate) fn new() -> Self {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        let syntax = SyntaxConfig::builder().keep_trailing_newline(true).build();
        // Only the signs around tags could be wrong in a syntax, and they are the usual ones.
        environment.set_syntax(syntax.unwrap_or_default());
        environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
        environment.set_unknown_method_callback(method);
        environment.set_formatter(|out, state, value| {
            if value.is_undefined() {
                // Strict: this is the error.
                return minijinja::escape_formatter(out, state, value);
            }
            out.write_str(&text(value)).map_err(|_| ErrorKind::WriteFailure.into())
        });
        for name in REFUSED_FILTERS {
            environment.remove_filter(name);
        }
        environment.add_filter("string", |value: &Jinja| Ok::<_, Error>(text(defined(value)?)));
        environment.add_filter("trim", trim);
        environment.add_filter("join", join);
        environment.add_filter("regex_replace", regex_replace);
        Self { environment }
    }

    /// Compiles a template; Jinja reads `\r\n` and `\r` in one as `\n`.
    pub(crate) fn add(&mut self, name: &str, source: &str) -> Result<(), String> {
        let source = source.replace("\r\n", "\n").replace('\r', "\n");
        self.environment.add_template_owned(name.to_owned(), source).map_err(|e| say(&e))
    }

    pub(crate) fn render(&self, name: &str, document: &Document) -> Result<String, String> {
        let template = self.environment.get_template(name).map_err(|e| say(&e))?;
        let pairs = document.iter().map(|(column, value)| (column.clone(), jinja(value)));
        template.render(Jinja::from_pairs(pairs)).map_err(|e| say(&e))
    }
}

fn jinja(value: &Value) -> Jinja {
    match value {
        Value::Null => Jinja::from(()),
        Value::Bool(flag) => (*flag).into(),
        Value::Int(n) => (*n).into(),
        Value::Float(x) => (*x).into(),
        Value::Text(text) => text.as_str().into(),
        Value::List(items) => items.iter().map(jinja).collect(),
        Value::Map(map) => {
            Jinja::from_pairs(map.iter().map(|(key, value)| (key.clone(), jinja(value))))
        }
    }
}

fn say(error: &Error) -> String {
    let detail = error.detail().map(|d| format!(": {d}")).unwrap_or_default();
    format!("fails: {}{detail}", error.kind())
}

fn failed(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, message.into())
}

/// Python's `str`.
fn text(value: &Jinja) -> String {
    value.as_str().map_or_else(|| repr(value), str::to_owned)
}

/// Python's `repr`.
fn repr(value: &Jinja) -> String {
    let items = || value.try_iter().into_iter().flatten();
    match value.kind() {
        ValueKind::String => python::quote(value.as_str().unwrap_or_default()),
        ValueKind::None => Value::Null.to_string(),
        ValueKind::Number if !value.is_integer() => {
            f64::try_from(value.clone()).map_or_else(|_| value.to_string(), python::float)
        }
        ValueKind::Seq | ValueKind::Iterable => {
            let items: Vec<_> = items().map(|item| repr(&item)).collect();
            match (value.is_tuple(), items.as_slice()) {
                (true, [one]) => format!("({one},)"),
                (true, _) => format!("({})", items.join(", ")),
                (false, _) => format!("[{}]", items.join(", ")),
            }
        }
        ValueKind::Map => {
            let pair = |key: Jinja| {
                let value = value.get_item(&key).unwrap_or_default();
                format!("{}: {}", repr(&key), repr(&value))
            };
            format!("{{{}}}", items().map(pair).collect::<Vec<_>>().join(", "))
        }
        _ => value.to_string(),
    }
}

/// `str.strip`, of white space where no characters are given.
fn trim(value: &Jinja, characters: Option<String>) -> Result<String, Error> {
    let text = text(defined(value)?);
    Ok(match characters {
        None => text.trim_matches(python::is_space).to_owned(),
        Some(characters) => text.trim_matches(|c: char| characters.contains(c)).to_owned(),
    })
}

fn join(items: &Jinja, separator: Option<String>) -> Result<String, Error> {
    if defined(items)?.is_none() {
        return Err(failed("join: None has no items"));
    }
    let parts = items.try_iter()?.map(|item| Ok(text(defined(&item)?)));
    let parts = parts.collect::<Result<Vec<_>, Error>>()?;
    Ok(parts.join(separator.as_deref().unwrap_or_default()))
}

/// A name that a document lacks is an error wherever it stands, and not an empty text.
fn defined(value: &Jinja) -> Result<&Jinja, Error> {
    if value.is_undefined() { Err(ErrorKind::UndefinedError.into()) } else { Ok(value) }
}

/// The harness's filter.
fn regex_replace(
    string: &str,
    pattern: &str,
    replacement: &str,
    count: Option<usize>,
) -> Result<String, Error> {
    let replaced = substitute(string, pattern, replacement, count.unwrap_or(0));
    replaced.map_err(|found| failed(format!("regex_replace: {found}")))
}

/// Methods of Python's strings, lists and dicts.
fn method(state: &mut State, value: &Jinja, name: &str, args: &[Jinja]) -> Result<Jinja, Error> {
    match (value.as_str(), name, args) {
        (Some(s), "strip", []) => Ok(s.trim_matches(python::is_space).into()),
        (Some(s), "lstrip", []) => Ok(s.trim_start_matches(python::is_space).into()),
        (Some(s), "rstrip", []) => Ok(s.trim_end_matches(python::is_space).into()),
        (Some(separator), "join", [items]) => {
            let item = |item: Jinja| {
                let text = defined(&item)?.as_str().map(str::to_owned);
                text.ok_or_else(|| failed("the method join of text takes texts"))
            };
            let parts = defined(items)?.try_iter()?.map(item).collect::<Result<Vec<_>, Error>>()?;
            Ok(parts.join(separator).into())
        }
        (Some(s), "capitalize", []) => Ok(python::capitalize(s).into()),
        (Some(s), "split", []) => {
            Ok(s.split(python::is_space).filter(|part| !part.is_empty()).collect())
        }
        (Some(s), "removeprefix", [prefix]) => {
            let prefix = prefix.as_str().ok_or_else(|| failed("removeprefix takes text"))?;
            Ok(s.strip_prefix(prefix).unwrap_or(s).into())
        }
        (Some(s), "removesuffix", [suffix]) => {
            let suffix = suffix.as_str().ok_or_else(|| failed("removesuffix takes text"))?;
            Ok(s.strip_suffix(suffix).unwrap_or(s).into())
        }
        (Some(s), "index", [part]) => {
            let part = part.as_str().ok_or_else(|| failed("index takes text"))?;
            let at = s.find(part).map(|at| s[..at].chars().count());
            at.map(Jinja::from).ok_or_else(|| failed(format!("{part:?} is not in {s:?}")))
        }
        (None, "index", [item]) if value.kind() == ValueKind::Seq => {
            let at = value.try_iter()?.position(|other| other == *item);
            at.map(Jinja::from)
                .ok_or_else(|| failed(format!("{} is not in {}", repr(item), repr(value))))
        }
        // What the crate has under these names is not Python's.
        (
            Some(_),
            "title" | "isdigit" | "isnumeric" | "isalpha" | "isalnum" | "isspace" | "splitlines",
            _,
        ) => Err(failed(format!("the method {name} of text is not supported"))),
        _ => minijinja_contrib::pycompat::unknown_method_callback(state, value, name, args),
    }
}
