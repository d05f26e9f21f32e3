//! Which files a variant reads, what they are called, and how they are opened.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Cursor, Read};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;
use globset::{Glob, GlobBuilder, GlobSet, GlobSetBuilder};
use serde::{Deserialize, Serialize};

use crate::DataError;
use crate::manifest::Variant;

/// A glob over paths with `/`: `*` stays within a folder, `**` does not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Pattern(Glob);

impl Pattern {
    pub(crate) fn every_file() -> Self {
        // The one pattern of this program's own; `Glob` has no constructor that cannot fail.
        Self::try_from("**/*".to_owned()).expect("`**/*` is a glob")
    }

    /// The folder before the first wildcard: where documents' ids begin.
    fn base(&self) -> &str {
        let glob = self.0.glob();
        let literal = &glob[..glob.find(['*', '?', '[', '{']).unwrap_or(glob.len())];
        literal.rfind('/').map_or("", |end| &glob[..=end])
    }
}

impl TryFrom<String> for Pattern {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let glob = GlobBuilder::new(&text).literal_separator(true).build();
        glob.map(Self).map_err(|e| e.to_string())
    }
}

impl From<Pattern> for String {
    fn from(pattern: Pattern) -> Self {
        pattern.0.glob().to_owned()
    }
}

/// The globs of a variant.
pub(crate) struct Matcher {
    files: GlobSet,
    skip: GlobSet,
}

impl Matcher {
    pub(crate) fn new(variant: &Variant) -> Result<Self, DataError> {
        let set = |patterns: &[Pattern]| {
            let mut builder = GlobSetBuilder::new();
            for pattern in patterns {
                builder.add(pattern.0.clone());
            }
            builder.build().map_err(|e| DataError::invalid("files", e, "write a simpler glob"))
        };
        Ok(Self { files: set(std::slice::from_ref(&variant.files))?, skip: set(&variant.skip)? })
    }

    pub(crate) fn accepts(&self, path: &str) -> bool {
        // R keeps an index beside its data, which is read with it.
        let path = path.strip_suffix(".rdx").map_or(path.into(), |p| format!("{p}.rdb"));
        self.wants(&path)
    }

    fn wants(&self, path: &str) -> bool {
        self.files.is_match(path) && !self.skip.is_match(path)
    }
}

/// A file to read.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) path: PathBuf,
    /// Its path below the glob's fixed part, without the ending of its compression.
    pub(crate) id: String,
}

/// The files of a variant below a root (or the root, if it is a file), sorted by id.
///
/// Links are not followed: a page under a second name would be a second document.
pub(crate) fn find(root: &Path, variant: &Variant) -> Result<Vec<Found>, DataError> {
    if root.is_file() {
        if variant.files != Pattern::every_file() || !variant.skip.is_empty() {
            let message = "is a file: `files` and `skip` would be ignored; leave them out";
            return Err(DataError::extract(root, message));
        }
        let name = root.file_name().unwrap_or_default().to_string_lossy().into_owned();
        return Ok(vec![Found { path: root.to_path_buf(), id: without_compression(&name).into() }]);
    }
    let matcher = Matcher::new(variant)?;
    let base = variant.files.base();
    let mut found = Vec::new();
    walk(root, "", &mut |path, relative, is_link| {
        if !is_link && matcher.wants(relative) {
            let id = relative.strip_prefix(base).unwrap_or(relative);
            found.push(Found { path, id: without_compression(id).to_owned() });
        }
    })?;
    if found.is_empty() {
        let glob = String::from(variant.files.clone());
        let but = left_out(root, variant)?.map_or_else(String::new, |files| format!("; {files}"));
        return Err(DataError::extract(root, format!("no file in it matches `{glob}`{but}")));
    }
    found.sort_by(|a, b| (&a.id, &a.path).cmp(&(&b.id, &b.path)));
    if let Some([one, other]) = found.array_windows().find(|[one, other]| one.id == other.id) {
        let (one, other) = (one.path.display(), other.path.display());
        let message = format!("{one} and {other} would be one document; leave one out with `skip`");
        return Err(DataError::extract(root, message));
    }
    Ok(found)
}

/// What somebody may think that [`find`] finds: links, and files that match but for the ending of their compression.
pub(crate) fn left_out(root: &Path, variant: &Variant) -> Result<Option<String>, DataError> {
    let matcher = Matcher::new(variant)?;
    let (mut links, mut packed) = (0_usize, 0_usize);
    walk(root, "", &mut |path, relative, is_link| {
        let wanted = matcher.wants(relative);
        links += usize::from(is_link && (wanted || path.is_dir()));
        packed += usize::from(!is_link && !wanted && matcher.wants(without_compression(relative)));
    })?;
    let links = (links > 0).then(|| {
        format!("{links} links are not followed: `path` must name the folder that they lead to")
    });
    let packed = (packed > 0).then(|| {
        let glob = String::from(variant.files.clone());
        format!("{packed} files would match but for `.gz` or `.zst`: `files` must match whole names, as `{glob}*` does")
    });
    let said: Vec<_> = links.into_iter().chain(packed).collect();
    Ok((!said.is_empty()).then(|| said.join("; ")))
}

