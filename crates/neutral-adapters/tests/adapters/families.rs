//! Extensions on every family of models: where sub-layers have norms of their own, another σ, or biases.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use neutral_adapters::{AdapterError, LoraLayer, build, merge_adapters, merge_lora, write_peft};
use neutral_model::{
    Activation, Attention, Extension, Input, ModelFolder, Transformer, TransformerConfig,
    write_model,
};
use neutral_spec::{
    BranchPlacement, GateSpec, GluActivation, LinearSite, Method, Precision, Start, extension_size,
};
use neutral_torch::RandomStream;
use serde_json::json;
use tch::{Device, Kind, Tensor, no_grad};

use crate::methods::{adapter, dora, lora, neutral};

/// `max |a − b| / max |b|`, in fp32.
const BOUND: f64 = 1e-5;

fn families() -> Vec<PathBuf> {
    let all = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/families");
    let folders = std::fs::read_dir(all).unwrap().map(|entry| entry.unwrap().path());
    let folders: Vec<_> = folders.collect();
    assert!(folders.len() > 10, "{folders:?}");
    folders
}

fn open(folder: &Path) -> Transformer {
    let folder = ModelFolder::open(folder).unwrap();
    let mut model = folder.load(Device::Cpu, Precision::Fp32).unwrap();
    model.freeze();
    model
}

type Weights = BTreeMap<String, Tensor>;

/// A base after a change of its configuration and weights.
fn changed(
    base: &Transformer,
    change: impl FnOnce(&mut TransformerConfig, &mut Weights),
) -> Transformer {
    let mut config = base.config().clone();
    let copies = base.params().iter().map(|(name, weight)| (name.to_owned(), weight.copy()));
    let mut weights = copies.collect();
    change(&mut config, &mut weights);
    let mut model = Transformer::new(config, 0, Device::Cpu, Precision::Fp32).unwrap();
    assert_eq!(model.params().len(), weights.len());
    for (name, weight) in model.params().iter() {
        no_grad(|| weight.shallow_clone().copy_(&weights[name]));
    }
    model.freeze();
    model
}

/// An extension whose every weight is in use.
fn used(base: &Transformer, method: &Method) -> Extension {
    let size = extension_size(method, &base.config().size()).unwrap();
    let mut extension = build(method, &size, base, 0).unwrap();
    extension.params_mut().set_trainable(false);
    for (name, weight) in extension.params().iter() {
        let drawn = RandomStream::new(8, name).normal(&weight.size(), 1.0, Device::Cpu);
        let mut weight = weight.shallow_clone();
        match name.rsplit('.').next().unwrap() {
            "magnitude" => weight.copy_(&(&weight * (drawn * 0.3).exp())),
            _ => weight.copy_(&(drawn * 0.3)),
        }
    }
    extension
}

fn logits(model: &Transformer, extension: &Extension) -> Tensor {
    let ids = (0..40).map(|i| (i * i * 5 + i * 3 + 1) % model.config().vocab_size as i64);
    let tokens_bt = Tensor::from_slice(&ids.collect::<Vec<_>>()).view([2, 20]);
    let input = Input { tokens_bt, attention: Attention::Causal };
    no_grad(|| model.logits(&model.forward(&input, extension).hidden_btd))
}

fn distance(found: &Tensor, expected: &Tensor) -> f64 {
    ((found - expected).abs().max() / expected.abs().max()).double_value(&[])
}

/// Each FFN with an adapter's units in it: `W_down (σ(W_gate x) ⊙ (W_up x)) + W_o (σ(W_g x) ⊙ (W_i x))`.
fn widen(config: &mut TransformerConfig, weights: &mut Weights, extension: &Extension) {
    let of = |name: String| extension.params().get(&name).unwrap();
    let units = of("layers.0.mlp.adapter.w_i".to_owned()).size()[0];
    config.d_ff += units as usize;
    for block in 0..config.n_layers() {
        for (own, added, along) in
            [("gate_proj", "w_g", 0), ("up_proj", "w_i", 0), ("down_proj", "w_o", 1)]
        {
            let name = format!("model.layers.{block}.mlp.{own}");
            let added = of(format!("layers.{block}.mlp.adapter.{added}"));
            let wider = |own: &Tensor, added: &Tensor| Tensor::cat(&[own, added], along);
            let weight = weights.get_mut(&format!("{name}.weight")).unwrap();
            *weight = wider(weight, added);
            // Adapters have none.
            if let Some(bias) = weights.get_mut(&format!("{name}.bias")).filter(|_| along == 0) {
                *bias = wider(bias, &Tensor::zeros([units], (Kind::Float, Device::Cpu)));
            }
        }
    }
}

