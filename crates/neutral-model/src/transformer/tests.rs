//! What holds of any model: causality, documents, starts, identity of weights.

use super::*;
use neutral_spec::Shape;

/// Two blocks, four query heads on two key-value heads.
pub(crate) fn tiny_config(tie_embeddings: bool) -> TransformerConfig {
    let shape = Shape {
        d_model: 16,
        n_layers: 2,
        n_heads: 4,
        n_kv_heads: 2,
        d_ff: 24,
        tie_embeddings,
        rope_theta: 10_000.0,
        norm_epsilon: 1e-5,
    };
    TransformerConfig::llama(&shape, 29)
}

/// A small model whose weights are ten times a real start's, so that every token has a say.
pub(crate) fn tiny_model(seed: u64) -> Transformer {
    let mut model =
        Transformer::new(tiny_config(true), seed, Device::Cpu, Precision::Fp32).unwrap();
    for (_, tensor) in model.params_mut().iter().filter(|(_, tensor)| tensor.dim() == 2) {
        let _ = tensor.shallow_clone().f_mul_scalar_(10.0).unwrap();
    }
    model
}

pub(crate) fn tokens(ids: &[i64]) -> Tensor {
    Tensor::from_slice(ids).unsqueeze(0)
}

fn logits(model: &Transformer, ids: &[i64], attention: Attention) -> Tensor {
    let input = Input { tokens_bt: tokens(ids), attention };
    model.logits(&model.forward(&input, &Extension::none()).hidden_btd)
}

fn positions(logits_btv: &Tensor, start: i64, len: i64) -> Tensor {
    logits_btv.narrow(1, start, len)
}

#[test]
fn later_tokens_have_no_influence() {
    let model = tiny_model(1);
    for attention in [Attention::Causal, Attention::WithinDocument { separator_id: 0 }] {
        let a = logits(&model, &[0, 5, 6, 7, 8, 9], attention);
        let b = logits(&model, &[0, 5, 6, 7, 20, 21], attention);
        assert!(positions(&a, 0, 4).equal(&positions(&b, 0, 4)));
        assert!(!positions(&a, 4, 2).allclose(&positions(&b, 4, 2), 1e-3, 1e-3, false));
    }
}

#[test]
fn a_document_knows_nothing_of_the_one_before() {
    let model = tiny_model(1);
    let within = Attention::WithinDocument { separator_id: 0 };
    let (first, other) = ([0, 5, 6, 0, 7, 8], [0, 15, 16, 0, 7, 8]);
    let second = |attention, ids: &[i64]| positions(&logits(&model, ids, attention), 3, 3);
    assert!(second(within, &first).equal(&second(within, &other)));
    let across = second(Attention::Causal, &first);
    assert!(!across.allclose(&second(Attention::Causal, &other), 1e-3, 1e-3, false));
    // Rotary positions are relative, so the document alone gives the same.
    let alone = logits(&model, &[0, 7, 8], within);
    assert!(second(within, &first).allclose(&alone, 1e-5, 1e-5, false));
}

#[test]
fn one_document_within_is_plain_causal_attention() {
    let model = tiny_model(1);
    let ids = [0, 5, 6, 7, 8];
    let causal = logits(&model, &ids, Attention::Causal);
    let within = logits(&model, &ids, Attention::WithinDocument { separator_id: 0 });
    assert!(causal.allclose(&within, 1e-5, 1e-6, false));
}

#[test]
fn the_order_of_lengths_does_not_matter() {
    let (model, fresh) = (tiny_model(1), tiny_model(1));
    let _ = logits(&model, &[0, 5, 6, 7, 8, 9, 10], Attention::Causal);
    let after = logits(&model, &[0, 5, 6], Attention::Causal);
    assert!(after.equal(&logits(&fresh, &[0, 5, 6], Attention::Causal)));
    let _ = logits(&fresh, &[0, 5, 6, 7, 8, 9, 10], Attention::Causal);
    assert!(after.equal(&logits(&fresh, &[0, 5, 6], Attention::Causal)));
}

