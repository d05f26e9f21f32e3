//! Gradients of every layer against central differences, in float64.

use neutral_adapters::{BlockGate, GluAdapter, LoraDelta, NeutralResidue};
use neutral_model::{Activation, Before, Branch, LinearDelta};
use neutral_spec::{GateActivation, GatePer, GateSpec};
use neutral_torch::RandomStream;
use tch::{Device, Kind, Tensor};

use crate::gate_variants::{gates, gates_and_none};

const STEP: f64 = 1e-5;
/// Of the largest entry: the differences leave out terms of `STEP²`, and round at `1e-16 / STEP`.
const TOLERANCE: f64 = 1e-8;

/// Enough tokens that some `ReLU` gates are open, whatever the bias.
const X: [i64; 3] = [3, 5, 4];

fn leaf(purpose: &str, shape: &[i64]) -> Tensor {
    let drawn = RandomStream::new(5, purpose).normal(shape, 0.7, Device::Cpu);
    drawn.to_kind(Kind::Double).set_requires_grad(true)
}

/// `Σ u ⊙ y` for a fixed `u`: a loss that sees every entry.
fn weigh(y: &Tensor, purpose: &str) -> Tensor {
    let u = RandomStream::new(6, purpose).normal(&y.size(), 1.0, Device::Cpu);
    (y * u.to_kind(Kind::Double)).sum(Kind::Double)
}

/// Compares autograd's gradient of each entry of each leaf with `(f(x + ε) − f(x − ε)) / 2ε`.
fn check(name: &str, leaves: &[Tensor], loss: impl Fn(&[Tensor]) -> Tensor) {
    let gradients = Tensor::run_backward(&[loss(leaves)], leaves, false, false);
    for (which, (leaf, gradient)) in leaves.iter().zip(&gradients).enumerate() {
        let numeric: Vec<f64> = (0..leaf.numel() as i64)
            .map(|entry| {
                let at = |offset: f64| {
                    tch::no_grad(|| {
                        let moved: Vec<Tensor> = leaves.iter().map(Tensor::copy).collect();
                        let _ = moved[which].view(-1).get(entry).g_add_scalar_(offset);
                        loss(&moved).double_value(&[])
                    })
                };
                (at(STEP) - at(-STEP)) / (2.0 * STEP)
            })
            .collect();
        let numeric = Tensor::from_slice(&numeric).view_as(gradient);
        let off = (&numeric - gradient).abs().max() / numeric.abs().max();
        // Not a number, and so an error, if nothing depends on the leaf.
        let off = off.double_value(&[]);
        assert!(off < TOLERANCE, "{name}: gradient of input {which} is off by {off:e}");
    }
}

fn adapter(leaves: &[Tensor]) -> GluAdapter {
    let [w_i, w_g, w_o] = [1, 2, 3].map(|i: usize| leaves[i].shallow_clone());
    GluAdapter::new(w_i, w_g, w_o, Activation::Silu)
}

fn adapter_leaves() -> Vec<Tensor> {
    vec![leaf("x", &X), leaf("w_i", &[5, 4]), leaf("w_g", &[5, 4]), leaf("w_o", &[4, 5])]
}

#[test]
fn of_the_vanilla_adapter() {
    check("adapter", &adapter_leaves(), |leaves| {
        weigh(&adapter(leaves).forward(&leaves[0], &mut Before::nothing()).output_btd, "output")
    });
}

/// Against libtorch's own σ, and by differences.
#[test]
fn of_the_adapter_with_every_activation() {
    type Sigma = fn(&Tensor) -> Tensor;
    let all: [(Activation, Sigma); 3] = [
        (Activation::Silu, Tensor::silu),
        (Activation::GeluTanh, |z| z.gelu("tanh")),
        (Activation::Relu, |z| z.clamp_min(0.0)),
    ];
    for (activation, sigma) in all {
        let of = |leaves: &[Tensor]| {
            let [w_i, w_g, w_o] = [1, 2, 3].map(|i: usize| leaves[i].shallow_clone());
            GluAdapter::new(w_i, w_g, w_o, activation).output(&leaves[0])
        };
        let leaves = adapter_leaves();
        let [x, w_i, w_g, w_o] = [0, 1, 2, 3].map(|i: usize| &leaves[i]);
        let product = |x: &Tensor, w: &Tensor| x.matmul(&w.tr());
        let expected = product(&(sigma(&product(x, w_g)) * product(x, w_i)), w_o);
        assert!(of(&leaves).allclose(&expected, 1e-13, 1e-13, false), "{activation:?}");
        check(&format!("{activation:?}"), &leaves, |leaves| weigh(&of(leaves), "output"));
    }
}