#[test]
fn an_adapter_is_a_wider_ffn_in_every_family() {
    for folder in families() {
        let base = open(&folder);
        let extension = used(&base, &adapter(BranchPlacement::Ffn, Start::He));
        let wider = changed(&base, |config, weights| widen(config, weights, &extension));
        let expected = logits(&wider, &Extension::none());
        let apart = distance(&logits(&base, &extension), &expected);
        let without = distance(&logits(&base, &Extension::none()), &expected);
        let name = folder.file_name().unwrap().display();
        assert!(apart < BOUND && without > 0.01, "{name}: {apart:.1e}, without {without:.1e}");

        // As an export has it, through files.
        let json = ModelFolder::open(&folder).unwrap().config_json().clone();
        let (merged, json) = merge_adapters(&base, extension.params(), &json).unwrap();
        assert_eq!(merged.config().d_ff % 64, 0);
        let written = tempfile::tempdir().unwrap();
        write_model(written.path(), &json, &merged, Kind::Float).unwrap();
        let apart = distance(&logits(&open(written.path()), &Extension::none()), &expected);
        assert!(apart < BOUND, "{name}, merged: {apart:.1e}");
    }
}

#[test]
fn what_a_merge_would_lose_is_refused() {
    let base = open(&families().remove(0));
    let lost = |error: AdapterError, name: &str| {
        assert!(error.to_string().contains(name), "{error}");
    };
    let gated = neutral(GateSpec::default(), BranchPlacement::Ffn, Start::He);
    let both = adapter(BranchPlacement::Both, Start::He);
    for (method, name) in [(gated, "mlp.adapter.gate.weight"), (both, "self_attn.adapter")] {
        let extension = used(&base, &method);
        lost(merge_adapters(&base, extension.params(), &json!({})).unwrap_err(), name);
    }
    let method = lora(&LinearSite::ALL, None);
    let extension = used(&base, &method);
    let mut model = open(&families().remove(0));
    let before = model.params().digest();
    let mut layers = LoraLayer::of_method(&method, 1, base.config().n_layers()).unwrap();
    let last = layers.pop().unwrap();
    lost(merge_lora(&mut model, extension.params(), &layers).unwrap_err(), &last.names()[0]);
    assert_eq!(model.params().digest(), before);
    let folder = tempfile::tempdir().unwrap();
    let (params, config) = (extension.params(), base.config());
    let written = write_peft(folder.path(), params, &layers, config, "x", None);
    lost(written.unwrap_err(), &last.names()[0]);
}

/// On a base whose own FFNs give nothing, so that their σ may be any.
#[test]
fn an_adapter_has_the_activation_that_the_method_names() {
    let llama = families().into_iter().find(|folder| folder.ends_with("llama2")).unwrap();
    let base = changed(&open(&llama), |_, weights| {
        let down = weights.iter_mut().filter(|(name, _)| name.ends_with("down_proj.weight"));
        down.for_each(|(_, weight)| *weight = weight.zeros_like());
    });
    for (sigma, of_base) in [
        (None, Activation::Silu),
        (Some(GluActivation::Silu), Activation::Silu),
        (Some(GluActivation::GeluTanh), Activation::GeluTanh),
        (Some(GluActivation::Relu), Activation::Relu),
    ] {
        let mut method = adapter(BranchPlacement::Ffn, Start::He);
        if let Method::Adapter { activation, .. } = &mut method {
            *activation = sigma;
        }
        let extension = used(&base, &method);
        let wider = changed(&base, |config, weights| {
            widen(config, weights, &extension);
            config.activation = of_base;
        });
        let apart = distance(&logits(&base, &extension), &logits(&wider, &Extension::none()));
        assert!(apart < BOUND, "{sigma:?}: {apart:.1e}");
    }
}

#[test]
fn lora_and_dora_beside_a_layer_are_the_same_merged_in_every_family() {
    for folder in families() {
        for method in [lora(&LinearSite::ALL, Some(8.0)), dora(&LinearSite::ALL, Some(8.0))] {
            let mut model = open(&folder);
            let extension = used(&model, &method);
            let beside = logits(&model, &extension);
            let units = extension_size(&method, &model.config().size()).unwrap().units;
            let layers = LoraLayer::of_method(&method, units, model.config().n_layers()).unwrap();
            let before = logits(&model, &Extension::none());
            merge_lora(&mut model, extension.params(), &layers).unwrap();
            let merged = logits(&model, &Extension::none());
            let (apart, moved) = (distance(&beside, &merged), distance(&before, &merged));
            let name = folder.file_name().unwrap().display();
            let kind = method.kind();
            // Weights as large as these amplify what the order of sums rounds.
            assert!(
                apart < 10.0 * BOUND && moved > 0.01,
                "{kind} on {name}: {apart:.1e}, {moved:.1e}"
            );
        }
    }
}
