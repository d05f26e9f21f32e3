//! One contract, held by every method with every option.

use std::collections::BTreeMap;

use neutral_adapters::{AdapterError, build};
use neutral_model::{Attention, Extension, Input, Residue, Transformer, TransformerConfig};
use neutral_spec::{
    BranchPlacement, ExtensionSize, GateActivation, GatePer, GateSpec, LinearSite, Method,
    Precision, Shape, Start, extension_size,
};
use neutral_torch::ParamStore;
use tch::{Device, Kind, Tensor};

use crate::methods::{
    adapter, blocks, dora, extending, lora, neutral, shared, with_bias, with_input_norm,
};

const VOCAB_SIZE: usize = 29;
const SHAPE: Shape = Shape {
    d_model: 16,
    n_layers: 2,
    n_heads: 4,
    n_kv_heads: 2,
    d_ff: 24,
    tie_embeddings: true,
    rope_theta: 10_000.0,
    norm_epsilon: 1e-5,
};
pub(crate) fn config() -> TransformerConfig {
    TransformerConfig::llama(&SHAPE, VOCAB_SIZE)
}
pub(crate) fn size(method: &Method) -> ExtensionSize {
    extension_size(method, &SHAPE.size(VOCAB_SIZE)).unwrap()
}

pub(crate) fn extend(base: &Transformer, method: &Method, seed: u64) -> Extension {
    build(method, &size(method), base, seed).unwrap()
}

pub(crate) fn frozen_base(precision: Precision) -> Transformer {
    // Tensors this small are slower with more.
    neutral_torch::set_threads(1);
    let mut base = Transformer::new(config(), 7, Device::Cpu, precision).unwrap();
    base.freeze();
    base
}

/// Two sequences of twelve tokens; the next ones are the targets.
fn tokens() -> (Input, Tensor) {
    let ids: Vec<i64> = (0..26).map(|i| (i * i * 5 + i * 3 + 1) % 29).collect();
    let ids = Tensor::from_slice(&ids).view([2, 13]);
    let input = Input { tokens_bt: ids.narrow(1, 0, 12), attention: Attention::Causal };
    (input, ids.narrow(1, 1, 12))
}

pub(crate) fn logits(base: &Transformer, extension: &Extension) -> Tensor {
    tch::no_grad(|| base.logits(&base.forward(&tokens().0, extension).hidden_btd))
}

/// The language model's loss and its gradients.
fn backward(base: &Transformer, extension: &mut Extension) {
    extension.params_mut().zero_gradients();
    let (input, targets_bt) = tokens();
    let hidden_btd = base.forward(&input, extension).hidden_btd;
    (base.loss(&hidden_btd, &targets_bt).sum / targets_bt.numel() as f64).backward();
}

/// Largest entry of each weight's gradient; without one, NaN.
fn gradient_sizes(params: &ParamStore) -> Vec<(String, f64)> {
    let size = |gradient: Tensor| gradient.abs().max().double_value(&[]);
    let sizes = params.gradients().into_iter();
    sizes.map(|(name, gradient)| (name.to_owned(), gradient.map_or(f64::NAN, size))).collect()
}

fn sgd_step(base: &Transformer, extension: &mut Extension) {
    backward(base, extension);
    tch::no_grad(|| {
        for (_, weight) in extension.params().iter() {
            let _ = weight.shallow_clone().g_sub_(&(weight.grad() * 0.5));
        }
    });
}

pub(crate) fn trained(base: &Transformer, method: &Method, seed: u64) -> Extension {
    let mut extension = extend(base, method, seed);
    for _ in 0..3 {
        sgd_step(base, &mut extension);
    }
    extension
}

/// The only weights that move in the first step: those that start at zero, and lengths of rows.
fn moves_first(name: &str) -> bool {
    let ends = [".w_o", ".lora_b", ".magnitude", ".o_proj.weight", ".down_proj.weight"];
    ends.iter().any(|end| name.ends_with(end))
}

fn relu_gates() -> impl Iterator<Item = (String, Method)> {
    extending().into_iter().filter(|(name, _)| name.contains(" relu"))
}

