//! Files of a repository on the Hugging Face hub, or of a mirror that `HF_ENDPOINT` names.
//!
//! The token comes from `HF_TOKEN`, or from where the hub's own client keeps it.

use std::fs;
use std::io::ErrorKind;
use std::path::{Component, Path};
use std::sync::Arc;

use hf_hub::api::sync::{Api, ApiBuilder, ApiError};
use hf_hub::{Repo, RepoType};
use neutral_store::is_full;
use serde::{Deserialize, Serialize};

use crate::error::answered;
use crate::manifest::HubRepoType;
use crate::{Control, DataError};

/// The folder of the files in a download.
pub(super) const FILES: &str = "files";

/// How often a broken transfer is taken up again.
const RETRIES: usize = 3;

/// A repository at a revision.
pub(super) struct Repository<'a> {
    pub(super) repo: &'a str,
    pub(super) repo_type: HubRepoType,
    pub(super) revision: &'a str,
}

/// What a repository holds at a revision.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Listing {
    /// The commit.
    pub(super) sha: String,
    /// The paths of all files.
    pub(super) files: Vec<String>,
}

impl Repository<'_> {
    /// Downloads those files into `folder/files` that it lacks; the repository's name and revision.
    ///
    /// The endpoint is that of the environment unless one is given.
    pub(super) fn fetch(
        &self,
        files: &[String],
        endpoint: Option<&str>,
        folder: &Path,
        control: &Control,
    ) -> Result<String, DataError> {
        let work = folder.join("work");
        // Half a file of an earlier try.
        let _ = fs::remove_dir_all(&work);
        let kept = folder.join(FILES);
        fs::create_dir_all(&kept).map_err(|e| DataError::io("create", &kept, e))?;
        let api = Self::api(&work, endpoint).map_err(|e| self.failed("", &work, &e))?;
        let repo = Arc::new(api.repo(self.repo()));
        for file in files {
            let plain = Path::new(file).components().all(|c| matches!(c, Component::Normal(_)));
            if !plain {
                return Err(DataError::invalid(
                    "files",
                    file,
                    "write a path within the repository",
                ));
            }
            let target = kept.join(file);
            if target.exists() {
                continue;
            }
            let (repo, name) = (Arc::clone(&repo), file.clone());
            let cached = control.abandonable(move || repo.download(&name))?;
            let cached = cached.map_err(|e| self.failed(file, &work, &e))?;
            // The hub's cache holds links; a plain file under its own name is what is kept.
            let source = cached.canonicalize().map_err(|e| DataError::io("read", &cached, e))?;
            let parent = target.parent().unwrap_or(folder);
            fs::create_dir_all(parent).map_err(|e| DataError::io("create", parent, e))?;
            // A file of that name is whole, whenever the machine stops.
            let synced = fs::File::open(&source).and_then(|file| file.sync_all());
            synced
                .and_then(|()| fs::rename(&source, &target))
                .map_err(|e| DataError::io("write", &target, e))?;
        }
        let _ = fs::remove_dir_all(&work);
        Ok(format!("{} {}", self.repo, self.revision))
    }

    /// The commit, and the paths of all files.
    pub(super) fn list(
        &self,
        endpoint: Option<&str>,
        control: &Control,
    ) -> Result<Listing, DataError> {
        let work = std::env::temp_dir();
        let api = Self::api(&work, endpoint).map_err(|e| self.failed("", &work, &e))?;
        let repo = api.repo(self.repo());
        let info = control.abandonable(move || repo.info())?;
        let info = info.map_err(|e| self.failed("", &work, &e))?;
        let files = info.siblings.into_iter().map(|file| file.rfilename).collect();
        Ok(Listing { sha: info.sha, files })
    }

    fn repo(&self) -> Repo {
        let repo_type = match self.repo_type {
            HubRepoType::Dataset => RepoType::Dataset,
            HubRepoType::Model => RepoType::Model,
        };
        Repo::with_revision(self.repo.to_owned(), repo_type, self.revision.to_owned())
    }

    fn api(work: &Path, endpoint: Option<&str>) -> Result<Api, ApiError> {
        let mut builder = ApiBuilder::from_env()
            .with_progress(false)
            .with_retries(RETRIES)
            .with_cache_dir(work.to_path_buf());
        if let Some(token) = std::env::var("HF_TOKEN").ok().filter(|t| !t.is_empty()) {
            builder = builder.with_token(Some(token));
        }
        if let Some(endpoint) = endpoint {
            builder = builder.with_endpoint(endpoint.to_owned());
        }
        builder.build()
    }

    fn failed(&self, file: &str, work: &Path, error: &ApiError) -> DataError {
        if let Some(kind) = full(error) {
            return DataError::io("download into", work, kind.into());
        }
        let message = error.to_string();
        let advice = if answered(&message, 401) || answered(&message, 403) {
            "its owner restricts it: accept the terms there, and set HF_TOKEN"
        } else if answered(&message, 404) {
            "correct repo, revision or files; a private one needs HF_TOKEN"
        } else {
            "check the network connection and HF_ENDPOINT, then run the same command again"
        };
        let what = format!("{}@{}/{file} from the hub", self.repo, self.revision);
        DataError::Fetch { what, message, advice: advice.to_owned() }
    }
}

