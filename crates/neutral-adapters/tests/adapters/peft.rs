//! LoRA in PEFT's folders, against PEFT itself: `tests/fixtures/make_peft_fixtures.py`.

use std::path::{Path, PathBuf};

use neutral_adapters::{PeftLora, merge_lora, read_peft, write_peft};
use neutral_model::{Attention, Extension, Input, ModelFolder, Transformer};
use neutral_spec::{LinearSite, Precision};
use neutral_torch::{load_tensors, save_tensors};
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};

/// `max |ours − theirs| / max |theirs|` in fp32: some hundred roundings of 6e-8. The scale of 4 in
/// `rslora` amplifies them: PEFT's own logits are 0.8e-5 from its fp64 ones, with another attention
/// kernel 1.7e-5.
fn bound(case: &str) -> f64 {
    if case == "rslora" { 2e-5 } else { 1e-5 }
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures")
}

fn base() -> (ModelFolder, Transformer) {
    let folder = ModelFolder::open(&fixtures().join("families/llama2")).unwrap();
    let mut model = folder.load(Device::Cpu, Precision::Fp32).unwrap();
    model.freeze();
    (folder, model)
}

fn read(folder: &Path) -> PeftLora {
    read_peft(folder, base().0.config(), Device::Cpu).unwrap()
}

/// Tokens, and PEFT's logits on them.
fn expected(case: &str) -> (Tensor, Tensor) {
    let path = fixtures().join("peft").join(case).join("expected.safetensors");
    let (mut tensors, _) = load_tensors(&path, Device::Cpu).unwrap();
    (tensors.remove("input.tokens").unwrap(), tensors.remove("logits_fp32").unwrap())
}

fn logits(model: &Transformer, extension: &Extension, tokens_bt: &Tensor) -> Tensor {
    let input = Input { tokens_bt: tokens_bt.shallow_clone(), attention: Attention::Causal };
    model.logits(&model.forward(&input, extension).hidden_btd)
}

fn distance(ours: &Tensor, theirs: &Tensor) -> f64 {
    let theirs = theirs.to_kind(Kind::Double);
    let apart = (ours.to_kind(Kind::Double) - &theirs).abs().max();
    (apart / theirs.abs().max()).double_value(&[])
}

/// A copy of a fixture whose configuration is changed.
struct Changed(tempfile::TempDir);

impl Changed {
    fn new(case: &str, change: impl FnOnce(&mut Value)) -> Self {
        let copy = tempfile::tempdir().unwrap();
        for entry in std::fs::read_dir(fixtures().join("peft").join(case)).unwrap() {
            let entry = entry.unwrap();
            std::fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
        }
        let path = copy.path().join("adapter_config.json");
        let mut config = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        change(&mut config);
        std::fs::write(path, config.to_string()).unwrap();
        Self(copy)
    }

    fn read(&self) -> Result<PeftLora, neutral_adapters::AdapterError> {
        read_peft(self.0.path(), base().0.config(), Device::Cpu)
    }

    fn error(&self) -> String {
        self.read().unwrap_err().to_string()
    }
}

#[test]
fn logits_are_those_of_peft_read_written_and_merged() {
    for case in ["plain", "patterns", "rslora", "dora"] {
        let (folder, mut model) = base();
        let (tokens_bt, theirs) = expected(case);
        let lora = read(&fixtures().join("peft").join(case));
        assert_eq!(lora.base.as_deref(), Some("families/llama2"));
        let ours = logits(&model, &lora.extension, &tokens_bt);
        let apart = distance(&ours, &theirs);
        println!("{case}: {apart:.1e}");
        assert!(apart <= bound(case), "{case}: {apart:.1e}");

        let written = tempfile::tempdir().unwrap();
        let params = lora.extension.params();
        write_peft(written.path(), params, &lora.layers, folder.config(), "x", None).unwrap();
        let again = read(written.path());
        assert_eq!(again.extension.params().digest(), params.digest(), "{case}");
        assert_eq!(again.layers, lora.layers, "{case}");
        assert!(logits(&model, &again.extension, &tokens_bt).equal(&ours), "{case}");

        merge_lora(&mut model, params, &lora.layers).unwrap();
        let merged = distance(&logits(&model, &Extension::none(), &tokens_bt), &theirs);
        println!("{case}, merged: {merged:.1e}");
        assert!(merged <= bound(case), "{case}, merged: {merged:.1e}");
    }
}

