//! What bf16 must not lose.

use neutral_model::{Attention, Input, Transformer};
use neutral_spec::{BranchPlacement, GatePer, GateSpec, Precision, Start};
use neutral_torch::RandomStream;
use tch::{Device, Kind, Tensor};

use crate::contract::{extend, frozen_base};
use crate::methods::neutral;

/// A thousand tokens, so that sums over them stand out of a gradient's own rounding.
fn input() -> Input {
    let ids: Vec<i64> = (0..1024).map(|i| (i * i * 5 + i * 3 + i / 29) % 29).collect();
    Input { tokens_bt: Tensor::from_slice(&ids).view([8, 128]), attention: Attention::Causal }
}

/// What the l1 of the last block's residue adds to the gradient of its `W_o`, its pull on each entry of the
/// residue being 1/1,024 of the stream's.
fn pull(base: &Transformer, gate: GateSpec) -> Tensor {
    let method = neutral(gate, BranchPlacement::Ffn, Start::He);
    let mut extension = extend(base, &method, 0);
    let w_o = extension.params_mut().get("layers.1.mlp.adapter.w_o").unwrap().shallow_clone();
    let drawn = RandomStream::new(8, "w_o").normal(&w_o.size(), 0.3, Device::Cpu);
    tch::no_grad(|| w_o.shallow_clone().copy_(&drawn));
    let gradient = |small: f64| {
        let output = base.forward(&input(), &extension);
        let hidden_btd = output.hidden_btd;
        let weights = RandomStream::new(9, "stream").normal(&hidden_btd.size(), 1.0, Device::Cpu);
        let loss = (hidden_btd * weights).sum(Kind::Float);
        let residue_btd = &output.residues.last().unwrap().output_btd;
        let l1 = residue_btd.abs().sum(Kind::Float) * small;
        Tensor::run_backward(&[loss + l1], &[&w_o], false, false).remove(0)
    };
    // The stream's gradient at the residue is about 1 an entry: `hidden` is its norm.
    (gradient(1.0 / 1024.0) - gradient(0.0)).to_kind(Kind::Double)
}

#[test]
fn the_l1_of_a_residue_is_not_lost_in_the_gradient_of_the_stream() {
    for per in [GatePer::Token, GatePer::Channel] {
        let gate = GateSpec { per, bias: Some(1.0), ..GateSpec::default() };
        let [rounded, exact] =
            [Precision::Bf16, Precision::Fp32].map(|precision| pull(&frozen_base(precision), gate));
        // The share of fp32's pull that is there.
        let dot = |a: &Tensor, b: &Tensor| (a * b).sum(Kind::Double).double_value(&[]);
        let share = dot(&rounded, &exact) / dot(&exact, &exact);
        assert!((share - 1.0).abs() < 0.1, "{per:?}: {share}");
    }
}
