//! Model folders that are cut short, incomplete or hostile: an error that names the place, no crash.

#![expect(clippy::unwrap_used, reason = "in tests a panic is the report")]

use std::path::{Path, PathBuf};

use neutral_model::ModelFolder;

/// A copy of a fixture.
fn copy(name: &str) -> (tempfile::TempDir, PathBuf) {
    let from =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/families").join(name);
    let place = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), place.path().join(entry.file_name())).unwrap();
    }
    let path = place.path().to_path_buf();
    (place, path)
}

fn refused(folder: &Path, stem: &str) {
    let message = ModelFolder::open(folder).unwrap_err().to_string();
    assert!(message.contains(stem), "{message}");
}

fn edit(file: &Path, change: impl Fn(&mut serde_json::Value)) {
    let mut json = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    change(&mut json);
    std::fs::write(file, json.to_string()).unwrap();
}

#[test]
fn a_folder_without_its_files_is_refused() {
    let (_place, folder) = copy("llama2");
    std::fs::remove_file(folder.join("model.safetensors")).unwrap();
    refused(&folder, "has neither model.safetensors nor");
    std::fs::remove_file(folder.join("config.json")).unwrap();
    refused(&folder, "it has no config.json");
}

#[test]
fn weights_that_do_not_fit_the_configuration_are_named() {
    let (_place, folder) = copy("llama2");
    let config = folder.join("config.json");
    edit(&config, |json| json["num_hidden_layers"] = 9.into());
    refused(&folder, ".weight` is missing");
    edit(&config, |json| json["num_hidden_layers"] = 1.into());
    refused(&folder, "has no place in a model of the family `llama`");
    let (_place, folder) = copy("llama2");
    edit(&folder.join("config.json"), |json| json["intermediate_size"] = 7.into());
    refused(&folder, "config.json wants [");
    let (_place, folder) = copy("llama2");
    edit(&folder.join("config.json"), |json| json["tie_word_embeddings"] = true.into());
    refused(&folder, "differs from the embeddings");
}

#[test]
fn shards_must_hold_what_their_index_says_and_lie_in_the_folder() {
    let index = "model.safetensors.index.json";
    let (_place, folder) = copy("llama_sharded");
    ModelFolder::open(&folder).unwrap();
    let first = |json: &mut serde_json::Value, file: &str| {
        let map = json["weight_map"].as_object_mut().unwrap();
        *map.values_mut().next().unwrap() = file.into();
    };
    for outside in ["../llama2/model.safetensors", "/etc/passwd", "", "."] {
        let (_place, folder) = copy("llama_sharded");
        edit(&folder.join(index), |json| first(json, outside));
        refused(&folder, "expected the name of a file in this folder");
    }
    let (_place, folder) = copy("llama_sharded");
    edit(&folder.join(index), |json| first(json, "model-00009-of-00003.safetensors"));
    refused(&folder, "model-00009-of-00003.safetensors");
    let (_place, folder) = copy("llama_sharded");
    edit(&folder.join(index), |json| {
        json["weight_map"]["model.norm.weight"] = "model-00001-of-00003.safetensors".into();
    });
    refused(&folder, "which is not in it");
}

#[test]
fn of_a_folder_saved_to_twice_the_whole_file_counts() {
    let (_place, folder) = copy("llama2");
    let index = folder.join("model.safetensors.index.json");
    std::fs::write(index, r#"{"weight_map": {"a": "model-00001-of-00002.safetensors"}}"#).unwrap();
    ModelFolder::open(&folder).unwrap();
}

#[test]
fn a_file_cut_short_anywhere_is_an_error() {
    let (_place, folder) = copy("smollm2");
    let file = folder.join("model.safetensors");
    let whole = std::fs::read(&file).unwrap();
    for len in (0..whole.len()).step_by(whole.len() / 97) {
        std::fs::write(&file, &whole[..len]).unwrap();
        refused(&folder, "model.safetensors");
    }
}
