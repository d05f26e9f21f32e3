//! The vocabulary of `data-manifests/*.yaml`.
//!
//! A manifest describes one corpus in one or more variants (mostly languages) that are cleaned and
//! split alike. Reading checks everything that can be checked without fetching.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use neutral_spec::CorpusRef;
use serde::{Deserialize, Serialize};

use crate::DataError;
use crate::clean::CleanRules;
use crate::extract::files::Pattern;
use crate::extract::{Extract, TextBlock};
use crate::scramble::Scramble;
use crate::split::SplitRules;
use crate::synthetic::SyntheticSpec;

/// One corpus.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Manifest {
    /// Equal to the file's name without `.yaml`.
    pub(crate) name: String,
    pub(crate) licence: String,
    pub(crate) description: String,
    pub(crate) variants: BTreeMap<String, Variant>,
    #[serde(default)]
    pub(crate) clean: CleanRules,
    #[serde(default)]
    pub(crate) split: SplitRules,
}

/// One language, or another version, of a corpus.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Variant {
    /// ISO 639-1, or `none`.
    language: String,
    pub(crate) source: Source,
    /// Which files hold the text: a glob, relative to the root of the package or folder. A
    /// document's id is its path below the part of the glob before the first wildcard.
    #[serde(default = "every_file")]
    pub(crate) files: Pattern,
    /// Globs of files to leave out.
    #[serde(default)]
    pub(crate) skip: Vec<Pattern>,
    /// How text is taken out of a file; none for synthetic text.
    #[serde(default)]
    pub(crate) extract: Option<Extract>,
    /// Shuffle the words of every line, drawn with a seed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) scramble: Option<Scramble>,
    /// Checksums of cleaned texts that are known to be good; empty: anything goes. Not part of a
    /// corpus' fingerprint, so that adding one does not fetch again.
    #[serde(default, skip_serializing)]
    pub(crate) sha256: Vec<Checksum>,
}

/// Where the files come from.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Source {
    /// Debian packages, fetched with apt, without root and without installing.
    Apt {
        /// Their names; all are unpacked into one tree.
        packages: Vec<String>,
    },
    /// A wheel, fetched with pip.
    Pip {
        package: String,
        version: String,
        /// Take the Linux wheel for this version of Python (`3.11`) on every machine.
        #[serde(default)]
        python: Option<String>,
    },
    /// A package, fetched with npm.
    Npm { package: String, version: String },
    /// A file or folder of this machine, relative to the manifest.
    Local { path: String },
    /// Files of a repository on the Hugging Face hub.
    Hub {
        repo: String,
        #[serde(default)]
        repo_type: HubRepoType,
        /// A commit, tag or branch; a commit never changes.
        revision: String,
        /// Their exact paths in the repository.
        files: Vec<String>,
    },
    /// Text generated in the program.
    Synthetic(SyntheticSpec),
}

/// What a repository on the hub holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum HubRepoType {
    #[default]
    Dataset,
    Model,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Checksum {
    pub(crate) sha256: String,
    /// What it was made from.
    pub(crate) version: String,
}

fn every_file() -> Pattern {
    Pattern::every_file()
}

impl Variant {
    pub(crate) fn language(&self) -> Option<&str> {
        (self.language != "none").then_some(self.language.as_str())
    }
}

impl Manifest {
    /// Parses a manifest; the path is for messages, and gives the name that it must have.
    pub(crate) fn from_yaml(text: &str, path: &Path) -> Result<Self, DataError> {
        // Of a key that is given twice a map would keep the last.
        serde_yaml::from_str::<serde_yaml::Value>(text)
            .map_err(|e| DataError::manifest(path, e.to_string()))?;
        let deserializer = serde_yaml::Deserializer::from_str(text);
        let manifest: Self = serde_path_to_error::deserialize(deserializer).map_err(|error| {
            let (place, found) = (error.path().to_string(), error.inner().to_string());
            // Of a missing field the whole is the place; others are in what YAML's reader says too.
            let known = place == "." || found.starts_with(&place);
            let message = if known { found } else { format!("{place}: {found}") };
            DataError::manifest(path, message)
        })?;
        manifest.check(path).map_err(|message| DataError::manifest(path, message))?;
        Ok(manifest)
    }

    fn check(&self, path: &Path) -> Result<(), String> {
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        if self.name != stem {
            return Err(format!(
                "name: is `{}`; a manifest is called as its file, `{stem}`",
                self.name
            ));
        }
        if self.licence.trim().is_empty() || self.description.trim().is_empty() {
            return Err(
                "licence, description: are empty; say under which terms which text it is".into()
            );
        }
        if self.variants.is_empty() {
            return Err("variants: has none; describe at least one".into());
        }
        self.clean.check(self.variants.keys().map(String::as_str))?;
        self.split.check()?;
        let languages = self.languages();
        for (name, variant) in &self.variants {
            let reference = format!("{}/{name}", self.name);
            CorpusRef::try_from(reference.clone()).map_err(|_| {
                format!(
                    "variants.{name}: `{reference}` is no name that an experiment could write; use letters of ASCII, digits, `-`, `_`, `.`"
                )
            })?;
            variant
                .check(&self.clean, &languages)
                .map_err(|message| format!("variants.{name}.{message}"))?;
        }
        Ok(())
    }

    /// The languages of all variants.
    pub(crate) fn languages(&self) -> BTreeSet<&str> {
        self.variants.values().filter_map(Variant::language).collect()
    }
}

