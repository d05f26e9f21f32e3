//! Where a task's documents are: on disk, or on the hub, which is the caller's business.

use std::path::{Path, PathBuf};

use indexmap::IndexMap;

use crate::TaskError;
use crate::documents::{self, Format};
use crate::value::{Document, Value};
use crate::yaml::Fields;

/// Documents by split.
pub type Splits = IndexMap<String, Vec<Document>>;

/// A data set, as `datasets.load_dataset` is told of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Dataset {
    /// `json`, `csv` or `parquet` for files on disk, else a name on the hub.
    pub path: String,
    /// The configuration of a data set on the hub.
    pub name: Option<String>,
    /// Files by split, as written.
    pub files: IndexMap<String, Vec<String>>,
}

impl Dataset {
    pub(crate) fn read(fields: &mut Fields) -> Result<Self, TaskError> {
        let Some(path) = fields.text("dataset_path")? else {
            return Err(fields.wrong("dataset_path", "is missing; it says where documents are"));
        };
        let name = fields.text("dataset_name")?;
        let mut files = IndexMap::new();
        if let Some(mut fields) = fields.map("dataset_kwargs")? {
            fields.ignore(&["trust_remote_code"]);
            let wrong = |v: &Value, f: &Fields| {
                f.wrong("data_files", format!("holds {}; names of files are needed", v.kind()))
            };
            let list = |value: Value, f: &Fields| match value {
                Value::Text(name) => Ok(vec![name]),
                Value::List(items) => {
                    let text = |item: &Value| item.as_text().map(str::to_owned);
                    let one = |item: &Value| text(item).ok_or_else(|| wrong(item, f));
                    items.iter().map(one).collect()
                }
                other => Err(wrong(&other, f)),
            };
            match fields.value("data_files")? {
                None => {}
                Some(Value::Map(map)) => {
                    for (split, value) in map {
                        files.insert(split, list(value, &fields)?);
                    }
                }
                // Files of no split are the training split.
                Some(value) => {
                    files.insert("train".to_owned(), list(value, &fields)?);
                }
            }
            if let Some(glob) = files.values().flatten().find(|name| name.contains(['*', '?'])) {
                let found = format!("has the pattern {glob}; files by their names are needed");
                return Err(fields.wrong("data_files", found));
            }
            fields.finish()?;
        }
        if Format::find(&path).is_some() && files.is_empty() {
            let found = format!("is missing; dataset_path: {path} reads the files that it names");
            return Err(fields.wrong("dataset_kwargs.data_files", found));
        }
        Ok(Self { path, name, files })
    }

    /// Whether it is read from files on disk.
    pub fn is_local(&self) -> bool {
        Format::find(&self.path).is_some()
    }

    /// Reads all splits; relative names are below `root`. The harness takes them from the folder that
    /// it runs in.
    ///
    /// # Errors
    /// If it is on the hub, or a file cannot be read or is damaged.
    pub fn load(&self, root: &Path) -> Result<Splits, TaskError> {
        let Some(format) = Format::find(&self.path) else {
            let found = "is a data set on the hub, which is to be fetched first".to_owned();
            return Err(TaskError::Data { path: PathBuf::from(&self.path), found });
        };
        let split = |(split, names): (&String, &Vec<String>)| {
            let files: Vec<_> = names.iter().map(|name| root.join(name)).collect();
            Ok((split.clone(), documents::read(format, &files)?))
        };
        self.files.iter().map(split).collect()
    }
}
