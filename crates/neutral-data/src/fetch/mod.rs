//! Sources to files: packages are fetched with the machine's own clients and kept in the cache.
//!
//! What comes from the network stays in the cache as it came (kind `downloads`, named after the
//! source), and is unpacked into a temporary folder only while it is cleaned. Nothing is installed,
//! and nothing that a package holds is run.

mod apt;
mod archive;
mod command;
mod dataset;
mod hub;
mod model;
mod npm;
mod pip;
mod splits;
#[cfg(test)]
mod test_hub;

use std::path::{Path, PathBuf};

use neutral_store::{Cache, Fingerprint, TemporaryFolder, read_entry, sha256_file, write_json};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

pub use self::dataset::{DatasetFiles, DatasetSource, fetch_dataset};
pub use self::model::{ModelFiles, fetch_model, fetch_model_description, pinned};
use crate::extract::Extract;
use crate::extract::files::{self, Found};
use crate::manifest::{Source, Variant};
use crate::manifests;
use crate::{Control, DataError};

/// Files as they came.
pub(crate) struct Fetched {
    place: Place,
    /// Names and versions of the packages.
    pub(crate) version: String,
}

enum Place {
    /// Plain files.
    Ready(PathBuf),
    /// Archives that have to be unpacked.
    Packed(PathBuf),
}

/// A folder of plain files, which may be a temporary one; or a single file.
pub(crate) enum Root {
    Permanent(PathBuf),
    Temporary(TemporaryFolder),
}

impl Root {
    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::Permanent(path) => path,
            Self::Temporary(folder) => folder.path(),
        }
    }
}

/// What lies beside the archives.
#[derive(Serialize, Deserialize)]
struct Package {
    version: String,
}

/// Fetches a source, unless it is in the cache.
pub(crate) fn fetch(
    source: &Source,
    manifest: &Path,
    cache: &Cache,
    control: &Control,
) -> Result<Fetched, DataError> {
    let what = match source {
        Source::Synthetic(spec) => {
            let version = format!("synthetic text, seed {}", spec.seed);
            return Ok(Fetched { place: Place::Ready(PathBuf::new()), version });
        }
        Source::Local { path } => {
            let place = Place::Ready(local_path(manifest, path)?);
            return Ok(Fetched { place, version: format!("local {path}") });
        }
        Source::Apt { packages } => packages.join(", "),
        Source::Pip { package, version, .. } | Source::Npm { package, version } => {
            format!("{package} {version}")
        }
        Source::Hub { repo, .. } => repo.clone(),
    };
    let key = Fingerprint::of(source);
    // Who waits for another's apt finds afterwards that it is there.
    let _lock = match source {
        Source::Apt { .. } if !cache.path("downloads", &key).is_dir() => {
            Some(apt::lock(cache.root(), control)?)
        }
        _ => None,
    };
    // What has come of a model of many files outlasts a fetch that is interrupted.
    let held = match source {
        Source::Hub { .. } if !cache.path("downloads", &key).is_dir() => {
            cache.workspace("downloads", &key, |_| control.check().map(|()| true))?
        }
        _ => None,
    };
    let folder = cache.get_or_make("downloads", &key, |folder| {
        let bar = crate::progress::spinner(control.bars(), &format!("fetching {what}"));
        let version = match source {
            Source::Apt { packages } => apt::fetch(packages, cache.root(), folder, control),
            Source::Pip { package, version, python } => {
                pip::fetch(package, version, python.as_deref(), folder, control)
            }
            Source::Npm { package, version } => npm::fetch(package, version, folder, control),
            Source::Hub { repo, repo_type, revision, files } => {
                let named = hub::Repository { repo, repo_type: *repo_type, revision };
                // A branch may move between two files.
                let commit = named.list(None, control)?.sha;
                let work = held.as_ref().map_or(folder, |(work, _)| work).join(&commit);
                let named = hub::Repository { revision: &commit, ..named };
                named.fetch(files, None, &work, control).and_then(|version| {
                    let (from, to) = (work.join(hub::FILES), folder.join(hub::FILES));
                    std::fs::rename(&from, &to).map_err(|e| DataError::io("move", &from, e))?;
                    Ok(version)
                })
            }
            Source::Local { .. } | Source::Synthetic(_) => Ok(String::new()),
        };
        bar.finish_and_clear();
        Ok::<_, DataError>(write_json(
            &folder.join("package.json"),
            &Package { version: version? },
        )?)
    })?;
    if held.is_some() {
        drop(held);
        cache.clear_workspace("downloads", &key);
    }
    let package: Package = read_entry(&folder, "package.json")?;
    let place = match source {
        Source::Hub { .. } => Place::Ready(folder.join(hub::FILES)),
        _ => Place::Packed(folder),
    };
    Ok(Fetched { place, version: package.version })
}

impl Fetched {
    /// The files, unpacked if need be: those that the variant asks for.
    pub(crate) fn unpack(
        &self,
        variant: &Variant,
        cache: &Cache,
        control: &Control,
    ) -> Result<Root, DataError> {
        let wanted = files::Matcher::new(variant)?;
        self.unpack_matching(&|path| wanted.accepts(path), cache, control)
    }

    /// The same of the files whose path in the package is wanted.
    fn unpack_matching(
        &self,
        wanted: &dyn Fn(&str) -> bool,
        cache: &Cache,
        control: &Control,
    ) -> Result<Root, DataError> {
        let folder = match &self.place {
            Place::Ready(path) => return Ok(Root::Permanent(path.clone())),
            Place::Packed(folder) => folder,
        };
        let parent = cache.root().join("downloads");
        // A cache that is only read, as one that many share, may have all that is needed.
        let target = TemporaryFolder::new_in(&parent)
            .or_else(|_| TemporaryFolder::new_in(&std::env::temp_dir()))?;
        for archive in files::archives(folder)? {
            archive::unpack(&archive, target.path(), wanted, control)?;
        }
        Ok(Root::Temporary(target))
    }
}

fn local_path(manifest: &Path, path: &str) -> Result<PathBuf, DataError> {
    let path = manifests::local(manifest, path);
    if path.exists() { Ok(path) } else { Err(DataError::NoLocal { path }) }
}

/// Names and checksums of the local files that a variant reads, so that edited text is cleaned anew.
pub(crate) fn local_digest(
    manifest: &Path,
    path: &str,
    variant: &Variant,
    control: &Control,
) -> Result<Vec<String>, DataError> {
    let root = local_path(manifest, path)?;
    let found = files::find(&root, variant)?;
    if root.is_dir()
        && let Some(files) = files::left_out(&root, variant)?
    {
        tracing::warn!("{}: {files}", root.display());
    }
    found
        .par_iter()
        .map(|Found { path, id, .. }| {
            control.check()?;
            let index = matches!(variant.extract, Some(Extract::RLazyLoad { .. }));
            let index = index.then(|| sha256_file(&path.with_extension("rdx"))).transpose()?;
            Ok(format!("{id} {}{}", sha256_file(path)?, index.unwrap_or_default()))
        })
        .collect()
}
