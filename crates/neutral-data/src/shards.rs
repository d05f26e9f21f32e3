//! Tokens of a corpus' split, as one memory-mapped file.
//!
//! The stream is `SEP doc₁ SEP doc₂ SEP … docₙ SEP`: every document has a separator on both sides,
//! shared with its neighbour. The file is a header of 64 bytes, then the tokens, 32 bits each:
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
use std::path::{Path, PathBuf};
use std::sync::Arc;

use memmap2::Mmap;
use neutral_store::{Cache, Fingerprint};
use sha2::{Digest, Sha256};

use crate::progress::bytes_bar;
use crate::shard_writer::{ShardWriter, write_file};
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
        let shards = Self { name: corpus.reference().to_string(), ..Self::open(&path)? };
        let wanted = (tokenizer.separator_id(), tokenizer.vocab_size() as u64);
        if (shards.separator_id, shards.vocab_size) != wanted {
            return Err(DataError::damaged(&path, "its header is not this tokenizer's".to_owned()));
        }
        Ok(shards)
    }

    /// Writes tokens that come from no text to a file and opens it, for benchmarks and tests.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn from_tokens(
        path: &Path,
        tokens: &[u32],
        separator_id: u32,
        vocab_size: u64,
    ) -> Result<Self, DataError> {
        let mut file = ShardWriter::create(path)?;
        file.append(tokens)?;
        file.finish(separator_id, vocab_size)?;
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

    /// Whether ids mean the same in both, as far as the headers tell.
    pub(crate) fn same_tokenizer(&self, other: &Self) -> bool {
        (self.separator_id, self.vocab_size) == (other.separator_id, other.vocab_size)
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
pub(crate) mod tests {
    use super::*;
    use crate::synthetic::{SyntheticLanguage, generate};
    use crate::tokenizer::tests::tokenizer;
    use crate::{CleanCorpusWriter, Document};

    /// A shard that holds the given ids and nothing else, for the tests of the mix.
    pub(crate) fn shard_of(tokens: std::ops::Range<u32>) -> TokenShards {
        let tokens: Vec<u32> = tokens.collect();
        let file = tempfile::NamedTempFile::new().unwrap();
        // The mapping outlives the file's name.
        TokenShards::from_tokens(file.path(), &tokens, 0, 10_000).unwrap()
    }

    /// A corpus of one split.
    pub(crate) fn corpus(folder: &Path, split: Split, documents: &[Document]) -> CleanCorpus {
        let mut writer = CleanCorpusWriter::create(folder).unwrap();
        for document in documents {
            writer.push(split, document).unwrap();
        }
        writer.finish(None, String::new()).unwrap();
        CleanCorpus::open(folder, "test/a".to_owned().try_into().unwrap()).unwrap()
    }

    fn expected(documents: &[Document], tokenizer: &Tokenizer) -> Vec<u32> {
        let mut all = vec![tokenizer.separator_id()];
        for document in documents {
            all.extend(tokenizer.encode(&document.text).unwrap());
            all.push(tokenizer.separator_id());
        }
        all
    }

    #[test]
    fn files_that_were_purged_from_the_cache_are_told_with_what_to_delete() {
        let folder = tempfile::tempdir().unwrap();
        let documents = generate(SyntheticLanguage::A, 3, 1);
        let corpus = corpus(folder.path(), Split::Train, &documents);
        std::fs::remove_file(folder.path().join("train.jsonl")).unwrap();
        let of_text = corpus.documents(Split::Train).err().unwrap();
        let of_tokens = TokenShards::open(&folder.path().join(FILE_NAME)).unwrap_err();
        for error in [of_text, of_tokens] {
            let message = error.to_string();
            assert!(message.contains("delete its folder") && !error.is_input(), "{message}");
        }
    }

    #[test]
    fn the_stream_has_every_document_between_separators_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let (tokenizer, documents) = (tokenizer(300), generate(SyntheticLanguage::A, 40, 3));
        let corpus = corpus(folder.path(), Split::Train, &documents);
        let cache = Cache::at(folder.path().join("cache"));
        let control = Control::default();
        let try_build = |split| TokenShards::build(&corpus, split, &tokenizer, &cache, &control);
        let build = |split| try_build(split).unwrap();
        let shards = build(Split::Train);
        let expected = expected(&documents, &tokenizer);
        assert_eq!(shards.len(), expected.len());
        assert_eq!(shards.slice(0, shards.len()), expected);
        assert_eq!(shards.slice(5, 7), &expected[5..12]);
        assert_eq!(build(Split::Train).path(), shards.path());
        let good = std::fs::read(shards.path()).unwrap();
        for field in [12, 16] {
            let mut bad = good.clone();
            bad[field] ^= 1;
            std::fs::write(shards.path(), bad).unwrap();
            let message = try_build(Split::Train).unwrap_err().to_string();
            assert!(message.contains("tokens.bin") && message.contains("tokenizer"), "{message}");
        }
        std::fs::write(shards.path(), good).unwrap();
        let empty = build(Split::Test);
        assert_eq!(empty.slice(0, empty.len()), [tokenizer.separator_id()]);
        assert_ne!(empty.path(), shards.path());
    }

    #[test]
    fn a_text_of_many_batches_is_written_whole() {
        let folder = tempfile::tempdir().unwrap();
        let tokenizer = tokenizer(300);
        let documents = generate(SyntheticLanguage::B, 30, 4);
        let path = folder.path().join("t");
        let batches = std::cell::RefCell::new(Vec::new());
        let done = |n| batches.borrow_mut().push(n);
        // Some documents are smaller than a batch, some larger.
        write_file(&path, documents.iter().cloned().map(Ok), &tokenizer, 1000, done).unwrap();
        let shards = TokenShards::open(&path).unwrap();
        assert!(shards.slice(0, shards.len()) == expected(&documents, &tokenizer));
        let batches = batches.into_inner();
        assert!(batches.len() > 5 && batches.len() < 30, "{batches:?}");
        let bytes: u64 = documents.iter().map(|d| d.text.len() as u64).sum();
        assert_eq!(batches.iter().sum::<u64>(), bytes);
    }

    #[test]
    fn every_kind_of_damage_is_found_and_the_file_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens.bin");
        let documents = generate(SyntheticLanguage::A, 5, 3);
        write_file(&path, documents.into_iter().map(Ok), &tokenizer(300), 1000, |_| ()).unwrap();
        let good = std::fs::read(&path).unwrap();
        let message = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            TokenShards::open(&path).unwrap_err().to_string()
        };
        let flipped = |at: usize| {
            let mut bytes = good.clone();
            bytes[at] ^= 1;
            bytes
        };
        for (bytes, what) in [
            (flipped(0), "not a token file"),
            (vec![1; 10], "not a token file"),
            (flipped(8), "version"),
            (flipped(24), "tokens"),
            (flipped(40), "checksum"),
            (flipped(good.len() - 1), "checksum"),
            (good[..good.len() - 4].to_vec(), "tokens"),
            ([&good[..], &[0]].concat(), "tokens"),
        ] {
            let message = message(&bytes);
            assert!(message.contains(what), "{message}");
            assert!(message.contains("tokens.bin") && message.contains("delete"), "{message}");
        }
        std::fs::write(&path, &good).unwrap();
        TokenShards::open(&path).unwrap();
        std::fs::write(&path, "").unwrap();
        assert!(TokenShards::open(&path).unwrap_err().to_string().contains("tokens.bin"));
    }

    #[test]
    fn an_unreadable_document_leaves_no_entry_in_the_cache() {
        let folder = tempfile::tempdir().unwrap();
        let documents = generate(SyntheticLanguage::A, 3, 3);
        let corpus = corpus(folder.path(), Split::Train, &documents);
        std::fs::write(folder.path().join("train.jsonl"), "{\"id\"").unwrap();
        let cache = Cache::at(folder.path().join("cache"));
        let control = Control::default();
        let built = TokenShards::build(&corpus, Split::Train, &tokenizer(300), &cache, &control);
        assert!(built.unwrap_err().to_string().contains("train.jsonl"));
        // A file that ends with a line is not whole for that.
        let lines: Vec<_> = documents.iter().map(|d| serde_json::to_string(d).unwrap()).collect();
        std::fs::write(folder.path().join("train.jsonl"), lines[..2].join("\n")).unwrap();
        let built = TokenShards::build(&corpus, Split::Train, &tokenizer(300), &cache, &control);
        let message = built.unwrap_err().to_string();
        assert!(message.contains("it has 2 of 3 documents"), "{message}");
        assert_eq!(std::fs::read_dir(cache.root().join("tokens")).unwrap().count(), 0);
    }
}