#[test]
fn a_start_is_its_seeds_and_has_the_stated_spread() {
    let new = |seed| Transformer::new(tiny_config(false), seed, Device::Cpu, Precision::Fp32);
    let model = new(3).unwrap();
    assert_eq!(model.params().digest(), new(3).unwrap().params().digest());
    assert_ne!(model.params().digest(), new(4).unwrap().params().digest());
    for (name, tensor) in model.params().iter() {
        let std = tensor.std(true).double_value(&[]);
        if name.contains("norm") {
            assert!(tensor.equal(&tensor.ones_like()), "{name}");
        } else {
            let writes = name.contains("o_proj") || name.contains("down_proj");
            let expected = if writes { 0.02 / 4f64.sqrt() } else { 0.02 };
            // 128 numbers at least: the standard error of std/expected is at most 6 %.
            assert!((std / expected - 1.0).abs() < 0.25, "{name}: {std}");
        }
    }
}

#[test]
fn names_are_hugging_faces() {
    let model = tiny_model(1);
    let names: Vec<&str> = model.params().iter().map(|(name, _)| name).collect();
    let block = |i: usize| {
        [
            "input_layernorm",
            "mlp.down_proj",
            "mlp.gate_proj",
            "mlp.up_proj",
            "post_attention_layernorm",
            "self_attn.k_proj",
            "self_attn.o_proj",
            "self_attn.q_proj",
            "self_attn.v_proj",
        ]
        .map(|name| format!("model.layers.{i}.{name}.weight"))
    };
    let mut expected = vec!["model.embed_tokens.weight".to_owned()];
    expected.extend(block(0));
    expected.extend(block(1));
    expected.push("model.norm.weight".to_owned());
    assert_eq!(names, expected);
}

#[test]
fn the_layers_use_the_weights_that_the_store_has_now() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let (saved, mut model) = (tiny_model(5), tiny_model(6));
    saved.params().save(file.path(), &std::collections::BTreeMap::new()).unwrap();
    model.params_mut().load(file.path()).unwrap();
    let ids = [0, 5, 6, 7];
    let expected = logits(&saved, &ids, Attention::Causal);
    assert!(logits(&model, &ids, Attention::Causal).equal(&expected));
}

#[test]
fn the_weights_of_a_frozen_model_may_be_loaded_and_trained_too() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut saved = tiny_model(5);
    saved.params().save(file.path(), &std::collections::BTreeMap::new()).unwrap();
    let mut model = tiny_model(6);
    model.freeze();
    model.params_mut().load(file.path()).unwrap();
    saved.freeze();
    let ids = [0, 5, 6, 7];
    let expected = logits(&saved, &ids, Attention::Causal);
    assert!(logits(&model, &ids, Attention::Causal).equal(&expected));

    model.params_mut().set_trainable(true);
    let input = Input { tokens_bt: tokens(&ids), attention: Attention::Causal };
    let hidden = model.forward(&input, &Extension::none()).hidden_btd;
    hidden.square().sum(Kind::Float).backward();
    for (name, weight) in model.params().iter() {
        assert!(weight.grad().defined(), "{name}");
    }
}

#[test]
fn frozen_weights_are_rounded_and_get_no_gradient() {
    let mut model = Transformer::new(tiny_config(true), 1, Device::Cpu, Precision::Bf16).unwrap();
    let input = || Input { tokens_bt: tokens(&[0, 5, 6]), attention: Attention::Causal };
    model.freeze();
    assert!(model.params().iter().all(|(_, t)| t.kind() == Kind::BFloat16 && !t.requires_grad()));
    let frozen = model.forward(&input(), &Extension::none()).hidden_btd;
    assert!(!frozen.requires_grad());
    model.make_trainable();
    assert!(model.params().iter().all(|(_, t)| t.kind() == Kind::Float && t.requires_grad()));
    let trained = model.forward(&input(), &Extension::none()).hidden_btd;
    assert!(trained.requires_grad());
    assert!(trained.equal(&frozen), "the same rounded weights compute the same");
}
