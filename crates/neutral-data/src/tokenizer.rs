//! Text to token ids and back: a byte-level BPE trained here, or a `tokenizer.json` from elsewhere.
//!
//! Training is the `tokenizers` crate's: GPT-2's split into words, all 256 bytes in the vocabulary,
//! no prefix space, so that any text has tokens and comes back unchanged. Token 0 is the document
//! separator `<|endoftext|>`; it is also what stands before the first token of a document, there is
//! no other special token. Text that happens to hold `<|endoftext|>` is encoded as its characters.
//!
//! Of a tokenizer from elsewhere its own special tokens count ([`crate::special_tokens`]).
//!
//! Not here: where separators go (`shards`), and anything about chat templates.

use std::path::Path;
use std::sync::Mutex;

use neutral_store::{Cache, Fingerprint, sha256_bytes};
use tokenizers::models::TrainerWrapper;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, Tokenizer as HuggingFace};

use crate::around_text::heed_config;
use crate::progress::bytes_bar;
use crate::special_tokens::{ENDS, SEPARATOR, SpecialTokens, framed};
use crate::text_stream::TextStream;
use crate::{CleanCorpus, Control, DataError, Document, Split};

/// Raised when the same text and options would give another tokenizer or other tokens.
const TOKENIZER_VERSION: u32 = 1;

/// A pair of tokens must be seen so often to become one: once is an accident, not a rule.
const MIN_FREQUENCY: u64 = 2;

/// The trainer counts pairs in 32 bits; no pair can be more frequent than there are bytes.
const MAX_TRAINING_BYTES: u64 = i32::MAX as u64;

/// A tokenizer that knows its document separator.
#[derive(Clone, Debug)]
pub struct Tokenizer {
    pub(crate) inner: HuggingFace,
    fingerprint: Fingerprint,
    special: SpecialTokens,
    begins_sequences: bool,
    vocab_size: usize,
}

impl Tokenizer {
    /// Learns a byte-level BPE of exactly `vocab_size` tokens from training splits, once: the
    /// result is kept in the cache. The same text gives the same file, byte for byte.
    ///
    /// # Errors
    /// If `vocab_size` is below 257 (the bytes and the separator), if the text is too small for so
    /// many tokens or larger than 2 GiB, or if a file cannot be read or written.
    pub fn train(
        corpora: &[CleanCorpus],
        vocab_size: usize,
        cache: &Cache,
        control: &Control,
    ) -> Result<Self, DataError> {
        let text: Vec<_> =
            corpora.iter().map(|c| (c.sha256(), Split::ALL.map(|s| c.bytes(s)))).collect();
        let key = Fingerprint::of(&(text, vocab_size, TOKENIZER_VERSION));
        let folder = cache.get_or_make("tokenizers", &key, |folder| {
            let total = corpora.iter().map(|c| c.bytes(Split::Train)).sum();
            let names: Vec<_> = corpora.iter().map(|c| c.reference().to_string()).collect();
            let names = names.join(", ");
            if total > MAX_TRAINING_BYTES {
                return Err(DataError::invalid(
                    "the text for the tokenizer",
                    format!("{total} bytes ({names})"),
                    format!("at most {MAX_TRAINING_BYTES} can be counted; name fewer corpora"),
                ));
            }
            let bar = bytes_bar(control.bars(), total, "tokenizer");
            let files: Vec<_> =
                corpora.iter().map(|c| c.documents(Split::Train)).collect::<Result<_, _>>()?;
            let seen = bar.clone();
            let documents = files.into_iter().flatten().inspect(move |document| {
                seen.inc(document.as_ref().map_or(0, |d| d.text.len() as u64));
            });
            let documents = control.guard(documents);
            let json = control.abandonable(move || train_on(documents, vocab_size, &names))??;
            bar.finish_and_clear();
            let path = folder.join("tokenizer.json");
            neutral_store::write_atomic(&path, |w| std::io::Write::write_all(w, json.as_bytes()))?;
            Ok::<_, DataError>(())
        })?;
        let path = folder.join("tokenizer.json");
        Self::load(&path).map_err(|error| match error {
            DataError::Tokenizer { message, .. } => DataError::damaged(&path, message),
            error => error,
        })
    }