#[test]
fn what_trains_the_base_adds_nothing() {
    let base = frozen_base(Precision::Fp32);
    for method in [
        Method::Finetune {},
        Method::KlToBase { weight: 1.0 },
        Method::L2Sp { weight: 1.0 },
        Method::Ewc { weight: 1.0, fisher_sequences: 8 },
        Method::WiseFt { share: 0.5 },
    ] {
        assert!(method.trains_base());
        assert_eq!(size(&method).trainable_parameters, base.params().parameter_count());
        let extension = extend(&base, &method, 0);
        assert!(extension.is_none(), "{method:?}");
        assert_eq!(extension.params().parameter_count(), 0, "{method:?}");
    }
}

#[test]
fn the_extended_model_starts_as_the_base_to_the_bit() {
    for precision in [Precision::Fp32, Precision::Bf16] {
        let base = frozen_base(precision);
        let expected = logits(&base, &Extension::none());
        for (name, method) in extending() {
            let extension = extend(&base, &method, 0);
            assert!(!extension.is_none());
            assert!(logits(&base, &extension).equal(&expected), "{name} in {precision:?}");
        }
    }
}

#[test]
fn training_an_extension_leaves_the_base_alone() {
    let base = frozen_base(Precision::Fp32);
    let digest = base.params().digest();
    let before = logits(&base, &Extension::none());
    for (name, method) in extending() {
        let extension = trained(&base, &method, 0);
        assert!(!logits(&base, &extension).equal(&before), "{name} learnt nothing");
        assert!(logits(&base, &Extension::none()).equal(&before), "{name}");
        assert_eq!(base.params().digest(), digest, "{name}");
        assert!(base.params().gradients().iter().all(|(_, g)| g.is_none()), "{name}");
    }
}

#[test]
fn every_weight_of_the_extension_gets_a_gradient_in_the_first_steps() {
    for precision in [Precision::Fp32, Precision::Bf16] {
        let base = frozen_base(precision);
        for (name, method) in extending() {
            let mut extension = extend(&base, &method, 0);
            sgd_step(&base, &mut extension);
            for (weight, gradient) in gradient_sizes(extension.params()) {
                // The product's other factors wait for the one that is zero.
                assert_eq!(gradient > 0.0, moves_first(&weight), "{name}: {weight} {gradient}");
            }
            backward(&base, &mut extension);
            for (weight, gradient) in gradient_sizes(extension.params()) {
                assert!(gradient > 0.0, "{name} in {precision:?}: {weight} {gradient}");
            }
            let fp32 = |t: &Tensor| t.kind() == Kind::Float && t.grad().kind() == Kind::Float;
            assert!(extension.params().iter().all(|(_, weight)| fp32(weight)), "{name}");
        }
    }
}

#[test]
fn a_saved_extension_is_loaded_to_the_bit_into_one_of_another_seed() {
    let base = frozen_base(Precision::Fp32);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("extension.safetensors");
    for (name, method) in extending() {
        let saved = trained(&base, &method, 0);
        saved.params().save(&path, &BTreeMap::new()).unwrap();
        let mut fresh = extend(&base, &method, 1);
        assert!(!logits(&base, &fresh).equal(&logits(&base, &saved)), "{name}");
        fresh.params_mut().load(&path).unwrap();
        assert!(logits(&base, &fresh).equal(&logits(&base, &saved)), "{name}");
        assert_eq!(fresh.params().digest(), saved.params().digest(), "{name}");
    }
}

#[test]
fn predicted_parameter_counts_are_the_real_ones() {
    let base = frozen_base(Precision::Fp32);
    for (name, method) in extending() {
        let size = size(&method);
        let found = extend(&base, &method, 0).params().parameter_count();
        assert_eq!(found, size.extension_parameters, "{name}");
        assert_eq!(found, size.trainable_parameters, "{name}");
    }
}

#[test]
fn a_size_that_does_not_fit_is_an_error() {
    let base = frozen_base(Precision::Fp32);
    let method = adapter(BranchPlacement::Ffn, Start::He);
    let right = size(&method);
    let built = |method: &Method, size| build(method, &size, &base, 0);
    let wider = ExtensionSize { units: right.units + 1, ..right };
    let empty = ExtensionSize { units: 0, ..right };
    assert!(matches!(built(&method, wider), Err(AdapterError::ParameterCount { .. })));
    assert!(matches!(built(&method, empty), Err(AdapterError::Units { .. })));
    assert!(matches!(built(&Method::Finetune {}, right), Err(AdapterError::Units { .. })));
    assert!(matches!(built(&lora(&[], None), right), Err(AdapterError::NoTargets)));
    let three = ExtensionSize { units: 3, ..size(&blocks(90.0)) };
    let message = built(&blocks(90.0), three).unwrap_err().to_string();
    assert!(message.contains("3 units, expected at most"), "{message}");
    let twice = lora(&[LinearSite::QProj; 2], None);
    let message = built(&twice, right).unwrap_err().to_string();
    assert!(message.contains("`layers.0.q_proj.lora_a` is in the store already"), "{message}");
}

