//! Files that hold many documents (JSON lines, Parquet, long plain text), read row by row.

use std::fs::File;
use std::io::BufRead;
use std::path::Path;

use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Field;
use parquet::schema::types::Type;

use super::files::{self, Found};
use super::{BATCH, RawDocument, Sink, TextBlock};
use crate::DataError;

/// Collects documents into batches.
struct Batches<'a, 'b> {
    sink: &'a mut Sink<'b>,
    documents: Vec<RawDocument>,
}

impl Batches<'_, '_> {
    fn push(&mut self, id: String, blocks: Vec<String>) -> Result<(), DataError> {
        self.documents.push(RawDocument { id, blocks });
        if self.documents.len() < BATCH { Ok(()) } else { self.flush() }
    }

    fn flush(&mut self) -> Result<(), DataError> {
        (self.sink)(std::mem::take(&mut self.documents))
    }
}

fn lines(text: &str) -> Vec<String> {
    text.lines().map(str::to_owned).collect()
}

/// The string field of one JSON object a line; a document's id is `<file>#<row from 0>`, of a single file `#<row>`. Rows where it is
/// null are left out.
pub(super) fn jsonl(file: &Found, field: &str, sink: &mut Sink<'_>) -> Result<(), DataError> {
    let mut batches = Batches { sink, documents: Vec::new() };
    for (row, line) in files::open(&file.path)?.lines().enumerate() {
        let bad = |e: String| DataError::extract(&file.path, format!("line {}: {e}", row + 1));
        let line = line.map_err(|e| bad(e.to_string()))?;
        if line.trim().is_empty() {
            continue;
        }
        // As serde_json counts, each line is its first.
        let value = serde_json::from_str(&line)
            .map_err(|e| e.to_string().replace(" at line 1 column", " at column"));
        let object = match value {
            Ok(serde_json::Value::Object(object)) => object,
            _ if line.trim_start().starts_with('[') => {
                return Err(bad(
                    "begins a list, expected an object a line; `jq -c .[]` writes a list so"
                        .to_owned(),
                ));
            }
            Ok(_) => return Err(bad("is no JSON object, expected one a line".to_owned())),
            Err(error) => return Err(bad(format!("is no JSON object: {error}"))),
        };
        match object.get(field) {
            Some(serde_json::Value::String(text)) => {
                batches.push(format!("{}#{row}", file.id), lines(text))?;
            }
            Some(serde_json::Value::Null) => {}
            Some(_) => return Err(bad(format!("`{field}` does not hold a string"))),
            None => {
                let keys: Vec<_> = object.keys().collect();
                return Err(bad(format!("has no string `{field}`, but {keys:?}")));
            }
        }
    }
    batches.flush()
}

/// A column of strings; a document's id is `<file>#<row from 0>`, of a single file `#<row>`. Rows without a value are left out.
pub(super) fn parquet(file: &Found, column: &str, sink: &mut Sink<'_>) -> Result<(), DataError> {
    let bad = |e: parquet::errors::ParquetError| DataError::extract(&file.path, e);
    let input = File::open(&file.path).map_err(|e| DataError::io("open", &file.path, e))?;
    let reader = SerializedFileReader::new(input).map_err(bad)?;
    let schema = reader.metadata().file_metadata().schema();
    let Some(field) = schema.get_fields().iter().find(|f| f.name() == column) else {
        let names: Vec<_> = schema.get_fields().iter().map(|f| f.name()).collect();
        let message = format!("has no column `{column}`, but {names:?}");
        return Err(DataError::extract(&file.path, message));
    };
    let projection = Type::group_type_builder(schema.name())
        .with_fields(vec![field.clone()])
        .build()
        .map_err(bad)?;
    let mut batches = Batches { sink, documents: Vec::new() };
    for (number, row) in reader.get_row_iter(Some(projection)).map_err(bad)?.enumerate() {
        match row.map_err(bad)?.into_columns().pop() {
            Some((_, Field::Str(text))) => {
                batches.push(format!("{}#{number}", file.id), lines(&text))?;
            }
            None | Some((_, Field::Null)) => {}
            Some(_) => {
                let message = format!("column `{column}` does not hold strings");
                return Err(DataError::extract(&file.path, message));
            }
        }
    }
    batches.flush()
}