#[test]
fn of_the_neutral_residue_with_every_gate() {
    let windowed = gates()
        .into_iter()
        .map(|(name, spec)| (format!("{name}-window"), GateSpec { window: Some(2), ..spec }));
    for (name, spec) in gates_and_none().into_iter().chain(windowed) {
        let GateSpec { activation, per, bias, window, .. } = spec;
        let mut leaves = adapter_leaves();
        let (weight_shape, gates): (&[i64], _) =
            if per == GatePer::Token { (&[4], 1) } else { (&[4, 4], 4) };
        if BlockGate::new(activation, leaf("weight", weight_shape), None).is_some() {
            leaves.push(leaf("weight", weight_shape));
        }
        leaves.extend(bias.map(|_| leaf("bias", &[gates])));
        check(&name, &leaves, |leaves| {
            let gate = leaves.get(4).and_then(|weight| {
                let bias = leaves.get(5).map(Tensor::shallow_clone);
                let gate = BlockGate::new(activation, weight.shallow_clone(), bias);
                gate.map(|gate| window.into_iter().fold(gate, BlockGate::with_window))
            });
            let output = NeutralResidue::new(adapter(leaves), gate);
            let output = output.forward(&leaves[0], &mut Before::nothing());
            let residue = weigh(&output.output_btd, "output");
            let Some(gate) = output.gate else { return residue };
            // Differences across a corner of ReLU, ELU or the hard sigmoid would mean nothing.
            for corner in [0.0, 11_f64.ln(), -11_f64.ln()] {
                let nearest = (&gate.logit - corner).abs().min().double_value(&[]);
                assert!(nearest > 100.0 * STEP, "{name}: {nearest} from {corner}");
            }
            residue + weigh(&gate.value, "value") + weigh(&gate.logit, "logit")
        });
    }
}

/// Against the formula in libtorch's operations, and by differences.
#[test]
fn of_the_adapter_behind_a_norm_of_its_own() {
    let mut leaves = adapter_leaves();
    leaves.push(leaf("n", &[4]));
    let of = |leaves: &[Tensor], epsilon| {
        adapter(leaves).with_input_norm(leaves[4].shallow_clone(), epsilon).output(&leaves[0])
    };
    let (x, epsilon) = (&leaves[0], 0.01);
    let mean_square = (x * x).mean_dim(-1, true, Kind::Double);
    let normed = x / (mean_square + epsilon).sqrt() * &leaves[4];
    let expected = adapter(&leaves).output(&normed);
    assert!(of(&leaves, epsilon).allclose(&expected, 1e-13, 1e-13, false));
    check("input norm", &leaves, |leaves| weigh(&of(leaves, epsilon), "output"));
    // Its length is its own: one of `x`'s does not reach it.
    let longer: Vec<_> =
        std::iter::once(x * 3.0).chain(leaves[1..].iter().map(Tensor::copy)).collect();
    assert!(of(&longer, 0.0).allclose(&of(&leaves, 0.0), 1e-12, 1e-12, false));
    // The gate reads the stream as it is.
    let w = leaf("weight", &[4]);
    let gate = BlockGate::new(GateActivation::Relu, w.shallow_clone(), None);
    let normed = adapter(&leaves).with_input_norm(leaves[4].shallow_clone(), epsilon);
    let residue = NeutralResidue::new(normed, gate).forward(x, &mut Before::nothing());
    let value = x.matmul(&w).clamp_min(0.0).unsqueeze(-1);
    assert!(residue.output_btd.allclose(&(value * expected), 1e-13, 1e-13, false));
}

#[test]
fn of_lora() {
    let leaves = [leaf("x", &X), leaf("lora_a", &[2, 4]), leaf("lora_b", &[6, 2])];
    let w = leaf("w", &[6, 4]).detach();
    check("lora", &leaves, |leaves| {
        let layer = LoraDelta::new(leaves[1].shallow_clone(), leaves[2].shallow_clone(), 0.5);
        weigh(&layer.apply(&leaves[0], &w, None, leaves[0].linear(&w, None::<Tensor>)), "output")
    });
}
