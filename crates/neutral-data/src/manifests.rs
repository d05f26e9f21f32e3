//! The folders of manifests, and what a [`CorpusRef`] means in them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use neutral_spec::CorpusRef;

use crate::manifest::{Manifest, Source, Variant};
use crate::{CleanCorpus, DataError};

/// All manifests of some folders.
#[derive(Clone, Debug)]
pub struct Manifests {
    manifests: BTreeMap<String, (PathBuf, Manifest)>,
}

/// What a [`CorpusRef`] refers to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry<'a> {
    pub(crate) path: &'a Path,
    pub(crate) manifest: &'a Manifest,
    pub(crate) variant: &'a Variant,
}

impl Manifests {
    /// Reads every `*.yaml` of some folders.
    ///
    /// # Errors
    /// If a folder or file cannot be read, a folder has no manifest, a file is not one, or two have the same name.
    pub fn read(folders: &[impl AsRef<Path>]) -> Result<Self, DataError> {
        let mut all = Self { manifests: BTreeMap::new() };
        folders.iter().try_for_each(|folder| all.add(folder.as_ref()))?;
        Ok(all)
    }

    fn add(&mut self, folder: &Path) -> Result<(), DataError> {
        let mut found = false;
        for entry in fs::read_dir(folder).map_err(|e| DataError::io("read", folder, e))? {
            let path = entry.map_err(|e| DataError::io("read", folder, e))?.path();
            let ending = path.extension().and_then(|ending| ending.to_str());
            if ending == Some("yml") {
                return Err(DataError::manifest(&path, "is not read; the name must end in .yaml"));
            }
            if ending != Some("yaml") {
                continue;
            }
            found = true;
            let text = fs::read_to_string(&path).map_err(|e| DataError::io("read", &path, e))?;
            let manifest = Manifest::from_yaml(&text, &path)?;
            if let Some((other, _)) = self.manifests.get(&manifest.name) {
                let message = format!("there is one of this name already, {}", other.display());
                return Err(DataError::manifest(&path, message));
            }
            self.manifests.insert(manifest.name.clone(), (path, manifest));
        }
        let none = || DataError::manifest(folder, "has no manifest; expected NAME.yaml");
        if found { Ok(()) } else { Err(none()) }
    }

    /// All corpora, as `manifest/variant`, sorted.
    pub fn names(&self) -> Vec<String> {
        let variants = |(name, (_, m)): (&String, &(PathBuf, Manifest))| {
            m.variants.keys().map(|v| format!("{name}/{v}")).collect::<Vec<_>>()
        };
        self.manifests.iter().flat_map(variants).collect()
    }

    /// The licence and the description of a corpus.
    ///
    /// # Errors
    /// [`DataError::UnknownCorpus`].
    pub fn about(&self, corpus: &CorpusRef) -> Result<(&str, &str), DataError> {
        let manifest = self.entry(corpus)?.manifest;
        Ok((&manifest.licence, &manifest.description))
    }

    /// The file or folder of this machine that a corpus would be read from and that is not there.
    pub fn missing(&self, corpus: &CorpusRef) -> Option<PathBuf> {
        let entry = self.entry(corpus).ok()?;
        let Source::Local { path } = &entry.variant.source else { return None };
        Some(local(entry.path, path)).filter(|path| !path.exists())
    }

    pub(crate) fn entry(&self, corpus: &CorpusRef) -> Result<Entry<'_>, DataError> {
        self.manifests
            .get(corpus.manifest())
            .and_then(|(path, manifest)| {
                let variant = manifest.variants.get(corpus.variant())?;
                Some(Entry { path, manifest, variant })
            })
            .ok_or_else(|| DataError::UnknownCorpus {
                corpus: corpus.to_string(),
                known: self.names(),
            })
    }
}

/// A path in a manifest, relative to its folder.
pub(crate) fn local(manifest: &Path, path: &str) -> PathBuf {
    manifest.parent().unwrap_or(Path::new("")).join(path)
}

impl Entry<'_> {
    /// Compares a corpus, of a download, with the checksums that its manifest lists.
    pub(crate) fn check_sum(
        &self,
        corpus: &CleanCorpus,
        download: PathBuf,
    ) -> Result<(), DataError> {
        let expected = &self.variant.sha256;
        if expected.is_empty() || expected.iter().any(|c| c.sha256 == corpus.sha256()) {
            return Ok(());
        }
        Err(DataError::Checksum {
            corpus: corpus.reference().to_string(),
            found: corpus.sha256().to_owned(),
            expected: expected.iter().map(|c| format!("{} ({})", c.sha256, c.version)).collect(),
            made: Box::new([corpus.folder().to_path_buf(), download]),
            version: corpus.package_version().to_owned(),
            manifest: self.path.into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::tests::GOOD;

    #[test]
    fn every_shipped_manifest_parses_and_every_variant_has_its_checksum() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data-manifests");
        let manifests = Manifests::read(&[folder]).unwrap();
        assert!(manifests.names().len() >= 16, "{:?}", manifests.names());
        for name in manifests.names() {
            let corpus = CorpusRef::try_from(name.clone()).unwrap();
            let checksums = &manifests.entry(&corpus).unwrap().variant.sha256;
            assert!(!checksums.is_empty(), "{name} lists no sha256");
        }
    }

    #[test]
    fn an_unknown_corpus_is_answered_with_the_known_ones() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("m.yaml"), GOOD).unwrap();
        let manifests = Manifests::read(&[folder.path()]).unwrap();
        let wrong = CorpusRef::try_from("m/fr".to_owned()).unwrap();
        let message = manifests.about(&wrong).unwrap_err().to_string();
        assert_eq!(message, "unknown corpus `m/fr`; there are: m/en");
        // Its file is not there yet.
        let corpus = CorpusRef::try_from("m/en".to_owned()).unwrap();
        assert_eq!(manifests.missing(&corpus), Some(folder.path().join("x")));
        fs::write(folder.path().join("x"), "").unwrap();
        assert_eq!(manifests.missing(&corpus), None);
    }

    #[test]
    fn several_folders_are_read_as_one() {
        let [first, second] = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let read = || Manifests::read(&[first.path(), second.path()]);
        let refusal = || read().unwrap_err().to_string();
        fs::write(first.path().join("m.yaml"), GOOD).unwrap();
        assert!(refusal().contains("has no manifest; expected NAME.yaml"), "{}", refusal());
        fs::write(second.path().join("n.yaml"), GOOD.replace("name: m", "name: n")).unwrap();
        assert_eq!(read().unwrap().names(), ["m/en", "n/en"]);
        fs::write(second.path().join("m.yaml"), GOOD).unwrap();
        assert!(refusal().contains("there is one of this name already"), "{}", refusal());
        fs::rename(second.path().join("m.yaml"), second.path().join("m.yml")).unwrap();
        assert!(refusal().contains("must end in .yaml"), "{}", refusal());
    }
}