/// The blocks of plain text, one at a time.
pub(super) fn text_blocks(
    path: &Path,
    block: TextBlock,
    push: &mut dyn FnMut(String) -> Result<(), DataError>,
) -> Result<(), DataError> {
    let lines = files::open(path)?.lines().map(|l| l.map_err(|e| DataError::extract(path, e)));
    match block {
        TextBlock::Line => lines.into_iter().try_for_each(|line| push(line?)),
        TextBlock::Paragraph => paragraphs(lines, push),
    }
}

/// Joins lines up to an empty one.
pub(super) fn paragraphs(
    lines: impl Iterator<Item = Result<String, DataError>>,
    push: &mut dyn FnMut(String) -> Result<(), DataError>,
) -> Result<(), DataError> {
    let mut paragraph = String::new();
    for line in lines {
        let line = line?;
        if line.trim().is_empty() {
            if !paragraph.is_empty() {
                push(std::mem::take(&mut paragraph))?;
            }
        } else {
            if !paragraph.is_empty() {
                paragraph.push(' ');
            }
            paragraph.push_str(line.trim());
        }
    }
    if paragraph.is_empty() { Ok(()) } else { push(paragraph) }
}

/// Plain text cut into documents of about `document_bytes`.
pub(super) fn text_documents(
    file: &Found,
    block: TextBlock,
    document_bytes: usize,
    sink: &mut Sink<'_>,
) -> Result<(), DataError> {
    let mut cutter = Cutter::new(&file.id, document_bytes, sink);
    text_blocks(&file.path, block, &mut |b| cutter.push(b))?;
    cutter.finish()
}

/// Cuts a long text into documents `<name>#<number from 0>`, at the ends of blocks.
pub(super) struct Cutter<'a, 'b> {
    name: &'a str,
    document_bytes: usize,
    number: usize,
    bytes: usize,
    blocks: Vec<String>,
    batches: Batches<'a, 'b>,
}

impl<'a, 'b> Cutter<'a, 'b> {
    pub(super) fn new(name: &'a str, document_bytes: usize, sink: &'a mut Sink<'b>) -> Self {
        let batches = Batches { sink, documents: Vec::new() };
        Self { name, document_bytes, number: 0, bytes: 0, blocks: Vec::new(), batches }
    }

    pub(super) fn push(&mut self, block: String) -> Result<(), DataError> {
        self.bytes += block.len() + 1;
        self.blocks.push(block);
        if self.bytes < self.document_bytes { Ok(()) } else { self.cut() }
    }

    fn cut(&mut self) -> Result<(), DataError> {
        let id = format!("{}#{:05}", self.name, self.number);
        self.number += 1;
        self.bytes = 0;
        self.batches.push(id, std::mem::take(&mut self.blocks))
    }

    pub(super) fn finish(mut self) -> Result<(), DataError> {
        if !self.blocks.is_empty() {
            self.cut()?;
        }
        self.batches.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_object_a_line_is_called_what_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.jsonl");
        for (text, expected) in [
            (r#"[{"text": "a"}]"#, "line 1: begins a list"),
            ("[\n  {\"text\": \"a\"}\n]", "line 1: begins a list"),
            ("{\"text\": \"a\"}\n\"b\"", "line 2: is no JSON object, expected one a line"),
            ("id,text\n1,a", "line 1: is no JSON object: expected value at column 1"),
            (r#"{"words": "a"}"#, r#"line 1: has no string `text`, but ["words"]"#),
            (r#"{"text": 1}"#, "line 1: `text` does not hold a string"),
        ] {
            std::fs::write(&path, text).unwrap();
            let file = Found { path: path.clone(), id: String::new() };
            let error = jsonl(&file, "text", &mut |_| Ok(())).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
