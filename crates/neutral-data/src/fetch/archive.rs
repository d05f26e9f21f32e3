//! Unpacking `.deb`, `.tgz`, `.tar.gz`, `.zip` and `.whl`, never outside the target folder.

use std::fs::{self, File};
use std::io::BufReader;
use std::path::Path;

use flate2::read::MultiGzDecoder;
use neutral_store::is_full;

use super::command::Client;
use crate::{Control, DataError};

/// Unpacks the files that `wanted` accepts by their paths in the archive; all of a `.deb`.
pub(super) fn unpack(
    archive: &Path,
    target: &Path,
    wanted: &dyn Fn(&str) -> bool,
    control: &Control,
) -> Result<(), DataError> {
    let name = archive.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let ends = |endings: &[&str]| endings.iter().any(|e| name.ends_with(e));
    if ends(&[".deb"]) {
        return unpack_deb(archive, target, control);
    }
    let file = File::open(archive).map_err(|e| DataError::io("open", archive, e))?;
    if ends(&[".tgz", ".tar.gz"]) {
        unpack_tar(archive, BufReader::new(file), target, wanted, control)
    } else if ends(&[".whl", ".zip"]) {
        unpack_zip(archive, BufReader::new(file), target, wanted, control)
    } else {
        Err(DataError::extract(archive, "its ending is none of .deb, .tgz, .tar.gz, .zip and .whl"))
    }
}

fn unpack_deb(archive: &Path, target: &Path, control: &Control) -> Result<(), DataError> {
    let client = Client {
        program: "dpkg-deb",
        what: format!("the files in {}", archive.display()),
        if_missing: "it is part of Debian and Ubuntu; elsewhere choose a corpus from another source",
    };
    let arguments = ["-x".to_owned(), archive.display().to_string(), target.display().to_string()];
    client.run(&arguments, target, control)?;
    Ok(())
}

fn unpack_tar(
    archive: &Path,
    file: BufReader<File>,
    target: &Path,
    wanted: &dyn Fn(&str) -> bool,
    control: &Control,
) -> Result<(), DataError> {
    let bad = |e: std::io::Error| DataError::extract(archive, e);
    for entry in tar::Archive::new(MultiGzDecoder::new(file)).entries().map_err(bad)? {
        control.check()?;
        let mut entry = entry.map_err(bad)?;
        let path = entry.path().map_err(bad)?.to_string_lossy().into_owned();
        if entry.header().entry_type().is_file() && wanted(&path) {
            // `unpack_in` leaves out what would land outside the target.
            entry.unpack_in(target).map_err(|e| {
                if is_full(&e) { DataError::io("unpack into", target, e) } else { bad(e) }
            })?;
        }
    }
    Ok(())
}

fn unpack_zip(
    archive: &Path,
    file: BufReader<File>,
    target: &Path,
    wanted: &dyn Fn(&str) -> bool,
    control: &Control,
) -> Result<(), DataError> {
    let bad = |e: zip::result::ZipError| DataError::extract(archive, e);
    let mut zip = zip::ZipArchive::new(file).map_err(bad)?;
    for index in 0..zip.len() {
        control.check()?;
        let mut entry = zip.by_index(index).map_err(bad)?;
        let Some(path) = entry.enclosed_name() else { continue };
        if entry.is_file() && wanted(&path.to_string_lossy()) {
            let path = target.join(path);
            let parent = path.parent().unwrap_or(target);
            fs::create_dir_all(parent).map_err(|e| DataError::io("create", parent, e))?;
            let mut out = File::create(&path).map_err(|e| DataError::io("create", &path, e))?;
            std::io::copy(&mut entry, &mut out).map_err(|e| {
                if is_full(&e) {
                    DataError::io("write", &path, e)
                } else {
                    DataError::extract(archive, e)
                }
            })?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn wanted_files_of_a_zip_and_a_tgz_are_unpacked_and_nothing_escapes() {
        let folder = tempfile::tempdir().unwrap();
        let (zip_path, tgz_path) = (folder.path().join("a.whl"), folder.path().join("a.tgz"));
        let options = zip::write::SimpleFileOptions::default();
        let mut zip = zip::ZipWriter::new(File::create(&zip_path).unwrap());
        for name in ["in/a.txt", "in/b.so", "../escaped.txt"] {
            zip.start_file(name, options).unwrap();
            zip.write_all(b"text").unwrap();
        }
        zip.finish().unwrap();
        let encoder = flate2::write::GzEncoder::new(
            File::create(&tgz_path).unwrap(),
            flate2::Compression::default(),
        );
        let mut tar = tar::Builder::new(encoder);
        for name in ["in/c.txt", "in/d.so", "xx/escaped.txt"] {
            let mut header = tar::Header::new_gnu();
            header.set_size(4);
            header.set_mode(0o644);
            header.set_path(name).unwrap();
            if name.starts_with("xx") {
                header.as_mut_bytes()[..2].copy_from_slice(b"..");
            }
            header.set_cksum();
            tar.append(&header, &b"text"[..]).unwrap();
        }
        tar.into_inner().unwrap().finish().unwrap();

        let target = folder.path().join("target");
        fs::create_dir(&target).unwrap();
        for archive in [&zip_path, &tgz_path] {
            unpack(archive, &target, &|path| path.contains(".txt"), &Control::default()).unwrap();
        }
        let names = |dir: &Path| {
            let mut names: Vec<_> =
                fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name()).collect();
            names.sort();
            names
        };
        assert_eq!(names(&target.join("in")), ["a.txt", "c.txt"]);
        assert!(!folder.path().join("escaped.txt").exists());
    }

    #[test]
    fn a_damaged_member_names_the_archive() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.whl");
        let stored = zip::write::SimpleFileOptions::default()
            .compression_method(zip::CompressionMethod::Stored);
        let mut zip = zip::ZipWriter::new(File::create(&path).unwrap());
        zip.start_file("a.txt", stored).unwrap();
        zip.write_all(b"these words").unwrap();
        zip.finish().unwrap();
        let mut bytes = fs::read(&path).unwrap();
        let at = bytes.windows(5).position(|w| w == b"these").unwrap();
        bytes[at] = b'T';
        fs::write(&path, bytes).unwrap();
        let error = unpack(&path, folder.path(), &|_| true, &Control::default()).unwrap_err();
        assert!(matches!(error, DataError::Extract { .. }), "{error}");
        assert!(error.to_string().contains("a.whl"), "{error}");
    }

    #[test]
    fn a_broken_archive_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a.whl", "a.tgz", "a.rar"] {
            let path = folder.path().join(name);
            fs::write(&path, "not an archive").unwrap();
            let error = unpack(&path, folder.path(), &|_| true, &Control::default());
            let error = error.unwrap_err().to_string();
            assert!(error.contains(name), "{error}");
        }
    }
}
