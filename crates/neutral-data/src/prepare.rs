//! From a name to a cleaned and split corpus in the cache.

use std::collections::BTreeMap;
use std::path::Path;

use neutral_spec::CorpusRef;
use neutral_store::{Cache, Fingerprint};
use rayon::prelude::*;
use serde::Serialize;

use crate::clean::{CLEANING_VERSION, CleanRules, Cleaner, Counts, Seen};
use crate::extract::{self, RawDocument};
use crate::fetch::{self, Fetched};
use crate::manifest::{Source, Variant};
use crate::manifests::Entry;
use crate::split::SplitRules;
use crate::{CleanCorpus, CleanCorpusWriter, Control, DataError, Document, Split};

/// Fetches, cleans and splits a corpus, or finds it in the cache.
///
/// Documents come in the order of their ids; of equal lines the first is kept, so that no line is in
/// two splits. What is kept on disk is named after everything that determines it: the manifest's
/// variant (whether its words are shuffled included), cleaning and split, and the content of local files.
///
/// # Errors
/// If it was asked to stop; if there is no such corpus; if its source cannot be had ([`DataError::is_unavailable`]); if it
/// does not hold what the manifest says; if the cleaned text has another checksum than the manifest
/// lists.
pub fn prepare(
    corpus: &CorpusRef,
    manifests: &crate::Manifests,
    cache: &Cache,
    control: &Control,
) -> Result<CleanCorpus, DataError> {
    let entry = manifests.entry(corpus)?;
    let fingerprint = Fingerprint::of(&Key::of(&entry, corpus.variant(), control)?);
    let folder = cache.get_or_make("corpora", &fingerprint, |folder| {
        let job = Job { corpus, entry, cache, control };
        job.make(folder)
    })?;
    let clean = CleanCorpus::open(&folder, corpus.clone())?;
    entry.check_sum(&clean, cache.path("downloads", &Fingerprint::of(&entry.variant.source)))?;
    Ok(clean)
}

/// Everything that determines the cleaned text.
#[derive(Serialize)]
struct Key<'a> {
    cleaning_version: u32,
    variant: &'a Variant,
    /// None where lines are of any language.
    languages: Vec<&'a str>,
    clean: &'a CleanRules,
    split: &'a SplitRules,
    dropped: BTreeMap<&'a str, &'a Variant>,
    local: Vec<Vec<String>>,
}

impl<'a> Key<'a> {
    fn of(entry: &Entry<'a>, name: &str, control: &Control) -> Result<Self, DataError> {
        let dropped: BTreeMap<_, _> = others(entry, name).collect();
        let mut local = Vec::new();
        for variant in std::iter::once(entry.variant).chain(dropped.values().copied()) {
            if let Source::Local { path } = &variant.source {
                local.push(fetch::local_digest(entry.path, path, variant, control)?);
            }
        }
        let detects = entry.manifest.clean.detects(entry.variant.language());
        let languages = entry.manifest.languages().into_iter().filter(|_| detects).collect();
        Ok(Self {
            cleaning_version: CLEANING_VERSION,
            variant: entry.variant,
            languages,
            clean: &entry.manifest.clean,
            split: &entry.manifest.split,
            dropped,
            local,
        })
    }
}

/// The variants whose lines are dropped from this one.
fn others<'a>(
    entry: &Entry<'a>,
    name: &str,
) -> impl Iterator<Item = (&'a str, &'a Variant)> + use<'a> {
    let name = name.to_owned();
    let variants = &entry.manifest.variants;
    let listed = entry.manifest.clean.drop_lines_of.iter();
    listed
        .filter(move |other| **other != name)
        .filter_map(|other| variants.get_key_value(other).map(|(k, v)| (k.as_str(), v)))
}

/// What the rules for single lines leave of a document.
struct Cleaned {
    id: String,
    lines: Vec<String>,
    dropped: [u64; 3],
}

impl Cleaned {
    fn of(document: RawDocument, cleaner: &Cleaner) -> Self {
        let (mut lines, mut dropped) = (Vec::new(), [0; 3]);
        for line in document.blocks.iter().filter_map(|block| cleaner.line(block)) {
            match line {
                Ok(line) => lines.push(line),
                Err(rule) => dropped[rule as usize] += 1,
            }
        }
        Self { id: document.id, lines, dropped }
    }
}

