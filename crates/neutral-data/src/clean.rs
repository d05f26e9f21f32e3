//! Which lines of a document are kept, and in which form.
//!
//! A line is one block of text (a paragraph, a list item, a heading). Rules that look at one line
//! ([`Cleaner::line`]) run in parallel; what depends on other lines ([`Seen`]) runs in the corpus'
//! order: of equal lines the first is kept, over the whole corpus and so over all splits. No line of
//! the test split is therefore in the train split. Only exact copies are found: a sentence that
//! stands in two pages with one word changed is in both. Where documents are kept verbatim, the same holds of them whole.

use std::collections::{BTreeSet, HashSet};

use neutral_spec::CorpusRef;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use whatlang::{Detector, Lang};

/// Part of every corpus' fingerprint: raise it when the same manifest gives other text.
///
/// 2: byte order marks are left out, and every member of a packed archive is read.
/// 3: rows of a single file are numbered without its name, which decides what split they are in.
pub(crate) const CLEANING_VERSION: u32 = 3;

/// The rules of a manifest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CleanRules {
    /// A line has at least so many words.
    #[serde(default = "six")]
    min_words: usize,
    /// At least this share of a line's characters are letters or spaces.
    #[serde(default = "four_fifths")]
    min_letter_share: f64,
    /// Variants of this manifest whose lines are dropped from the others: what was not translated.
    #[serde(default)]
    pub(crate) drop_lines_of: Vec<String>,
    /// Drop lines that are reliably in another language.
    #[serde(default = "yes")]
    detect_language: bool,
    /// Documents are kept as they are, once each; no other rule holds.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) verbatim: bool,
}

fn six() -> usize {
    6
}

fn four_fifths() -> f64 {
    0.8
}

fn yes() -> bool {
    true
}

impl Default for CleanRules {
    fn default() -> Self {
        Self {
            min_words: six(),
            min_letter_share: four_fifths(),
            drop_lines_of: Vec::new(),
            detect_language: yes(),
            verbatim: false,
        }
    }
}

/// The languages that whatlang tells apart well enough, by their ISO 639-1 codes.
const LANGUAGES: [(&str, Lang); 22] = [
    ("ca", Lang::Cat),
    ("cs", Lang::Ces),
    ("da", Lang::Dan),
    ("de", Lang::Deu),
    ("el", Lang::Ell),
    ("en", Lang::Eng),
    ("es", Lang::Spa),
    ("et", Lang::Est),
    ("fi", Lang::Fin),
    ("fr", Lang::Fra),
    ("hu", Lang::Hun),
    ("it", Lang::Ita),
    ("ja", Lang::Jpn),
    ("nl", Lang::Nld),
    ("pl", Lang::Pol),
    ("pt", Lang::Por),
    ("ro", Lang::Ron),
    ("ru", Lang::Rus),
    ("sk", Lang::Slk),
    ("sv", Lang::Swe),
    ("tr", Lang::Tur),
    ("uk", Lang::Ukr),
];

fn lang(code: &str) -> Result<Lang, String> {
    let known = || LANGUAGES.map(|(c, _)| c).join(", ");
    LANGUAGES.iter().find(|(c, _)| *c == code).map(|(_, lang)| *lang).ok_or_else(|| {
        format!(
            "`{code}` cannot be detected; write one of {}, or `clean: {{detect_language: false}}`",
            known()
        )
    })
}

impl CleanRules {
    pub(crate) fn check<'a>(
        &self,
        variants: impl Iterator<Item = &'a str> + Clone,
    ) -> Result<(), String> {
        if !(0.0..=1.0).contains(&self.min_letter_share) {
            return Err(format!(
                "clean.min_letter_share: is {}; it is a share, from 0 to 1",
                self.min_letter_share
            ));
        }
        if self.verbatim && *self != (Self { verbatim: true, ..Self::default() }) {
            return Err(
                "clean.verbatim: keeps every line, so that no other rule can hold beside it"
                    .to_owned(),
            );
        }
        for name in &self.drop_lines_of {
            if !variants.clone().any(|v| v == name) {
                return Err(format!(
                    "clean.drop_lines_of: `{name}` is not a variant of this manifest"
                ));
            }
        }
        Ok(())
    }

    /// Whether lines of other languages than this are dropped.
    pub(crate) fn detects(&self, language: Option<&str>) -> bool {
        self.detect_language && !self.verbatim && language.is_some()
    }

    /// Drops from a document what was there before: lines, or all of it if it is kept verbatim.
    pub(crate) fn drop_repeated(&self, lines: &mut Vec<String>, seen: &mut Seen) {
        if !self.verbatim {
            lines.retain(|line| seen.insert(line));
        } else if lines.iter().all(|line| line.trim().is_empty()) || !seen.insert(&lines.join("\n"))
        {
            lines.clear();
        }
    }

    /// The rules for lines in one language, told apart from the manifest's languages and English.
    pub(crate) fn cleaner(
        &self,
        language: Option<&str>,
        languages: &BTreeSet<&str>,
    ) -> Result<Cleaner, String> {
        let mut language_filter = None;
        if let Some(code) = language.filter(|_| self.detects(language)) {
            let expected = lang(code)?;
            let mut candidates = BTreeSet::from(["en", code]);
            candidates.extend(languages);
            if candidates.len() > 1 {
                let candidates = candidates.into_iter().map(lang).collect::<Result<_, _>>()?;
                language_filter = Some((Detector::with_allowlist(candidates), expected));
            }
        }
        Ok(Cleaner {
            min_words: self.min_words,
            min_letter_share: self.min_letter_share,
            language: language_filter,
            verbatim: self.verbatim,
        })
    }
}

