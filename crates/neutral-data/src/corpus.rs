//! A cleaned corpus on disk: three files of documents, one a split, and what is known of them.
//!
//! A corpus' folder holds `train.jsonl`, `valid.jsonl` and `test.jsonl`, one JSON object
//! `{"id", "text"}` a document, and `meta.json`. Documents are read one at a time, so that memory
//! stays flat. This module knows nothing of where the text came from.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use neutral_spec::CorpusRef;
use neutral_store::{read_entry, write_json};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::DataError;

/// A part of a corpus: to train on, to tune on, to report on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Split {
    /// Trained on.
    Train,
    /// Looked at while tuning.
    Valid,
    /// Looked at once, for the report.
    Test,
}

impl Split {
    /// All splits, in the order of the checksum.
    pub const ALL: [Self; 3] = [Self::Train, Self::Valid, Self::Test];

    /// `train`, `valid` or `test`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Valid => "valid",
            Self::Test => "test",
        }
    }

    fn file(self, folder: &Path) -> PathBuf {
        folder.join(format!("{}.jsonl", self.name()))
    }
}

/// One page, chapter or record: the unit that is split, packed and scored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Document {
    /// Its name within the corpus; the same page has the same one in every language.
    pub id: String,
    /// Its blocks, one a line, joined by `\n`, without a final one.
    pub text: String,
}

/// What `meta.json` says of a corpus.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Meta {
    sha256: String,
    language: Option<String>,
    package_version: String,
    bytes: BTreeMap<Split, u64>,
    documents: BTreeMap<Split, u64>,
}

/// A cleaned and split corpus in the cache.
#[derive(Clone, Debug)]
pub struct CleanCorpus {
    reference: CorpusRef,
    folder: PathBuf,
    meta: Meta,
}

impl CleanCorpus {
    /// Opens a folder that [`CleanCorpusWriter`] filled.
    ///
    /// # Errors
    /// If `meta.json` cannot be read.
    pub fn open(folder: &Path, reference: CorpusRef) -> Result<Self, DataError> {
        let meta = read_entry(folder, "meta.json")?;
        Ok(Self { reference, folder: folder.to_path_buf(), meta })
    }

    /// Its name, `manifest/variant`.
    pub fn reference(&self) -> &CorpusRef {
        &self.reference
    }

    /// SHA-256 of the cleaned text: of `train.jsonl`, `valid.jsonl` and `test.jsonl`, one after
    /// the other.
    pub fn sha256(&self) -> &str {
        &self.meta.sha256
    }

    /// Where it is kept.
    #[cfg(feature = "corpora")]
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Names and versions of the packages that it was made from.
    pub fn package_version(&self) -> &str {
        &self.meta.package_version
    }

    /// UTF-8 bytes of the texts of a split, without ids and JSON.
    pub fn bytes(&self, split: Split) -> u64 {
        self.meta.bytes.get(&split).copied().unwrap_or(0)
    }

    /// Number of documents of a split.
    pub fn document_count(&self, split: Split) -> u64 {
        self.meta.documents.get(&split).copied().unwrap_or(0)
    }

    /// Refuses a split without documents.
    ///
    /// # Errors
    /// [`DataError::Empty`].
    pub fn check(&self, split: Split) -> Result<(), DataError> {
        if self.document_count(split) > 0 {
            return Ok(());
        }
        Err(DataError::Empty {
            corpus: self.reference().to_string(),
            place: format!("in its {} split", split.name()),
            advice: "give it a share in the manifest's `split`, or name another corpus".to_owned(),
        })
    }

    /// The documents of a split in the corpus' order, read one at a time.
    ///
    /// # Errors
    /// If the file cannot be opened; the iterator then gives an error for each line that is not a
    /// document, and one if the file ends before its last document.
    pub fn documents(
        &self,
        split: Split,
    ) -> Result<impl Iterator<Item = Result<Document, DataError>> + use<>, DataError> {
        let path = split.file(&self.folder);
        let file = File::open(&path).map_err(|e| DataError::cached("open", &path, e))?;
        let written = (self.document_count(split), self.bytes(split));
        let mut read = (0, 0);
        let mut lines = BufReader::new(file).lines();
        let mut ended = false;
        let next = move || {
            let Some(line) = lines.next() else {
                // Lines alone do not tell: a file that was cut at the end of one has nothing but lines.
                let short = read != written && !std::mem::replace(&mut ended, true);
                let ((documents, bytes), (all, all_bytes)) = (read, written);
                let found =
                    format!("it has {documents} of {all} documents, {bytes} of {all_bytes} bytes");
                return short.then(|| Err(DataError::damaged(&path, found)));
            };
            read.0 += 1;
            let document: Result<Document, _> =
                line.map_err(|e| DataError::io("read", &path, e)).and_then(|line| {
                    serde_json::from_str(&line)
                        .map_err(|e| DataError::damaged(&path, format!("line {}: {e}", read.0)))
                });
            read.1 += document.as_ref().map_or(0, |document| document.text.len() as u64);
            Some(document)
        };
        Ok(std::iter::from_fn(next))
    }
}

/// Writes a corpus' folder, document by document.
#[derive(Debug)]
pub struct CleanCorpusWriter {
    folder: PathBuf,
    files: BTreeMap<Split, std::io::BufWriter<File>>,
    bytes: BTreeMap<Split, u64>,
    documents: BTreeMap<Split, u64>,
}

impl CleanCorpusWriter {
    /// Starts the three files in an existing folder.
    ///
    /// # Errors
    /// If they cannot be created.
    pub fn create(folder: &Path) -> Result<Self, DataError> {
        let mut files = BTreeMap::new();
        for split in Split::ALL {
            let path = split.file(folder);
            let file = File::create(&path).map_err(|e| DataError::io("create", &path, e))?;
            files.insert(split, std::io::BufWriter::new(file));
        }
        let zero: BTreeMap<_, _> = Split::ALL.map(|s| (s, 0)).into();
        Ok(Self { folder: folder.to_path_buf(), files, bytes: zero.clone(), documents: zero })
    }

    /// Adds a document.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn push(&mut self, split: Split, document: &Document) -> Result<(), DataError> {
        let path = split.file(&self.folder);
        if let Some(file) = self.files.get_mut(&split) {
            serde_json::to_writer(&mut *file, document)
                .map_err(std::io::Error::from)
                .and_then(|()| file.write_all(b"\n"))
                .map_err(|e| DataError::io("write", &path, e))?;
        }
        *self.bytes.entry(split).or_default() += document.text.len() as u64;
        *self.documents.entry(split).or_default() += 1;
        Ok(())
    }

    /// Closes the files and writes `meta.json`, checksum included.
    ///
    /// # Errors
    /// If that cannot be written.
    pub fn finish(
        mut self,
        language: Option<String>,
        package_version: String,
    ) -> Result<(), DataError> {
        let mut hasher = Sha256::new();
        for split in Split::ALL {
            let path = split.file(&self.folder);
            if let Some(file) = self.files.remove(&split) {
                file.into_inner()
                    .map_err(std::io::IntoInnerError::into_error)
                    .and_then(|f| f.sync_all())
                    .map_err(|e| DataError::io("write", &path, e))?;
            }
            File::open(&path)
                .and_then(|mut f| std::io::copy(&mut f, &mut hasher))
                .map_err(|e| DataError::io("read", &path, e))?;
        }
        let meta = Meta {
            sha256: format!("{:x}", hasher.finalize()),
            language,
            package_version,
            bytes: self.bytes,
            documents: self.documents,
        };
        Ok(write_json(&self.folder.join("meta.json"), &meta)?)
    }
}
