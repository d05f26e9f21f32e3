//! Sound files that say what a plain Llama's folder could not: each is refused by name.

use neutral_gguf::Gguf;
use std::path::Path;

use crate::model::{Model, array, bool, error, f32, i32s, text, texts, u32};

fn refused(change: impl FnOnce(&mut Model)) -> String {
    let mut model = Model::tiny();
    change(&mut model);
    let error = error(&model.bytes());
    let Some((_, found)) = error.split_once("memory cannot be converted: ") else {
        panic!("another error: {error}");
    };
    found.to_owned()
}

#[test]
fn other_architectures_and_features_are_named() {
    let cases = [
        ("general.architecture", text("qwen2"), "is \"qwen2\"; \"llama\" is converted"),
        ("general.type", text("adapter"), "is \"adapter\"; \"model\" is converted"),
        ("split.count", u32(2), "is 2: merge the parts"),
        ("llama.expert_count", u32(8), "is not understood, and may change the model"),
        ("llama.attention.sliding_window", u32(8), "is not understood"),
        ("llama.rope.scaling.type", text("yarn"), "is \"yarn\"; only \"none\""),
        ("llama.rope.scaling.type", text("linear"), "is \"linear\"; only \"none\""),
        ("llama.rope.scaling.factor", f32(4.0), "is 4 without a type"),
        ("llama.rope.dimension_count", u32(1), "is 1; it would be the keys' width, 2"),
        ("llama.rope.freq_base", f32(-1.0), "is -1; it would be positive"),
        ("llama.rope.freq_base", f32(f32::NAN), "is NaN; it would be a 32-bit float"),
        ("llama.attention.value_length", u32(4), "is 4; it would be the keys' width, 2"),
        ("llama.attention.key_length", u32(3), "is 3; rotations need an even number"),
        ("llama.attention.head_count_kv", u32(3), "is 3; it would divide the 2 heads"),
        ("llama.attention.head_count_kv", i32s(&[1]), "is 1 values of kind i32; it would be"),
        ("llama.attention.head_count", u32(0), "is 0; it would be positive"),
        ("llama.attention.layer_norm_rms_epsilon", f32(0.0), "is 0; it would be positive"),
        ("llama.vocab_size", u32(5), "is 5, but token_embd.weight has 4 rows"),
        ("tokenizer.ggml.model", text("bert"), "is \"bert\"; \"gpt2\" and \"llama\""),
        ("tokenizer.ggml.pre", text("tekken"), "is \"tekken\"; \"smollm\""),
        ("tokenizer.ggml.tokens", texts(&["a", "b", "ab"]), "has 3 tokens, but token_embd"),
        ("tokenizer.ggml.tokens", texts(&["a", "b", "ab", "a"]), "has \"a\" twice, as 0 and as 3"),
        ("tokenizer.ggml.token_type", i32s(&[1, 1]), "has 2 types, but there are 4 tokens"),
        ("tokenizer.ggml.token_type", i32s(&[1, 1, 1, 9]), "has a 9; types go from 0 to 6"),
        ("tokenizer.ggml.merges", texts(&["a b", "b b"]), "has \"b b\" as number 1, which"),
        ("tokenizer.ggml.merges", u32(3), "is 3; it would be an array of strings"),
        ("tokenizer.ggml.eos_token_id", u32(4), "is 4, but there are 4 tokens"),
        ("tokenizer.ggml.unknown_token_id", u32(4), "is 4, but there are 4 tokens"),
        ("tokenizer.ggml.model", text("llama"), "tokenizer.ggml.scores is missing"),
    ];
    for (key, value, expected) in cases {
        let found = refused(|m| _ = m.set(key, value));
        let expected = if expected.starts_with("tokenizer.") {
            expected.to_owned()
        } else {
            format!("{key} {expected}")
        };
        assert!(found.starts_with(&expected), "{found}\nbut it would be\n{expected}");
    }
    let found = refused(|m| _ = m.set("tokenizer.ggml.add_bos_token", bool(1)));
    assert_eq!(found, "tokenizer.ggml.bos_token_id is missing, but texts get a bos token");
}

