//! `neutral export` and `neutral inspect` on the trials of a small run.

use std::path::Path;
use std::process::Output;

use neutral_adapters::{ExtensionFolder, open_extension, restore};
use neutral_model::{Attention, Extension, Input, ModelFolder, Transformer};
use neutral_spec::{Method, Precision};
use neutral_torch::{TensorFile, load_tensors};
use serde_json::Value;
use tch::{Device, Kind, Tensor};

use crate::command::{Sandbox, assert_code, root, words};

/// Every method, with few steps.
fn trials() -> Sandbox {
    let sandbox = Sandbox::new();
    let smoke = std::fs::read_to_string(root().join("experiments/smoke.yaml")).unwrap();
    let (before, rest) = smoke.split_once("methods:\n").unwrap();
    let (_, evaluation) = rest.split_once("evaluation:\n").unwrap();
    let before = before.replace("tokens: 60_000", "tokens: 10_240").replace("20_480", "10_240");
    let methods = "methods:
  - method: { kind: finetune }
    training: { learning_rate: 1.0e-3 }
  - method: { kind: lora, budget: 20%, lora_alpha: 24 }
  - method: { kind: dora, budget: 20%, lora_alpha: 24 }
  - method: { kind: adapter, budget: 20% }
  - label: beside attention
    method: { kind: adapter, budget: 20%, placement: attention }
  - method: { kind: neutral_residues, budget: 20%, gate: { bias: 1 }, local_loss: { kind: l1, weight: 1 } }
  - label: variant
    method: { kind: neutral_residues, budget: 20%, gate: { activation: hard_sigmoid, shared: true }, local_loss: { kind: l0, weight: 0.1 }, input_norm: true }
  - method: { kind: block_expansion, budget: 40% }
";
    let text = format!("{before}{methods}\nevaluation:\n{evaluation}");
    assert_code(&sandbox.run(&sandbox.write("few.yaml", &text), "out"), 0);
    sandbox
}

fn neutral(sandbox: &Sandbox, arguments: &[&str]) -> Output {
    sandbox.neutral(arguments).output().unwrap()
}

