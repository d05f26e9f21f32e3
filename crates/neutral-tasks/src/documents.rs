//! Documents from JSON, CSV and Parquet files, as the `datasets` library gives them.

use std::path::{Path, PathBuf};

use indexmap::{IndexMap, IndexSet};
use neutral_store::StoreError;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::{Field, Row};

use crate::value::{Document, Value};
use crate::{TaskError, numbers};

/// What pandas takes for no value.
const MISSING: [&str; 19] = [
    "", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN",
    "<NA>", "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null",
];

/// A format of files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One object a line, or a list of objects.
    Json,
    /// With a line of column names; numbers and missing values are told as pandas does.
    Csv,
    /// Apache Parquet.
    Parquet,
}

impl Format {
    /// By the name that `dataset_path` has for it.
    pub fn find(name: &str) -> Option<Self> {
        match name {
            "json" => Some(Self::Json),
            "csv" => Some(Self::Csv),
            "parquet" => Some(Self::Parquet),
            _ => None,
        }
    }

    /// By the end of a file's name.
    pub fn of(file: &Path) -> Option<Self> {
        match file.extension()?.to_str()? {
            "json" | "jsonl" | "ndjson" => Some(Self::Json),
            "csv" => Some(Self::Csv),
            "parquet" => Some(Self::Parquet),
            _ => None,
        }
    }
}

/// The documents of several files, in the format of each file's name where none is given. All get the columns that any
/// of them has, in the order in which they turn up; one that lacks a column has `None` there. Where there
/// are fractions there are no whole numbers. `columns` are those of CSV files without a line of names.
///
/// # Errors
/// If a file cannot be read, is damaged, or holds what documents cannot.
pub(crate) fn read(
    format: Option<Format>,
    columns: Option<&[String]>,
    files: &[PathBuf],
) -> Result<Vec<Document>, TaskError> {
    let mut documents = Vec::new();
    for path in files {
        let format = format.or_else(|| Format::of(path));
        documents.extend(match format {
            Some(Format::Json) => json(path)?,
            Some(Format::Csv) => csv(path, columns)?,
            Some(Format::Parquet) => parquet(path)?,
            None => return Err(bad(path, "is no file of JSON, CSV or Parquet by its name")),
        });
    }
    let columns: IndexSet<String> = documents.iter().flat_map(IndexMap::keys).cloned().collect();
    let whole = |mut document: Document| -> Document {
        let value = |column: &String| document.swap_remove(column).unwrap_or(Value::Null);
        columns.iter().cloned().zip(columns.iter().map(value)).collect()
    };
    let mut documents: Vec<Document> = documents.into_iter().map(whole).collect();
    numbers::of_one_type(&mut documents);
    Ok(documents)
}

fn bad(path: &Path, found: impl Into<String>) -> TaskError {
    TaskError::Data { path: path.to_path_buf(), found: found.into() }
}

fn text(path: &Path) -> Result<String, TaskError> {
    let bytes = std::fs::read(path).map_err(|e| StoreError::io("read", path, e))?;
    let text = String::from_utf8(bytes);
    let mut text = text.map_err(|e| bad(path, format!("is no UTF-8 text: {e}")))?;
    // A byte order mark, as some editors write one.
    if text.starts_with('\u{feff}') {
        text.remove(0);
    }
    Ok(text)
}

fn json(path: &Path) -> Result<Vec<Document>, TaskError> {
    let text = text(path)?;
    if text.trim_start().starts_with('[') {
        return serde_json::from_str(&text)
            .map_err(|e| bad(path, format!("is no list of JSON objects: {e}")));
    }
    let objects = serde_json::Deserializer::from_str(&text).into_iter().enumerate();
    objects
        .map(|(i, object)| {
            object.map_err(|e| bad(path, format!("has no JSON object as document {i}: {e}")))
        })
        .collect()
}

