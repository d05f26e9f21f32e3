//! Task files as they stand: YAML with `include` and `!function`, and the keys of a mapping taken one by
//! one, so that what nobody takes is an error.

use std::path::{Path, PathBuf};

use indexmap::IndexMap;
use neutral_store::StoreError;
use serde_yaml::Value as Yaml;

use crate::TaskError;
use crate::value::Value;

/// The keys of a task file.
pub(crate) type Keys = IndexMap<String, Node>;

/// A value of a task file.
#[derive(Clone, Debug)]
pub(crate) enum Node {
    Plain(Value),
    List(Vec<Node>),
    Map(IndexMap<String, Node>),
    Function(Function),
}

/// `!function module.name`: Python code beside the file that names it.
#[derive(Clone, Debug)]
pub(crate) struct Function {
    pub(crate) name: String,
    pub(crate) folder: PathBuf,
}

impl Node {
    /// The value; functions become their names.
    pub(crate) fn value(&self) -> Value {
        match self {
            Self::Plain(value) => value.clone(),
            Self::List(items) => Value::List(items.iter().map(Self::value).collect()),
            Self::Map(map) => {
                Value::Map(map.iter().map(|(key, node)| (key.clone(), node.value())).collect())
            }
            Self::Function(function) => Value::Text(format!("!function {}", function.name)),
        }
    }

    /// The first function in it.
    pub(crate) fn function(&self) -> Option<&Function> {
        match self {
            Self::Plain(_) => None,
            Self::List(items) => items.iter().find_map(Self::function),
            Self::Map(map) => map.values().find_map(Self::function),
            Self::Function(function) => Some(function),
        }
    }
}

/// The keys of a file and of those that it includes: of several includes the later wins, and the
/// file's own over all. `task_list` is not inherited.
pub(crate) fn load(path: &Path) -> Result<Keys, TaskError> {
    load_below(path, &mut Vec::new())
}

fn load_below(path: &Path, above: &mut Vec<PathBuf>) -> Result<Keys, TaskError> {
    let wrong = |field: &str, found: String| TaskError::Config {
        path: path.to_path_buf(),
        field: field.to_owned(),
        found,
    };
    let whole = path.canonicalize().map_err(|e| StoreError::io("read", path, e))?;
    if above.contains(&whole) {
        return Err(wrong("include", "leads back to the file itself".to_owned()));
    }
    above.push(whole);
    let text = std::fs::read_to_string(path).map_err(|e| StoreError::io("read", path, e))?;
    let mut yaml: Yaml =
        serde_yaml::from_str(&text).map_err(|e| wrong("the file", format!("is no YAML: {e}")))?;
    yaml.apply_merge().map_err(|e| wrong("<<", e.to_string()))?;
    let folder = path.parent().unwrap_or(Path::new("."));
    let node = node(yaml, folder).map_err(|found| wrong("the file", found))?;
    let Node::Map(mut own) = node else {
        return Err(wrong("the file", "is no mapping of keys to values".to_owned()));
    };
    let mut merged = IndexMap::new();
    let includes = match own.shift_remove("include").map(|node| node.value()) {
        None => Vec::new(),
        Some(Value::List(items)) => items,
        Some(one) => vec![one],
    };
    for include in includes {
        let Value::Text(name) = include else {
            return Err(wrong("include", format!("is {}, not a file's name", include.kind())));
        };
        let mut inherited = load_below(&folder.join(name), above)?;
        inherited.shift_remove("task_list");
        merged.extend(inherited);
    }
    merged.extend(own);
    above.pop();
    Ok(merged)
}

fn node(yaml: Yaml, folder: &Path) -> Result<Node, String> {
    Ok(match yaml {
        Yaml::Null => Node::Plain(Value::Null),
        Yaml::Bool(value) => Node::Plain(Value::Bool(value)),
        Yaml::Number(number) => Node::Plain(match (number.as_i64(), number.as_f64()) {
            (Some(whole), _) => Value::Int(whole),
            (None, Some(other)) => Value::Float(other),
            (None, None) => return Err(format!("holds {number}, which is beyond 64 bits")),
        }),
        Yaml::String(text) => Node::Plain(Value::Text(text)),
        Yaml::Sequence(items) => {
            Node::List(items.into_iter().map(|item| node(item, folder)).collect::<Result<_, _>>()?)
        }
        Yaml::Mapping(map) => {
            let mut out = IndexMap::new();
            for (key, value) in map {
                let key = match key {
                    Yaml::String(key) => key,
                    Yaml::Number(key) => key.to_string(),
                    other => return Err(format!("has a key that is no text: {other:?}")),
                };
                out.insert(key, node(value, folder)?);
            }
            Node::Map(out)
        }
        Yaml::Tagged(tagged) => match (tagged.tag.to_string().as_str(), tagged.value) {
            ("!function", Yaml::String(name)) => {
                Node::Function(Function { name, folder: folder.to_path_buf() })
            }
            (tag, _) => return Err(format!("has the tag {tag}; only !function NAME is known")),
        },
    })
}

/// A mapping whose keys are taken one by one. A key without a value counts as absent, as in Python's
/// dataclasses, whose defaults are `None`.
pub(crate) struct Fields {
    path: PathBuf,
    prefix: String,
    map: Keys,
}

