//! Tokens of a corpus' split, as one memory-mapped file.
//!
//! The stream is `SEP doc₁ SEP doc₂ SEP … docₙ SEP`: every document has a separator on both sides,
//! shared with its neighbour; where that is a tokenizer's BOS, EOS stands before it, `doc₁ EOS BOS`. The file is a header of 64 bytes, then the tokens, 32 bits each:
//!
//! | bytes | content |
//! |---|---|
//! | 0..8 | magic `NEUTRTOK` |
//! | 8..12 | format version |
//! | 12..16 | separator id |
//! | 16..24 | vocabulary size |
//! | 24..32 | number of tokens |
//! | 32..64 | SHA-256 of the tokens |
//!
//! All little-endian. Documents are tokenised in parallel and written in order, a few megabytes at a time, so memory
//! stays flat as the corpus grows; reading maps the file, so several processes share one copy. Files live in the
//! cache under a name made from the text's checksum, the split and the tokenizer's fingerprint: a change of any makes
//! another file.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use memmap2::Mmap;
use neutral_store::{Cache, Fingerprint, write_atomic};
use sha2::{Digest, Sha256};

use crate::progress::bytes_bar;
use crate::shard_writer::{header, write_file};
use crate::{CleanCorpus, Control, DataError, Split, Tokenizer};

#[cfg(target_endian = "big")]
compile_error!("token files are little-endian and mapped as they are");

pub(crate) const MAGIC: &[u8; 8] = b"NEUTRTOK";
/// Raised when the file's layout or the stream's would change.
pub(crate) const SHARD_VERSION: u32 = 1;
pub(crate) const HEADER_BYTES: usize = 64;
const TOKEN_BYTES: usize = size_of::<u32>();
/// Text that is tokenised at once: enough for all cores, little enough to forget about.
const BATCH_BYTES: usize = 4 << 20;
const FILE_NAME: &str = "tokens.bin";

/// The tokens of one split of one corpus. Cheap to clone: clones share the mapping.
#[derive(Clone, Debug)]
pub struct TokenShards {
    map: Arc<Mmap>,
    path: PathBuf,
    /// What messages call it: the corpus, or the file.
    name: String,
    separator_id: u32,
    vocab_size: u64,
    /// What made the ids; unknown of a file that was opened by its path.
    tokenizer: Option<Fingerprint>,
}

impl TokenShards {
    /// Opens the cached file, or tokenises the split and writes it first.
    ///
    /// # Errors
    /// If documents cannot be read or encoded, or the file cannot be written; if a cached file is
    /// damaged, which the message says how to mend.
    pub fn build(
        corpus: &CleanCorpus,
        split: Split,
        tokenizer: &Tokenizer,
        cache: &Cache,
        control: &Control,
    ) -> Result<Self, DataError> {
        // The checksum covers the three splits as one text; their sizes say where it is cut.
        let sizes = Split::ALL.map(|s| (corpus.bytes(s), corpus.document_count(s)));
        let key = Fingerprint::of(&(
            corpus.sha256(),
            sizes,
            split,
            tokenizer.fingerprint(),
            SHARD_VERSION,
        ));
        let folder = cache.get_or_make("tokens", &key, |folder| {
            let title = format!("tokens {}", corpus.reference());
            let bar = bytes_bar(control.bars(), corpus.bytes(split), &title);
            let documents = control.guard(corpus.documents(split)?);
            let path = folder.join(FILE_NAME);
            write_file(&path, documents, tokenizer, BATCH_BYTES, |n| bar.inc(n))
        })?;
        let path = folder.join(FILE_NAME);
        let shards = Self {
            name: corpus.reference().to_string(),
            tokenizer: Some(tokenizer.fingerprint().clone()),
            ..Self::open(&path)?
        };
        let wanted = (tokenizer.separator_id(), tokenizer.vocab_size() as u64);
        if (shards.separator_id, shards.vocab_size) != wanted {
            return Err(DataError::damaged(&path, "its header is not this tokenizer's".to_owned()));
        }
        Ok(shards)
    }

