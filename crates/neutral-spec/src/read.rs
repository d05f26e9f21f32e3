//! A file to an [`Experiment`]: text, value, checked value, type, checked type.

use std::path::Path;

use neutral_store::StoreError;

use crate::error::SpecError;
use crate::experiment::Experiment;
use crate::resolve;
use crate::schema::Schema;
use crate::yaml::Document;

impl Experiment {
    /// Reads an experiment from YAML; `file` is what errors call it.
    ///
    /// # Errors
    /// Everything that is wrong with it, as far as it can be told before a tokenizer is loaded, each
    /// with its line: syntax; then keys, types and ranges; then rules between fields, sweeps and
    /// budgets.
    pub fn from_yaml(text: &str, file: &Path) -> Result<Self, SpecError> {
        let document = Document::parse(text, file)?;
        let experiment: Self = Schema::of::<Self>()
            .read(&document.value)
            .map_err(|problems| SpecError::at(problems, &document, file))?;
        let problems = resolve::problems(&experiment);
        if problems.is_empty() {
            Ok(experiment)
        } else {
            Err(SpecError::at(problems, &document, file))
        }
    }

    /// Reads an experiment file.
    ///
    /// # Errors
    /// If it cannot be read, and those of [`Experiment::from_yaml`].
    pub fn read(path: &Path) -> Result<Self, SpecError> {
        let text = std::fs::read_to_string(path).map_err(|e| StoreError::io("read", path, e))?;
        Self::from_yaml(&text, path)
    }
}
