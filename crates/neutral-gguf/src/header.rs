//! Reads what stands before the tensors' data: numbers, strings, arrays, one after another.
//!
//! A declared length is held against what is left of the file, and of the limit, before anything
//! is allocated for it; arrays of arrays are refused, so nothing nests.

use std::io;

use crate::source::Source;
use crate::value::{Array, Kind, Value};

/// The most that may stand before the data. The largest vocabularies in use take some 20 MiB; the
/// limit keeps a hostile file from having its gigabytes of metadata kept in memory.
const LIMIT: u64 = 64 << 20;
const BUFFER: usize = 64 << 10;

/// What stopped a read.
pub(crate) enum Stop {
    /// The operating system.
    Io(io::Error),
    /// What was found, for the error's text.
    Found(String),
}

impl From<String> for Stop {
    fn from(found: String) -> Self {
        Self::Found(found)
    }
}

/// A position in the header of a source.
pub(crate) struct Header<'a, S> {
    source: &'a S,
    /// Bytes read ahead, and how many of them are used.
    buffer: Vec<u8>,
    used: usize,
    /// Where the buffer ends in the source.
    position: u64,
    /// Where the header may end at most.
    end: u64,
}

impl<'a, S: Source> Header<'a, S> {
    pub(crate) fn new(source: &'a S, length: u64) -> Self {
        Self { source, buffer: Vec::new(), used: 0, position: 0, end: length.min(LIMIT) }
    }

    /// The offset of the next byte.
    pub(crate) fn offset(&self) -> u64 {
        self.position - (self.buffer.len() - self.used) as u64
    }

    /// Bytes that are left.
    fn left(&self) -> u64 {
        self.end - self.offset()
    }

    /// Appends the next `n` bytes to `to`.
    fn append(&mut self, mut n: usize, to: &mut Vec<u8>) -> Result<(), Stop> {
        if n as u64 > self.left() {
            return Err(self.too_short());
        }
        to.reserve_exact(n);
        while n > 0 {
            if self.used == self.buffer.len() {
                let size = (self.end - self.position).min(BUFFER as u64);
                self.buffer.resize(size as usize, 0);
                self.source.read_exact_at(&mut self.buffer, self.position).map_err(Stop::Io)?;
                self.position += size;
                self.used = 0;
            }
            let part = n.min(self.buffer.len() - self.used);
            to.extend_from_slice(&self.buffer[self.used..self.used + part]);
            self.used += part;
            n -= part;
        }
        Ok(())
    }

    fn too_short(&self) -> Stop {
        let what = if self.end == LIMIT { "limit on metadata" } else { "file" };
        Stop::Found(format!(
            "ends in the middle of a value: the {what} is {} bytes, of which {} are left",
            self.end,
            self.left()
        ))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Stop> {
        let mut bytes = Vec::new();
        self.append(N, &mut bytes)?;
        bytes.try_into().map_err(|_| self.too_short())
    }

    pub(crate) fn bytes4(&mut self) -> Result<[u8; 4], Stop> {
        self.array()
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Stop> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Stop> {
        self.array().map(u64::from_le_bytes)
    }

    /// A count of things that take `size` bytes each at least, all of which must still be there.
    pub(crate) fn count(&mut self, size: usize, what: &str) -> Result<usize, Stop> {
        let n = self.u64()?;
        if n > self.left() / size as u64 {
            return Err(Stop::Found(format!(
                "declares {n} {what}, which is more than the {} bytes left could hold",
                self.left()
            )));
        }
        Ok(n as usize)
    }

    pub(crate) fn string(&mut self) -> Result<String, Stop> {
        let n = self.count(1, "bytes")?;
        let mut bytes = Vec::new();
        self.append(n, &mut bytes)?;
        String::from_utf8(bytes).map_err(|e| {
            Stop::Found(format!("is not UTF-8 from its byte {} on", e.utf8_error().valid_up_to()))
        })
    }

    fn kind(&mut self) -> Result<Kind, Stop> {
        let number = self.u32()?;
        Kind::from_number(number)
            .ok_or_else(|| Stop::Found(format!("is of kind {number}; kinds go from 0 to 12")))
    }

    /// A value: its kind, then itself.
    pub(crate) fn value(&mut self) -> Result<Value, Stop> {
        match self.kind()? {
            Kind::String => Ok(Value::String(self.string()?)),
            Kind::Array => Ok(Value::Array(self.elements()?)),
            kind => {
                let mut bytes = Vec::new();
                self.append(kind.size(), &mut bytes)?;
                Value::from_bytes(kind, &bytes).ok_or_else(|| not_a_bool(&bytes))
            }
        }
    }

    fn elements(&mut self) -> Result<Array, Stop> {
        let kind = self.kind()?;
        if kind == Kind::Array {
            return Err(Stop::Found("is an array of arrays; no model's metadata needs one".into()));
        }
        let length = self.count(kind.size(), "elements")?;
        let mut bytes = Vec::new();
        if kind == Kind::String {
            for i in 0..length {
                self.string_into(&mut bytes).map_err(|stop| match stop {
                    Stop::Found(found) => Stop::Found(format!("has an element {i} that {found}")),
                    io @ Stop::Io(_) => io,
                })?;
            }
        } else {
            self.append(length * kind.size(), &mut bytes)?;
            if kind == Kind::Bool
                && let Some(at) = bytes.iter().position(|b| *b > 1)
            {
                return Err(not_a_bool(&bytes[at..=at]));
            }
        }
        Ok(Array { kind, length, bytes })
    }

    /// A string with its length, checked but left encoded.
    fn string_into(&mut self, to: &mut Vec<u8>) -> Result<(), Stop> {
        let string = self.string()?;
        to.extend_from_slice(&(string.len() as u64).to_le_bytes());
        to.extend_from_slice(string.as_bytes());
        Ok(())
    }
}

fn not_a_bool(bytes: &[u8]) -> Stop {
    Stop::Found(format!("holds a truth value of {bytes:?}; it would be 0 or 1"))
}
