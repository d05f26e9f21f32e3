//! Files to blocks of text: one file a format.
//!
//! A *block* is the text of one paragraph, list item, table cell or heading, in one string; what of
//! it is kept, and in which form, is the business of [`crate::clean`]. Files come in the order of
//! their ids and are read in parallel, a few hundred or so many bytes at a time, so that those alone are in memory.

pub(crate) mod files;
mod html;
mod json;
mod manpage;
mod python;
mod r_data;
mod rows;
mod xdr;

use std::path::Path;

use indicatif::ProgressBar;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::DataError;
use crate::manifest::Variant;
use files::Found;

/// How many files or rows are held in memory at once.
pub(crate) const BATCH: usize = 256;

/// Bytes of files, as they are on disk, from which on fewer are.
const BATCH_BYTES: u64 = 64 << 20;

/// How text is taken out of files. All but Parquet and R data may be compressed (`.gz`, `.zst`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Extract {
    /// Web pages: the text of each block element below the selected ones.
    Html {
        /// A CSS selector.
        select: String,
        /// CSS selectors of what is left out.
        #[serde(default)]
        drop: Vec<String>,
    },
    /// Manual pages in roff: paragraphs, without tables, examples and code.
    Manpages {},
    /// The character vectors of an R package's data; lines are joined to paragraphs.
    RLazyLoad {
        /// A document ends with the paragraph that reaches so many bytes.
        document_bytes: usize,
    },
    /// JSON: every string under a key, at any depth.
    Json {
        key: String,
        /// The strings are HTML.
        #[serde(default)]
        html: bool,
    },
    /// JSON that mirrors XML: `{type: element, name, children}` and `{type: text, text}`.
    JsonElements {
        /// Names of the elements that are blocks.
        blocks: Vec<String>,
        /// Names of elements that are left out.
        #[serde(default)]
        drop: Vec<String>,
    },
    /// One JSON object a line, a document each; a line of its text is a block.
    Jsonl { field: String },
    /// A column of strings, a document each; a line of its text is a block.
    Parquet { column: String },
    /// Plain text.
    Text {
        #[serde(default)]
        block: TextBlock,
        /// A document ends with the block that reaches so many bytes; none: a file is a document.
        #[serde(default)]
        document_bytes: Option<usize>,
    },
    /// The docstrings of Python files: prose, without examples and tables.
    PythonDocstrings {},
}

/// What a block is in plain text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum TextBlock {
    /// A line.
    #[default]
    Line,
    /// Lines up to an empty one.
    Paragraph,
}

/// A document before cleaning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RawDocument {
    pub(crate) id: String,
    pub(crate) blocks: Vec<String>,
}

/// Takes documents in batches, in order.
pub(crate) type Sink<'a> = dyn FnMut(Vec<RawDocument>) -> Result<(), DataError> + 'a;

/// Hands all documents of the variant's files below `root` to `sink`.
pub(crate) fn stream(
    root: &Path,
    variant: &Variant,
    extract: &Extract,
    bar: &ProgressBar,
    sink: &mut Sink<'_>,
) -> Result<(), DataError> {
    let mut found = files::find(root, variant)?;
    // Rows of one file are numbered alone, so that those of `en.jsonl` and `fr.jsonl` are one document each.
    if let (Holds::Rows, [only]) = (extract.holds(), &mut *found) {
        only.id.clear();
    }
    bar.set_length(found.len() as u64);
    for files in batches(&found, |file| std::fs::metadata(&file.path).map_or(0, |m| m.len())) {
        if extract.holds() == Holds::OneDocument {
            let document = |file: &Found| {
                let blocks = extract.blocks(&file.path)?;
                bar.inc(1);
                Ok(RawDocument { id: file.id.clone(), blocks })
            };
            sink(files.par_iter().map(document).collect::<Result<_, DataError>>()?)?;
        } else {
            for file in files {
                extract.documents(file, sink)?;
                bar.inc(1);
            }
        }
    }
    Ok(())
}