#[test]
fn names_and_shapes_are_the_golden_ones() {
    let gate = |per, bias| GateSpec { per, bias, ..GateSpec::default() };
    let neutral = |per, bias, place| neutral(gate(per, bias), place, Start::LowVariance);
    let none = GateSpec { activation: GateActivation::None, ..GateSpec::default() };
    let cases = [
        ("lora", lora(&LinearSite::ALL, None)),
        ("dora", dora(&LinearSite::ALL, None)),
        ("adapter", adapter(BranchPlacement::Ffn, Start::He)),
        ("blocks", blocks(40.0)),
        ("neutral, token", neutral(GatePer::Token, None, BranchPlacement::Ffn)),
        ("neutral, channel, bias", neutral(GatePer::Channel, Some(1.0), BranchPlacement::Ffn)),
        (
            "neutral, attention, token, bias",
            neutral(GatePer::Token, Some(1.0), BranchPlacement::Attention),
        ),
        (
            "neutral, both placements",
            self::neutral(GateSpec::default(), BranchPlacement::Both, Start::LowVariance),
        ),
        ("neutral, no gate", self::neutral(none, BranchPlacement::Ffn, Start::LowVariance)),
        (
            "neutral, shared gates, input norms, both placements",
            with_input_norm(shared(gate(GatePer::Token, Some(1.0)), BranchPlacement::Both)),
        ),
    ];
    let base = frozen_base(Precision::Fp32);
    let mut list = String::new();
    for (name, method) in cases {
        let extension = extend(&base, &method, 0);
        list += &format!("{name}: {}\n", extension.describe());
        for (weight, tensor) in extension.params().iter() {
            list += &format!("  {weight} {:?}\n", tensor.size());
        }
    }
    insta::assert_snapshot!(list);
}

#[test]
fn the_start_follows_from_the_seed_and_the_name_alone() {
    let base = frozen_base(Precision::Fp32);
    let digest = |method: &Method, seed| extend(&base, method, seed).params().digest();
    for (name, method) in extending() {
        assert_eq!(digest(&method, 3), digest(&method, 3), "{name}");
        // New blocks are copies of the base's.
        let drawn = !matches!(method, Method::BlockExpansion { .. });
        assert_eq!(drawn, digest(&method, 3) != digest(&method, 4), "{name}");
    }
    let start =
        |method: &Method, name: &str| extend(&base, method, 3).params().get(name).unwrap().copy();
    let (w_i, w_g) = ("layers.1.mlp.adapter.w_i", "layers.1.mlp.adapter.w_g");
    // With and without a gate of the same width: the other tensors do not shift the streams.
    let vanilla = adapter(BranchPlacement::Ffn, Start::LowVariance);
    let gated = neutral(GateSpec::default(), BranchPlacement::Ffn, Start::LowVariance);
    assert_eq!(size(&vanilla).units, size(&gated).units);
    for name in [w_i, w_g, "layers.0.mlp.adapter.w_i"] {
        assert!(start(&vanilla, name).equal(&start(&gated, name)), "{name}");
    }
    assert!(!start(&gated, w_i).equal(&start(&gated, w_g)));
    assert!(!start(&gated, w_i).equal(&start(&gated, "layers.0.mlp.adapter.w_i")));
    // He's start is the low-variance one, scaled by √(2L).
    let he = start(&neutral(GateSpec::default(), BranchPlacement::Ffn, Start::He), w_i);
    assert!(he.allclose(&(start(&gated, w_i) * 2.0), 1e-6, 0.0, false));
}

