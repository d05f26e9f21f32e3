//! The files of a data set on the hub, split by split.
//!
//! The hub turns data sets into Parquet files (`refs/convert/parquet`, `CONFIG/SPLIT/0000.parquet`), which
//! hold what `datasets` makes of them. Where there are none, or a revision is asked for, a data set's own
//! files are taken: those that its README names (`configs`), else those whose names say their split.

use std::collections::BTreeMap;
use std::path::PathBuf;

use neutral_store::{Cache, Fingerprint, read_entry, write_json};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::hub::{FILES, Listing, Repository};
use super::splits;
use crate::manifest::HubRepoType;
use crate::{Control, DataError};

/// Where the hub keeps what it made of data sets.
const CONVERTED: &str = "refs/convert/parquet";
const MAIN: &str = "main";
/// Ends of names of files that hold documents.
const FORMATS: [&str; 4] = [".parquet", ".jsonl", ".json", ".csv"];

/// A data set on the hub.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DatasetSource {
    /// `OWNER/NAME`.
    pub repo: String,
    /// The configuration; none: the data set's default one, or the only one.
    pub config: Option<String>,
    /// A commit, tag or branch of its own files; none: the newest, converted by the hub.
    pub revision: Option<String>,
    /// Files by split, by name or pattern; empty: those of the configuration.
    pub files: BTreeMap<String, Vec<String>>,
    /// The splits that are wanted; empty: all.
    pub splits: Vec<String>,
}

/// The files of a data set, in the cache.
#[derive(Clone, Debug, PartialEq)]
pub struct DatasetFiles {
    /// Files by split, in order.
    pub splits: BTreeMap<String, Vec<PathBuf>>,
    /// The repository and the commit that they come from.
    pub version: String,
}

/// Fetches a data set's files, but for those that are in the cache; each is kept as it comes, so that an
/// interrupted fetch goes on with the next one.
///
/// # Errors
/// If the files cannot be had, or there is no such configuration.
pub fn fetch_dataset(
    source: &DatasetSource,
    cache: &Cache,
    control: &Control,
) -> Result<DatasetFiles, DataError> {
    Fetcher { source, endpoint: None, cache, control }.fetch()
}

struct Fetcher<'a> {
    source: &'a DatasetSource,
    /// That of the environment unless a test has its own.
    endpoint: Option<&'a str>,
    cache: &'a Cache,
    control: &'a Control,
}

/// Names of files by split.
type Names = BTreeMap<String, Vec<String>>;