    /// Reads a Hugging Face `tokenizer.json`. Its truncation and padding are ignored: documents are whole. Of
    /// its template of special tokens only the first that it puts before a text counts: that is what the
    /// model knows a document's start by (BOS), so it is the separator, which [`crate::TokenShards`] puts.
    /// Without one the separator is the token that ends a text. A `tokenizer_config.json` beside it that has
    /// `add_bos_token` or `add_eos_token` stands over the template.
    ///
    /// # Errors
    /// If the file is no tokenizer, or has no token that could separate documents.
    pub fn load(path: &Path) -> Result<Self, DataError> {
        let bytes = std::fs::read(path).map_err(|e| DataError::io("read", path, e))?;
        let fail =
            |message: String| DataError::Tokenizer { what: path.display().to_string(), message };
        let mut inner = HuggingFace::from_bytes(&bytes)
            .map_err(|e| fail(format!("is not a tokenizer.json: {e}")))?;
        inner.with_truncation(None).map_err(|e| fail(e.to_string()))?;
        inner.with_padding(None);
        inner.set_encode_special_tokens(true);
        let by_template = framed(&inner);
        let config = path.with_file_name("tokenizer_config.json");
        heed_config(&mut inner, &config).map_err(|message| DataError::Tokenizer {
            what: config.display().to_string(),
            message,
        })?;
        let by_config = framed(&inner);
        let special = SpecialTokens::of(&inner).ok_or_else(|| {
            fail(format!("has no token to separate documents; one of {ENDS:?} is needed"))
        })?;
        // Ids may have holes, and embeddings must cover the largest.
        let largest = inner.get_vocab(true).into_values().max().unwrap_or(0);
        let digest = sha256_bytes(&bytes);
        let fingerprint = match special.end {
            None => Fingerprint::of(&(digest, TOKENIZER_VERSION)),
            Some(end) => Fingerprint::of(&(digest, TOKENIZER_VERSION, special.separator, end)),
        };
        let fingerprint = if by_config == by_template {
            fingerprint
        } else {
            Fingerprint::of(&(fingerprint, by_config))
        };
        let vocab_size = largest as usize + 1;
        Ok(Self { inner, fingerprint, special, begins_sequences: false, vocab_size })
    }

    /// The same where every sequence that is read begins with BOS, one that starts within a document too
    /// ([`Tokenizer::sequence_start`]).
    ///
    /// # Errors
    /// If the tokenizer begins no text with BOS.
    pub fn beginning_sequences(self) -> Result<Self, DataError> {
        if !self.special.is_bos {
            let expected = "the tokenizer begins no text with BOS; leave it out";
            return Err(DataError::invalid("tokenizer.bos", "every_sequence", expected));
        }
        let fingerprint = Fingerprint::of(&(&self.fingerprint, "every sequence"));
        Ok(Self { fingerprint, begins_sequences: true, ..self })
    }

