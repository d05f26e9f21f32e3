//! What is read from a `config.json`, and what is refused.

use std::path::Path;

use serde_json::{Value, json};

use crate::{RotaryScaling, TransformerConfig};

fn llama() -> Value {
    json!({
        "model_type": "llama", "vocab_size": 64, "hidden_size": 16, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 24,
        "rms_norm_eps": 1e-5, "rope_theta": 5e5, "tie_word_embeddings": true,
        "architectures": ["LlamaForCausalLM"], "torch_dtype": "bfloat16", "attention_dropout": 0.0,
    })
}

fn read(json: &Value) -> Result<TransformerConfig, String> {
    let path = Path::new("m/config.json");
    TransformerConfig::from_hugging_face(json, path).map_err(|e| e.to_string())
}

/// The message for a configuration with one field changed.
fn message(field: &str, value: Value) -> String {
    let mut json = llama();
    json[field] = value;
    read(&json).unwrap_err()
}

#[test]
fn what_cannot_be_computed_is_named_with_what_was_found() {
    let cases = [
        ("model_type", json!("mamba"), "one of gemma, gemma2, gemma3_text, llama, mistral"),
        ("hidden_act", json!("relu"), "expected silu or gelu_pytorch_tanh"),
        (
            "rope_scaling",
            json!({"rope_type": "yarn", "factor": 4}),
            "only default, linear and llama3",
        ),
        ("rope_scaling", json!({"type": "linear"}), "`rope_scaling.factor` is missing"),
        ("rope_parameters", json!({"rope_type": "default", "rope_theta": 1e4}), "make both agree"),
        ("quantization_config", json!({"bits": 4}), "not known to this family"),
        ("num_hidden_layers", json!(1_u64 << 40), "expected 1 to 16777216"),
        ("num_hidden_layers", json!(70_000), "at most 65536"),
        ("num_key_value_heads", json!(3), "a divisor of n_heads = 4"),
        ("hidden_size", json!(-1), "expected 1 to 16777216"),
        ("head_dim", json!(5), "head_dim` is 5: expected an even number"),
        ("rms_norm_eps", json!("small"), "expected a number"),
        ("rope_theta", json!(0), "expected a positive number"),
        ("tie_word_embeddings", json!("yes"), "expected true or false"),
        ("is_causal", json!(false), "only true can be computed here"),
    ];
    for (field, value, stem) in cases {
        let message = message(field, value.clone());
        assert!(message.starts_with("m/config.json: "), "{message}");
        assert!(message.contains(stem), "{field} = {value}: {message}");
    }
    assert!(read(&json!([])).unwrap_err().contains("the whole"));
    assert!(message("vocab_size", Value::Null).contains("is null"));
}

#[test]
fn fields_that_are_off_or_without_influence_are_not_refused() {
    let mut json = llama();
    json["quantization_config"] = Value::Null;
    json["some_new_switch"] = json!(false);
    json["rope_scaling"] = Value::Null;
    json["transformers_version"] = json!("9.9");
    assert_eq!(read(&json), read(&llama()));
}

#[test]
fn both_forms_of_rotary_fields_mean_the_same() {
    let scaling = json!({
        "rope_type": "llama3", "factor": 8, "low_freq_factor": 1, "high_freq_factor": 4,
        "original_max_position_embeddings": 8192,
    });
    let mut older = llama();
    older["rope_scaling"] = scaling.clone();
    let mut newer = llama();
    newer["rope_parameters"] = scaling;
    newer["rope_parameters"]["rope_theta"] = json!(5e5);
    let both = newer.clone();
    newer.as_object_mut().unwrap().remove("rope_theta");
    let config = read(&older).unwrap();
    assert_eq!(read(&newer).unwrap(), config);
    assert_eq!(read(&both).unwrap(), config);
    let rotary = config.blocks[0].rotary;
    assert_eq!(rotary.theta, 5e5);
    assert!(matches!(rotary.scaling, RotaryScaling::Llama3 { factor: 8.0, .. }));
}

#[test]
fn a_mistral_without_the_field_slides_and_with_null_it_does_not() {
    let mut json = llama();
    json["model_type"] = json!("mistral");
    let windows =
        |json: &Value| read(json).unwrap().blocks.iter().map(|b| b.window).collect::<Vec<_>>();
    assert_eq!(windows(&json), [Some(4096); 2]);
    json["sliding_window"] = Value::Null;
    assert_eq!(windows(&json), [None; 2]);
    json["sliding_window"] = json!(8);
    assert_eq!(windows(&json), [Some(8); 2]);
}

#[test]
fn without_a_window_no_block_of_qwen_slides_and_gemma_is_refused() {
    let mut json = llama();
    json["model_type"] = json!("qwen2");
    json["use_sliding_window"] = json!(true);
    json["max_window_layers"] = json!(1);
    let windows =
        |json: &Value| read(json).unwrap().blocks.iter().map(|b| b.window).collect::<Vec<_>>();
    assert_eq!(windows(&json), [None, Some(4096)]);
    json["sliding_window"] = Value::Null;
    assert_eq!(windows(&json), [None; 2]);
    json["layer_types"] = json!(["full_attention", "sliding_attention"]);
    assert!(read(&json).unwrap_err().contains("layer_types"));
    json.as_object_mut().unwrap().remove("layer_types");
    for family in ["gemma2", "gemma3_text"] {
        json["model_type"] = json!(family);
        let message = read(&json).unwrap_err();
        assert!(message.contains("sliding_window"), "{message}");
    }
}

#[test]
fn what_checkpoints_of_gemma_2_say_besides_changes_nothing() {
    let mut json = llama();
    json["model_type"] = json!("gemma2");
    json["sliding_window"] = json!(4096);
    let plain = read(&json).unwrap();
    json["sliding_window_size"] = json!(4096);
    json["_attn_implementation"] = json!("eager");
    json["unsloth_version"] = json!("2026.4.2");
    assert_eq!(read(&json).unwrap(), plain);
    json["model_type"] = json!("mistral");
    assert!(read(&json).unwrap_err().contains("sliding_window_size"));
}

#[test]
fn our_own_models_are_described_as_they_are_read() {
    let config = crate::transformer::tests::tiny_config(false);
    let json = config.to_hugging_face().unwrap();
    assert_eq!(read(&json).unwrap(), config);
    let mut other = config;
    other.qk_norm = true;
    assert!(other.to_hugging_face().is_none());
}