/// Files in a row, as many as [`BATCH`] and [`BATCH_BYTES`] let, at least one.
fn batches<T>(all: &[T], bytes: impl Fn(&T) -> u64) -> impl Iterator<Item = &[T]> {
    let mut left = all;
    std::iter::from_fn(move || {
        let mut sum = 0;
        let fits = |(at, file): &(usize, &T)| {
            sum += bytes(file);
            *at == 0 || sum <= BATCH_BYTES
        };
        let count = left.iter().take(BATCH).enumerate().take_while(fits).count();
        let (batch, rest) = left.split_at(count);
        left = rest;
        (count > 0).then_some(batch)
    })
}

/// What a file is made of.
#[derive(PartialEq)]
enum Holds {
    OneDocument,
    Documents,
    /// Documents that have the same number in each language.
    Rows,
}

impl Extract {
    /// What is wrong with it that shows before there are files.
    pub(crate) fn check(&self) -> Result<(), String> {
        if let Self::Html { select, drop } = self {
            html::selector(select).map_err(|message| format!("select: {message}"))?;
            for css in drop {
                html::selector(css).map_err(|message| format!("drop: {message}"))?;
            }
        }
        if let Self::RLazyLoad { document_bytes: 0 } | Self::Text { document_bytes: Some(0), .. } =
            self
        {
            return Err(
                "document_bytes: is 0, which would make a document of each block; write at least 1"
                    .into(),
            );
        }
        Ok(())
    }

    fn holds(&self) -> Holds {
        match self {
            Self::Html { .. }
            | Self::Manpages {}
            | Self::Json { .. }
            | Self::JsonElements { .. }
            | Self::Text { document_bytes: None, .. }
            | Self::PythonDocstrings {} => Holds::OneDocument,
            Self::RLazyLoad { .. } | Self::Text { document_bytes: Some(_), .. } => Holds::Documents,
            Self::Jsonl { .. } | Self::Parquet { .. } => Holds::Rows,
        }
    }

    /// The blocks of a file that is one document.
    fn blocks(&self, path: &Path) -> Result<Vec<String>, DataError> {
        match self {
            Self::Html { select, drop } => html::blocks(&files::read_text(path)?, select, drop)
                .map_err(|message| DataError::extract(path, message)),
            Self::Manpages {} => Ok(manpage::blocks(&files::read_text(path)?)),
            Self::Json { key, html } => json::strings(path, key, *html),
            Self::JsonElements { blocks, drop } => json::elements(path, blocks, drop),
            Self::Text { block, .. } => {
                let mut all = Vec::new();
                rows::text_blocks(path, *block, &mut |b| {
                    all.push(b);
                    Ok(())
                })?;
                Ok(all)
            }
            Self::PythonDocstrings {} => Ok(python::blocks(&files::read_text(path)?)),
            Self::RLazyLoad { .. } | Self::Jsonl { .. } | Self::Parquet { .. } => Ok(Vec::new()),
        }
    }

    /// The documents of a file that holds many.
    fn documents(&self, file: &Found, sink: &mut Sink<'_>) -> Result<(), DataError> {
        match self {
            Self::RLazyLoad { document_bytes } => r_data::documents(file, *document_bytes, sink),
            Self::Jsonl { field } => rows::jsonl(file, field, sink),
            Self::Parquet { column } => rows::parquet(file, column, sink),
            Self::Text { block, document_bytes: Some(bytes) } => {
                rows::text_documents(file, *block, *bytes, sink)
            }
            Self::Html { .. }
            | Self::Manpages {}
            | Self::Json { .. }
            | Self::JsonElements { .. }
            | Self::Text { document_bytes: None, .. }
            | Self::PythonDocstrings {} => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_bounded_by_files_and_bytes_and_has_one_at_least() {
        let mib = |n: u64| n << 20;
        let sizes = |all: &[u64]| -> Vec<usize> {
            batches(all, |bytes| *bytes).map(<[u64]>::len).collect()
        };
        assert_eq!(sizes(&[mib(40), mib(24), 1, mib(500), mib(1)]), [2, 1, 1, 1]);
        assert_eq!(sizes(&[0; 300]), [256, 44]);
        assert!(sizes(&[]).is_empty());
    }
}