#[test]
fn what_a_llama_needs_is_named_when_it_is_missing() {
    for key in [
        "general.architecture",
        "llama.block_count",
        "llama.context_length",
        "llama.embedding_length",
        "llama.feed_forward_length",
        "llama.attention.head_count",
        "llama.attention.layer_norm_rms_epsilon",
        "tokenizer.ggml.model",
        "tokenizer.ggml.tokens",
        "tokenizer.ggml.merges",
    ] {
        let found = refused(|m| _ = m.remove(key));
        assert!(found.starts_with(&format!("{key} is missing")), "{found}");
    }
    for tensor in Model::tiny().tensors {
        let found = refused(|m| m.tensors.retain(|other| other.name != tensor.name));
        assert!(found.starts_with(&format!("{} is missing", tensor.name)), "{found}");
    }
}

#[test]
fn tensors_beyond_a_plain_llama_are_named() {
    for name in ["blk.0.attn_q.bias", "blk.0.ffn_gate_inp.weight", "blk.1.attn_norm.weight"] {
        let found = refused(|m| _ = m.add(name, &[4]));
        assert_eq!(found, format!("{name} is no tensor of a plain Llama"));
    }
    let found = refused(|m| _ = m.add("output.weight", &[4, 3]));
    assert_eq!(found, "output.weight has the shape [3, 4]; it would have [4, 4]");
    let found = refused(|m| m.tensor("blk.0.ffn_up.weight").number = 16);
    assert!(found.starts_with("blk.0.ffn_up.weight is IQ2_XXS; F32, F16"), "{found}");
    let found = refused(|m| m.tensor("blk.0.ffn_up.weight").number = 77);
    assert!(found.starts_with("blk.0.ffn_up.weight is type 77; F32, F16"), "{found}");
}

#[test]
fn endless_blocks_end_at_the_first_that_is_missing() {
    let found = refused(|m| _ = m.set("llama.block_count", u32(u32::MAX)));
    assert!(found.starts_with("blk.1.attn_norm.weight is missing"), "{found}");
}

#[test]
fn frequencies_that_are_not_llama_3s_are_named() {
    let found = refused(|m| {
        m.add("rope_freqs.weight", &[1]);
        m.tensor("rope_freqs.weight").bytes = 5.0_f32.to_le_bytes().to_vec();
    });
    assert!(found.starts_with("rope_freqs.weight does not hold Llama 3's divisors"), "{found}");
    let found = refused(|m| _ = m.add("rope_freqs.weight", &[2]));
    assert!(found.starts_with("rope_freqs.weight is F32 of shape [2]; it would be"), "{found}");
}

#[test]
fn pieces_that_would_take_too_long_to_cut_are_refused() {
    let long = "a".repeat(257);
    let found = refused(|m| {
        m.set("tokenizer.ggml.model", text("llama"))
            .set("tokenizer.ggml.tokens", texts(&["a", "b", &long, "<end>"]))
            .set("tokenizer.ggml.scores", array(6, 4, &[vec![0; 16]]));
    });
    assert_eq!(found, "tokenizer.ggml.tokens has a token 2 of 257 bytes; 256 at most");
}

#[test]
fn any_architecture_and_type_can_be_looked_at() {
    let mut model = Model::tiny();
    model.set("general.architecture", text("other")).tensor("output_norm.weight").number = 16;
    let bytes = model.bytes();
    let gguf = Gguf::read(Path::new("other.gguf"), bytes.as_slice()).unwrap();
    assert_eq!(gguf.tensors()["output_norm.weight"].tensor_type.to_string(), "IQ2_XXS");
    assert_eq!(gguf.metadata()["tokenizer.ggml.tokens"].to_string(), "4 values of kind string");
}
