//! Extensions in the project's own format: written, read back, and refused if they are something else.

use std::path::Path;

use neutral_adapters::{
    AdapterError, ExtensionConfig, ExtensionFolder, SavedBase, adapter_activation, load_extension,
    open_extension, save_extension,
};
use neutral_model::{Extension, Transformer, TransformerConfig};
use neutral_spec::Precision;
use neutral_store::Fingerprint;
use neutral_torch::{TensorFile, load_tensors, save_tensors};
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};

use crate::contract::{config, frozen_base, logits, size, trained};
use crate::methods::{extending, with_bias};

fn save(folder: &Path, method: &neutral_spec::Method, extension: &Extension) -> ExtensionConfig {
    let activation = adapter_activation(method, &config());
    let base = SavedBase::new(&config(), "owner/name", vec!["abc".to_owned()]);
    let (units, fingerprint) = (size(method).units, Fingerprint::of(&1));
    let saved = ExtensionConfig::new(method.clone(), units, activation, base, Some(fingerprint));
    save_extension(folder, &saved, extension.params()).unwrap();
    saved
}

fn load(folder: &Path) -> Result<(Extension, ExtensionConfig), AdapterError> {
    load_extension(folder, &config(), Device::Cpu)
}

#[test]
fn every_method_is_read_back_to_the_bit_from_its_folder_alone() {
    let base = frozen_base(Precision::Fp32);
    for (name, method) in extending() {
        let folder = tempfile::tempdir().unwrap();
        let extension = trained(&base, &method, 0);
        let saved = save(folder.path(), &method, &extension);
        assert_eq!(ExtensionFolder::of(folder.path()), Some(ExtensionFolder::Neutral));
        let (read, about) = load(folder.path()).unwrap();
        assert_eq!(about, saved, "{name}");
        assert_eq!(read.params().digest(), extension.params().digest(), "{name}");
        assert!(read.params().iter().all(|(_, weight)| !weight.requires_grad()), "{name}");
        assert!(logits(&base, &read).equal(&logits(&base, &extension)), "{name}");
    }
}

#[test]
fn the_format_is_version_one() {
    let folder = tempfile::tempdir().unwrap();
    let method = with_bias(1.0);
    save(folder.path(), &method, &trained(&frozen_base(Precision::Fp32), &method, 0));
    let text = std::fs::read_to_string(folder.path().join("extension_config.json")).unwrap();
    let json: Value = serde_json::from_str(&text).unwrap();
    let expected = json!({
        "format": "neutral-extension",
        "format_version": 1,
        "method": method,
        "units": size(&method).units,
        "activation": "silu",
        "base": {
            "model_type": "llama", "d_model": 16, "n_layers": 2, "vocab_size": 29,
            "name": "owner/name", "digest": ["abc"],
        },
        "made_by": concat!("neutral ", env!("CARGO_PKG_VERSION")),
        "fingerprint": Fingerprint::of(&1),
    });
    assert_eq!(json, expected);
    assert_eq!(json["method"]["gate"], json!({"activation": "relu", "per": "token", "bias": 1.0}));
    let file = TensorFile::open(&folder.path().join("extension.safetensors")).unwrap();
    let h = size(&method).units as i64;
    let shape = |name: &str| file.describe(&format!("layers.1.mlp.adapter.{name}")).unwrap();
    assert_eq!(shape("w_i"), (Kind::Float, vec![h, 16]));
    assert_eq!(shape("w_g"), (Kind::Float, vec![h, 16]));
    assert_eq!(shape("w_o"), (Kind::Float, vec![16, h]));
    assert_eq!(shape("gate.weight"), (Kind::Float, vec![16]));
    assert_eq!(shape("gate.bias"), (Kind::Float, vec![1]));
    assert_eq!(file.names().len(), 10);
}

/// A folder whose configuration is changed.
fn changed(change: impl FnOnce(&mut Value)) -> String {
    let folder = tempfile::tempdir().unwrap();
    let method = with_bias(1.0);
    save(folder.path(), &method, &trained(&frozen_base(Precision::Fp32), &method, 0));
    let path = folder.path().join("extension_config.json");
    let mut json = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    change(&mut json);
    std::fs::write(&path, json.to_string()).unwrap();
    load(folder.path()).unwrap_err().to_string()
}

