//! Patterns of file names, as `datasets` reads them: `*` and `?` stay within a folder, `**` goes below.

use std::path::{Path, PathBuf};

use neutral_store::StoreError;
use regex::Regex;

use crate::TaskError;

/// The files of a name or a pattern below `root`, sorted by name; those of a pattern are not hidden.
pub(crate) fn files(root: &Path, pattern: &str) -> Result<Vec<PathBuf>, TaskError> {
    let Some(first) = pattern.find(['*', '?', '[']) else { return Ok(vec![root.join(pattern)]) };
    let folder = pattern[..first].rfind('/').map_or("", |end| &pattern[..=end]);
    let found = |found: String| TaskError::Data { path: root.join(pattern), found };
    let matches = expression(&pattern[folder.len()..]);
    let matches = matches.map_err(|e| found(format!("is no pattern of file names: {e}")))?;
    let mut files = Vec::new();
    walk(&root.join(folder), "", &matches, &mut files)?;
    files.sort();
    if files.is_empty() {
        let cause = std::io::Error::new(std::io::ErrorKind::NotFound, "matches no files");
        return Err(StoreError::io("read", &root.join(pattern), cause).into());
    }
    Ok(files)
}

fn walk(
    folder: &Path,
    below: &str,
    matches: &Regex,
    files: &mut Vec<PathBuf>,
) -> Result<(), TaskError> {
    let entries = std::fs::read_dir(folder).map_err(|e| StoreError::io("read", folder, e))?;
    for entry in entries {
        let path = entry.map_err(|e| StoreError::io("read", folder, e))?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        if name.starts_with('.') || name.starts_with("__") {
            continue;
        }
        let name = format!("{below}{name}");
        if path.is_dir() {
            walk(&path, &format!("{name}/"), matches, files)?;
        } else if matches.is_match(&name) {
            files.push(path);
        }
    }
    Ok(())
}

fn expression(pattern: &str) -> Result<Regex, regex::Error> {
    let parts = regex::escape(pattern).replace(r"\*\*/", "(?:.*/)?").replace(r"\*\*", ".*");
    let parts = parts.replace(r"\*", "[^/]*").replace(r"\?", "[^/]");
    let parts = parts.replace(r"\[!", "[^");
    Regex::new(&format!("^{}$", parts.replace(r"\[", "[").replace(r"\]", "]").replace(r"\-", "-")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_find_files_in_order_and_nothing_hidden() {
        let folder = tempfile::tempdir().unwrap();
        let names = ["a/1.json", "a/0.json", "a/b/2.json", "a/.hidden.json", "a/3.txt", "c.json"];
        for name in names {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        let find = |pattern: &str| {
            let found = files(folder.path(), pattern).unwrap().into_iter();
            let found = found.map(|path| path.strip_prefix(folder.path()).unwrap().to_path_buf());
            found.map(|path| path.to_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(find("a/*.json"), ["a/0.json", "a/1.json"]);
        assert_eq!(find("**/*.json"), ["a/0.json", "a/1.json", "a/b/2.json", "c.json"]);
        assert_eq!(find("a/[12]*"), ["a/1.json"]);
        assert_eq!(find("a/[!1]*.json"), ["a/0.json"]);
        assert_eq!(find("?.json"), ["c.json"]);
        assert_eq!(find("missing.json"), ["missing.json"]);
        let error = files(folder.path(), "*.csv").unwrap_err().to_string();
        assert!(error.contains("*.csv: matches no files"), "{error}");
    }
}
