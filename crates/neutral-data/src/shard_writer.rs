//! Writing the token files that [`crate::TokenShards`] reads.

use std::fs::File;
use std::io::{BufWriter, Seek, Write};
use std::path::Path;

use rayon::prelude::*;
use sha2::{Digest, Sha256};

use crate::shards::{HEADER_BYTES, MAGIC, SHARD_VERSION};
use crate::{DataError, Document, Tokenizer};

/// Writes a token file, `batch_bytes` of text at a time; `done` hears of those that are through.
pub(crate) fn write_file(
    path: &Path,
    mut documents: impl Iterator<Item = Result<Document, DataError>>,
    tokenizer: &Tokenizer,
    batch_bytes: usize,
    done: impl Fn(u64),
) -> Result<(), DataError> {
    let mut file = ShardWriter::create(path)?;
    file.append(&[tokenizer.separator_id()])?;
    loop {
        let mut batch = Vec::new();
        let mut bytes = 0;
        while bytes < batch_bytes {
            let Some(document) = documents.next().transpose()? else { break };
            bytes += document.text.len();
            batch.push(document.text);
        }
        if batch.is_empty() {
            break;
        }
        let encoded: Vec<_> =
            batch.par_iter().map(|text| tokenizer.encode(text)).collect::<Result<_, _>>()?;
        for tokens in encoded {
            file.append(&tokens)?;
            file.append(tokenizer.end_id().as_slice())?;
            file.append(&[tokenizer.separator_id()])?;
        }
        done(bytes as u64);
    }
    file.finish(tokenizer.separator_id(), tokenizer.vocab_size() as u64)
}

/// The first bytes of a token file.
pub(crate) fn header(
    separator_id: u32,
    vocab_size: u64,
    tokens: u64,
    sha256: &[u8],
) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[..8].copy_from_slice(MAGIC);
    header[8..12].copy_from_slice(&SHARD_VERSION.to_le_bytes());
    header[12..16].copy_from_slice(&separator_id.to_le_bytes());
    header[16..24].copy_from_slice(&vocab_size.to_le_bytes());
    header[24..32].copy_from_slice(&tokens.to_le_bytes());
    header[32..].copy_from_slice(sha256);
    header
}

/// A token file that is being written; it is one after [`ShardWriter::finish`].
pub(crate) struct ShardWriter<'a> {
    path: &'a Path,
    file: BufWriter<File>,
    hasher: Sha256,
    written: u64,
}

impl<'a> ShardWriter<'a> {
    pub(crate) fn create(path: &'a Path) -> Result<Self, DataError> {
        let file = File::create(path).map_err(|e| DataError::io("write", path, e))?;
        let mut new = Self { path, file: BufWriter::new(file), hasher: Sha256::new(), written: 0 };
        new.write(&[0; HEADER_BYTES])?;
        Ok(new)
    }

    pub(crate) fn append(&mut self, tokens: &[u32]) -> Result<(), DataError> {
        let bytes = bytemuck::cast_slice(tokens);
        self.written += tokens.len() as u64;
        self.hasher.update(bytes);
        self.write(bytes)
    }

    /// The header last: count and checksum are known only now.
    pub(crate) fn finish(mut self, separator_id: u32, vocab_size: u64) -> Result<(), DataError> {
        let sha256 = std::mem::take(&mut self.hasher).finalize();
        let header = header(separator_id, vocab_size, self.written, &sha256);
        self.file.rewind().map_err(|e| DataError::io("write", self.path, e))?;
        self.write(&header)?;
        self.file
            .flush()
            .and_then(|()| self.file.get_ref().sync_all())
            .map_err(|e| DataError::io("write", self.path, e))
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), DataError> {
        self.file.write_all(bytes).map_err(|e| DataError::io("write", self.path, e))
    }
}
