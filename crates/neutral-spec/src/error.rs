//! What can be wrong with an experiment: where it is, what was found, and what would be right.

use std::fmt;
use std::path::{Path, PathBuf};

use neutral_store::StoreError;

use crate::field_path::FieldPath;
use crate::yaml::Document;

/// An experiment that cannot be run as it is written.
#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    /// The file cannot be read.
    #[error(transparent)]
    Read(#[from] StoreError),
    /// The text is not YAML, or uses what an experiment file does without.
    #[error("{}:{line}:{column}: {message}", file.display())]
    Syntax {
        /// The file.
        file: PathBuf,
        /// Its line, from 1.
        line: usize,
        /// The character within the line, from 1.
        column: usize,
        /// What is wrong.
        message: String,
    },
    /// The YAML says something that cannot be meant: all of it, in the order of the file.
    #[error("{}", list(problems))]
    Invalid {
        /// One or more.
        problems: Vec<Problem>,
    },
}

/// One thing that is wrong with an experiment.
///
/// `quick.yaml:12: training.learning_rate: found the string "fast", expected a number above 0`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file, unless the experiment was not read from one.
    pub file: Option<PathBuf>,
    /// The line within the file, from 1.
    pub line: Option<usize>,
    /// The field.
    pub path: FieldPath,
    /// What was found and what would be right.
    pub message: String,
}

impl Problem {
    pub(crate) fn new(path: FieldPath, message: impl Into<String>) -> Self {
        Self { file: None, line: None, path, message: message.into() }
    }
}

impl SpecError {
    /// The same error with the lines of the fields it names, for an experiment read from this text.
    ///
    /// [`Experiment::from_yaml`](crate::Experiment::from_yaml) does so itself; this is for
    /// [`resolve`](crate::resolve()), which may find a budget too small once a tokenizer is loaded.
    #[must_use]
    pub fn located(self, file: &Path, text: &str) -> Self {
        match self {
            Self::Invalid { problems } => match Document::parse(text, file) {
                Ok(document) => Self::at(problems, &document, file),
                Err(_) => Self::Invalid { problems },
            },
            other => other,
        }
    }

    /// The error that a file names what is not there, such as a corpus or a task: each name with what is wrong
    /// about it, at every place that has it.
    pub fn of_names(names: &[(String, String)], file: &Path, text: &str) -> Self {
        let document = match Document::parse(text, file) {
            Ok(document) => document,
            Err(error) => return error,
        };
        let mut problems = Vec::new();
        for (name, message) in names {
            let mut places = document.places(name);
            if places.is_empty() {
                places.push(FieldPath::default());
            }
            let here = places.into_iter().map(|path| Problem::new(path, message.as_str()));
            problems.extend(here);
        }
        Self::at(problems, &document, file)
    }

    pub(crate) fn at(mut problems: Vec<Problem>, document: &Document, file: &Path) -> Self {
        for problem in &mut problems {
            problem.file = Some(file.to_path_buf());
            problem.line = Some(document.line(&problem.path));
        }
        problems.sort_by_key(|p| p.line);
        Self::Invalid { problems }
    }
}

fn list(problems: &[Problem]) -> String {
    problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("\n")
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.file {
            write!(f, "{}:", file.display())?;
        }
        if let Some(line) = self.line {
            write!(f, "{line}: ")?;
        }
        if !self.path.is_root() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)
    }
}