    /// Writes `tokenizer.json`.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), DataError> {
        let json = self.inner.to_string(true).map_err(|e| DataError::Tokenizer {
            what: path.display().to_string(),
            message: e.to_string(),
        })?;
        Ok(neutral_store::write_atomic(path, |w| std::io::Write::write_all(w, json.as_bytes()))?)
    }

    /// Rows that an embedding needs: the largest id plus one.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// Of the file's content: equal fingerprints give equal tokens.
    pub fn fingerprint(&self) -> &Fingerprint {
        &self.fingerprint
    }

    /// Whether it gives the same tokens by its own file's word, however that is written.
    pub fn gives_the_same_as(&self, other: &Self) -> bool {
        let text = |of: &Self| of.inner.to_string(false).ok();
        self.separator_id() == other.separator_id() && text(self) == text(other)
    }

    /// The token between documents, before the first and after the last.
    pub fn separator_id(&self) -> u32 {
        self.special.separator
    }

    /// The token that ends a document before the separator; none where the separator itself does.
    pub fn end_id(&self) -> Option<u32> {
        self.special.end
    }

    /// What every sequence begins with that is trained on or scored; none where that are whatever tokens come next.
    pub fn sequence_start(&self) -> Option<u32> {
        self.begins_sequences.then_some(self.special.separator)
    }

    /// The tokens of a text, without any special token. Safe to call from many threads.
    ///
    /// # Errors
    /// If a loaded tokenizer takes a part of the text for the separator. What it has no token for becomes its unknown
    /// token, or nothing; neither happens with one that was trained here.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, DataError> {
        let fail = |message| DataError::Tokenizer { what: "encoding a text".to_owned(), message };
        let encoding = self.inner.encode_fast(text, false).map_err(|e| fail(e.to_string()))?;
        let ids = encoding.get_ids().to_vec();
        if ids.contains(&self.special.separator) {
            return Err(fail("it takes a part of the text for the document separator".to_owned()));
        }
        Ok(ids)
    }

    /// Text that comes a token at a time.
    pub fn text_stream(&self) -> TextStream<'_> {
        TextStream::new(self)
    }

    /// The text of some tokens, separators written out; bytes that are no UTF-8 become `�`.
    ///
    /// # Errors
    /// If the decoder of a loaded tokenizer fails.
    pub fn decode(&self, ids: &[u32]) -> Result<String, DataError> {
        self.inner.decode(ids, false).map_err(|e| DataError::Tokenizer {
            what: "decoding".to_owned(),
            message: e.to_string(),
        })
    }
}

/// Trains on a stream of documents and returns the text of `tokenizer.json`.
fn train_on(
    documents: impl Iterator<Item = Result<Document, DataError>> + Send,
    vocab_size: usize,
    names: &str,
) -> Result<String, DataError> {
    let fail = |message| DataError::Tokenizer { what: format!("from {names}"), message };
    let least = ByteLevel::alphabet().len() + 1;
    if vocab_size < least {
        let expected = format!("at least {least} are needed: the 256 bytes and the separator");
        return Err(DataError::invalid("vocab_size", vocab_size, expected));
    }
    let mut trainer: TrainerWrapper = BpeTrainer::builder()
        .vocab_size(vocab_size)
        .min_frequency(MIN_FREQUENCY)
        .show_progress(false)
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .special_tokens(vec![AddedToken::from(SEPARATOR, true)])
        .build()
        .into();
    let byte_level = ByteLevel::new(false, false, true);
    let mut tokenizer = HuggingFace::new(BPE::default());
    tokenizer.with_pre_tokenizer(Some(byte_level)).with_decoder(Some(byte_level));
    // The trainer takes texts, not results: the first error ends the texts and is kept aside.
    let failed = Mutex::new(None);
    let texts = documents.map_while(|document| match document {
        Ok(document) => Some(document.text),
        Err(error) => {
            failed.lock().unwrap_or_else(std::sync::PoisonError::into_inner).replace(error);
            None
        }
    });
    tokenizer.train(&mut trainer, texts).map_err(|e| fail(e.to_string()))?;
    if let Some(error) = failed.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner) {
        return Err(error);
    }
    let found = tokenizer.get_vocab_size(true);
    if found != vocab_size {
        return Err(fail(format!(
            "the text is too small: it gives {found} tokens, and vocab_size is {vocab_size}; lower vocab_size or name more corpora"
        )));
    }
    tokenizer.to_string(true).map_err(|e| fail(e.to_string()))
}

#[cfg(test)]
pub(crate) mod tests;
