//! A corpus of a mix, with the weight that it may have there.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::corpus_ref::CorpusRef;

/// A corpus of one domain: its name, or `{ corpus: libreoffice-help/hu, weight: 2 }`. Without weights all corpora of a
/// domain are one pool, so that each counts in proportion to its length; either all of a domain have weights or none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, deny_unknown_fields)]
pub enum MixedCorpus {
    /// It counts in proportion to its length.
    Named(CorpusRef),
    /// It has its weight's share of the domain's sequences.
    Weighted {
        /// Its name.
        corpus: CorpusRef,
        /// How much it counts beside the others of its domain.
        #[schemars(extend("exclusiveMinimum" = 0))]
        weight: f64,
    },
}

impl MixedCorpus {
    /// Its name.
    pub fn corpus(&self) -> &CorpusRef {
        let (Self::Named(corpus) | Self::Weighted { corpus, .. }) = self;
        corpus
    }

    /// Its weight, if it has one.
    pub fn weight(&self) -> Option<f64> {
        match self {
            Self::Named(_) => None,
            Self::Weighted { weight, .. } => Some(*weight),
        }
    }

    /// The names of several.
    pub fn corpora(all: &[Self]) -> impl Iterator<Item = &CorpusRef> + Clone {
        all.iter().map(Self::corpus)
    }

    /// The weights of a domain's corpora, which all have one or none.
    pub fn weights(all: &[Self]) -> Vec<f64> {
        all.iter().filter_map(Self::weight).collect()
    }
}

/// `libreoffice-help/hu`, or `libreoffice-help/hu (weight 2)`.
impl std::fmt::Display for MixedCorpus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Named(corpus) => write!(f, "{corpus}"),
            Self::Weighted { corpus, weight } => write!(f, "{corpus} (weight {weight})"),
        }
    }
}