#[test]
fn what_is_written_is_what_peft_writes() {
    let lora = read(&fixtures().join("peft/plain"));
    let written = tempfile::tempdir().unwrap();
    let config = base().0.config().clone();
    write_peft(
        written.path(),
        lora.extension.params(),
        &lora.layers,
        &config,
        "families/llama2",
        None,
    )
    .unwrap();
    let file = |folder: &Path, name: &str| std::fs::read(folder.join(name)).unwrap();
    let theirs = fixtures().join("peft/plain");
    let load = |folder: &Path| {
        let path = folder.join("adapter_model.safetensors");
        load_tensors(&path, Device::Cpu).unwrap()
    };
    let (ours, peft) = (load(written.path()), load(&theirs));
    assert_eq!(ours.1, peft.1, "metadata");
    assert!(ours.0.keys().eq(peft.0.keys()));
    for (name, tensor) in &ours.0 {
        let their = &peft.0[name];
        assert!(tensor.kind() == their.kind() && tensor.equal(their), "{name}");
    }
    let name = "adapter_config.json";
    let ours: Value = serde_json::from_slice(&file(written.path(), name)).unwrap();
    let theirs: Value = serde_json::from_slice(&file(&theirs, name)).unwrap();
    for (field, value) in ours.as_object().unwrap() {
        assert_eq!(value, &theirs[field], "{field}");
    }
}

/// Modules as `0.q_proj`.
fn modules(lora: &PeftLora) -> Vec<String> {
    lora.layers.iter().map(|l| format!("{}.{}", l.block, l.site.name())).collect()
}

#[test]
fn target_modules_mean_what_they_mean_to_peft() {
    let all: Vec<String> = (0..3)
        .flat_map(|block| LinearSite::ALL.map(|site| format!("{block}.{}", site.name())))
        .collect();
    let everything = [
        json!("all-linear"),
        json!("All-Linear"),
        json!(r"model\.layers\.\d+\.(self_attn|mlp)\.\w+_proj"),
        json!([
            "self_attn.q_proj",
            "k_proj",
            "v_proj",
            "o_proj",
            "gate_proj",
            "mlp.up_proj",
            "down_proj"
        ]),
    ];
    for targets in everything {
        let folder = Changed::new("plain", |c| c["target_modules"] = targets.clone());
        assert_eq!(modules(&folder.read().unwrap()), all, "{targets}");
    }
    // A pattern is for the whole path, and a name for its end from a dot on.
    for (targets, excluded) in [
        (json!(r"layers\.\d+\.mlp\.up_proj"), json!(null)),
        (json!(["proj"]), json!(null)),
        (json!("all-linear"), json!(".*")),
    ] {
        let message = Changed::new("plain", |c| {
            c["target_modules"] = targets.clone();
            c["exclude_modules"] = excluded;
        })
        .error();
        assert!(message.contains("matches no linear layer"), "{message}");
    }
    // Narrower: what the file has beyond is an error that names the first tensor.
    let some = [
        (json!({"exclude_modules": ["o_proj"]}), "layers.0.self_attn.o_proj.lora_A"),
        (json!({"exclude_modules": r".*\.1\..*"}), "layers.1.mlp.down_proj.lora_A"),
        (json!({"layers_to_transform": [0, 2]}), "layers.1.mlp.down_proj.lora_A"),
        (json!({"layers_to_transform": 0, "layers_pattern": "layers"}), "layers.1.mlp.down_proj"),
        (json!({"target_modules": null}), "layers.0.mlp.down_proj.lora_A"),
    ];
    for (changes, tensor) in some {
        let message = Changed::new("plain", |c| {
            for (field, value) in changes.as_object().unwrap() {
                c[field] = value.clone();
            }
        })
        .error();
        assert!(
            message.contains(tensor) && message.contains("has no place"),
            "{changes}: {message}"
        );
    }
}