#[test]
fn every_branch_hands_out_its_residue_and_its_gate() {
    let base = frozen_base(Precision::Bf16);
    for (name, method) in extending() {
        let residues = base.forward(&tokens().0, &extend(&base, &method, 0)).residues;
        let (placement, gates) = match method {
            Method::Adapter { placement, .. } => (placement, None),
            Method::NeutralResidues { gate, placement, .. } => {
                let width = if gate.per == GatePer::Token { 1 } else { 16 };
                (placement, (gate.activation != GateActivation::None).then_some(width))
            }
            _ => {
                assert!(residues.is_empty(), "{name}");
                continue;
            }
        };
        let expected = (0..2).flat_map(|block| placement.sites().iter().map(move |&p| (block, p)));
        let found = residues.iter().map(|r| (r.block, r.placement));
        assert_eq!(found.collect::<Vec<_>>(), expected.collect::<Vec<_>>(), "{name}");
        for residue in residues {
            assert_eq!(residue.output_btd.size(), [2, 12, 16], "{name}");
            assert_eq!(residue.output_btd.kind(), Kind::BFloat16, "{name}");
            assert_eq!(residue.gate.is_some(), gates.is_some(), "{name}");
            let Some(gate) = residue.gate else { continue };
            let kinds = (gate.value.kind(), gate.logit.kind());
            assert_eq!(kinds, (Kind::BFloat16, Kind::Float), "{name}");
            assert_eq!(gate.value.size(), [2, 12, gates.unwrap()], "{name}");
            assert_eq!(gate.logit.size(), gate.value.size(), "{name}");
        }
    }
}

#[test]
fn a_shared_gate_is_one_tensor_that_every_block_reads_with() {
    let base = frozen_base(Precision::Fp32);
    let method = shared(GateSpec::default(), BranchPlacement::Ffn);
    let extension = extend(&base, &method, 0);
    let residues = base.forward(&tokens().0, &extension).residues;
    let name = "mlp.adapter.gate.weight";
    let gates = extension.params().iter().filter(|(name, _)| name.contains("gate"));
    assert_eq!(gates.map(|(name, _)| name).collect::<Vec<_>>(), [name]);
    let means = |residues: &[Residue]| residues.iter().map(mean_logit).collect::<Vec<_>>();
    let before = means(&residues);
    assert_ne!(before[0], before[1], "each block has its own input");
    tch::no_grad(|| drop(extension.params().get(name).unwrap().shallow_clone().g_mul_scalar_(2.0)));
    let after = means(&base.forward(&tokens().0, &extension).residues);
    for (before, after) in before.iter().zip(&after) {
        assert!((after / before - 2.0).abs() < 1e-5, "{after} for {before}");
    }
}

fn mean_logit(residue: &Residue) -> f64 {
    residue.gate.as_ref().unwrap().logit.mean(Kind::Double).double_value(&[])
}

/// Share of gates that let something through, over blocks, tokens and forty seeds.
fn open_share(method: &Method) -> f64 {
    let base = frozen_base(Precision::Fp32);
    let shares = (0..40).flat_map(|seed| {
        let residues = base.forward(&tokens().0, &extend(&base, method, seed)).residues;
        residues.into_iter().map(|r| {
            let open = r.gate.unwrap().value.gt(0.0);
            open.to_kind(Kind::Double).mean(Kind::Double).double_value(&[])
        })
    });
    let shares: Vec<f64> = shares.collect();
    shares.iter().sum::<f64>() / shares.len() as f64
}

#[test]
fn about_half_of_all_relu_gates_are_open_at_the_start_and_more_with_a_bias() {
    for (name, method) in relu_gates() {
        let share = open_share(&method);
        // A logit is N(bias, 1/L), or N(bias, 2): open are Φ(√2) = 0.92 and Φ(1/√2) = 0.76.
        let expected = match (name.contains("bias"), name.contains("He")) {
            (false, _) => 0.5,
            (true, false) => 0.921,
            (true, true) => 0.760,
        };
        assert!((share - expected).abs() < 0.06, "{name}: {share}");
    }
}

#[test]
fn a_closed_relu_gate_gives_the_base_to_the_bit_and_sends_no_gradient() {
    for precision in [Precision::Fp32, Precision::Bf16] {
        let base = frozen_base(precision);
        let expected = logits(&base, &Extension::none());
        let mut extension = extend(&base, &with_bias(-100.0), 0);
        tch::no_grad(|| {
            for (name, weight) in extension.params().iter() {
                if moves_first(name) {
                    let _ = weight.shallow_clone().fill_(1.0);
                }
            }
        });
        assert!(logits(&base, &extension).equal(&expected), "{precision:?}");
        // Such a block is dead: nothing will ever open it.
        backward(&base, &mut extension);
        for (name, gradient) in gradient_sizes(extension.params()) {
            assert_eq!(gradient, 0.0, "{name} in {precision:?}");
        }
    }
}
