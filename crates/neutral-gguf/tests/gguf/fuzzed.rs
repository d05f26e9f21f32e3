//! Files that fuzzing found, or started from: each goes through the fuzz target's entry point again.

use std::fs;

use neutral_gguf::{convert, rehearse};
use safetensors::SafeTensors;
use tokenizers::Tokenizer;

use crate::fixture;

#[test]
fn no_file_of_the_corpus_crashes_and_what_is_converted_can_be_read() {
    let mut converted = 0;
    for entry in fs::read_dir(fixture("fuzz/gguf")).unwrap() {
        let path = entry.unwrap().path();
        // Most inputs that fuzzing finds are errors, which is an answer.
        let Ok(summary) = rehearse(&fs::read(&path).unwrap()) else { continue };
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(convert(&path, folder.path()).unwrap(), summary);
        let tokenizer = Tokenizer::from_file(folder.path().join("tokenizer.json"));
        assert!(tokenizer.is_ok(), "{}: {}", path.display(), tokenizer.unwrap_err());
        let weights = fs::read(folder.path().join("model.safetensors")).unwrap();
        assert_eq!(SafeTensors::deserialize(&weights).unwrap().len(), summary.tensors);
        converted += 1;
    }
    assert!(converted >= 3, "the seeds are sound files");
}
