//! What can go wrong between a manifest and a batch, each with what was found and what would help.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use neutral_store::StoreError;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// A file could not be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A manifest is not what a manifest should be.
    #[error("{}: {message}", path.display())]
    Manifest {
        /// The manifest's file.
        path: PathBuf,
        /// Field, line and what is wrong there.
        message: String,
    },
    /// A spec names a corpus that no manifest describes.
    #[error("unknown corpus `{corpus}`; there are: {}", known.join(", "))]
    UnknownCorpus {
        /// The name in the spec.
        corpus: String,
        /// What could be meant: all corpora, `manifest/variant`.
        known: Vec<String>,
    },
    /// The program that fetches a source is not on this machine.
    #[error("`{client}` was not found, which fetches {what}; {advice}")]
    NoClient {
        /// The program.
        client: String,
        /// What it was to fetch.
        what: String,
        /// What to do about it.
        advice: String,
    },
    /// A source could not be fetched: no network, an unknown package, a refused token.
    #[error("could not fetch {what}: {message}; {advice}")]
    Fetch {
        /// The package or file.
        what: String,
        /// The end of what the client said.
        message: String,
        /// What to do about it.
        advice: String,
    },
    /// A local file or folder that a manifest or an experiment names is not there.
    #[error("{} does not exist; put it there, or correct `path`", path.display())]
    NoLocal {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// A package or raw text file does not hold what its kind should hold.
    #[error("cannot extract text from {}: {message}", path.display())]
    Extract {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// A corpus, or one of its splits, came out without a single line.
    #[error("corpus `{corpus}` has no text {place}; {advice}")]
    Empty {
        /// `manifest/variant`.
        corpus: String,
        /// Where: `after cleaning`, `in its test split`.
        place: String,
        /// What to do about it.
        advice: String,
    },
    /// The cleaned text is not one that the manifest knows.
    #[error(
        "the cleaned text of `{corpus}` has sha256 {found} (from {version}), and {} expects {}; if the new text is wanted, add `- {{sha256: {found}, version: \"{version}\"}}` to `sha256` of this variant; to fetch it anew, delete {} and {}", manifest.display(), expected.join(" or "), made[0].display(), made[1].display()
    )]
    Checksum {
        /// `manifest/variant`.
        corpus: String,
        /// The checksum of what was made now.
        found: String,
        /// The checksums that the manifest lists.
        expected: Vec<String>,
        /// Where it was put, and what it was made from.
        made: Box<[PathBuf; 2]>,
        /// Names and versions of the packages that were fetched.
        version: String,
        /// The manifest's file.
        manifest: Box<Path>,
    },
    /// A tokenizer could not be trained, loaded or used.
    #[error("tokenizer {what}: {message}")]
    Tokenizer {
        /// The file, or what was being done.
        what: String,
        /// What is wrong.
        message: String,
    },
    /// It was asked to stop; see [`crate::Control`].
    #[error("interrupted; run the same command again to go on")]
    Stopped,
    /// A value that a caller handed over cannot be worked with.
    #[error("{field} is {found}; {expected}")]
    Invalid {
        /// The parameter.
        field: String,
        /// Its value.
        found: String,
        /// What would be right.
        expected: String,
    },
}

impl DataError {
    /// Whether a source cannot be had on this machine, so that another experiment on text from
    /// elsewhere may still run: a missing client, no network, an unknown package, no such file.
    pub fn is_unavailable(&self) -> bool {
        matches!(self, Self::NoClient { .. } | Self::Fetch { .. } | Self::NoLocal { .. })
    }

    /// Whether the experiment may still run with text from elsewhere: it is unavailable, or the machine's
    /// packages hold another version of it.
    pub fn is_elsewhere(&self) -> bool {
        self.is_unavailable() || matches!(self, Self::Checksum { .. })
    }

    /// Whether the user gave something wrong, rather than that the machine refused: a full disk or a
    /// folder that cannot be written is no mistake in the input.
    pub fn is_input(&self) -> bool {
        match self {
            Self::Store(StoreError::Io { cause, .. }) => cause.kind() == ErrorKind::NotFound,
            Self::NoLocal { .. } => true,
            Self::Store(_) | Self::Stopped => false,
            _ => !self.is_unavailable(),
        }
    }

    pub(crate) fn io(action: &'static str, path: &Path, source: std::io::Error) -> Self {
        Self::Store(StoreError::io(action, path, source))
    }

    /// The same of a file in the cache: one that is gone was purged, and its entry is to be made again.
    pub(crate) fn cached(action: &'static str, path: &Path, source: std::io::Error) -> Self {
        match source.kind() {
            ErrorKind::NotFound => Self::damaged(path, source),
            _ => Self::io(action, path, source),
        }
    }

    pub(crate) fn damaged(path: &Path, found: impl ToString) -> Self {
        Self::Store(StoreError::Damaged { path: path.to_path_buf(), found: found.to_string() })
    }

    pub(crate) fn invalid(field: &str, found: impl ToString, expected: impl ToString) -> Self {
        Self::Invalid {
            field: field.to_owned(),
            found: found.to_string(),
            expected: expected.to_string(),
        }
    }
}

#[cfg(feature = "corpora")]
impl DataError {
    /// Whether the hub answered that there is no such thing.
    pub(crate) fn is_missing(&self) -> bool {
        matches!(self, Self::Fetch { message, .. } if answered(message, 404))
    }

    pub(crate) fn extract(path: &Path, message: impl ToString) -> Self {
        Self::Extract { path: path.to_path_buf(), message: message.to_string() }
    }

    pub(crate) fn manifest(path: &Path, message: impl ToString) -> Self {
        Self::Manifest { path: path.to_path_buf(), message: message.to_string() }
    }
}

/// Whether the client of the hub was answered so; the number alone may be part of a URL.
#[cfg(feature = "corpora")]
pub(crate) fn answered(message: &str, status: u16) -> bool {
    message.contains(&format!("status: {status}"))
}
