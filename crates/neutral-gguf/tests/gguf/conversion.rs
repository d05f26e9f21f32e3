//! Folders held against what `make_gguf_fixtures.py` computed with other people's code.

use std::fs;
use std::path::Path;

use neutral_gguf::{convert, describe};
use safetensors::{Dtype, SafeTensors};
use serde_json::{Value as Json, json};
use tokenizers::Tokenizer;

use crate::fixture;

const MODELS: [&str; 5] = [
    "byte_level_smollm",
    "byte_level_gpt-2",
    "byte_level_llama-bpe",
    "byte_level_default",
    "sentencepiece",
];

fn converted(model: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    convert(&fixture("gguf").join(format!("{model}.gguf")), folder.path()).unwrap();
    folder
}

fn json(path: &Path) -> Json {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

#[test]
fn weights_are_the_reference_s_to_the_bit_and_in_hugging_face_s_order() {
    for model in MODELS {
        let folder = converted(model);
        let ours = fs::read(folder.path().join("model.safetensors")).unwrap();
        let theirs = fs::read(fixture("gguf").join(format!("{model}.safetensors"))).unwrap();
        let (ours, theirs) =
            (SafeTensors::deserialize(&ours).unwrap(), SafeTensors::deserialize(&theirs).unwrap());
        let sorted = |tensors: &SafeTensors| {
            let mut names: Vec<_> = tensors.names().into_iter().map(str::to_owned).collect();
            names.sort();
            names
        };
        assert_eq!(sorted(&ours), sorted(&theirs));
        for (name, theirs) in theirs.iter() {
            let ours = ours.tensor(name).unwrap();
            assert_eq!((ours.dtype(), ours.shape()), (Dtype::BF16, theirs.shape()), "{name}");
            assert!(ours.data() == theirs.data(), "{model}: {name} differs");
        }
    }
}

#[test]
fn the_header_is_padded_and_says_pt() {
    let folder = converted("sentencepiece");
    let bytes = fs::read(folder.path().join("model.safetensors")).unwrap();
    let (length, metadata) = SafeTensors::read_metadata(&bytes).unwrap();
    assert_eq!(length % 8, 0);
    assert_eq!(metadata.metadata().as_ref().unwrap()["format"], "pt");
}

#[test]
fn tokenizers_encode_as_sentencepiece_and_as_llama_cpp_s_expressions_do() {
    let expected = json(&fixture("gguf/ids.json"));
    for model in MODELS {
        let folder = converted(model);
        let tokenizer = Tokenizer::from_file(folder.path().join("tokenizer.json")).unwrap();
        let cases = expected[model].as_array().unwrap();
        assert!(cases.len() >= 7);
        for case in cases {
            let text = case["text"].as_str().unwrap();
            let encoding = tokenizer.encode(text, true).unwrap();
            assert_eq!(json!(encoding.get_ids()), case["ids"], "{model}: {text:?}");
            let bare = tokenizer.encode(text, false).unwrap();
            assert_eq!(tokenizer.decode(bare.get_ids(), false).unwrap(), text, "{model}");
        }
    }
}

#[test]
fn control_and_user_defined_tokens_are_added_ones_and_fill_is_not() {
    let folder = converted("byte_level_smollm");
    let tokenizer = json(&folder.path().join("tokenizer.json"));
    let added = tokenizer["added_tokens"].as_array().unwrap().iter();
    let added: Vec<_> = added.map(|t| json!([t["id"], t["content"], t["special"]])).collect();
    let expected =
        json!([[0, "<|endoftext|>", true], [1, "<|im_start|>", true], [2, "<tag>", false]]);
    assert_eq!(json!(added), expected);
    assert_eq!(tokenizer["post_processor"], Json::Null);
    let config = json(&folder.path().join("tokenizer_config.json"));
    let expected = json!({
        "tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": false,
        "model_max_length": 64, "bos_token": "<|im_start|>", "eos_token": "<|endoftext|>",
        "chat_template": "{{ messages }}"
    });
    assert_eq!(config, expected);
}

#[test]
fn the_configuration_is_complete_and_in_both_forms() {
    let folder = converted("sentencepiece");
    let config = fs::read_to_string(folder.path().join("config.json")).unwrap();
    // Not 9.999999747378752e-6: the decimals are those of a 32-bit float.
    assert!(config.contains("\"rms_norm_eps\": 0.00001,"), "{config}");
    let llama3 = json!({
        "rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192
    });
    let mut parameters = llama3.clone();
    parameters["rope_theta"] = json!(200_000.0);
    let expected = json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 420,
        "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "hidden_act": "silu",
        "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "rope_theta": 200_000.0,
        "rope_scaling": llama3, "rope_parameters": parameters, "tie_word_embeddings": false,
        "attention_bias": false, "mlp_bias": false, "torch_dtype": "bfloat16",
        "dtype": "bfloat16", "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": null
    });
    assert_eq!(serde_json::from_str::<Json>(&config).unwrap(), expected);
    let plain = json(&converted("byte_level_smollm").path().join("config.json"));
    assert_eq!(plain["tie_word_embeddings"], true);
    assert_eq!(plain["rope_parameters"], json!({"rope_theta": 10_000.0, "rope_type": "default"}));
    assert_eq!(plain.get("rope_scaling"), None);
}

#[test]
fn a_description_has_lengths_of_arrays_and_tensors_in_the_order_of_their_bytes() {
    let description = describe(&fixture("gguf/byte_level_smollm.gguf")).unwrap();
    let value = |key| &description.metadata.iter().find(|(k, _)| k == key).unwrap().1;
    assert_eq!(value("tokenizer.ggml.merges"), "120 values of kind string");
    assert_eq!(value("llama.block_count"), "2");
    let first = &description.tensors[0];
    assert_eq!((first.name.as_str(), first.tensor_type.as_str()), ("token_embd.weight", "Q8_0"));
    assert_eq!(first.shape, [381, 32]);
}

#[test]
fn nothing_is_written_of_a_file_that_cannot_be_converted() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("model.gguf");
    let mut model = crate::model::Model::tiny();
    model.remove("tokenizer.ggml.merges");
    fs::write(&file, model.bytes()).unwrap();
    let out = folder.path().join("out");
    let error = convert(&file, &out).unwrap_err().to_string();
    assert!(error.contains("model.gguf cannot be converted: tokenizer.ggml.merges"), "{error}");
    assert!(!out.exists());
}
