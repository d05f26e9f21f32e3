//! The documents that a model is measured on: whole, tokenised, in a fixed order.
//!
//! If not all are wanted, those come first whose id has the smallest SHA-256: a sample that has
//! nothing to do with the order of the corpus, is the same for every tokenizer and method, and picks
//! the same pages in every language, because parallel pages share their id. Scores are of documents
//! by themselves; windows and the separator before the first token are neutral-eval's business.

use std::collections::BTreeMap;

use rayon::prelude::*;
use sha2::{Digest, Sha256};

use crate::{CleanCorpus, DataError, Document, Split, Tokenizer};

/// A document to be scored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EvalDocument {
    /// Its name within the corpus.
    pub id: String,
    /// Its tokens, without separators.
    pub tokens: Vec<u32>,
    /// UTF-8 bytes of its text: what bits per byte are divided by.
    pub bytes: u64,
}

/// Whole documents of a split in the order of `sha256(id)`, up to the first that would exceed
/// `max_bytes` of text; at least one, and all without a limit.
///
/// Only what is returned is ever held in memory.
///
/// Warns of documents that do not come back from their tokens: their bytes count, and not all were predicted.
///
/// # Errors
/// If the split has no documents, or one cannot be read or encoded.
pub fn evaluation_documents(
    corpus: &CleanCorpus,
    split: Split,
    max_bytes: Option<u64>,
    tokenizer: &Tokenizer,
) -> Result<Vec<EvalDocument>, DataError> {
    corpus.check(split)?;
    // First the order and the sizes, then the texts of those that were chosen.
    let mut order = Vec::new();
    for (at, document) in corpus.documents(split)?.enumerate() {
        let Document { id, text } = document?;
        order.push((Sha256::digest(id.as_bytes()), at, text.len() as u64));
    }
    order.sort_unstable();
    let rank_of = chosen(order.iter().map(|(_, at, bytes)| (*at, *bytes)), max_bytes);
    let mut documents = Vec::with_capacity(rank_of.len());
    for (at, document) in corpus.documents(split)?.enumerate() {
        if let Some(rank) = rank_of.get(&at) {
            documents.push((*rank, document?));
        }
    }
    documents.sort_unstable_by_key(|(rank, _)| *rank);
    let encoded = documents.into_par_iter().map(|(_, Document { id, text })| {
        let tokens = tokenizer.encode(&text)?;
        let is_whole = tokenizer.decode(&tokens)? == text;
        Ok((EvalDocument { id, tokens, bytes: text.len() as u64 }, is_whole))
    });
    let encoded: Vec<_> = encoded.collect::<Result<_, DataError>>()?;
    let changed = encoded.iter().filter(|(_, is_whole)| !is_whole).count();
    if changed > 0 {
        tracing::warn!(
            "{}: the tokenizer changes or leaves out a part of {changed} of {} documents; bits per byte count bytes \
             there that were not predicted",
            corpus.reference(),
            encoded.len()
        );
    }
    Ok(encoded.into_iter().map(|(document, _)| document).collect())
}

/// Place in the corpus → place in the result, for the documents that fit.
fn chosen(
    in_order: impl Iterator<Item = (usize, u64)>,
    max_bytes: Option<u64>,
) -> BTreeMap<usize, usize> {
    let mut total = 0_u64;
    in_order
        .enumerate()
        .take_while(|(rank, (_, bytes))| {
            total += bytes;
            *rank == 0 || max_bytes.is_none_or(|max| total <= max)
        })
        .map(|(rank, (at, _))| (at, rank))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shards::tests::corpus;
    use crate::synthetic::{SyntheticLanguage, generate};
    use crate::tokenizer::tests::tokenizer;

    #[test]
    fn documents_are_whole_in_the_order_of_their_hashes_and_within_the_limit() {
        let (folder, tokenizer) = (tempfile::tempdir().unwrap(), tokenizer(300));
        let documents = generate(SyntheticLanguage::A, 50, 8);
        let corpus = corpus(folder.path(), Split::Test, &documents);
        let choose = |max| evaluation_documents(&corpus, Split::Test, max, &tokenizer).unwrap();

        let all = choose(None);
        let mut ids: Vec<_> = documents.iter().map(|d| d.id.clone()).collect();
        ids.sort_by_key(|id| neutral_store::sha256_bytes(id.as_bytes()));
        assert!(all.iter().map(|d| &d.id).eq(&ids));
        for document in &all {
            let source = documents.iter().find(|d| d.id == document.id).unwrap();
            assert_eq!(tokenizer.decode(&document.tokens).unwrap(), source.text);
            assert_eq!(document.bytes, source.text.len() as u64);
        }

        let ten: u64 = all[..10].iter().map(|d| d.bytes).sum();
        assert_eq!(choose(Some(ten)), all[..10]);
        assert_eq!(choose(Some(ten - 1)), all[..9]);
        assert_eq!(choose(Some(1)), all[..1], "at least one");
    }

    #[test]
    fn the_choice_does_not_depend_on_the_order_of_the_corpus() {
        let tokenizer = tokenizer(300);
        let mut documents = generate(SyntheticLanguage::A, 30, 8);
        let mut choose = || {
            documents.reverse();
            let folder = tempfile::tempdir().unwrap();
            let corpus = corpus(folder.path(), Split::Test, &documents);
            evaluation_documents(&corpus, Split::Test, Some(5000), &tokenizer).unwrap()
        };
        let first = choose();
        assert!(first.len() > 2 && first.len() < 30);
        assert_eq!(first, choose());
    }

    #[test]
    fn an_empty_split_is_an_error_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let documents = generate(SyntheticLanguage::A, 2, 8);
        let corpus = corpus(folder.path(), Split::Test, &documents);
        let error = evaluation_documents(&corpus, Split::Valid, None, &tokenizer(300));
        let error = error.unwrap_err().to_string();
        assert!(error.contains("test/a") && error.contains("valid"), "{error}");
    }
}