fn csv(path: &Path, columns: Option<&[String]>) -> Result<Vec<Document>, TaskError> {
    let text = text(path)?;
    let failed = |e: csv::Error| bad(path, format!("is no sound CSV file: {e}"));
    let mut reader = csv::ReaderBuilder::new();
    let mut reader = reader.has_headers(columns.is_none()).from_reader(text.as_bytes());
    let names: Vec<_> = match columns {
        Some(names) => names.to_vec(),
        None => reader.headers().map_err(failed)?.iter().map(str::to_owned).collect(),
    };
    let rows: Vec<_> = reader.records().collect::<Result<_, _>>().map_err(failed)?;
    let mut documents = vec![Document::new(); rows.len()];
    for (i, name) in names.into_iter().enumerate() {
        let cells: Vec<&str> = rows.iter().map(|row| row.get(i).unwrap_or_default()).collect();
        for (document, value) in documents.iter_mut().zip(column(&cells)) {
            document.insert(name.clone(), value);
        }
    }
    Ok(documents)
}

/// A column in the narrowest type that all its cells have: truth values, whole numbers, numbers, text.
/// Where a cell is missing, whole numbers are numbers and truth values stay, as pandas has it.
fn column(cells: &[&str]) -> Vec<Value> {
    let missing = |cell: &str| MISSING.contains(&cell);
    let any_missing = cells.iter().any(|cell| missing(cell));
    let all = |one: &dyn Fn(&str) -> Option<Value>| -> Option<Vec<Value>> {
        let value = |cell: &&str| if missing(cell) { Some(Value::Null) } else { one(cell) };
        cells.iter().map(value).collect()
    };
    let truth = |cell: &str| match cell {
        "True" | "TRUE" | "true" => Some(Value::Bool(true)),
        "False" | "FALSE" | "false" => Some(Value::Bool(false)),
        _ => None,
    };
    let whole = |cell: &str| cell.trim().parse().ok().map(Value::Int).filter(|_| !any_missing);
    let number = |cell: &str| cell.trim().parse().ok().map(Value::Float);
    all(&truth)
        .or_else(|| all(&whole))
        .or_else(|| all(&number))
        .or_else(|| all(&|cell| Some(Value::Text(cell.to_owned()))))
        .unwrap_or_default()
}

fn parquet(path: &Path) -> Result<Vec<Document>, TaskError> {
    let failed =
        |e: parquet::errors::ParquetError| bad(path, format!("is no sound Parquet file: {e}"));
    let input = std::fs::File::open(path).map_err(|e| StoreError::io("open", path, e))?;
    let reader = SerializedFileReader::new(input).map_err(failed)?;
    let rows = reader.get_row_iter(None).map_err(failed)?;
    rows.map(|row| document(&row.map_err(failed)?).map_err(|found| bad(path, found))).collect()
}

fn document(row: &Row) -> Result<Document, String> {
    let pair = |(name, field): (&String, &Field)| {
        let value = value(field).map_err(|kind| {
            format!("has {kind} in the column {name}; text, numbers, lists and groups are read")
        })?;
        Ok((name.clone(), value))
    };
    row.get_column_iter().map(pair).collect()
}

/// The value, or the name of a type that is not read.
fn value(field: &Field) -> Result<Value, String> {
    Ok(match field {
        Field::Null => Value::Null,
        Field::Bool(flag) => Value::Bool(*flag),
        Field::Byte(n) => Value::Int((*n).into()),
        Field::Short(n) => Value::Int((*n).into()),
        Field::Int(n) => Value::Int((*n).into()),
        Field::Long(n) => Value::Int(*n),
        Field::UByte(n) => Value::Int((*n).into()),
        Field::UShort(n) => Value::Int((*n).into()),
        Field::UInt(n) => Value::Int((*n).into()),
        Field::ULong(n) => Value::Int(i64::try_from(*n).map_err(|_| n.to_string())?),
        Field::Float(x) => Value::Float((*x).into()),
        Field::Double(x) => Value::Float(*x),
        Field::Str(text) => Value::Text(text.clone()),
        Field::ListInternal(list) => {
            Value::List(list.elements().iter().map(value).collect::<Result<_, _>>()?)
        }
        Field::Group(row) => Value::Map(document(row)?),
        other => return Err(format!("{other:?}").split('(').next().unwrap_or_default().to_owned()),
    })
}