/// What the command wrote to standard output.
#[track_caller]
fn said(output: &Output) -> String {
    assert_code(output, 0);
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn distance(ours: &Tensor, theirs: &Tensor) -> f64 {
    let theirs = theirs.to_kind(Kind::Double);
    let apart = (ours.to_kind(Kind::Double) - &theirs).abs().max();
    (apart / theirs.abs().max()).double_value(&[])
}

/// Of a case: how far its export is from its trial, from what was written of it, and its base from the trial.
fn distances(case: &Path, trial: &Path) -> [f64; 3] {
    let (expected, metadata) =
        load_tensors(&case.join("expected.safetensors"), Device::Cpu).unwrap();
    assert_eq!(metadata["dtype"], "fp32");
    let open = |folder: &Path| {
        let folder = ModelFolder::open(folder).unwrap();
        let model = folder.load(Device::Cpu, Precision::Fp32).unwrap();
        (folder.config().clone(), model)
    };
    let logits = |model: &mut Transformer, extension: &Extension| {
        model.freeze();
        let tokens_bt = expected["tokens"].shallow_clone();
        let input = Input { tokens_bt, attention: Attention::Causal };
        model.logits(&model.forward(&input, extension).hidden_btd)
    };
    let (base, export) = (case.join("base"), case.join("export"));
    let of_export = match ExtensionFolder::of(&export) {
        Some(_) => {
            let (config, mut model) = open(&base);
            logits(&mut model, &open_extension(&export, &config, Device::Cpu).unwrap())
        }
        None => logits(&mut open(&export).1, &Extension::none()),
    };
    // From the weights that training left.
    let json: Value = read(&trial.join("trial.json"));
    let method: Method = serde_json::from_value(json["trial"]["method"].clone()).unwrap();
    let (config, mut model) = open(&base);
    let extension = if method.trains_base() {
        model.make_trainable();
        model.params_mut().load(&trial.join("model.safetensors")).unwrap();
        Extension::none()
    } else {
        let file = TensorFile::open(&trial.join("extension.safetensors")).unwrap();
        let units = json["trial"]["size"]["units"].as_u64().unwrap() as usize;
        restore(&method, units, &config, &file, Device::Cpu).unwrap()
    };
    let of_trial = logits(&mut model, &extension);
    let of_base = logits(&mut open(&base).1, &Extension::none());
    [
        distance(&of_export, &of_trial),
        distance(&of_export, &expected["logits"]),
        distance(&of_base, &of_trial),
    ]
}

fn read(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// How far an export may be from its trial: merged weights take sums in another order, and rounded ones are rounded.
fn bound(format: &str, dtype: &str) -> f64 {
    match (format, dtype) {
        (_, "bf16") => 2e-2,
        ("hf", _) => 1e-4,
        _ => 1e-5,
    }
}

#[test]
fn every_method_is_exported_in_every_form_that_it_can_have() {
    let sandbox = trials();
    let exports = [
        ("finetune-s0", "hf", "fp32", "config.json"),
        ("finetune-s0", "hf", "bf16", "config.json"),
        ("lora-s0", "peft", "fp32", "adapter_config.json"),
        ("lora-s0", "hf", "fp32", "tokenizer.json"),
        ("lora-s0", "hf", "bf16", "model.safetensors"),
        ("lora-s0", "neutral", "fp32", "extension_config.json"),
        ("dora-s0", "peft", "fp32", "adapter_config.json"),
        ("dora-s0", "hf", "fp32", "tokenizer.json"),
        ("dora-s0", "neutral", "fp32", "extension_config.json"),
        ("adapter-s0", "hf", "fp32", "tokenizer.json"),
        ("adapter-s0", "hf", "bf16", "model.safetensors"),
        ("adapter-s0", "neutral", "fp32", "extension_config.json"),
        ("beside-attention-s0", "neutral", "fp32", "extension_config.json"),
        ("neutral-residues-s0", "neutral", "fp32", "extension.safetensors"),
        ("variant-s0", "neutral", "fp32", "extension.safetensors"),
        ("block-expansion-s0", "hf", "fp32", "config.json"),
        ("block-expansion-s0", "hf", "bf16", "model.safetensors"),
        ("block-expansion-s0", "neutral", "fp32", "extension_config.json"),
    ];
    for (trial, format, dtype, file) in exports {
        let (name, out) = (format!("{trial}-{format}"), format!("{trial}-{format}-{dtype}"));
        let folder = format!("out/trials/{trial}");
        // A trial may be called by its folder, too.
        let trial = if dtype == "bf16" { folder.clone() } else { format!("out/{trial}") };
        let cases = format!("cases-{dtype}");
        let output = neutral(
            &sandbox,
            &[
                "export", &trial, "--format", format, "--dtype", dtype, "--out", &out, "--cases",
                &cases,
            ],
        );
        // An extension keeps its fp32 weights.
        let text = said(&output);
        println!("{text}");
        assert!(text.contains("loaded again") && text.contains(&out), "{text}");
        assert!(sandbox.path(&out).join(file).is_file(), "{out}");
        let card = std::fs::read_to_string(sandbox.path(&out).join("README.md")).unwrap();
        for part in
            ["library_name: ", "| new | `synthetic/b` |", "synthetic/a", "fingerprint", "bound"]
        {
            assert!(card.contains(part), "{out}: {part} is not in {card}");
        }
        if format == "hf" {
            // Else transformers takes the tokenizer for Llama's, and tokens of ours for its special ones.
            let json = |name: &str| read(&sandbox.path(&out).join(name));
            let tokenizer = json("tokenizer_config.json");
            assert_eq!(tokenizer["tokenizer_class"], "PreTrainedTokenizerFast");
            assert_eq!(tokenizer["eos_token"], "<|endoftext|>");
            assert_eq!(json("generation_config.json")["eos_token_id"], 0);
        }
        let case = sandbox.path(&cases).join(name);
        let [error, unlike_written, moved] = distances(&case, &sandbox.path(&folder));
        println!("{out}: {error:.1e} from its trial, of which the base is {moved:.1e}");
        assert!(error <= bound(format, dtype) && moved > 3.0 * error, "{out}: {error:.1e}");
        assert!(unlike_written <= 1e-6 && moved > 1e-3, "{out}: {unlike_written:.1e}, {moved:.1e}");
    }
    assert!(
        std::fs::read_dir(sandbox.path(""))
            .unwrap()
            .all(|entry| { !entry.unwrap().file_name().to_string_lossy().starts_with(".making") })
    );
}

#[test]
fn what_cannot_be_exported_is_refused_and_nothing_is_replaced() {
    let sandbox = trials();
    let export = |arguments: &[&str]| {
        let all: Vec<&str> = ["export"].iter().chain(arguments).copied().collect();
        let output = neutral(&sandbox, &all);
        assert_code(&output, 2);
        words(&output)
    };
    for (trial, format, instead) in [
        ("finetune-s0", "peft", "--format hf"),
        ("finetune-s0", "neutral", "--format hf"),
        ("adapter-s0", "peft", "--format neutral"),
        ("beside-attention-s0", "hf", "--format neutral"),
        ("neutral-residues-s0", "peft", "--format neutral"),
        ("neutral-residues-s0", "hf", "--format neutral"),
        ("block-expansion-s0", "peft", "--format hf"),
    ] {
        let message = export(&[&format!("out/{trial}"), "--format", format]);
        assert!(message.contains(instead), "{message}");
    }
    let message = export(&["out/lora-s0", "--format", "peft", "--dtype", "bf16"]);
    assert!(message.contains("--dtype bf16 is for --format hf"), "{message}");
    let message = export(&["out/lora-s1", "--format", "peft"]);
    assert!(message.contains("lora-s1 is no trial"), "{message}");
    assert!(!sandbox.path("out/exports").exists());

    std::fs::create_dir(sandbox.path("taken")).unwrap();
    let lora = ["export", "out/lora-s0", "--format", "peft"];
    said(&neutral(&sandbox, &[&lora[..], &["--out", "taken"]].concat()));
    let weights = sandbox.path("taken/adapter_model.safetensors");
    let before = std::fs::read(&weights).unwrap();
    let message = export(&[&lora[1..], &["--out", "taken"]].concat());
    assert!(message.contains("taken is there already"), "{message}");
    assert_eq!(std::fs::read(weights).unwrap(), before);
    said(&neutral(&sandbox, &lora));
    assert!(sandbox.path("out/exports/lora-s0-peft/adapter_config.json").is_file());

    // A trial of an earlier version, which the run completes.
    let file = sandbox.path("out/trials/lora-s0/trial.json");
    let whole = std::fs::read(&file).unwrap();
    std::fs::remove_file(&file).unwrap();
    let message = export(&["out/lora-s0", "--format", "hf"]);
    assert!(message.contains("has no trial.json") && message.contains("run its experiment again"));
    assert_code(&sandbox.run(&sandbox.path("few.yaml"), "out"), 0);
    assert_eq!(std::fs::read(&file).unwrap(), whole);

    // A trial that has not finished, and a base that is another one now.
    std::fs::remove_file(sandbox.path("out/trials/adapter-s0/record.json")).unwrap();
    let message = export(&["out/adapter-s0", "--format", "neutral"]);
    assert!(message.contains("has not finished"), "{message}");
    let trial: Value = serde_json::from_slice(&whole).unwrap();
    let base = Path::new(trial["base"]["path"].as_str().unwrap()).join("model.safetensors");
    let mut bytes = std::fs::read(&base).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&base, bytes).unwrap();
    let message = export(&["out/lora-s0", "--format", "hf"]);
    assert!(message.contains("files have changed"), "{message}");
}

#[test]
fn inspect_shows_models_extensions_trials_and_runs() {
    let sandbox = trials();
    let trial: Value = serde_json::from_slice(
        &std::fs::read(sandbox.path("out/trials/lora-s0/trial.json")).unwrap(),
    )
    .unwrap();
    let base = trial["base"]["path"].as_str().unwrap().to_owned();
    for (trial, format) in [("lora-s0", "peft"), ("neutral-residues-s0", "neutral")] {
        said(&neutral(&sandbox, &["export", &format!("out/{trial}"), "--format", format]));
    }
    let gguf = root().join("tests/fixtures/gguf/sentencepiece.gguf");
    let gguf = gguf.to_str().unwrap();
    let cases: [(&str, &[&str]); 9] = [
        (
            &base,
            &["model: ", "model.layers.{0..1}.mlp.down_proj.weight", "2 × [64, 128]", "vocab_size"],
        ),
        (gguf, &["gguf: ", "general.architecture", "total"]),
        (
            "out/exports/lora-s0-peft",
            &["peft: ", "base_model.model.model.layers.{0..1}.", "lora_alpha"],
        ),
        (
            "out/exports/neutral-residues-s0-neutral",
            &[
                "extension: ",
                "layers.{0..1}.mlp.adapter.w_i",
                "gate ‖w‖",
                "gate bias",
                "format_version",
            ],
        ),
        ("out/neutral-residues-s0", &["trial: ", "zero, original", "l1, new", "trial.method.kind"]),
        ("out/variant-s0", &["gate ‖w‖", "mlp.adapter.gate.weight", "zero, original"]),
        ("out/block-expansion-s0", &["layers.1.added.self_attn.q_proj.weight", "[64, 64]"]),
        ("out/finetune-s0", &["trial: ", "model.embed_tokens.weight"]),
        ("out", &["run: ", "forgetting", "trial neutral-residues-s0: finished"]),
    ];
    for (path, parts) in cases {
        let text = said(&neutral(&sandbox, &["inspect", path]));
        println!("{text}");
        for part in parts {
            assert!(text.contains(part), "{path}: {part} is not in {text}");
        }
        assert!(text.lines().all(|line| line == line.trim_end()), "{text}");
        let json = said(&neutral(&sandbox, &["inspect", path, "--json"]));
        let json: Value = serde_json::from_str(&json).unwrap();
        assert!(json["tensors"].is_array() || json["trials"].is_array(), "{path}");
    }
    let json = said(&neutral(&sandbox, &["inspect", "out/neutral-residues-s0", "--json"]));
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["parameters"], json["config"]["trial"]["size"]["extension_parameters"]);
    assert_eq!(json["blocks"].as_array().unwrap().len(), 2);
    assert!(json["blocks"][0]["new"]["gate_zero_fraction"].is_number());
    // An extension on a base of the same sizes, which is not its own.
    let generate = |model: &str| {
        let extension = "out/exports/neutral-residues-s0-neutral";
        let prompt = ["--prompt", "a", "--max-tokens", "1"];
        let words = [&["generate", "--model", model, "--extension", extension], &prompt[..]];
        let output = neutral(&sandbox, &words.concat());
        assert_code(&output, 0);
        String::from_utf8_lossy(&output.stderr).contains("whose files are not those of")
    };
    assert!(!generate(&base));
    let other = sandbox.path("other");
    std::fs::create_dir(&other).unwrap();
    for file in std::fs::read_dir(&base).unwrap().map(Result::unwrap).filter(|f| f.path().is_file())
    {
        std::fs::copy(file.path(), other.join(file.file_name())).unwrap();
    }
    let weights = other.join("model.safetensors");
    let mut bytes = std::fs::read(&weights).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&weights, bytes).unwrap();
    assert!(generate("other"));

    let peft = "out/exports/lora-s0-peft";
    std::fs::remove_file(sandbox.path(peft).join("adapter_model.safetensors")).unwrap();
    let output = neutral(&sandbox, &["inspect", peft]);
    assert_code(&output, 2);
    assert!(words(&output).contains("has no adapter_model.safetensors"), "{}", words(&output));
    let output = neutral(&sandbox, &["inspect", "cache"]);
    assert_code(&output, 2);
    assert!(words(&output).contains("expected a folder with config.json"), "{}", words(&output));
}
