//! Write beside, sync, rename: a reader never sees half a file.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tempfile::TempDir;

use crate::StoreError;

/// How the names of unfinished files begin.
const WRITING: &str = ".neutral-";

/// How the names of unfinished folders begin.
const MAKING: &str = ".making-";

/// Of an unfinished folder into which nothing new has come for so long, and which nobody holds, the maker was killed.
const FORGOTTEN: Duration = Duration::from_hours(24);

/// Writes a whole file or leaves the old one untouched.
///
/// The bytes go to a temporary file in the same folder, which is synced and renamed over `path`;
/// then the folder itself is synced, so that the new name survives a loss of power. Missing parent
/// folders are created. A device or a pipe, such as `/dev/stdout`, is written to as it is.
///
/// # Errors
/// Any error of the file system or of `write`; the temporary file is removed then.
pub fn write_atomic(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<File>) -> std::io::Result<()>,
) -> Result<(), StoreError> {
    if is_stream(path) {
        let file = File::options().append(true).open(path);
        let mut writer = BufWriter::new(file.map_err(|e| StoreError::io("open", path, e))?);
        let done = write(&mut writer).and_then(|()| writer.flush());
        return done.map_err(|e| StoreError::io("write", path, e));
    }
    let folder = folder_of(path);
    fs::create_dir_all(folder).map_err(|e| StoreError::io("create", folder, e))?;
    let temporary = tempfile::Builder::new()
        .prefix(WRITING)
        .tempfile_in(folder)
        .map_err(|e| StoreError::io("create a file in", folder, e))?;
    let (file, temporary_path) = temporary.into_parts();
    let mut writer = BufWriter::new(file);
    write(&mut writer)
        .and_then(|()| writer.flush())
        .and_then(|()| set_default_mode(writer.get_ref()))
        .and_then(|()| writer.get_ref().sync_all())
        .map_err(|e| StoreError::io("write", path, e))?;
    temporary_path.persist(path).map_err(|e| StoreError::io("write", path, e.error))?;
    sync(folder)
}

/// What no file can take the place of: devices, pipes, and the names of this process' own streams, even where they
/// lead to a file.
fn is_stream(path: &Path) -> bool {
    let streams = ["/dev", "/dev/fd", "/proc/self/fd"];
    let named = path.parent().is_some_and(|folder| streams.iter().any(|f| folder == Path::new(f)));
    let special = |found: fs::Metadata| !found.is_file() && !found.is_dir();
    (named && path.is_symlink()) || fs::metadata(path).is_ok_and(special)
}

/// The folder that a path lies in; a bare name lies in the current one.
fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// `tempfile` makes files for the owner alone; results and caches are for everybody who may look.
fn set_default_mode(file: &File) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    file.set_permissions(fs::Permissions::from_mode(0o644))
}

/// Brings a folder's names to disk, or a file.
pub(crate) fn sync(path: &Path) -> Result<(), StoreError> {
    File::open(path).and_then(|f| f.sync_all()).map_err(|e| StoreError::io("sync", path, e))
}

/// Brings a folder to disk with all that is in it, so that no loss of power leaves half of a file
/// under the name that the folder gets next. Package clients and hubs do not see to that.
fn sync_tree(folder: &Path) -> Result<(), StoreError> {
    let io = |e| StoreError::io("sync", folder, e);
    for entry in fs::read_dir(folder).map_err(io)? {
        let entry = entry.map_err(io)?;
        let (path, kind) = (entry.path(), entry.file_type().map_err(io)?);
        if kind.is_dir() {
            sync_tree(&path)?;
        } else if kind.is_file() {
            sync(&path)?;
        }
    }
    sync(folder)
}

/// Copies a file's contents as [`write_atomic`] writes; not its mode, since a source may be one that nobody may write.
///
/// # Errors
/// Any error of the file system.
pub fn copy_file(from: &Path, to: &Path) -> Result<(), StoreError> {
    let mut file = File::open(from).map_err(|e| StoreError::io("read", from, e))?;
    write_atomic(to, |out| std::io::copy(&mut file, out).map(drop))
}