impl Fields {
    pub(crate) fn new(path: &Path, prefix: &str, map: Keys) -> Self {
        Self { path: path.to_path_buf(), prefix: prefix.to_owned(), map }
    }

    pub(crate) fn wrong(&self, key: &str, found: impl Into<String>) -> TaskError {
        let field = format!("{}{key}", self.prefix);
        TaskError::Config { path: self.path.clone(), field, found: found.into() }
    }

    /// What stands for a `!function` here, or none if the key has no value.
    pub(crate) fn function<T>(
        &mut self,
        key: &str,
        find: impl FnOnce(&Function) -> Result<T, String>,
    ) -> Result<Option<T>, TaskError> {
        match self.take(key) {
            None => Ok(None),
            Some(Node::Function(function)) => {
                find(&function).map(Some).map_err(|found| self.wrong(key, found))
            }
            Some(_) => Err(self.wrong(key, "is no !function MODULE.NAME")),
        }
    }

    pub(crate) fn take(&mut self, key: &str) -> Option<Node> {
        let node = self.map.shift_remove(key)?;
        if matches!(node, Node::Plain(Value::Null)) { None } else { Some(node) }
    }

    /// Whether a key is there without a value.
    pub(crate) fn is_null(&self, key: &str) -> bool {
        matches!(self.map.get(key), Some(Node::Plain(Value::Null)))
    }

    /// Removes keys that change no result.
    pub(crate) fn ignore(&mut self, keys: &[&str]) {
        self.map.retain(|key, _| !keys.contains(&key.as_str()));
    }

    pub(crate) fn value(&mut self, key: &str) -> Result<Option<Value>, TaskError> {
        let Some(node) = self.take(key) else { return Ok(None) };
        self.plain(key, &node).map(Some)
    }

    /// The value, which no function may be part of.
    pub(crate) fn plain(&self, key: &str, node: &Node) -> Result<Value, TaskError> {
        match node.function() {
            None => Ok(node.value()),
            Some(function) => Err(self.wrong(key, no_python(&function.name))),
        }
    }

    pub(crate) fn text(&mut self, key: &str) -> Result<Option<String>, TaskError> {
        match self.value(key)? {
            None => Ok(None),
            Some(Value::Text(text)) => Ok(Some(text)),
            Some(other) => Err(self.wrong(key, format!("is {}; text is needed", other.kind()))),
        }
    }

    /// A list of texts; one text is a list of one.
    pub(crate) fn texts(&mut self, key: &str) -> Result<Option<Vec<String>>, TaskError> {
        let items = match self.value(key)? {
            None => return Ok(None),
            Some(Value::List(items)) => items,
            Some(one) => vec![one],
        };
        let text = |item| match item {
            Value::Text(text) => Ok(text),
            other => Err(self.wrong(key, format!("holds {}; text is needed", other.kind()))),
        };
        items.into_iter().map(text).collect::<Result<_, _>>().map(Some)
    }

    pub(crate) fn flag(&mut self, key: &str) -> Result<Option<bool>, TaskError> {
        match self.value(key)? {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(flag)),
            Some(other) => {
                Err(self.wrong(key, format!("is {}; true or false is needed", other.kind())))
            }
        }
    }

    pub(crate) fn count(&mut self, key: &str) -> Result<Option<usize>, TaskError> {
        match self.value(key)? {
            None => Ok(None),
            Some(Value::Int(n)) if n >= 0 => Ok(Some(n as usize)),
            Some(other) => {
                Err(self.wrong(key, format!("is {other}; a whole number from 0 on is needed")))
            }
        }
    }

    pub(crate) fn map(&mut self, key: &str) -> Result<Option<Self>, TaskError> {
        match self.take(key) {
            None => Ok(None),
            Some(Node::Map(map)) => {
                Ok(Some(Self::new(&self.path, &format!("{}{key}.", self.prefix), map)))
            }
            Some(other) => {
                let kind = other.value().kind();
                Err(self.wrong(key, format!("is {kind}; a mapping is needed")))
            }
        }
    }

    /// A list of mappings; one mapping is a list of one.
    pub(crate) fn maps(&mut self, key: &str) -> Result<Option<Vec<Self>>, TaskError> {
        let items = match self.take(key) {
            None => return Ok(None),
            Some(Node::List(items)) => items,
            Some(one) => vec![one],
        };
        let item = |(i, node): (usize, Node)| match node {
            Node::Map(map) => {
                Ok(Self::new(&self.path, &format!("{}{key}[{i}].", self.prefix), map))
            }
            other => {
                let kind = other.value().kind();
                Err(self.wrong(&format!("{key}[{i}]"), format!("is {kind}; a mapping is needed")))
            }
        };
        items.into_iter().enumerate().map(item).collect::<Result<_, _>>().map(Some)
    }

    /// All keys have been taken.
    pub(crate) fn finish(&self) -> Result<(), TaskError> {
        let left = self.map.iter().find(|(_, n)| !matches!(n, Node::Plain(Value::Null)));
        left.map_or(Ok(()), |(key, _)| {
            Err(self.wrong(key, "is not supported here, and would change results"))
        })
    }
}

/// The message for a function that has no counterpart.
pub(crate) fn no_python(name: &str) -> String {
    format!("is the Python function {name}, which cannot be run and has no counterpart here")
}