/// Visits files, and links, of which the last argument says that they are.
fn walk(
    folder: &Path,
    relative: &str,
    visit: &mut dyn FnMut(PathBuf, &str, bool),
) -> Result<(), DataError> {
    let io = |e| DataError::io("read", folder, e);
    for entry in fs::read_dir(folder).map_err(io)? {
        let entry = entry.map_err(io)?;
        let relative = format!("{relative}{}", entry.file_name().to_string_lossy());
        let kind = entry.file_type().map_err(io)?;
        if kind.is_dir() {
            walk(&entry.path(), &format!("{relative}/"), visit)?;
        } else if kind.is_file() || kind.is_symlink() {
            visit(entry.path(), &relative, kind.is_symlink());
        }
    }
    Ok(())
}

/// The archives in a download's folder, sorted.
pub(crate) fn archives(folder: &Path) -> Result<Vec<PathBuf>, DataError> {
    let mut archives = Vec::new();
    walk(folder, "", &mut |path, name, is_link| {
        if !is_link && [".deb", ".whl", ".zip", ".tgz", ".tar.gz"].iter().any(|e| name.ends_with(e))
        {
            archives.push(path);
        }
    })?;
    archives.sort();
    Ok(archives)
}

fn without_compression(name: &str) -> &str {
    name.strip_suffix(".gz").or_else(|| name.strip_suffix(".zst")).unwrap_or(name)
}

/// Opens a file of text, decompressing by its ending, behind its byte order mark if it has one.
pub(crate) fn open(path: &Path) -> Result<Box<dyn BufRead>, DataError> {
    let io = |e| DataError::io("open", path, e);
    let file = File::open(path).map_err(io)?;
    let mut text: Box<dyn BufRead> = match path.extension().and_then(|e| e.to_str()) {
        Some("gz") => Box::new(BufReader::new(MultiGzDecoder::new(BufReader::new(file)))),
        Some("zst") => Box::new(BufReader::new(zstd::Decoder::new(file).map_err(io)?)),
        _ => Box::new(BufReader::new(file)),
    };
    let mut head = Vec::new();
    text.by_ref().take(3).read_to_end(&mut head).map_err(|e| DataError::extract(path, e))?;
    if head == "\u{feff}".as_bytes() {
        head.clear();
    }
    Ok(Box::new(Cursor::new(head).chain(text)))
}

/// The whole text of a file, decompressed.
pub(crate) fn read_text(path: &Path) -> Result<String, DataError> {
    let mut text = String::new();
    open(path)?.read_to_string(&mut text).map_err(|e| DataError::extract(path, e))?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_begin_after_the_fixed_part_of_the_glob() {
        for (glob, base) in [
            ("usr/share/man/fr/man*/*.gz", "usr/share/man/fr/"),
            ("help/fr/text/**/*.html", "help/fr/text/"),
            ("**/*", ""),
            ("a/b.txt", "a/"),
        ] {
            assert_eq!(Pattern::try_from(glob.to_owned()).unwrap().base(), base);
        }
        assert!(Pattern::try_from("a[".to_owned()).is_err());
    }

    #[test]
    fn options_that_a_single_file_would_ignore_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("letters.txt");
        fs::write(&file, "Dear reader").unwrap();
        let find = |options: &str| {
            let variant = format!(
                "{{language: none, source: {{kind: local, path: x}}, extract: {{kind: text}}{options}}}"
            );
            super::find(&file, &serde_yaml::from_str(&variant).unwrap())
        };
        assert_eq!(find("").unwrap()[0].id, "letters.txt");
        for options in [", files: '*.md'", ", skip: ['*.txt']"] {
            let error = find(options).unwrap_err().to_string();
            assert!(error.contains("is a file: `files` and `skip` would be ignored"), "{error}");
        }
    }

    #[test]
    fn what_one_may_think_is_read_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("pages")).unwrap();
        fs::write(at("pages/b.jsonl.gz"), "").unwrap();
        std::os::unix::fs::symlink("b.jsonl.gz", at("pages/c.jsonl")).unwrap();
        std::os::unix::fs::symlink("pages", at("more")).unwrap();
        let variant: Variant = serde_yaml::from_str(
            "{language: none, source: {kind: local, path: x}, files: '**/*.jsonl', extract: {kind: text}}",
        )
        .unwrap();
        let error = find(folder.path(), &variant).unwrap_err().to_string();
        for words in ["matches `**/*.jsonl`; 2 links are not followed", "1 files would match but"] {
            assert!(error.contains(words), "{error}");
        }
        fs::write(at("pages/a.jsonl"), "").unwrap();
        assert_eq!(find(folder.path(), &variant).unwrap().len(), 1);
        assert!(left_out(folder.path(), &variant).unwrap().is_some());
        fs::remove_dir_all(at("pages")).unwrap();
        fs::remove_file(at("more")).unwrap();
        fs::write(at("a.jsonl"), "").unwrap();
        assert_eq!(left_out(folder.path(), &variant).unwrap(), None);
    }

    #[test]
    fn a_byte_order_mark_is_no_text_however_the_file_is_packed() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: &[u8]| {
            let path = folder.path().join(name);
            fs::write(&path, bytes).unwrap();
            read_text(&path).unwrap()
        };
        assert_eq!(write("marked.txt", b"\xef\xbb\xbfa\n"), "a\n");
        assert_eq!(write("plain.txt", b"ab"), "ab");
        assert_eq!(write("empty.txt", b""), "");
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut packed, b"\xef\xbb\xbfb\xef\xbb\xbf").unwrap();
        assert_eq!(write("marked.gz", &packed.finish().unwrap()), "b\u{feff}", "the first alone");
    }
}