/// Makes a folder that is whole or absent: `make` fills one beside it, which is renamed into place.
///
/// # Errors
/// [`StoreError::Taken`] if there is something at `place` already, but for an empty folder that can be replaced; an
/// error of the file system; or whatever `make` returns. Nothing is left behind then.
pub fn write_folder<E: From<StoreError>>(
    place: &Path,
    make: impl FnOnce(&Path) -> Result<(), E>,
) -> Result<(), E> {
    let empty = || fs::read_dir(place).is_ok_and(|mut entries| entries.next().is_none());
    if fs::symlink_metadata(place).is_ok() && !empty() {
        let why = "is there already and not empty";
        return Err(StoreError::Taken { path: place.to_path_buf(), why }.into());
    }
    // What a link leads to is replaced, not the link.
    let place = &fs::canonicalize(place).unwrap_or_else(|_| place.to_path_buf());
    let parent = folder_of(place);
    if in_use(place, parent) {
        let why = "is the working folder, or a file system is mounted there";
        return Err(StoreError::Taken { path: place.clone(), why }.into());
    }
    let (work, _held) = made_in(parent, make)?;
    // Onto an empty folder at most: the system refuses one that was filled meanwhile.
    fs::rename(work.path(), place).map_err(|e| StoreError::io("create", place, e))?;
    let _ = work.keep();
    Ok(sync(parent)?)
}

/// Whether a folder is one that no other can take the place of, or that somebody would lose under his feet.
fn in_use(place: &Path, parent: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let device = |folder| fs::metadata(folder).map(|metadata| metadata.dev());
    let mounted = matches!((device(place), device(parent)), (Ok(one), Ok(other)) if one != other);
    mounted || std::env::current_dir().is_ok_and(|here| here == place)
}

/// A folder that `make` has filled, all of it on disk, under a name of its own until it is renamed, and what holds it
/// for this process.
pub(crate) fn made_in<E: From<StoreError>>(
    parent: &Path,
    make: impl FnOnce(&Path) -> Result<(), E>,
) -> Result<(TempDir, Option<File>), E> {
    let TemporaryFolder { folder, held } = TemporaryFolder::new_in(parent)?;
    make(folder.path())?;
    set_folder_mode(folder.path())?;
    sync_tree(folder.path())?;
    Ok((folder, held))
}

/// A folder that goes when it is dropped, or, if its process was killed, a day later.
#[derive(Debug)]
pub struct TemporaryFolder {
    folder: TempDir,
    held: Option<File>,
}

impl TemporaryFolder {
    /// An empty one in a folder, which is made if it is not there.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn new_in(parent: &Path) -> Result<Self, StoreError> {
        fs::create_dir_all(parent).map_err(|e| StoreError::io("create", parent, e))?;
        remove_forgotten(parent);
        let folder = tempfile::Builder::new()
            .prefix(MAKING)
            .tempdir_in(parent)
            .map_err(|e| StoreError::io("create a folder in", parent, e))?;
        let held = hold(folder.path());
        Ok(Self { folder, held })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }
}

/// Holds a folder as long as the file is open; none where another process does, or the file system cannot.
fn hold(folder: &Path) -> Option<File> {
    File::open(folder).ok().filter(|folder| folder.try_lock().is_ok())
}

/// Removes folders whose makers were killed. Best effort: they are only in the way of space.
fn remove_forgotten(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let modified = entry.metadata().and_then(|metadata| metadata.modified());
        let age = modified.ok().and_then(|then| then.elapsed().ok());
        if entry.file_name().to_string_lossy().starts_with(MAKING)
            && age.is_some_and(|age| age > FORGOTTEN)
            && let Some(_held) = hold(&entry.path())
        {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Removes what a killed process left of [`write_atomic`] in a folder that this process alone works in. Best effort.
pub fn remove_unfinished(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(WRITING) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// `tempfile` makes folders for the owner alone; results and caches are for everybody who may look.
fn set_folder_mode(folder: &Path) -> Result<(), StoreError> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755))
        .map_err(|e| StoreError::io("set the mode of", folder, e))
}

/// Writes a value as indented JSON with a final newline, atomically.
///
/// # Errors
/// As [`write_atomic`].
pub fn write_json(path: &Path, value: &impl Serialize) -> Result<(), StoreError> {
    write_atomic(path, |w| {
        serde_json::to_writer_pretty(&mut *w, value)?;
        w.write_all(b"\n")
    })
}