#[test]
fn the_first_pattern_of_the_file_counts() {
    let alphas = |text: &str| {
        let folder = Changed::new("plain", |_| {});
        let path = folder.0.path().join("adapter_config.json");
        // As text, as the order matters.
        let config = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, config.replace(r#""alpha_pattern":{}"#, text)).unwrap();
        let layers = folder.read().unwrap().layers;
        layers.into_iter().map(|l| (l.block, l.site, l.alpha)).collect::<Vec<_>>()
    };
    let of = |alphas: &[(usize, LinearSite, f64)], block, site| {
        alphas.iter().find(|a| (a.0, a.1) == (block, site)).unwrap().2
    };
    let first = alphas(r#""alpha_pattern":{"z.*|v_proj":1,"layers.1.self_attn.v_proj":2}"#);
    assert_eq!(of(&first, 1, LinearSite::VProj), 1.0);
    assert_eq!(of(&first, 0, LinearSite::QProj), 8.0);
    let second = alphas(r#""alpha_pattern":{"layers.1.self_attn.v_proj":2,"v_proj":1}"#);
    assert_eq!(of(&second, 1, LinearSite::VProj), 2.0);
    assert_eq!(of(&second, 0, LinearSite::VProj), 1.0);
    // Only the end of a path from a dot on.
    let none = alphas(r#""alpha_pattern":{"_proj":2,"self_attn":3}"#);
    assert!(none.iter().all(|a| a.2 == 8.0), "{none:?}");
}

#[test]
fn what_is_not_supported_is_refused_by_name() {
    let config = base().0.config().clone();
    for (case, parts) in [
        ("bias_all", ["`bias` is \"all\"", "only \"none\""]),
        ("ia3", ["`peft_type` is \"IA3\"", "LORA"]),
    ] {
        let folder = fixtures().join("peft").join(case);
        let message = read_peft(&folder, &config, Device::Cpu).unwrap_err().to_string();
        for part in parts.iter().chain(&["adapter_config.json"]) {
            assert!(message.contains(part), "{case}: {message}");
        }
    }
    for (field, value, part) in [
        ("modules_to_save", json!(["lm_head"]), "trained whole"),
        ("fan_in_fan_out", json!(true), "[in, out]"),
        ("lora_bias", json!(true), "bias"),
        ("init_lora_weights", json!("pissa"), "changes the base's weights"),
        ("layer_replication", json!([[0, 2]]), "repeated layers"),
        ("trainable_token_indices", json!([1]), "embeddings"),
        ("use_qalora", json!(true), "not supported"),
        ("a_new_option", json!(0.5), "not supported"),
        ("task_type", json!("SEQ_CLS"), "CAUSAL_LM"),
        ("target_modules", json!(["lm_head", "q_proj"]), "lm_head"),
        ("target_modules", json!(["embed_tokens"]), "model.embed_tokens"),
        ("target_modules", json!("(?<!x)q_proj"), "look-around"),
        ("target_modules", json!("a)(b"), "regular expression"),
        ("target_modules", json!([1]), "list of names"),
        ("exclude_modules", json!("("), "regular expression"),
        ("rank_pattern", json!({"(": 1}), "regular expression"),
        ("rank_pattern", json!({"q_proj": 0}), "rank_pattern.q_proj"),
        ("alpha_pattern", json!({"q_proj": "x"}), "alpha_pattern.q_proj"),
        ("alpha_pattern", json!(7), "expected a map"),
        ("layers_pattern", json!("h"), "layers_to_transform"),
        ("layers_to_transform", json!("all"), "numbers of blocks"),
        ("r", json!(-1), "rank of 1 to 16777216"),
        ("r", json!(1 << 25), "rank of 1 to 16777216"),
        ("lora_alpha", json!([]), "expected a number"),
        ("use_rslora", json!("yes"), "true or false"),
    ] {
        let message = Changed::new("plain", |c| {
            c[field] = value.clone();
            if field == "layers_pattern" {
                c["layers_to_transform"] = json!([0]);
            }
        })
        .error();
        let named =
            message.contains(field) || field == "layers_pattern" || part == "expected a map";
        let part = if field == "layers_pattern" { "\"layers\"" } else { part };
        assert!(named && message.contains(part), "{field} = {value}: {message}");
    }
}

#[test]
fn tensors_that_do_not_fit_are_named_and_never_read() {
    for (change, parts) in [
        (json!({"r": 5}), ["q_proj.lora_A.weight", "shape [4, 24], expected [5, 24]"]),
        (json!({"r": 1 << 24}), ["q_proj.lora_A.weight", "expected [16777216, 24]"]),
        (json!({"rank_pattern": {"o_proj": 3}}), ["o_proj.lora_A.weight", "expected [3, 24]"]),
    ] {
        let message = Changed::new("plain", |c| {
            for (field, value) in change.as_object().unwrap() {
                c[field] = value.clone();
            }
        })
        .error();
        assert!(parts.iter().all(|part| message.contains(part)), "{change}: {message}");
    }
    let folder = Changed::new("plain", |_| {});
    let path = folder.0.path().join("adapter_model.safetensors");
    let with = |change: fn(&mut std::collections::BTreeMap<String, Tensor>)| {
        let (mut tensors, text) =
            load_tensors(&fixtures().join("peft/plain/adapter_model.safetensors"), Device::Cpu)
                .unwrap();
        change(&mut tensors);
        save_tensors(&path, &tensors, &text).unwrap();
        folder.read()
    };
    let name = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight";
    let missing = with(|t| drop(t.pop_first())).unwrap_err().to_string();
    assert!(missing.contains("is missing"), "{missing}");
    let extra = with(|t| {
        let magnitude = Tensor::ones([24], (Kind::Float, Device::Cpu));
        t.insert(
            "base_model.model.model.layers.0.self_attn.q_proj.lora_magnitude_vector".into(),
            magnitude,
        );
    })
    .unwrap_err()
    .to_string();
    assert!(extra.contains("lora_magnitude_vector"), "{extra}");
    // Halves of 16 bits are what many adapters have; integers are no weights.
    let halves = with(|t| {
        for tensor in t.values_mut() {
            *tensor = tensor.to_kind(Kind::BFloat16);
        }
    });
    let halves = halves.unwrap();
    assert!(halves.extension.params().iter().all(|(_, t)| t.kind() == Kind::Float));
    let whole = with(|t| {
        let name = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight";
        let numbers = t[name].to_kind(Kind::Int);
        t.insert(name.to_owned(), numbers);
    });
    let whole = whole.unwrap_err().to_string();
    assert!(whole.contains(name) && whole.contains("Int"), "{whole}");
    std::fs::remove_file(path).unwrap();
    assert!(folder.error().contains("adapter_model.safetensors"));
}

#[test]
fn damaged_configurations_are_errors() {
    let folder = Changed::new("plain", |_| {});
    let path = folder.0.path().join("adapter_config.json");
    for text in ["", "{", "[]", "null", "7", &"[".repeat(100_000), "\u{0}"] {
        std::fs::write(&path, text).unwrap();
        assert!(folder.error().contains("adapter_config.json"), "{text:.20}");
    }
    std::fs::write(&path, [0xff, 0xfe]).unwrap();
    assert!(folder.error().contains("adapter_config.json"));
    std::fs::write(&path, vec![b' '; (16 << 20) + 1]).unwrap();
    assert!(folder.error().contains("MiB"));
}