/// Whether there was no room for the files, which is nothing of the network's.
fn full(error: &ApiError) -> Option<ErrorKind> {
    match error {
        ApiError::TooManyRetries(last) => full(last),
        ApiError::IoError(error) => Some(error.kind()).filter(|_| is_full(error)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;
    use crate::fetch::test_hub::{hub, listing};

    const BODY: &str = "{\"text\": \"from the hub\"}\n";

    #[test]
    fn a_models_files_are_listed_and_a_model_that_is_not_there_is_named() {
        let files = listing("abc", &["config.json", "a/b.bin"]);
        let hub = hub(&[("/api/models/us/model/revision/abc", &files)]);
        let list = |repo| {
            let repository = Repository { repo, repo_type: HubRepoType::Model, revision: "abc" };
            repository.list(Some(&hub.endpoint), &Control::default())
        };
        assert_eq!(list("us/model").unwrap().files, ["config.json", "a/b.bin"]);
        let error = list("us/other").unwrap_err().to_string();
        assert!(error.contains("us/other@abc"), "{error}");
    }

    #[test]
    fn a_full_disk_is_not_taken_for_a_broken_network() {
        let repository = Repository { repo: "us/m", repo_type: HubRepoType::Model, revision: "a" };
        let found = |kind: ErrorKind| {
            let last = Box::new(ApiError::IoError(kind.into()));
            repository.failed("f", Path::new("/w"), &ApiError::TooManyRetries(last))
        };
        for kind in [ErrorKind::StorageFull, ErrorKind::QuotaExceeded] {
            let error = found(kind);
            assert!(
                !error.is_unavailable() && error.to_string().contains("free some space"),
                "{error}"
            );
        }
        assert!(found(ErrorKind::ConnectionReset).is_unavailable());
    }

    #[test]
    fn a_file_comes_from_the_endpoint_and_a_missing_one_is_named() {
        let hub = hub(&[("/datasets/us/corpus/resolve/abc/data/a.jsonl", BODY)]);
        let folder = tempfile::tempdir().unwrap();
        let repository =
            Repository { repo: "us/corpus", repo_type: HubRepoType::Dataset, revision: "abc" };
        let fetch = |file: &str| {
            let control = Control::default();
            repository.fetch(&[file.to_owned()], Some(&hub.endpoint), folder.path(), &control)
        };
        assert_eq!(fetch("data/a.jsonl").unwrap(), "us/corpus abc");
        assert_eq!(fs::read_to_string(folder.path().join("files/data/a.jsonl")).unwrap(), BODY);
        assert!(!folder.path().join("work").exists());

        let error = fetch("data/b.jsonl").unwrap_err();
        assert!(error.is_unavailable());
        assert!(error.to_string().contains("us/corpus@abc/data/b.jsonl"), "{error}");
        assert!(error.to_string().contains("correct repo, revision or files"), "{error}");
        let asked = hub.asked.load(Ordering::SeqCst);
        assert_eq!(fetch("data/a.jsonl").unwrap(), "us/corpus abc", "what has come is kept");
        assert_eq!(hub.asked.load(Ordering::SeqCst), asked);
        assert!(fetch("../a").unwrap_err().to_string().contains("within the repository"));
    }
}
