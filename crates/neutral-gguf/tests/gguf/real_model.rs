//! A model that people use. Run by hand, for it is large:
//!
//! ```text
//! NEUTRAL_GGUF=SmolLM2-135M-Instruct.Q4_1.gguf cargo nextest run --release -p neutral-gguf \
//!     --run-ignored all real_model
//! ```

use std::path::PathBuf;

use neutral_gguf::convert;
use tokenizers::Tokenizer;

#[test]
#[ignore = "needs a GGUF file of a Llama, named by NEUTRAL_GGUF"]
fn a_real_model_is_converted_and_its_tokenizer_gives_back_every_line_of_this_workspace() {
    let file = PathBuf::from(std::env::var_os("NEUTRAL_GGUF").unwrap());
    let folder = tempfile::tempdir().unwrap();
    let summary = convert(&file, folder.path()).unwrap();
    let written = std::fs::metadata(folder.path().join("model.safetensors")).unwrap().len();
    assert!(written > 2 * summary.parameters && written < 2 * summary.parameters + (1 << 20));

    let tokenizer = Tokenizer::from_file(folder.path().join("tokenizer.json")).unwrap();
    let workspace = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
    let mut lines = 0;
    let mut folders = vec![PathBuf::from(workspace).join("crates")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if let Ok(text) = std::fs::read_to_string(&path) {
                for line in text.split_inclusive('\n') {
                    let ids = tokenizer.encode(line, false).unwrap();
                    assert_eq!(tokenizer.decode(ids.get_ids(), false).unwrap(), line);
                    lines += 1;
                }
            }
        }
    }
    assert!(lines > 10_000, "only {lines} lines were found");
}
