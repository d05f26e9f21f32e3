//! Bytes that can be read at any position: a file, or a slice of memory in tests and fuzzing.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;

/// Something of a known length that is read at positions. Nothing is mapped: a map would need
/// `unsafe`, and another process that truncates the file would then end this one.
pub trait Source {
    /// Length in bytes. All that the file declares is held against it before anything is allocated.
    ///
    /// # Errors
    /// Whatever the operating system answers.
    fn length(&self) -> io::Result<u64>;

    /// Fills `buffer` with the bytes from `offset` on.
    ///
    /// # Errors
    /// [`io::ErrorKind::UnexpectedEof`] if there are fewer, or what the operating system answers.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
}

impl Source for File {
    fn length(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        FileExt::read_exact_at(self, buffer, offset)
    }
}

impl Source for &[u8] {
    fn length(&self) -> io::Result<u64> {
        Ok(self.len() as u64)
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let rest = usize::try_from(offset).ok().and_then(|offset| self.get(offset..));
        rest.unwrap_or_default().read_exact(buffer)
    }
}
