//! Text whose words are all there and whose order says nothing: a stand-in that is far from its language in
//! syntax and near to it in vocabulary, spelling and length.

use serde::{Deserialize, Serialize};

use crate::synthetic::{below, random};

/// Shuffles the words within each line, after cleaning and after equal lines have been dropped; so
/// a scrambled corpus has the documents, splits and lines of the plain one.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Scramble {
    seed: u64,
}

impl Scramble {
    /// A line with its words in an order drawn for this seed, document and line; a word is what
    /// stands between white space, its punctuation included.
    pub(crate) fn line(self, document: &str, number: usize, line: &str) -> String {
        let mut words: Vec<&str> = line.split_whitespace().collect();
        let mut rng = random(&("scramble", self.seed, document, number));
        // Fisher and Yates, from the end.
        for last in (1..words.len()).rev() {
            words.swap(last, below(&mut rng, last as u64 + 1));
        }
        words.join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Control, Document, Manifests, Split, prepare};
    use neutral_store::Cache;
    use std::collections::BTreeMap;

    #[test]
    fn a_line_is_a_function_of_seed_document_and_number_and_every_order_is_as_likely() {
        let line = |seed, document, number| Scramble { seed }.line(document, number, "a b  c,");
        assert_eq!(line(1, "x", 0), line(1, "x", 0));
        let mut counts: BTreeMap<String, u32> = BTreeMap::new();
        for number in 0..6000 {
            *counts.entry(line(1, "x", number)).or_default() += 1;
        }
        assert_eq!(counts.len(), 6, "{counts:?}");
        // Four standard errors of 1000 of 6000.
        assert!(counts.values().all(|count| count.abs_diff(1000) < 116), "{counts:?}");
        let all = |seed, document| (0..20).map(|n| line(seed, document, n)).collect::<Vec<_>>();
        assert!(all(1, "x") != all(2, "x") && all(1, "x") != all(1, "y"));
        assert_eq!(Scramble { seed: 0 }.line("x", 0, "word"), "word");
    }

    #[test]
    fn a_scrambled_corpus_has_the_plain_ones_documents_lines_and_words() {
        let folder = tempfile::tempdir().unwrap();
        let manifest = "
name: m
licence: none
description: two
variants:
  plain: {language: none, source: {kind: synthetic, language: a, seed: 1, documents: 60}}
  scrambled: {language: none, scramble: {seed: 3}, source: {kind: synthetic, language: a, seed: 1, documents: 60}}
";
        std::fs::write(folder.path().join("m.yaml"), manifest).unwrap();
        let manifests = Manifests::read(&[folder.path()]).unwrap();
        let cache = Cache::at(folder.path().join("cache"));
        let [plain, scrambled] = ["m/plain", "m/scrambled"].map(|name| {
            let name = name.to_owned().try_into().unwrap();
            prepare(&name, &manifests, &cache, &Control::default()).unwrap()
        });
        assert_ne!(plain.sha256(), scrambled.sha256());
        let words = |line: &str| {
            let mut words: Vec<_> = line.split_whitespace().map(str::to_owned).collect();
            words.sort();
            words
        };
        let (mut lines, mut moved) = (0, 0);
        for split in Split::ALL {
            let read = |corpus: &crate::CleanCorpus| -> Vec<Document> {
                corpus.documents(split).unwrap().map(Result::unwrap).collect()
            };
            let (plain, scrambled) = (read(&plain), read(&scrambled));
            assert_eq!(plain.len(), scrambled.len());
            for (plain, scrambled) in plain.iter().zip(&scrambled) {
                assert_eq!(plain.id, scrambled.id);
                assert_eq!(plain.text.lines().count(), scrambled.text.lines().count());
                for (plain, scrambled) in plain.text.lines().zip(scrambled.text.lines()) {
                    assert_eq!(words(plain), words(scrambled));
                    lines += 1;
                    moved += u32::from(plain != scrambled);
                }
            }
        }
        assert!(lines > 100 && f64::from(moved) > 0.95 * f64::from(lines), "{moved} of {lines}");
    }
}
