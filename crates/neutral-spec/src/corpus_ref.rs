//! `libreoffice-help/fr`: the name of a corpus.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The name of a corpus: the manifest's name, a slash, the language (or variant) within it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
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
            p.starts_with(|c: char| c.is_ascii_alphanumeric())
                && p.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
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

impl JsonSchema for CorpusRef {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "CorpusRef".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "format": "corpus",
            "pattern": r"^[A-Za-z0-9][A-Za-z0-9_.-]*/[A-Za-z0-9][A-Za-z0-9_.-]*$",
            "description": "A corpus: the manifest's name, a slash, the language, as in `libreoffice-help/fr`."
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_corpus_is_two_names_and_never_a_path() {
        let corpus = CorpusRef::try_from("libreoffice-help/fr".to_owned()).unwrap();
        assert_eq!((corpus.manifest(), corpus.variant()), ("libreoffice-help", "fr"));
        for bad in ["", "fr", "/fr", "a/", "a/b/c", "../b", "a/..", "a b/c"] {
            assert!(CorpusRef::try_from(bad.to_owned()).is_err(), "{bad}");
        }
    }
}