struct Job<'a> {
    corpus: &'a CorpusRef,
    entry: Entry<'a>,
    cache: &'a Cache,
    control: &'a Control,
}

impl Job<'_> {
    fn make(&self, folder: &Path) -> Result<(), DataError> {
        let variant = self.entry.variant;
        let fetched = self.fetch(variant)?;
        let mut seen = Seen::default();
        for (name, other) in others(&self.entry, self.corpus.variant()) {
            let fetched = self.fetch(other)?;
            let cleaner = self.cleaner(None)?;
            self.stream(name, other, &fetched, &cleaner, &mut |document| {
                for line in &document.lines {
                    seen.insert(line);
                }
                Ok(())
            })?;
        }
        let mut writer = CleanCorpusWriter::create(folder)?;
        let cleaner = self.cleaner(variant.language())?;
        let (mut count, mut lines_of) = ([0u64; 3], Counts::default());
        self.stream(self.corpus.variant(), variant, &fetched, &cleaner, &mut |document| {
            let Cleaned { id, mut lines, dropped } = document;
            for (all, own) in lines_of.dropped.iter_mut().zip(dropped) {
                *all += own;
            }
            let before = lines.len();
            self.entry.manifest.clean.drop_repeated(&mut lines, &mut seen);
            lines_of.kept += lines.len() as u64;
            lines_of.repeated += (before - lines.len()) as u64;
            if lines.is_empty() {
                return Ok(());
            }
            let split = self.entry.manifest.split.of(&id);
            count[split as usize] += 1;
            if let Some(scramble) = variant.scramble {
                for (number, line) in lines.iter_mut().enumerate() {
                    *line = scramble.line(&id, number, line);
                }
            }
            writer.push(split, &Document { id, text: lines.join("\n") })
        })?;
        lines_of.say(self.corpus, count);
        self.refuse_empty(count)?;
        writer.finish(variant.language().map(str::to_owned), fetched.version)
    }

    fn refuse_empty(&self, count: [u64; 3]) -> Result<(), DataError> {
        let empty = |place: String, advice: &str| DataError::Empty {
            corpus: self.corpus.to_string(),
            place,
            advice: advice.to_owned(),
        };
        if count == [0; 3] {
            let advice = "check `files`, `extract` and `clean` in its manifest";
            return Err(empty("after cleaning".into(), advice));
        }
        for split in Split::ALL {
            if count[split as usize] == 0 && self.entry.manifest.split.share(split) > 0.0 {
                let advice = "it has too few documents: cut them smaller (`extract`: `text` has `document_bytes` and `block: line`, and `jsonl` takes a document a line where all of a `json` file is one), or change `split` in its manifest";
                return Err(empty(format!("in its {} split", split.name()), advice));
            }
        }
        Ok(())
    }

    fn cleaner(&self, language: Option<&str>) -> Result<Cleaner, DataError> {
        let manifest = self.entry.manifest;
        manifest
            .clean
            .cleaner(language, &manifest.languages())
            .map_err(|message| DataError::manifest(self.entry.path, message))
    }

    fn fetch(&self, variant: &Variant) -> Result<Fetched, DataError> {
        fetch::fetch(&variant.source, self.entry.path, self.cache, self.control)
    }

    /// Hands every document's kept lines to `sink`, in order.
    fn stream(
        &self,
        name: &str,
        variant: &Variant,
        fetched: &Fetched,
        cleaner: &Cleaner,
        sink: &mut dyn FnMut(Cleaned) -> Result<(), DataError>,
    ) -> Result<(), DataError> {
        let what = format!("cleaning {}/{name}", self.corpus.manifest());
        let bar = crate::progress::files_bar(self.control.bars(), &what);
        let mut batch_sink = |documents: Vec<RawDocument>| {
            let clean = |document| self.control.check().map(|()| Cleaned::of(document, cleaner));
            let cleaned: Vec<_> = documents.into_par_iter().map(clean).collect::<Result<_, _>>()?;
            cleaned.into_iter().try_for_each(&mut *sink)
        };
        let outcome = match (&variant.source, &variant.extract) {
            (Source::Synthetic(spec), _) => {
                let raw = |d: Document| RawDocument {
                    id: d.id,
                    blocks: d.text.lines().map(str::to_owned).collect(),
                };
                let mut documents = spec.generate().map(raw);
                loop {
                    let batch: Vec<_> = documents.by_ref().take(extract::BATCH).collect();
                    if batch.is_empty() {
                        break Ok(());
                    }
                    batch_sink(batch)?;
                }
            }
            (_, Some(extract)) => {
                let root = fetched.unpack(variant, self.cache, self.control)?;
                extract::stream(root.path(), variant, extract, &bar, &mut batch_sink)
            }
            // Reading the manifest has refused this.
            (_, None) => Ok(()),
        };
        bar.finish_and_clear();
        outcome
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::io::Write;

    use super::*;
    use crate::Manifests;

    const MANIFEST: &str = "
name: m
licence: none
description: files of this machine
variants:
  en: {language: none, source: {kind: local, path: text}, files: 'en/**/*', skip: ['en/not/*'], extract: {kind: text}}
  fr: {language: none, source: {kind: local, path: text}, files: 'fr/*', extract: {kind: text}}
  rows: {language: none, source: {kind: local, path: text/rows.jsonl}, extract: {kind: jsonl, field: words}}
clean: {min_words: 2, drop_lines_of: [en]}
split: {valid: 0, test: 0}
";

    struct Texts(tempfile::TempDir);

    impl Texts {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            fs::write(folder.path().join("m.yaml"), MANIFEST).unwrap();
            for sub in ["text/en/not", "text/fr"] {
                fs::create_dir_all(folder.path().join(sub)).unwrap();
            }
            Self(folder)
        }

        fn write(&self, name: &str, text: &str) {
            fs::write(self.0.path().join("text").join(name), text).unwrap();
        }

        fn corpus(&self, name: &str) -> Result<CleanCorpus, DataError> {
            let manifests = Manifests::read(&[self.0.path()]).unwrap();
            let cache = Cache::at(self.0.path().join("cache"));
            let name = name.to_owned().try_into().unwrap();
            prepare(&name, &manifests, &cache, &Control::default())
        }

        fn prepare(&self, name: &str) -> Result<Vec<(String, String)>, DataError> {
            let corpus = self.corpus(name)?;
            let documents = corpus.documents(Split::Train).unwrap().map(Result::unwrap);
            Ok(documents.map(|d| (d.id, d.text)).collect())
        }
    }

    fn documents(expected: &[(&str, &str)]) -> Vec<(String, String)> {
        expected.iter().map(|(id, text)| ((*id).to_owned(), (*text).to_owned())).collect()
    }

    #[test]
    fn local_files_are_read_once_each_and_anew_when_they_change() {
        let texts = Texts::new();
        texts.write("en/b.txt", "said in both\none line\none line");
        texts.write("en/not/c.txt", "left out");
        let packed = File::create(texts.0.path().join("text/en/a.txt.gz")).unwrap();
        let mut packed = flate2::write::GzEncoder::new(packed, flate2::Compression::default());
        packed.write_all(b"out of gzip").unwrap();
        packed.finish().unwrap();
        std::os::unix::fs::symlink("b.txt", texts.0.path().join("text/en/link.txt")).unwrap();
        texts.write("fr/a.txt", "said in both\nune ligne");
        texts.write("fr/b.txt", "une ligne\nune autre");
        texts.write("rows.jsonl", "{\"words\": \"first row\"}\n{\"words\": \"second row\"}\n");

        let english = documents(&[("a.txt", "out of gzip"), ("b.txt", "said in both\none line")]);
        assert_eq!(texts.prepare("m/en").unwrap(), english);
        let french = documents(&[("a.txt", "une ligne"), ("b.txt", "une autre")]);
        assert_eq!(texts.prepare("m/fr").unwrap(), french);
        // Without the file's name, so that rows of a translation have the same ids.
        let rows = documents(&[("#0", "first row"), ("#1", "second row")]);
        assert_eq!(texts.prepare("m/rows").unwrap(), rows);

        // What is dropped from a variant is part of what it was made from.
        texts.write("en/b.txt", "one line");
        let english = documents(&[("a.txt", "out of gzip"), ("b.txt", "one line")]);
        assert_eq!(texts.prepare("m/en").unwrap(), english);
        let french = documents(&[("a.txt", "said in both\nune ligne"), ("b.txt", "une autre")]);
        assert_eq!(texts.prepare("m/fr").unwrap(), french);
    }

    #[test]
    fn verbatim_documents_keep_all_and_are_there_once() {
        let texts = Texts::new();
        let manifest = MANIFEST.replace("{min_words: 2, drop_lines_of: [en]}", "{verbatim: true}");
        fs::write(texts.0.path().join("m.yaml"), manifest).unwrap();
        let code = "def f():\n    return  1\n\n\ndef g():\n    return  1";
        texts.write("fr/a.py", &format!("{code}\n"));
        texts.write("fr/b.py", &code.replace('\n', "\r\n"));
        texts.write("fr/c.py", "\n \n");
        texts.write("fr/d.py", "    return  1");
        let kept = documents(&[("a.py", code), ("d.py", "    return  1")]);
        assert_eq!(texts.prepare("m/fr").unwrap(), kept);
    }

    #[test]
    fn two_files_of_one_name_are_refused() {
        let texts = Texts::new();
        texts.write("fr/a.txt", "une ligne");
        texts.write("fr/a.txt.gz", "une ligne");
        texts.write("en/a.txt", "a line");
        let message = texts.prepare("m/fr").unwrap_err().to_string();
        assert!(message.contains("fr/a.txt.gz would be one document"), "{message}");
    }

    /// Of 30 files 10 are trained on, 12 valid and 8 test, by their SHA-256. Each has a line of its own, one
    /// that all have, and one that the next file has too.
    #[test]
    fn no_line_is_in_two_splits() {
        let texts = Texts::new();
        let manifest = MANIFEST.replace("{valid: 0, test: 0}", "{valid: 0.3, test: 0.3}");
        fs::write(texts.0.path().join("m.yaml"), manifest).unwrap();
        for i in 0..30 {
            let text =
                format!("own line {i}\nin every file\nborder {i} here\nborder {} here", i + 1);
            texts.write(&format!("en/{i:02}.txt"), &text);
        }
        let corpus = texts.corpus("m/en").unwrap();
        let split_of = |split| {
            let documents: Vec<_> = corpus.documents(split).unwrap().map(Result::unwrap).collect();
            let lines = documents.iter().flat_map(|d| d.text.lines().map(str::to_owned));
            (documents.len(), lines.collect::<Vec<_>>())
        };
        let [train, valid, test] = Split::ALL.map(split_of);
        assert_eq!([train.0, valid.0, test.0], [10, 12, 8]);
        let mut lines = [train.1, valid.1, test.1].concat();
        lines.sort_unstable();
        let mut expected: Vec<_> = (0..30).map(|i| format!("own line {i}")).collect();
        expected.extend((0..31).map(|i| format!("border {i} here")));
        expected.push("in every file".to_owned());
        expected.sort_unstable();
        assert_eq!(lines, expected);

        // Nor is the tokenizer of any but the lines that are trained on.
        let cache = Cache::at(texts.0.path().join("cache"));
        let tokenizer = |corpus| {
            let trained = crate::Tokenizer::train(&[corpus], 270, &cache, &Control::default());
            trained.unwrap().fingerprint().clone()
        };
        let before = tokenizer(corpus);
        texts.write("en/05.txt", "zzz zzz zzz zzz zzz");
        assert_eq!(tokenizer(texts.corpus("m/en").unwrap()), before, "05.txt is tested on");
        texts.write("en/07.txt", "zzz zzz zzz zzz zzz");
        assert_ne!(tokenizer(texts.corpus("m/en").unwrap()), before, "07.txt is trained on");
    }
}
