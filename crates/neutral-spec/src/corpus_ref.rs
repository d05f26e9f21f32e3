//! `libreoffice-help/fr`: the name of a corpus.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The name of a corpus: the manifest's name, a slash, the language (or variant) within it.
#[derive(
    Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct CorpusRef {
    manifest: String,
    variant: String,
}

impl CorpusRef {
    /// The manifest's name: the file `data-manifests/<name>.yaml`.
    pub fn manifest(&self) -> &str {
        &self.manifest
    }

    /// The language or variant within the manifest.
    pub fn variant(&self) -> &str {
        &self.variant
    }
}

impl TryFrom<String> for CorpusRef {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let part = |p: &str| {
            !p.is_empty() && p.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
        };
        match text.split_once('/') {
            Some((manifest, variant)) if part(manifest) && part(variant) => {
                Ok(Self { manifest: manifest.to_owned(), variant: variant.to_owned() })
            }
            _ => Err(format!(
                "`{text}` is not the name of a corpus; write `manifest/language`, for example `libreoffice-help/fr`"
            )),
        }
    }
}

impl From<CorpusRef> for String {
    fn from(reference: CorpusRef) -> Self {
        reference.to_string()
    }
}

impl fmt::Display for CorpusRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.manifest, self.variant)
    }
}
