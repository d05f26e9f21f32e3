//! Files that fuzzing found, or started from: each goes through the fuzz target's entry point again.

use std::fs;

use crate::fixture;

#[test]
fn no_file_of_the_corpus_crashes() {
    let mut files = 0;
    for entry in fs::read_dir(fixture("fuzz/gguf")).unwrap() {
        // Most are errors; what is claimed is that there is an answer.
        let _ = neutral_gguf::rehearse(&fs::read(entry.unwrap().path()).unwrap());
        files += 1;
    }
    assert!(files > 0, "the corpus is empty");
}