/// Reads a value that [`write_json`] wrote.
///
/// # Errors
/// If the file cannot be read, or holds something else.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, StoreError> {
    let bytes = fs::read(path).map_err(|e| StoreError::io("read", path, e))?;
    serde_json::from_slice(&bytes)
        .map_err(|cause| StoreError::Json { path: path.to_path_buf(), cause })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_leaves_the_old_file_and_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.json");
        write_json(&path, &1).unwrap();
        let failed = write_atomic(&path, |w| {
            w.write_all(b"half")?;
            Err(std::io::Error::from(std::io::ErrorKind::StorageFull))
        });
        assert!(failed.unwrap_err().to_string().contains("free some space"));
        assert_eq!(read_json::<i32>(&path).unwrap(), 1);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_device_is_written_to_and_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("null");
        std::os::unix::fs::symlink("/dev/null", &path).unwrap();
        write_json(&path, &1).unwrap();
        assert!(fs::symlink_metadata(&path).unwrap().is_symlink());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_stream_is_one_by_its_name_and_a_file_in_memory_is_none() {
        assert!(is_stream(Path::new("/dev/null")) && is_stream(Path::new("/dev/stdout")));
        let memory = Path::new("/dev/shm");
        if memory.is_dir() {
            let folder = tempfile::tempdir_in(memory).unwrap();
            let path = folder.path().join("a.json");
            for value in [1, 2] {
                write_json(&path, &value).unwrap();
                assert_eq!(read_json::<i32>(&path).unwrap(), value);
            }
        }
    }

    #[test]
    fn a_folder_is_whole_or_absent_and_replaces_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("new/export");
        let fill = |work: &Path| {
            fs::write(work.join("a"), "x").unwrap();
            Ok::<_, StoreError>(())
        };
        let failed: Result<_, StoreError> = write_folder(&place, |work| {
            fill(work)?;
            Err(StoreError::io("write", work, std::io::Error::other("stop")))
        });
        assert!(failed.is_err());
        assert_eq!(fs::read_dir(place.parent().unwrap()).unwrap().count(), 0);
        fs::create_dir(&place).unwrap();
        write_folder(&place, fill).unwrap();
        assert_eq!(fs::read_to_string(place.join("a")).unwrap(), "x");
        let taken = write_folder(&place, |_| -> Result<(), StoreError> { panic!("made") });
        let message = taken.unwrap_err().to_string();
        assert!(message.contains("export") && message.contains("--out"), "{message}");

        // Through a link, to what it leads to.
        let link = folder.path().join("link");
        fs::create_dir(folder.path().join("empty")).unwrap();
        std::os::unix::fs::symlink("empty", &link).unwrap();
        write_folder(&link, fill).unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink() && link.join("a").is_file());
        // None that cannot be renamed onto, which would show when all has been made.
        let here = std::env::current_dir().unwrap();
        assert!(
            in_use(&here, folder_of(&here)) && !in_use(folder.path(), folder_of(folder.path()))
        );
        assert!(in_use(Path::new("/proc"), Path::new("/")));
    }

    #[test]
    fn what_killed_processes_left_goes_and_what_is_being_made_stays() {
        let folder = tempfile::tempdir().unwrap();
        let making = |name: &str, age: Duration| {
            let path = folder.path().join(format!("{MAKING}{name}"));
            fs::create_dir(&path).unwrap();
            fs::write(path.join("half"), "x").unwrap();
            let opened = File::open(&path).unwrap();
            opened.set_modified(std::time::SystemTime::now() - age).unwrap();
            path
        };
        let old = 2 * FORGOTTEN;
        let [left, held, new] = [("left", old), ("held", old), ("new", Duration::ZERO)]
            .map(|(name, age)| making(name, age));
        let holder = hold(&held).unwrap();
        write_folder(&folder.path().join("a"), |_| Ok::<_, StoreError>(())).unwrap();
        assert_eq!([&left, &held, &new].map(|path| path.exists()), [false, true, true]);
        drop(holder);
        write_folder(&folder.path().join("b"), |_| Ok::<_, StoreError>(())).unwrap();
        assert!(!held.exists());

        let half = folder.path().join(format!("{WRITING}x"));
        fs::write(&half, "x").unwrap();
        remove_unfinished(folder.path());
        assert!(!half.exists() && folder.path().join("a").exists());
    }

    #[test]
    fn a_wrong_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.json");
        fs::write(&path, "{").unwrap();
        assert!(read_json::<i32>(&path).unwrap_err().to_string().contains("a.json"));
    }
}
