use super::*;
use crate::shards::tests::corpus;
use crate::synthetic::{SyntheticLanguage, generate};

fn english(n: u64) -> impl Iterator<Item = Result<Document, DataError>> + Send {
    generate(SyntheticLanguage::A, n, 1).into_iter().map(Ok)
}

/// A small tokenizer for the tests of this crate.
pub(crate) fn tokenizer(vocab_size: usize) -> Tokenizer {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokenizer.json");
    std::fs::write(&path, train_on(english(200), vocab_size, "a").unwrap()).unwrap();
    Tokenizer::load(&path).unwrap()
}

#[test]
fn the_same_text_gives_the_same_file_on_any_number_of_threads() {
    let train = || train_on(english(120), 400, "a").unwrap();
    let pool = |n| rayon::ThreadPoolBuilder::new().num_threads(n).build().unwrap();
    let one = pool(1).install(train);
    for threads in [2, 7] {
        assert!(one == pool(threads).install(train), "{threads} threads");
    }
    let reversed: Vec<_> = english(120).collect::<Vec<_>>().into_iter().rev().collect();
    assert!(one == train_on(reversed.into_iter(), 400, "a").unwrap(), "order of documents");
    assert!(one != train_on(english(119), 400, "a").unwrap(), "the text does matter");
}

#[test]
fn any_text_comes_back_unchanged() {
    let tokenizer = tokenizer(400);
    let every_char: String = (0..0x11_0000).step_by(101).filter_map(char::from_u32).collect();
    let texts = [
        "",
        " ",
        "  leading, and trailing  \n\n",
        "tab\tnul\0 bell\u{7}\r\n",
        "l'été à Łódź, 2 000 €; 日本語の文章。 مرحبا 👩‍👩‍👧 e\u{301}",
        "don't we'll I'M",
        every_char.as_str(),
    ];
    for text in texts {
        let ids = tokenizer.encode(text).unwrap();
        assert_eq!(tokenizer.decode(&ids).unwrap(), text);
        assert!(ids.iter().all(|&id| (id as usize) < tokenizer.vocab_size()));
    }
    assert_eq!(tokenizer.vocab_size(), 400);
}

#[test]
fn training_text_takes_fewer_tokens_than_bytes() {
    let tokenizer = tokenizer(500);
    let text = &generate(SyntheticLanguage::A, 1, 99)[0].text;
    assert!(tokenizer.encode(text).unwrap().len() * 2 < text.len());
}

#[test]
fn a_separator_in_the_text_is_only_text() {
    let tokenizer = tokenizer(400);
    let text = "a<|endoftext|> b<|endoftext|>";
    let ids = tokenizer.encode(text).unwrap();
    assert!(!ids.contains(&tokenizer.separator_id()));
    assert_eq!(tokenizer.decode(&ids).unwrap(), text);
    assert_eq!(tokenizer.decode(&[tokenizer.separator_id()]).unwrap(), "<|endoftext|>");
}

#[test]
fn a_separator_in_the_training_text_is_only_text() {
    let odd = || Ok(Document { id: "x".into(), text: "<|endoftext|> ".repeat(1000) });
    let json = train_on(english(200).chain([odd()]), 400, "a").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokenizer.json");
    std::fs::write(&path, json).unwrap();
    let tokenizer = Tokenizer::load(&path).unwrap();
    let ids = tokenizer.encode("<|endoftext|>").unwrap();
    assert!(!ids.is_empty() && !ids.contains(&tokenizer.separator_id()));
}

#[test]
fn too_little_text_is_an_error_with_both_numbers() {
    let error = train_on(english(1), 30_000, "some/corpus").unwrap_err().to_string();
    assert!(error.contains("some/corpus") && error.contains("30000"), "{error}");
    let error = train_on(english(9), 256, "a").unwrap_err().to_string();
    assert!(error.contains("256") && error.contains("257"), "{error}");
}

#[test]
fn training_reads_the_text_once_and_then_the_cache() {
    let folder = tempfile::tempdir().unwrap();
    let documents = generate(SyntheticLanguage::B, 100, 2);
    let corpus = [corpus(folder.path(), Split::Train, &documents)];
    let cache = Cache::at(folder.path().join("cache"));
    let train = |size| Tokenizer::train(&corpus, size, &cache, &Control::default());
    let first = train(300).unwrap();
    assert_eq!(first.vocab_size(), 300);
    std::fs::remove_file(folder.path().join("train.jsonl")).unwrap();
    assert_eq!(train(300).unwrap().fingerprint(), first.fingerprint());
    assert!(train(301).is_err(), "another size is another tokenizer");
}

#[test]
fn an_unreadable_document_stops_the_training() {
    let bad = || Err(DataError::invalid("line 7", "broken", "delete it"));
    let error = train_on(english(200).chain([bad()]), 300, "a").unwrap_err().to_string();
    assert!(error.contains("line 7"), "{error}");
}

#[test]
fn a_loaded_file_may_have_another_separator_but_not_none() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokenizer.json");
    let json = train_on(english(200), 300, "a").unwrap();
    std::fs::write(&path, &json).unwrap();
    let original = Tokenizer::load(&path).unwrap();
    std::fs::write(&path, json.replace(SEPARATOR, "</s>")).unwrap();
    let loaded = Tokenizer::load(&path).unwrap();
    assert_eq!(loaded.decode(&[loaded.separator_id()]).unwrap(), "</s>");
    assert_ne!(loaded.fingerprint(), original.fingerprint());
    std::fs::write(&path, json.replace(SEPARATOR, "[SEP]")).unwrap();
    let error = Tokenizer::load(&path).unwrap_err().to_string();
    assert!(error.contains("tokenizer.json") && error.contains("separate"), "{error}");
    std::fs::write(&path, "{}").unwrap();
    assert!(Tokenizer::load(&path).unwrap_err().to_string().contains("tokenizer.json"));
}

#[test]
fn truncation_and_padding_of_a_loaded_file_are_ignored() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokenizer.json");
    let plain = tokenizer(300);
    let mut json: serde_json::Value =
        serde_json::from_str(&train_on(english(200), 300, "a").unwrap()).unwrap();
    json["truncation"] = serde_json::json!({
        "direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0
    });
    json["padding"] = serde_json::json!({
        "strategy": {"Fixed": 64}, "direction": "Right", "pad_to_multiple_of": null,
        "pad_id": 0, "pad_type_id": 0, "pad_token": SEPARATOR
    });
    std::fs::write(&path, json.to_string()).unwrap();
    let loaded = Tokenizer::load(&path).unwrap();
    for text in ["a longer text than four tokens", "b"] {
        assert_eq!(loaded.encode(text).unwrap(), plain.encode(text).unwrap());
    }
}
