//! Where a task's documents are: on disk, or on the hub, whose files the caller fetches.

use std::path::{Path, PathBuf};

use indexmap::IndexMap;

use crate::documents::{self, Format};
use crate::value::{Document, Value};
use crate::yaml::Fields;
use crate::{TaskError, glob, numbers};

/// How the hub's files are named among others: `hf://datasets/OWNER/NAME/PATH`.
const HUB: &str = "hf://datasets/";

/// Documents by split.
pub type Splits = IndexMap<String, Vec<Document>>;

/// A data set, as `datasets.load_dataset` is told of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Dataset {
    /// `json`, `csv` or `parquet` for files on disk, else a name on the hub.
    pub path: String,
    /// The configuration of a data set on the hub.
    pub name: Option<String>,
    /// The revision of a data set on the hub; none: the main one.
    pub revision: Option<String>,
    /// Files by split, as written: names, or patterns with `*`, `**` and `?`.
    pub files: IndexMap<String, Vec<String>>,
    /// The columns of CSV files that have no line of names.
    pub columns: Option<Vec<String>>,
}

/// What has to be fetched from the hub.
#[derive(Clone, Debug, PartialEq)]
pub struct HubDataset {
    /// `OWNER/NAME`.
    pub repo: String,
    /// The configuration; none: the data set's default one.
    pub name: Option<String>,
    /// The revision; none: the main one.
    pub revision: Option<String>,
    /// Files by split, where the task names them; empty: all splits as the data set has them.
    pub files: IndexMap<String, Vec<String>>,
}

impl Dataset {
    pub(crate) fn read(fields: &mut Fields) -> Result<Self, TaskError> {
        let Some(path) = fields.text("dataset_path")? else {
            return Err(fields.wrong("dataset_path", "is missing; it says where documents are"));
        };
        let name = fields.text("dataset_name")?;
        let mut dataset =
            Self { path, name, revision: None, files: IndexMap::new(), columns: None };
        if let Some(mut fields) = fields.map("dataset_kwargs")? {
            dataset.revision = fields.text("revision")?;
            dataset.columns = fields.texts("column_names")?;
            dataset.files = files(&mut fields)?;
            // `header: null` goes with `column_names`; the others say how to load, not what.
            fields.ignore(&["trust_remote_code", "streaming", "verification_mode"]);
            fields.finish()?;
        }
        if Format::find(&dataset.path).is_some() && dataset.files.is_empty() {
            let path = &dataset.path;
            let found = format!("is missing; dataset_path: {path} reads the files that it names");
            return Err(fields.wrong("dataset_kwargs.data_files", found));
        }
        Ok(dataset)
    }

    /// Whether it is read from files on disk.
    pub fn is_local(&self) -> bool {
        let on_hub = |name: &String| name.starts_with(HUB);
        Format::find(&self.path).is_some() && !self.files.values().flatten().any(on_hub)
    }

    /// What has to be fetched from the hub; none for files on disk.
    pub fn hub(&self) -> Option<HubDataset> {
        let (name, revision) = (self.name.clone(), self.revision.clone());
        if self.is_local() {
            return None;
        }
        if Format::find(&self.path).is_none() {
            let (repo, files) = (self.path.clone(), self.files.clone());
            return Some(HubDataset { repo, name, revision, files });
        }
        let first = self.files.values().flatten().find_map(|name| name.strip_prefix(HUB))?;
        let (end, _) = first.match_indices('/').nth(1)?;
        let (repo, revision) = match first[..end].split_once('@') {
            Some((repo, revision)) => (repo, Some(revision.to_owned())),
            None => (&first[..end], revision),
        };
        let before = format!("{HUB}{}/", &first[..end]);
        let within = |name: &String| name.strip_prefix(&before).unwrap_or(name).to_owned();
        let split = |(split, names): (&String, &Vec<String>)| {
            (split.clone(), names.iter().map(within).collect())
        };
        let files = self.files.iter().map(split).collect();
        Some(HubDataset { repo: repo.to_owned(), name: None, revision, files })
    }

    /// Reads all splits; relative names are below `root`. The harness takes them from the folder that
    /// it runs in.
    ///
    /// # Errors
    /// If it is on the hub, a file cannot be read or is damaged, or numbers are whole in one split and fractions
    /// in a later one.
    pub fn load(&self, root: &Path) -> Result<Splits, TaskError> {
        if !self.is_local() {
            let found = "is a data set on the hub, which is to be fetched first".to_owned();
            return Err(TaskError::Data { path: PathBuf::from(&self.path), found });
        }
        let split = |(split, names): (&String, &Vec<String>)| {
            let files = names.iter().map(|name| glob::files(root, name));
            let files: Vec<_> = files.collect::<Result<Vec<_>, _>>()?.concat();
            Ok((split.clone(), files))
        };
        let files = self.files.iter().map(split).collect::<Result<_, TaskError>>()?;
        let mut splits = self.read_files(&files)?;
        let wrong = |found| TaskError::Data { path: PathBuf::from(&self.path), found };
        numbers::as_in_the_first(&mut splits).map_err(wrong)?;
        Ok(splits)
    }

    /// Reads splits from files that were fetched; formats are told by `dataset_path`, or by the files'
    /// names.
    ///
    /// # Errors
    /// If a file cannot be read, is damaged, or has a format that is not known.
    pub fn read_files(&self, splits: &IndexMap<String, Vec<PathBuf>>) -> Result<Splits, TaskError> {
        let own = Format::find(&self.path);
        let split = |(split, files): (&String, &Vec<PathBuf>)| {
            let documents = documents::read(own, self.columns.as_deref(), files)?;
            Ok((split.clone(), documents))
        };
        splits.iter().map(split).collect()
    }
}

/// `data_files`: by split, or those of the training split.
fn files(fields: &mut Fields) -> Result<IndexMap<String, Vec<String>>, TaskError> {
    let key = "data_files";
    let mut files = IndexMap::new();
    match fields.value(key)? {
        None => {}
        Some(Value::Map(map)) => {
            for (split, value) in map {
                files.insert(split, names(value).map_err(|found| fields.wrong(key, found))?);
            }
        }
        Some(value) => {
            let names = names(value).map_err(|found| fields.wrong(key, found))?;
            files.insert("train".to_owned(), names);
        }
    }
    Ok(files)
}

fn names(value: Value) -> Result<Vec<String>, String> {
    let name = |value: Value| match value {
        Value::Text(name) => Ok(name),
        other => Err(format!("holds {}; names of files are needed", other.kind())),
    };
    match value {
        Value::List(items) => items.into_iter().map(name).collect(),
        one => name(one).map(|name| vec![name]),
    }
}