impl Variant {
    fn check(&self, clean: &CleanRules, languages: &BTreeSet<&str>) -> Result<(), String> {
        if let Some(language) = self.language() {
            clean
                .cleaner(Some(language), languages)
                .map_err(|message| format!("language: {message}"))?;
        }
        let paragraphs =
            matches!(self.extract, Some(Extract::Text { block: TextBlock::Paragraph, .. }));
        if clean.verbatim && (paragraphs || self.scramble.is_some()) {
            let message = "extract.block, scramble: join the lines of a paragraph or shuffle words, which `clean.verbatim` would have to keep; leave one out";
            return Err(message.into());
        }
        match (&self.source, &self.extract) {
            (Source::Synthetic(_), Some(_)) => {
                return Err(
                    "extract: would be ignored, synthetic text has no files; leave it out".into()
                );
            }
            (Source::Synthetic(_), None) if self.files != every_file() || !self.skip.is_empty() => {
                return Err(
                    "files, skip: would be ignored, synthetic text has no files; leave them out"
                        .into(),
                );
            }
            (Source::Synthetic(_), None) => {}
            (_, Some(extract)) => {
                extract.check().map_err(|message| format!("extract.{message}"))?;
            }
            (_, None) => {
                return Err("extract: is missing; say how text is taken out of the files".into());
            }
        }
        for checksum in &self.sha256 {
            let sha256 = &checksum.sha256;
            if !neutral_store::is_sha256(sha256) {
                return Err(format!(
                    "sha256: `{sha256}` is not 64 hexadecimal digits in lowercase"
                ));
            }
        }
        let listed = match &self.source {
            Source::Apt { packages } => ("packages", packages.as_slice()),
            Source::Hub { files, .. } => ("files", files.as_slice()),
            Source::Pip { .. }
            | Source::Npm { .. }
            | Source::Local { .. }
            | Source::Synthetic(_) => {
                return Ok(());
            }
        };
        // What begins with a dash would be an option of the client.
        match listed {
            (field, []) => Err(format!("source.{field}: is empty; name at least one")),
            (field, names) => match names.iter().find(|n| n.starts_with('-') || n.is_empty()) {
                Some(name) => Err(format!("source.{field}: `{name}` is not a name")),
                None => Ok(()),
            },
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Manifest, DataError> {
        Manifest::from_yaml(text, Path::new("m.yaml"))
    }

    pub(crate) const GOOD: &str = "
name: m
licence: MIT
description: text
variants:
  en: {language: en, source: {kind: local, path: x}, extract: {kind: text}}
clean: {detect_language: false}
";

    #[test]
    fn mistakes_are_named_by_field() {
        parse(GOOD).unwrap();
        for (from, to, expected) in [
            ("name: m", "name: n", "called as its file, `m`"),
            ("licence: MIT\n", "", "m.yaml: missing field `licence`"),
            ("{detect_language: false}", "{min_words: -1}", "m.yaml: clean.min_words: invalid"),
            ("licence", "license", "unknown field `license`"),
            ("kind: local", "kind: ftp", "unknown variant `ftp`"),
            ("path: x", "path: x, pth: y", "unknown field `pth`"),
            (", extract: {kind: text}", "", "variants.en.extract: is missing"),
            ("{detect_language: false}", "{drop_lines_of: [de]}", "clean.drop_lines_of: `de`"),
            ("{detect_language: false}", "{verbatim: true, min_words: 2}", "clean.verbatim: keeps"),
            (
                "{kind: text}}\nclean: {detect_language: false}",
                "{kind: text, block: paragraph}}\nclean: {verbatim: true}",
                "variants.en.extract.block, scramble: join",
            ),
            ("language: en", "language: xx", "language"),
            ("{detect_language: false}", "{min_letter_share: 2}", "clean.min_letter_share"),
            ("{kind: text}", "{kind: text}, sha256: [{sha256: 12, version: v}]", "variants"),
            ("{kind: text}", "{kind: html, select: 'div['}", "variants.en.extract.select: `div[`"),
            ("clean:", "  en: {}\nclean:", "duplicate"),
            ("  en:", "  français:", "variants.français: `m/français` is no name"),
            (
                "{kind: text}",
                "{kind: text, document_bytes: 0}",
                "variants.en.extract.document_bytes: is 0",
            ),
            (
                "{kind: local, path: x}, extract: {kind: text}",
                "{kind: synthetic, language: a, seed: 1, documents: 9}, files: 'x/*'",
                "variants.en.files, skip: would be ignored",
            ),
        ] {
            let text =
                GOOD.replace(from, to).replace("detect_language: false", "detect_language: true");
            let message = parse(&text).unwrap_err().to_string();
            assert!(message.contains(expected) && message.starts_with("m.yaml: "), "{message}");
        }
    }

    /// Those that docs/corpora.md shows.
    #[test]
    fn the_documented_manifests_parse() {
        let page = include_str!("../../../docs/corpora.md");
        let examples = page.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next());
        let examples: Vec<_> = examples.filter(|text| text.starts_with("name: ")).collect();
        assert_eq!(examples.len(), 2);
        for text in examples {
            let name = text["name: ".len()..].split_whitespace().next().unwrap();
            Manifest::from_yaml(text, &Path::new(name).with_extension("yaml")).unwrap();
        }
    }
}