    /// Writes tokens that come from no text, or were made elsewhere, to a file, whole or not at all, and opens it. One
    /// that is there is replaced; shards that were opened before keep the tokens that it had.
    ///
    /// # Errors
    /// If a token is beyond the vocabulary, or the file cannot be written.
    pub fn from_tokens(
        path: &Path,
        tokens: &[u32],
        separator_id: u32,
        vocab_size: u64,
    ) -> Result<Self, DataError> {
        let mut ids = tokens.iter().chain([&separator_id]);
        if let Some(id) = ids.find(|&&id| u64::from(id) >= vocab_size) {
            let expected = format!("ids are below {vocab_size}, the vocabulary's size");
            return Err(DataError::invalid("a token", id, expected));
        }
        let bytes: &[u8] = bytemuck::cast_slice(tokens);
        let header = header(separator_id, vocab_size, tokens.len() as u64, &Sha256::digest(bytes));
        write_atomic(path, |file| file.write_all(&header).and_then(|()| file.write_all(bytes)))?;
        Self::open(path)
    }

    /// Maps a file and checks its header, length and checksum, which reads it once.
    ///
    /// # Errors
    /// If the file cannot be read, or is not what [`TokenShards::build`] wrote.
    pub fn open(path: &Path) -> Result<Self, DataError> {
        let map = map_file(path)?;
        let damaged = |message: String| Err(DataError::damaged(path, message));
        if map.len() < HEADER_BYTES || &map[..8] != MAGIC {
            return damaged("it is not a token file".to_owned());
        }
        let u32_at = |at: usize| u64::from(bytemuck::pod_read_unaligned::<u32>(&map[at..at + 4]));
        let u64_at = |at: usize| bytemuck::pod_read_unaligned::<u64>(&map[at..at + 8]);
        let version = u32_at(8);
        if version != u64::from(SHARD_VERSION) {
            return damaged(format!("its version is {version}, not {SHARD_VERSION}"));
        }
        let payload = &map[HEADER_BYTES..];
        let (tokens, found) = (u64_at(24), payload.len() as u64);
        if tokens.checked_mul(TOKEN_BYTES as u64) != Some(found) {
            return damaged(format!("its header says {tokens} tokens, and {found} bytes follow"));
        }
        if Sha256::digest(payload).as_slice() != &map[32..64] {
            return damaged("its checksum is wrong".to_owned());
        }
        Ok(Self {
            path: path.to_path_buf(),
            name: path.display().to_string(),
            separator_id: u32_at(12) as u32,
            vocab_size: u64_at(16),
            tokenizer: None,
            map: Arc::new(map),
        })
    }

    /// Number of tokens, separators included.
    pub fn len(&self) -> usize {
        (self.map.len() - HEADER_BYTES) / TOKEN_BYTES
    }

    /// Whether there is not a single token; a split without documents still has one separator.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// `length` tokens from `start` on.
    ///
    /// # Panics
    /// If they reach beyond the end.
    pub fn slice(&self, start: usize, length: usize) -> &[u32] {
        &self.tokens()[start..start + length]
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The corpus that the tokens are of; of tokens that are of none, the file.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The token between documents.
    pub fn separator_id(&self) -> u32 {
        self.separator_id
    }

    /// Whether ids mean the same in both, as far as it is known what made them.
    pub(crate) fn same_tokenizer(&self, other: &Self) -> bool {
        let both = self.tokenizer.as_ref().zip(other.tokenizer.as_ref());
        (self.separator_id, self.vocab_size) == (other.separator_id, other.vocab_size)
            && both.is_none_or(|(one, other)| one == other)
    }

    fn tokens(&self) -> &[u32] {
        // The map starts at a page and the header is 64 bytes, so tokens are aligned.
        bytemuck::cast_slice(&self.map[HEADER_BYTES..])
    }
}

#[expect(unsafe_code, reason = "mapping a file has no safe form; see the comment inside")]
fn map_file(path: &Path) -> Result<Mmap, DataError> {
    let file = File::open(path).map_err(|e| DataError::cached("open", path, e))?;
    // SAFETY: a mapped file must not change while it is mapped. Entries of the cache appear whole
    // by a rename and are never written again; deleting one leaves the mapping intact.
    unsafe { Mmap::map(&file) }.map_err(|e| DataError::io("map", path, e))
}

#[cfg(test)]
pub(crate) mod tests;
