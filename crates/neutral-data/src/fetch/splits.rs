//! Which files of a data set are which split: what the head of its README says, and what their names do.

use std::collections::BTreeMap;
use std::path::Path;

use globset::GlobBuilder;
use serde::Deserialize;

use crate::DataError;

/// A configuration of a data set.
#[derive(Debug)]
pub(super) struct Config {
    pub(super) name: String,
    pub(super) default: bool,
    /// Patterns by split; empty where the names of files say their split.
    pub(super) files: BTreeMap<String, Vec<String>>,
    /// Where they are then.
    pub(super) folder: Option<String>,
}

#[derive(Deserialize)]
struct Head {
    #[serde(default)]
    configs: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    config_name: String,
    #[serde(default)]
    default: bool,
    #[serde(default)]
    data_files: Files,
    data_dir: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(untagged)]
enum Files {
    #[default]
    None,
    Pattern(String),
    Patterns(Vec<String>),
    Splits(Vec<Split>),
}

#[derive(Deserialize)]
struct Split {
    split: String,
    path: OneOrMore,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

/// The configurations that a README lists; none where it lists none.
pub(super) fn configs(readme: &Path) -> Result<Vec<Config>, DataError> {
    let text = std::fs::read_to_string(readme).map_err(|e| DataError::io("read", readme, e))?;
    let head = text.strip_prefix("---").and_then(|rest| rest.split_once("\n---"));
    let Some((head, _)) = head else { return Ok(Vec::new()) };
    let head: Head = serde_yaml::from_str(head).map_err(|e| DataError::extract(readme, e))?;
    Ok(head.configs.into_iter().map(Entry::config).collect())
}

impl Entry {
    fn config(self) -> Config {
        let folder = self.data_dir;
        let within = |path: String| match &folder {
            Some(folder) => format!("{}/{path}", folder.trim_end_matches('/')),
            None => path,
        };
        let train = |paths: Vec<String>| {
            BTreeMap::from([("train".to_owned(), paths.into_iter().map(within).collect())])
        };
        let files = match self.data_files {
            Files::None => BTreeMap::new(),
            Files::Pattern(path) => train(vec![path]),
            Files::Patterns(paths) => train(paths),
            Files::Splits(splits) => {
                let split = |Split { split, path }| {
                    let paths = match path {
                        OneOrMore::One(path) => vec![path],
                        OneOrMore::More(paths) => paths,
                    };
                    (split, paths.into_iter().map(within).collect())
                };
                splits.into_iter().map(split).collect()
            }
        };
        Config { name: self.config_name, default: self.default, files, folder }
    }
}

/// The split that a file's name says, as `datasets` reads names; `train` where it says none.
pub(super) fn split_of(file: &str) -> String {
    let name = file.rsplit('/').next().unwrap_or(file);
    // `NAME-00000-of-00001`
    if let Some((before, _)) = name.split_once("-of-")
        && let Some((split, number)) = before.rsplit_once('-')
        && number.len() == 5
        && number.bytes().all(|b| b.is_ascii_digit())
    {
        return split.to_owned();
    }
    let words = |text: &str| -> Vec<String> {
        text.split(|c: char| !c.is_ascii_alphanumeric()).map(str::to_ascii_lowercase).collect()
    };
    let split = |word: &String| match word.as_str() {
        "train" | "training" => Some("train"),
        "validation" | "valid" | "dev" | "val" => Some("validation"),
        "test" | "testing" | "eval" | "evaluation" => Some("test"),
        _ => None,
    };
    words(name).iter().chain(&words(file)).find_map(split).unwrap_or("train").to_owned()
}

/// The files that a name or a pattern means, in order.
pub(super) fn matching(patterns: &[String], all: &[String]) -> Result<Vec<String>, DataError> {
    let mut found = Vec::new();
    for pattern in patterns {
        let glob = GlobBuilder::new(pattern).literal_separator(true).build();
        let glob = glob.map_err(|e| DataError::invalid("data_files", pattern, e))?;
        let glob = glob.compile_matcher();
        let mut files: Vec<_> = all.iter().filter(|file| glob.is_match(file)).cloned().collect();
        files.sort();
        found.extend(files);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_files_say_their_split() {
        let splits = [
            ("data/belebele-00000-of-00002.parquet", "belebele"),
            ("fr_dev.jsonl", "validation"),
            ("Test/fr.csv", "test"),
            ("fr/eval.jsonl", "test"),
            ("attest.jsonl", "train"),
        ];
        for (file, split) in splits {
            assert_eq!(split_of(file), split, "{file}");
        }
    }
}
