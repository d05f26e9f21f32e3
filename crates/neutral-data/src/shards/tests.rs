use super::*;
use crate::prompts::tests::save_with_template;
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
fn where_bos_separates_documents_eos_ends_them() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokenizer.json");
    save_with_template(&path, &["<s>", "A"]);
    let tokenizer = Tokenizer::load(&path).unwrap();
    let documents = generate(SyntheticLanguage::A, 2, 3);
    let path = folder.path().join("t");
    write_file(&path, documents.iter().cloned().map(Ok), &tokenizer, 1000, |_| ()).unwrap();
    let (bos, eos) = (300, 0);
    let [first, second] = [0, 1].map(|i: usize| tokenizer.encode(&documents[i].text).unwrap());
    let expected = [&[bos], &first[..], &[eos, bos], &second, &[eos, bos]].concat();
    let shards = TokenShards::open(&path).unwrap();
    assert_eq!(shards.slice(0, shards.len()), expected);
    assert_eq!(tokenizer.sequence_start(), None);
    let begun = tokenizer.clone().beginning_sequences().unwrap();
    assert_eq!(begun.sequence_start(), Some(bos));
    assert_ne!(begun.fingerprint(), tokenizer.fingerprint());
}

#[test]
fn two_tokenizers_of_one_size_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let documents = generate(SyntheticLanguage::A, 5, 3);
    let corpus = corpus(folder.path(), Split::Train, &documents);
    let cache = Cache::at(folder.path().join("cache"));
    let of = |tokenizer: &Tokenizer| {
        let control = Control::default();
        TokenShards::build(&corpus, Split::Train, tokenizer, &cache, &control).unwrap()
    };
    let [one, same] = [(); 2].map(|()| of(&tokenizer(300)));
    let other = TokenShards { tokenizer: Some(Fingerprint::of(&"other merges")), ..one.clone() };
    assert!(one.same_tokenizer(&same) && !one.same_tokenizer(&other));
    // Of a file that was opened by its path the header alone tells.
    let opened = TokenShards::open(other.path()).unwrap();
    assert!(one.same_tokenizer(&opened) && !opened.same_tokenizer(&shard_of(0..5)));
}

#[test]
fn given_tokens_are_whole_in_the_file_and_those_mapped_before_stay() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokens.bin");
    let write = |tokens: &[u32]| TokenShards::from_tokens(&path, tokens, 0, 10);
    let before = write(&[1, 2, 3, 4]).unwrap();
    assert_eq!(write(&[9]).unwrap().slice(0, 1), [9]);
    assert_eq!(before.slice(0, 4), [1, 2, 3, 4]);
    let told = write(&[3, 10]).unwrap_err().to_string();
    assert!(told.contains("10") && told.contains("below 10"), "{told}");
    assert_eq!(TokenShards::open(&path).unwrap().slice(0, 1), [9]);
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