#[test]
fn what_does_not_fit_is_named_before_anything_is_built() {
    let cases: [(&[&str], Value, &[&str]); 20] = [
        (&["format"], json!("other"), &["`format` is \"other\"", "neutral-extension"]),
        (&["format_version"], json!(2), &["`format_version` is 2", "version 1"]),
        (&["format_version"], json!(-1), &["extension_config.json"]),
        (&["base", "model_type"], json!("gemma"), &["base.model_type", "llama"]),
        (&["base", "d_model"], json!(32), &["base.d_model", "is 32", "16"]),
        (&["base", "n_layers"], json!(3), &["base.n_layers", "is 3"]),
        (&["base", "vocab_size"], json!(30), &["base.vocab_size", "is 30"]),
        (&["activation"], json!("gelu_tanh"), &["activation", "gelu_tanh", "silu"]),
        (&["activation"], json!("relu"), &["relu", "silu"]),
        (&["units"], json!(0), &["0 units"]),
        (&["units"], json!(1_000_000_000), &["w_i", "expected [1000000000, 16]"]),
        (&["units"], json!(u64::MAX), &["18446744073709551615 units"]),
        (&["units"], json!(1e300), &["extension_config.json"]),
        (&["method", "kind"], json!("magic"), &["magic"]),
        (&["method"], json!({"kind": "finetune"}), &["finetune", "adds no weights"]),
        (&["method", "placement"], json!("attention"), &["self_attn.adapter.w_i", "missing"]),
        (&["method", "gate"], json!({"activation": "none"}), &["gate.bias", "no place"]),
        (&["method", "gate"], json!({"per": "channel", "bias": 1}), &["gate.weight", "[16, 16]"]),
        (&["method", "gate"], json!({"window": 0}), &["method.gate.window", "is 0", "2 to"]),
        (&["method", "gate"], json!({"window": u64::MAX}), &["method.gate.window", "1048576"]),
    ];
    for (path, value, parts) in cases {
        let message = changed(|json| {
            let field = path.iter().fold(json, |json, field| &mut json[*field]);
            *field = value.clone();
        });
        for part in parts {
            assert!(message.contains(part), "{path:?} = {value}: {message}");
        }
    }
    let lora = json!({"kind": "lora", "budget": "1%", "targets": ["q_proj", "q_proj"]});
    let message = changed(|json| json["method"] = lora);
    assert!(message.contains("lora_a"), "{message}");
    // What is not known would be a computation that is left out.
    for place in ["", "/base"] {
        let message = changed(|json| json.pointer_mut(place).unwrap()["scale"] = json!(0.5));
        assert!(message.contains("unknown field `scale`"), "{message}");
    }
}

#[test]
fn damaged_files_are_errors() {
    let folder = tempfile::tempdir().unwrap();
    let method = with_bias(1.0);
    save(folder.path(), &method, &trained(&frozen_base(Precision::Fp32), &method, 0));
    for name in ["extension_config.json", "extension.safetensors"] {
        let path = folder.path().join(name);
        let whole = std::fs::read(&path).unwrap();
        for len in (0..whole.len() - 2).step_by(7) {
            std::fs::write(&path, &whole[..len]).unwrap();
            let message = load(folder.path()).unwrap_err().to_string();
            assert!(message.contains(name), "{len}: {message}");
        }
        std::fs::remove_file(&path).unwrap();
        assert!(load(folder.path()).unwrap_err().to_string().contains(name));
        std::fs::write(&path, &whole).unwrap();
    }
    let path = folder.path().join("extension.safetensors");
    let (mut tensors, text) = load_tensors(&path, Device::Cpu).unwrap();
    let name = "layers.0.mlp.adapter.w_i";
    let half = tensors[name].to_kind(Kind::BFloat16);
    tensors.insert(name.to_owned(), half);
    save_tensors(&path, &tensors, &text).unwrap();
    let message = load(folder.path()).unwrap_err().to_string();
    assert!(message.contains(name) && message.contains("expected Float"), "{message}");
    let fp32 = Tensor::zeros([1], (Kind::Float, Device::Cpu));
    tensors.insert("stray".to_owned(), fp32);
    tensors.insert(name.to_owned(), tensors[name].to_kind(Kind::Float));
    save_tensors(&path, &tensors, &text).unwrap();
    let message = load(folder.path()).unwrap_err().to_string();
    assert!(message.contains("`stray` has no place"), "{message}");
}

#[test]
fn a_folder_of_neither_format_is_named() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(ExtensionFolder::of(folder.path()), None);
    let message = open_extension(folder.path(), &config(), Device::Cpu).unwrap_err().to_string();
    assert!(message.contains("extension_config.json nor adapter_config.json"), "{message}");
}

#[test]
fn a_base_of_another_family_with_the_same_sizes_is_refused() {
    let other = TransformerConfig { model_type: "qwen3".to_owned(), ..config() };
    let folder = tempfile::tempdir().unwrap();
    let method = with_bias(1.0);
    let base: Transformer = frozen_base(Precision::Fp32);
    save(folder.path(), &method, &trained(&base, &method, 0));
    let message = load_extension(folder.path(), &other, Device::Cpu).unwrap_err().to_string();
    assert!(message.contains("base.model_type"), "{message}");
}