/// The rules that look at one line.
pub(crate) struct Cleaner {
    min_words: usize,
    min_letter_share: f64,
    language: Option<(Detector, Lang)>,
    verbatim: bool,
}

/// The rule by which a line goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dropped {
    /// It has fewer than `min_words`.
    Short,
    /// Fewer than `min_letter_share` of it are letters or spaces.
    Symbols,
    /// It is reliably in another language.
    Foreign,
}

impl Cleaner {
    /// A block as a line with its white space squeezed, if no rule drops it; an empty block is none, unless it is to be
    /// kept verbatim.
    pub(crate) fn line(&self, block: &str) -> Option<Result<String, Dropped>> {
        if self.verbatim {
            return Some(Ok(block.to_owned()));
        }
        let mut line = String::with_capacity(block.len());
        let mut words = 0;
        for word in block.split_whitespace() {
            if words > 0 {
                line.push(' ');
            }
            line.push_str(word);
            words += 1;
        }
        let (mut letters, mut all) = (0usize, 0usize);
        for c in line.chars() {
            all += 1;
            letters += usize::from(c.is_alphabetic() || c == ' ');
        }
        if all == 0 {
            None
        } else if words < self.min_words {
            Some(Err(Dropped::Short))
        } else if (letters as f64) < self.min_letter_share * all as f64 {
            Some(Err(Dropped::Symbols))
        } else if !self.in_language(&line) {
            Some(Err(Dropped::Foreign))
        } else {
            Some(Ok(line))
        }
    }

    /// Whether the line is not in another language. Only a reliable answer of the detector counts: names of
    /// programs and menus make short lines look foreign. Reliable is one whose two best candidates are far enough
    /// apart for the length of the line, and any of a script that one language of all, or of the manifest, is written in.
    fn in_language(&self, line: &str) -> bool {
        let Some((detector, expected)) = &self.language else { return true };
        detector.detect(line).is_none_or(|info| !info.is_reliable() || info.lang() == *expected)
    }
}

/// Lines that were seen before, by the first 128 bits of their SHA-256.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen(HashSet<u128>);

impl Seen {
    /// Whether the line is new; it is not from now on.
    pub(crate) fn insert(&mut self, line: &str) -> bool {
        let digest = Sha256::digest(line.as_bytes());
        let mut head = [0; 16];
        head.copy_from_slice(&digest[..16]);
        self.0.insert(u128::from_be_bytes(head))
    }
}

/// What became of a corpus' lines.
#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) kept: u64,
    /// By [`Dropped`].
    pub(crate) dropped: [u64; 3],
    /// Seen before, here or in a variant whose lines are dropped.
    pub(crate) repeated: u64,
}

impl Counts {
    /// Says what went and why; loudly if hardly anything is left, which is mostly a rule that does not suit the
    /// script.
    pub(crate) fn say(&self, corpus: &CorpusRef, documents: [u64; 3]) {
        let [short, symbols, foreign] = self.dropped;
        let Self { kept, repeated, .. } = *self;
        tracing::info!(
            %corpus, ?documents, kept, short, symbols, foreign, repeated, "cleaned, lines"
        );
        let all = kept + repeated + short + symbols + foreign;
        if kept * 10 < all {
            tracing::warn!(
                "{corpus}: of {all} lines {kept} are left: {short} have fewer than `min_words`, {symbols} too few letters (`min_letter_share`), {foreign} are of another language, {repeated} were there before; see `clean` in its manifest"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn french() -> Cleaner {
        CleanRules::default().cleaner(Some("fr"), &BTreeSet::from(["en", "fr"])).unwrap()
    }

    #[test]
    fn short_and_symbolic_lines_go_and_spaces_are_squeezed() {
        let cleaner = french();
        let kept = cleaner.line("  Un\u{a0}texte \n\t assez  long pour rester ");
        assert_eq!(kept, Some(Ok("Un texte assez long pour rester".to_owned())));
        assert_eq!(cleaner.line("cinq mots ne suffisent pas"), Some(Err(Dropped::Short)));
        assert_eq!(cleaner.line("a = f(x) + 12 * (y - 3) / 4;"), Some(Err(Dropped::Symbols)));
        assert_eq!(cleaner.line(" \t"), None);
    }

    #[test]
    fn the_letter_share_counts_characters_not_bytes() {
        // 16 of 20 characters are letters or spaces; of the bytes it would be 26 of 30.
        assert!(french().line("é é é é é é é é 1234").unwrap().is_ok());
        assert_eq!(french().line("é é é é é é é é 12345"), Some(Err(Dropped::Symbols)));
    }

    #[test]
    fn only_reliably_foreign_lines_go() {
        let cleaner = french();
        let english = "This page has not been translated yet, and so it is shown in English.";
        assert_eq!(cleaner.line(english), Some(Err(Dropped::Foreign)));
        assert!(
            cleaner
                .in_language("Cette page a été traduite, et elle est donc affichée en français.")
        );
        let rules = CleanRules { detect_language: false, ..CleanRules::default() };
        assert!(rules.cleaner(Some("fr"), &BTreeSet::new()).unwrap().in_language(english));
    }

    #[test]
    fn of_equal_lines_the_first_is_new() {
        let mut seen = Seen::default();
        assert!(seen.insert("one") && seen.insert("two") && !seen.insert("one"));
    }
}
