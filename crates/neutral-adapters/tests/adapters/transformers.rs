//! Extensions of our own format, against the Python package neutral-transformers on models of several families:
//! `tests/fixtures/make_extension_fixtures.py`.

use std::path::Path;

use neutral_adapters::{load_extension, read_extension_config};
use neutral_model::{Attention, Input, ModelFolder};
use neutral_spec::Precision;
use neutral_torch::load_tensors;
use tch::{Device, Kind, Tensor, no_grad};

/// `max |ours − theirs| / max |theirs|`: some hundred roundings of 6e-8 in theirs.
const BOUND: f64 = 1e-5;

#[test]
fn logits_are_those_of_the_package_for_transformers_at_once_and_in_pieces() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures");
    let cases = std::fs::read_dir(fixtures.join("extensions")).unwrap();
    let cases: Vec<_> = cases.map(|case| case.unwrap().path()).collect();
    assert_eq!(cases.len(), 6, "{cases:?}");
    for case in cases {
        let family = fixtures.join(read_extension_config(&case).unwrap().base.name);
        let (expected, _) = load_tensors(&case.join("expected.safetensors"), Device::Cpu).unwrap();
        let (tokens_bt, theirs) = (&expected["input.tokens"], &expected["logits_fp32"]);
        for precision in [Precision::Fp32, Precision::Fp64] {
            let folder = ModelFolder::open(&family).unwrap();
            let mut model = folder.load(Device::Cpu, precision).unwrap();
            model.freeze();
            let (extension, _) = load_extension(&case, model.config(), Device::Cpu).unwrap();
            let near = |ours: &Tensor, how: &str| {
                let theirs = theirs.to_kind(Kind::Double);
                let apart = (ours.to_kind(Kind::Double) - &theirs).abs().max();
                let apart = (apart / theirs.abs().max()).double_value(&[]);
                let name = case.file_name().unwrap().display();
                assert!(apart < BOUND, "{name}, {how}, in {precision:?}: {apart:.1e}");
            };
            no_grad(|| {
                let attention = Attention::Causal;
                let input = Input { tokens_bt: tokens_bt.shallow_clone(), attention };
                near(&model.logits(&model.forward(&input, &extension).hidden_btd), "at once");
                let mut cache = model.cache();
                let pieces = tokens_bt.split_with_sizes([9, 1, 1, 20, 6].as_slice(), 1);
                let pieces = pieces.iter().map(|tokens_bt| {
                    let output = model.forward_cached(tokens_bt, &mut cache, &extension);
                    model.logits(&output.hidden_btd)
                });
                near(&Tensor::cat(&pieces.collect::<Vec<_>>(), 1), "in pieces");
            });
        }
    }
}
