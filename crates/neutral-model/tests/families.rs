//! Every family against Hugging Face transformers, on the checkpoints of `make_family_fixtures.py`.

#![expect(clippy::unwrap_used, reason = "in tests a panic is the report")]

use std::path::{Path, PathBuf};

use neutral_model::{Attention, Extension, Input, ModelFolder, write_model};
use neutral_spec::Precision;
use neutral_torch::fused::PrefixTree;
use neutral_torch::load_tensors;
use tch::{Device, Kind, Tensor};

/// `max |ours − theirs| / max |theirs|` in fp32: some hundred roundings of 6e-8.
const FP32: f64 = 1e-5;

fn folders() -> Vec<PathBuf> {
    let all = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/families");
    let entries = std::fs::read_dir(all).unwrap();
    let mut folders: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    assert!(folders.len() >= 12, "{folders:?}");
    folders
}

fn distance(ours: &Tensor, theirs: &Tensor) -> f64 {
    assert_eq!(ours.size(), theirs.size());
    let theirs = theirs.to_kind(Kind::Double);
    let apart = (ours.to_kind(Kind::Double) - &theirs).abs().max();
    finite((apart / theirs.abs().max()).double_value(&[]))
}

/// `‖ours − theirs‖₂ / ‖theirs‖₂`: steadier than a maximum where every number is rounded.
fn mean_distance(ours: &Tensor, theirs: &Tensor) -> f64 {
    let theirs = theirs.to_kind(Kind::Double);
    finite(((ours.to_kind(Kind::Double) - &theirs).norm() / theirs.norm()).double_value(&[]))
}

/// Any comparison with NaN is false, so it would be near and far from anything.
fn finite(distance: f64) -> f64 {
    assert!(distance.is_finite(), "not every number is finite");
    distance
}

struct Expected {
    tokens_bt: Tensor,
    fp32: Tensor,
    bf16: Tensor,
}

impl Expected {
    fn read(folder: &Path) -> Self {
        let (mut tensors, _) =
            load_tensors(&folder.join("expected.safetensors"), Device::Cpu).unwrap();
        let mut take = |name: &str| tensors.remove(name).unwrap();
        Self {
            tokens_bt: take("input.tokens"),
            fp32: take("logits_fp32"),
            bf16: take("logits_bf16"),
        }
    }
}

fn logits(folder: &Path, tokens_bt: &Tensor, precision: Precision) -> Tensor {
    let mut model = ModelFolder::open(folder).unwrap().load(Device::Cpu, precision).unwrap();
    model.freeze();
    let input = Input { tokens_bt: tokens_bt.shallow_clone(), attention: Attention::Causal };
    model.logits(&model.forward(&input, &Extension::none()).hidden_btd)
}

#[test]
fn in_fp32_and_fp64_logits_are_those_of_transformers_in_fp32() {
    let mut far = Vec::new();
    for folder in folders() {
        let expected = Expected::read(&folder);
        for precision in [Precision::Fp32, Precision::Fp64] {
            let apart = distance(&logits(&folder, &expected.tokens_bt, precision), &expected.fp32);
            let name = folder.file_name().unwrap().display().to_string();
            println!("{name:24} {precision:?} {apart:.1e}");
            if apart > FP32 {
                far.push(format!("{name} in {precision:?}: {apart:.1e}"));
            }
        }
    }
    assert!(far.is_empty(), "{far:#?}");
}

/// Two ways of rounding the same computation are about equally far from the exact one; the bound
/// leaves a fifth for chance.
#[test]
fn in_bf16_logits_are_as_near_to_fp32_as_transformers_own() {
    let mut far = Vec::new();
    for folder in folders() {
        let expected = Expected::read(&folder);
        let ours = logits(&folder, &expected.tokens_bt, Precision::Bf16);
        let (ours, theirs) =
            (mean_distance(&ours, &expected.fp32), mean_distance(&expected.bf16, &expected.fp32));
        println!("{:24} ours {ours:.4} theirs {theirs:.4}", folder.file_name().unwrap().display());
        if ours > 1.2 * theirs {
            far.push(format!("{}: {ours:.4} against {theirs:.4}", folder.display()));
        }
    }
    assert!(far.is_empty(), "{far:#?}");
}

#[test]
fn tokens_in_pieces_with_a_cache_give_the_logits_of_all_at_once() {
    for folder in folders() {
        let expected = Expected::read(&folder);
        let opened = ModelFolder::open(&folder).unwrap();
        let mut model = opened.load(Device::Cpu, Precision::Fp32).unwrap();
        model.freeze();
        let mut cache = model.cache();
        // A prompt, then more than once a single token.
        let pieces = expected.tokens_bt.split_with_sizes([9, 1, 1, 20, 1, 5].as_slice(), 1);
        let logits: Vec<Tensor> = pieces
            .iter()
            .map(|tokens_bt| {
                let output = model.forward_cached(tokens_bt, &mut cache, &Extension::none());
                model.logits(&output.hidden_btd)
            })
            .collect();
        assert_eq!(cache.len(), 37);
        let apart = distance(&Tensor::cat(&logits, 1), &expected.fp32);
        assert!(apart <= FP32, "{}: {apart:.1e}", folder.display());
    }
}

#[test]
fn a_model_that_is_written_is_the_one_that_was_read() {
    let place = tempfile::tempdir().unwrap();
    for folder in folders() {
        let expected = Expected::read(&folder);
        let opened = ModelFolder::open(&folder).unwrap();
        let mut model = opened.load(Device::Cpu, Precision::Fp32).unwrap();
        let copy = place.path().join(folder.file_name().unwrap());
        write_model(&copy, opened.config_json(), &model, Kind::Float).unwrap();
        let again = ModelFolder::open(&copy).unwrap();
        assert_eq!(again.config(), opened.config(), "{}", folder.display());
        model.freeze();
        let input =
            Input { tokens_bt: expected.tokens_bt.shallow_clone(), attention: Attention::Causal };
        let before = model.logits(&model.forward(&input, &Extension::none()).hidden_btd);
        assert!(logits(&copy, &expected.tokens_bt, Precision::Fp32).equal(&before));
    }
}

#[test]
fn sequences_that_share_a_beginning_give_the_logits_that_each_has_by_itself() {
    for folder in folders() {
        let first = Expected::read(&folder).tokens_bt.narrow(0, 0, 1);
        let opened = ModelFolder::open(&folder).unwrap();
        let mut model = opened.load(Device::Cpu, Precision::Fp32).unwrap();
        model.freeze();
        let (shared, own) = (first.narrow(1, 0, 9), first.narrow(1, 9, 28));
        let other = own.flip([1]);
        let mut tree = PrefixTree::default();
        let root = tree.push(None, 9);
        tree.push(Some(root), 28);
        tree.push(Some(root), 28);
        let rows = Tensor::cat(&[&shared, &own, &other], 1);
        let none = Extension::none();
        let hidden = model.forward_prefixes(&rows, &tree, &none).hidden_btd;
        for (branch, begin) in [(&own, 9), (&other, 37)] {
            let tokens_bt = Tensor::cat(&[&shared, branch], 1);
            let alone = Input { tokens_bt, attention: Attention::Causal };
            let alone = model.forward(&alone, &none).hidden_btd;
            let found = Tensor::cat(&[hidden.narrow(1, 0, 9), hidden.narrow(1, begin, 28)], 1);
            let apart = distance(&found, &alone);
            assert!(apart <= FP32, "{}: {apart:.1e}", folder.display());
        }
    }
}