impl Fetcher<'_> {
    fn fetch(&self) -> Result<DatasetFiles, DataError> {
        let (commit, names) = self.names()?;
        let names = self.wanted(names)?;
        let files = names.values().map(Vec::len).sum::<usize>();
        let what = format!("fetching {} files of {}", files, self.source.repo);
        let bar = crate::progress::spinner(self.control.bars(), &what);
        let split = |(split, names): (String, Vec<String>)| {
            let files = names.iter().map(|name| self.file(&commit, name));
            Ok((split, files.collect::<Result<_, DataError>>()?))
        };
        let splits = names.into_iter().map(split).collect::<Result<_, DataError>>()?;
        bar.finish_and_clear();
        Ok(DatasetFiles { splits, version: format!("{} {commit}", self.source.repo) })
    }

    fn wanted(&self, mut names: Names) -> Result<Names, DataError> {
        let wanted = &self.source.splits;
        if let Some(missing) = wanted.iter().find(|split| !names.contains_key(*split)) {
            let known = names.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
            return Err(self.wrong("split", missing, &format!("there are {known}")));
        }
        names.retain(|split, _| wanted.is_empty() || wanted.contains(split));
        Ok(names)
    }

    /// The commit, and the names of the files.
    fn names(&self) -> Result<(String, Names), DataError> {
        let source = self.source;
        let converted = source.revision.is_none() && source.files.is_empty();
        // One that the hub has not converted, or not whole, has its own files.
        if converted && let Some(listing) = self.converted()? {
            let names = self.of_config(&listing.files)?;
            if let Some(names) = names {
                return Ok((listing.sha, names));
            }
        }
        let listing = self.list(source.revision.as_deref().unwrap_or(MAIN))?;
        let names = if source.files.is_empty() {
            self.own(&listing)?
        } else {
            let split = |(split, patterns): (&String, &Vec<String>)| {
                Ok((split.clone(), splits::matching(patterns, &listing.files)?))
            };
            source.files.iter().map(split).collect::<Result<_, DataError>>()?
        };
        if let Some((split, _)) = names.iter().find(|(_, files)| files.is_empty()) {
            return Err(self.wrong("files", split, "no file of that split is in the repository"));
        }
        Ok((listing.sha, names))
    }

    /// What the hub converted; that it converted nothing is kept too.
    fn converted(&self) -> Result<Option<Listing>, DataError> {
        self.kept(CONVERTED, |listing| match listing {
            Err(error) if error.is_missing() => Ok(None),
            listing => listing.map(Some),
        })
    }

    /// Of converted files, those of the configuration; none if it was not converted whole.
    fn of_config(&self, all: &[String]) -> Result<Option<Names>, DataError> {
        let mut configs: BTreeMap<&str, Names> = BTreeMap::new();
        for file in all {
            let mut parts = file.splitn(3, '/');
            if let (Some(config), Some(split), Some(_)) = (parts.next(), parts.next(), parts.next())
            {
                let splits = configs.entry(config).or_default();
                splits.entry(split.to_owned()).or_default().push(file.clone());
            }
        }
        let names = configs.keys().copied().collect::<Vec<_>>();
        let Some(config) = self.choose(&names, None)? else { return Ok(None) };
        let splits = configs.remove(config).unwrap_or_default();
        Ok((!splits.keys().any(|split| split.starts_with("partial-"))).then_some(splits))
    }

    /// The configuration that is meant, of those that there are.
    fn choose<'a>(
        &self,
        known: &[&'a str],
        default: Option<&'a str>,
    ) -> Result<Option<&'a str>, DataError> {
        let there = |name: &str| known.iter().copied().find(|other| *other == name);
        let found = match (&self.source.config, known) {
            (_, []) => return Ok(None),
            (Some(config), _) => there(config),
            (None, [only]) => Some(*only),
            (None, _) => default.or_else(|| there("default")),
        };
        found.map(Some).ok_or_else(|| {
            let config = self.source.config.as_deref().unwrap_or("not given");
            let expected = format!("{} has {}", self.source.repo, known.join(", "));
            self.wrong("config", config, &expected)
        })
    }

    /// The data set's own files.
    fn own(&self, listing: &Listing) -> Result<Names, DataError> {
        let has_readme = listing.files.iter().any(|file| file == "README.md");
        let configs = if has_readme {
            splits::configs(&self.file(&listing.sha, "README.md")?)?
        } else {
            Vec::new()
        };
        let known: Vec<_> = configs.iter().map(|config| config.name.as_str()).collect();
        let default = configs.iter().find(|config| config.default);
        let chosen = self.choose(&known, default.map(|config| config.name.as_str()))?;
        let config = configs.iter().find(|config| Some(config.name.as_str()) == chosen);
        if let Some(config) = config
            && !config.files.is_empty()
        {
            let split = |(split, patterns): (&String, &Vec<String>)| {
                Ok((split.clone(), splits::matching(patterns, &listing.files)?))
            };
            return config.files.iter().map(split).collect();
        }
        self.by_name(config.and_then(|config| config.folder.as_deref()), &listing.files)
    }

    /// Files whose names say their split; those of a configuration are in a folder of their own.
    fn by_name(&self, folder: Option<&str>, all: &[String]) -> Result<Names, DataError> {
        let data = |file: &&String| FORMATS.iter().any(|end| file.ends_with(end));
        let mut files: Vec<_> = all.iter().filter(data).collect();
        if let Some(folder) = folder.or(self.source.config.as_deref()) {
            let within = format!("/{}/", folder.trim_matches('/'));
            let is_within = |file: &&String| format!("/{file}").contains(&within);
            if files.iter().any(is_within) {
                files.retain(is_within);
            } else if folder != "default" {
                return Err(self.wrong("config", folder, "it has no folder of that name"));
            }
        }
        let mut names = Names::new();
        for file in files {
            names.entry(splits::split_of(file)).or_default().push(file.clone());
        }
        if names.is_empty() {
            let formats = FORMATS.join(", ");
            let expected = format!("it holds no files that are read ({formats})");
            return Err(self.wrong("repo", &self.source.repo, &expected));
        }
        Ok(names)
    }

    fn list(&self, revision: &str) -> Result<Listing, DataError> {
        self.kept(revision, |listing| listing)
    }

    /// What is made of the files of a revision. The hub is asked once, so that a data set that is in the
    /// cache needs no network.
    fn kept<T: Serialize + DeserializeOwned>(
        &self,
        revision: &str,
        made: impl FnOnce(Result<Listing, DataError>) -> Result<T, DataError>,
    ) -> Result<T, DataError> {
        let key = Fingerprint::of(&("data set", &self.source.repo, revision));
        let folder = self.cache.get_or_make("downloads", &key, |folder| {
            let listing = made(self.repository(revision).list(self.endpoint, self.control))?;
            Ok::<_, DataError>(write_json(&folder.join("files.json"), &listing)?)
        })?;
        Ok(read_entry(&folder, "files.json")?)
    }

    fn file(&self, commit: &str, name: &str) -> Result<PathBuf, DataError> {
        let key = Fingerprint::of(&("file of a data set", &self.source.repo, commit, name));
        let folder = self.cache.get_or_make("downloads", &key, |folder| {
            let files = [name.to_owned()];
            self.repository(commit).fetch(&files, self.endpoint, folder, self.control).map(drop)
        })?;
        Ok(folder.join(FILES).join(name))
    }

    fn repository<'b>(&'b self, revision: &'b str) -> Repository<'b> {
        Repository { repo: &self.source.repo, repo_type: HubRepoType::Dataset, revision }
    }

    fn wrong(&self, field: &str, found: &str, expected: &str) -> DataError {
        let field = format!("{field} of the data set {}", self.source.repo);
        DataError::invalid(&field, found, expected)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;
    use crate::fetch::test_hub::{Hub, hub, listing};

    fn source(config: Option<&str>) -> DatasetSource {
        DatasetSource {
            repo: "us/set".to_owned(),
            config: config.map(str::to_owned),
            revision: None,
            files: BTreeMap::new(),
            splits: Vec::new(),
        }
    }

    fn fetch(source: &DatasetSource, hub: &Hub, cache: &Cache) -> Result<DatasetFiles, DataError> {
        let control = Control::default();
        Fetcher { source, endpoint: Some(&hub.endpoint), cache, control: &control }.fetch()
    }

    /// Split, and the files' text.
    fn text(files: &DatasetFiles) -> Vec<(String, String)> {
        let read = |files: &Vec<PathBuf>| {
            files.iter().map(|f| std::fs::read_to_string(f).unwrap()).collect::<String>()
        };
        files.splits.iter().map(|(split, files)| (split.clone(), read(files))).collect()
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
    }

    const CONVERTED_LIST: &str = "/api/datasets/us/set/revision/refs%2Fconvert%2Fparquet";
    const MAIN_LIST: &str = "/api/datasets/us/set/revision/main";

    #[test]
    fn converted_files_come_by_split_once_and_then_without_a_network() {
        let files = [
            "README.md",
            "de/test/0000.parquet",
            "fr/test/0000.parquet",
            "fr/test/0001.parquet",
            "fr/train/0000.parquet",
        ];
        let hub = hub(&[
            (CONVERTED_LIST, &listing("c1", &files)),
            ("/datasets/us/set/resolve/c1/fr/test/0000.parquet", "one "),
            ("/datasets/us/set/resolve/c1/fr/test/0001.parquet", "two"),
            ("/datasets/us/set/resolve/c1/fr/train/0000.parquet", "three"),
        ]);
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path());
        let found = fetch(&source(Some("fr")), &hub, &cache).unwrap();
        assert_eq!(text(&found), pairs(&[("test", "one two"), ("train", "three")]));
        assert_eq!(found.version, "us/set c1");
        let asked = hub.asked.load(Ordering::SeqCst);
        assert_eq!(fetch(&source(Some("fr")), &hub, &cache).unwrap(), found);
        assert_eq!(hub.asked.load(Ordering::SeqCst), asked);

        let error = fetch(&source(Some("sk")), &hub, &cache).unwrap_err().to_string();
        assert!(error.contains("us/set") && error.contains("sk") && error.contains("de, fr"));
        let error = fetch(&source(None), &hub, &cache).unwrap_err().to_string();
        assert!(error.contains("not given") && error.contains("de, fr"), "{error}");
    }

    #[test]
    fn own_files_are_those_that_the_readme_names() {
        let readme = "---\nlicense: mit\nconfigs:\n- config_name: fr\n  data_files:\n  - split: test\n    path: fr/te*.jsonl\n- config_name: de\n  default: true\n  data_files: de.csv\n---\n# A set\n";
        let files = ["README.md", "de.csv", "fr/test.jsonl", "fr/train.jsonl"];
        let partial = ["fr/partial-test/0000.parquet"];
        let hub = hub(&[
            (CONVERTED_LIST, &listing("c1", &partial)),
            (MAIN_LIST, &listing("c2", &files)),
            ("/datasets/us/set/resolve/c2/README.md", readme),
            ("/datasets/us/set/resolve/c2/fr/test.jsonl", "{}"),
            ("/datasets/us/set/resolve/c2/de.csv", "a,b"),
        ]);
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path());
        let found = fetch(&source(Some("fr")), &hub, &cache).unwrap();
        assert_eq!(text(&found), pairs(&[("test", "{}")]));
        let own = DatasetSource { revision: Some("main".to_owned()), ..source(None) };
        let found = fetch(&own, &hub, &cache).unwrap();
        assert_eq!(text(&found), pairs(&[("train", "a,b")]));
        let named = BTreeMap::from([("dev".to_owned(), vec!["fr/test.jsonl".to_owned()])]);
        let found = fetch(&DatasetSource { files: named, ..source(None) }, &hub, &cache).unwrap();
        assert_eq!(text(&found), pairs(&[("dev", "{}")]));
        let named = BTreeMap::from([("dev".to_owned(), vec!["nowhere*".to_owned()])]);
        let error = fetch(&DatasetSource { files: named, ..source(None) }, &hub, &cache);
        assert!(error.unwrap_err().to_string().contains("no file of that split"));
    }

    #[test]
    fn without_a_readme_names_of_files_say_their_split() {
        let files =
            ["data/train-00000-of-00001.parquet", "data/test-00000-of-00001.parquet", "x.py"];
        let hub = hub(&[
            (MAIN_LIST, &listing("c3", &files)),
            ("/datasets/us/set/resolve/c3/data/train-00000-of-00001.parquet", "a"),
            ("/datasets/us/set/resolve/c3/data/test-00000-of-00001.parquet", "b"),
        ]);
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path());
        let found = fetch(&source(None), &hub, &cache).unwrap();
        assert_eq!(text(&found), pairs(&[("test", "b"), ("train", "a")]));
        let asked = hub.asked.load(Ordering::SeqCst);
        let only = |split: &str| DatasetSource { splits: vec![split.to_owned()], ..source(None) };
        let found = fetch(&only("test"), &hub, &cache).unwrap();
        assert_eq!(text(&found), pairs(&[("test", "b")]));
        assert_eq!(hub.asked.load(Ordering::SeqCst), asked);
        let error = fetch(&only("dev"), &hub, &cache).unwrap_err().to_string();
        assert!(error.contains("dev") && error.contains("test, train"), "{error}");
        let error = fetch(&source(Some("fr")), &hub, &Cache::at(folder.path())).unwrap_err();
        assert!(error.to_string().contains("no folder of that name"), "{error}");
        let missing = DatasetSource { repo: "us/other".to_owned(), ..source(None) };
        let error = fetch(&missing, &hub, &Cache::at(folder.path())).unwrap_err();
        assert!(error.is_unavailable() && error.to_string().contains("us/other@main"), "{error}");
    }
}
