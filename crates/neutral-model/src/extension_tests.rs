//! What extensions do to a model: nothing where they add zero, something at every place, and one upon another.

use neutral_spec::{LinearSite, Placement};
use neutral_torch::ParamStore;
use tch::{Device, Kind, Tensor};

use crate::transformer::tests::{tiny_model, tokens};
use crate::{
    Attention, Before, Branch, BranchOutput, Extension, Gate, Input, LinearDelta, Output,
    Transformer,
};

/// Adds a number everywhere, and says what it read.
struct Constant(f64);
impl Branch for Constant {
    fn forward(&self, x_btd: &Tensor, _: &mut Before) -> BranchOutput {
        let value = x_btd.mean_dim(-1, true, Kind::Float);
        let gate = Gate { logit: value.shallow_clone(), unrounded: value.shallow_clone(), value };
        BranchOutput {
            output_btd: x_btd.zeros_like() + self.0,
            watched_btd: None,
            gate: Some(gate),
        }
    }
}

struct Scale(f64);
impl LinearDelta for Scale {
    fn apply(&self, x: &Tensor, weight: &Tensor, _: Option<&Tensor>, y: Tensor) -> Tensor {
        assert!(x.linear(weight, None::<Tensor>).allclose(&y, 1e-5, 1e-6, false));
        y * self.0
    }
}

fn run(model: &Transformer, extension: &Extension) -> Output {
    let input = Input { tokens_bt: tokens(&[0, 5, 6, 7]), attention: Attention::Causal };
    model.forward(&input, extension)
}

fn with(attach: impl FnOnce(&mut Extension)) -> Extension {
    let mut extension = Extension::new(ParamStore::new(Device::Cpu));
    attach(&mut extension);
    extension
}

#[test]
fn what_adds_zero_is_the_base_bit_for_bit() {
    let model = tiny_model(1);
    let base = run(&model, &Extension::none());
    assert!(Extension::none().is_none());
    assert!(base.residues.is_empty());
    let neutral = with(|e| {
        for block in 0..2 {
            e.add_branch(block, Placement::Ffn, Box::new(Constant(0.0)));
            e.add_branch(block, Placement::Attention, Box::new(Constant(0.0)));
            for site in LinearSite::ALL {
                e.add_delta(block, site, Box::new(Scale(1.0)));
            }
        }
    });
    assert!(!neutral.is_none());
    assert_eq!(neutral.describe(), "4 branches, 14 deltas, 0 weights");
    let output = run(&model, &neutral);
    assert!(output.hidden_btd.equal(&base.hidden_btd));
    let order: Vec<_> = output.residues.iter().map(|r| (r.block, r.placement)).collect();
    let (attention, ffn) = (Placement::Attention, Placement::Ffn);
    assert_eq!(order, [(0, attention), (0, ffn), (1, attention), (1, ffn)]);
}

#[test]
fn every_point_of_attachment_has_an_effect() {
    let model = tiny_model(1);
    let base = run(&model, &Extension::none()).hidden_btd;
    let differs = |extension: Extension| {
        !run(&model, &extension).hidden_btd.allclose(&base, 1e-4, 1e-4, false)
    };
    for block in 0..2 {
        for placement in [Placement::Ffn, Placement::Attention] {
            let branch = Box::new(Constant(0.5));
            assert!(differs(with(|e| e.add_branch(block, placement, branch))), "{placement:?}");
        }
        for site in LinearSite::ALL {
            let delta = Box::new(Scale(2.0));
            assert!(differs(with(|e| e.add_delta(block, site, delta))), "{site:?}");
        }
    }
}

#[test]
fn an_extension_upon_another_adds_to_it_and_leaves_its_own_residues_alone() {
    let model = tiny_model(1);
    let (ffn, attention) = (Placement::Ffn, Placement::Attention);
    let constant = |value| Box::new(Constant(value));
    let below = || {
        with(|e| {
            e.add_branch(0, ffn, constant(0.25));
            e.add_branch(1, attention, constant(0.5));
            e.add_delta(0, LinearSite::UpProj, Box::new(Scale(2.0)));
        })
    };
    let own = |e: &mut Extension| {
        e.add_branch(0, ffn, constant(0.5));
        e.add_delta(1, LinearSite::QProj, Box::new(Scale(3.0)));
    };
    let lower = run(&model, &below());
    let nothing_more = run(&model, &Extension::none().upon(below()));
    assert!(nothing_more.hidden_btd.equal(&lower.hidden_btd));
    assert!(nothing_more.residues.is_empty());

    let upper = run(&model, &with(own).upon(below()));
    let places: Vec<_> = upper.residues.iter().map(|r| (r.block, r.placement)).collect();
    assert_eq!(places, [(0, ffn)]);
    let together = with(|e| {
        e.add_branch(0, ffn, constant(0.75));
        e.add_branch(1, attention, constant(0.5));
        e.add_delta(0, LinearSite::UpProj, Box::new(Scale(2.0)));
        e.add_delta(1, LinearSite::QProj, Box::new(Scale(3.0)));
    });
    let expected = run(&model, &together).hidden_btd;
    assert!(upper.hidden_btd.allclose(&expected, 1e-5, 1e-6, false));
    assert!(!expected.allclose(&lower.hidden_btd, 1e-3, 1e-3, false));

    // Three in a row, and deltas on one layer in turn.
    struct Plus(f64);
    impl LinearDelta for Plus {
        fn apply(&self, _: &Tensor, _: &Tensor, _: Option<&Tensor>, y: Tensor) -> Tensor {
            y + self.0
        }
    }
    let plus = |value| with(|e| e.add_delta(0, LinearSite::VProj, Box::new(Plus(value))));
    let in_turn = plus(0.25).upon(plus(0.5).upon(below()));
    let at_once = plus(0.75).upon(below());
    let [in_turn, at_once] = [in_turn, at_once].map(|e| run(&model, &e).hidden_btd);
    assert!(in_turn.allclose(&at_once, 1e-5, 1e-6, false));
    assert!(!in_turn.allclose(&lower.hidden_btd, 1e-3, 1e-3, false));
}

#[test]
fn a_branch_reads_the_normalised_input_of_its_sub_layer() {
    let model = tiny_model(1);
    let extension = with(|e| e.add_branch(0, Placement::Attention, Box::new(Constant(0.0))));
    let output = run(&model, &extension);
    let embeddings = model.params().get("model.embed_tokens.weight").unwrap();
    let x = Tensor::embedding(embeddings, &tokens(&[0, 5, 6, 7]), -1, false, false);
    let norm = model.params().get("model.layers.0.input_layernorm.weight").unwrap();
    let expected = neutral_torch::fused::rms_norm(&x, &[], norm, model.config().norm_rule())
        .1
        .mean_dim(-1, true, Kind::Float);
    let gate = output.residues[0].gate.as_ref().unwrap();
    assert!(gate.value.equal(&expected));
}

#[test]
#[should_panic(expected = "block 0 has a branch beside Ffn already")]
fn a_second_branch_at_one_place_is_refused() {
    with(|e| {
        e.add_branch(0, Placement::Ffn, Box::new(Constant(0.0)));
        e.add_branch(0, Placement::Ffn, Box::new(Constant(1.0)));
    });
}

#[test]
#[should_panic(expected = "the extension has 3 blocks, the model 2")]
fn a_branch_beyond_the_last_block_is_not_ignored() {
    let extension = with(|e| e.add_branch(2, Placement::Ffn, Box::new(Constant(0.0))));
    run(&tiny_model(1), &extension);
}
