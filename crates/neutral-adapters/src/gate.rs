//! The block gate `g(x)` (paper, section 3.2): what opens and closes a residue.
//!
//! Why `ReLU`: off is exactly zero, so the extended block is the base's to the last bit. What follows
//! from it: a token at which the gate is off sends no gradient to the gate nor to the adapter. A gate
//! that is off at every token stays so; a `bias` above zero starts it open. All of this holds of the hard
//! sigmoid too, which starts open at nearly every token, as it is off only from `z = −2.4` down.
//!
//! Shape suffixes: b batch, t tokens, d width of the model, c number of gates (1 or d).

use std::ops::RangeInclusive;

use neutral_model::{Before, Gate};
use neutral_spec::{GateActivation, GatePer, GateSpec};
use neutral_torch::fused::row_dot;
use neutral_torch::sum_kind;
use tch::Tensor;

use crate::AdapterError;
use crate::glu_adapter::linear;
use crate::start::Weights;

/// Tokens that a gate may read, as in an experiment.
pub(crate) const WINDOWS: RangeInclusive<usize> = 2..=1_048_576;

/// `g(x) = φ(w · x̄ + β)`, one number a token, or `φ(W x̄ + β)`, one a token and channel, where `x̄ = x`, or with a
/// window the mean of `x` over the last so many tokens of its sequence, or of its document where attention stays within ([`Before::window_mean`]).
///
/// | φ | formula | range |
/// |---|---|---|
/// | `relu` | `max(0, z)` | `[0, ∞)` |
/// | `elu` | `z` if `z > 0`, else `eᶻ − 1` | `(−1, ∞)` |
/// | `sigmoid` | `1 / (1 + e⁻ᶻ)` | `(0, 1)` |
/// | `hard_sigmoid` | `min(1, max(0, 1.2 / (1 + e⁻ᶻ) − 0.1))` | `[0, 1]` |
///
/// Deviation: the paper names neither the bias `β` nor the gate a channel nor the hard sigmoid nor a gate
/// whose weights all blocks share nor the window; all are options, off by default. It is also silent on precision: here `w · x` is summed in fp32, and bias and φ are fp32; `W x`
/// is rounded to `x`'s kind first. The mean is taken of `w · x`, in fp64.
#[derive(Debug)]
pub struct BlockGate {
    activation: fn(&Tensor) -> Tensor,
    weight: Tensor,
    bias_c: Option<Tensor>,
    window: Option<usize>,
}

impl BlockGate {
    /// A gate of given weights; nothing for the activation `none`, which is no gate.
    ///
    /// # Shapes
    /// `weight`: `[d]` for one gate a token, `[d, d]` for one a channel; `bias`: `[1]` or `[d]`.
    pub fn new(activation: GateActivation, weight: Tensor, bias_c: Option<Tensor>) -> Option<Self> {
        let activation = match activation {
            GateActivation::Relu => Tensor::relu,
            GateActivation::Elu => Tensor::elu,
            GateActivation::Sigmoid => Tensor::sigmoid,
            GateActivation::HardSigmoid => hard_sigmoid,
            GateActivation::None => return None,
        };
        Some(Self { activation, weight, bias_c, window: None })
    }

    /// The same of the mean over so many tokens.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn with_window(self, window: usize) -> Self {
        assert!(window > 0, "a window has a token");
        Self { window: Some(window), ..self }
    }

    /// New weights `{prefix}.weight` from `N(0, variance)` and `{prefix}.bias` at the spec's value; of a
    /// shared gate, those that the first block has made.
    pub(crate) fn start(
        weights: &mut Weights,
        prefix: &str,
        spec: GateSpec,
        d: i64,
        variance: f64,
    ) -> Result<Option<Self>, AdapterError> {
        if spec.activation == GateActivation::None {
            return match spec.ignored().into_iter().next() {
                Some((field, found, _)) => Err(AdapterError::IgnoredGateOption { field, found }),
                None => Ok(None),
            };
        }
        if let Some(found) = spec.window.filter(|window| !WINDOWS.contains(window)) {
            return Err(AdapterError::Window { found });
        }
        // One gate a token is a vector and no matrix, so that weight decay leaves it alone.
        let (shape, gates): (&[i64], i64) = match spec.per {
            GatePer::Token => (&[d], 1),
            GatePer::Channel => (&[d, d], d),
        };
        let [weight, bias] = ["weight", "bias"].map(|part| format!("{prefix}.{part}"));
        let of_first = |weights: &Weights, name| weights.made(name).filter(|_| spec.shared);
        let weight = match of_first(weights, &weight) {
            Some(made) => made,
            None => weights.normal(&weight, shape, variance)?,
        };
        let bias_c = match (spec.bias, of_first(weights, &bias)) {
            (None, _) => None,
            (Some(_), Some(made)) => Some(made),
            (Some(value), None) => Some(weights.constant(&bias, &[gates], value)?),
        };
        let gate = Self::new(spec.activation, weight, bias_c);
        Ok(gate.map(|gate| spec.window.into_iter().fold(gate, Self::with_window)))
    }

    /// The gate's value in `x`'s kind, and its logit `z` in fp32 (fp64 if `x` is).
    ///
    /// # Shapes
    /// `[B,T,d] → [B,T,1]` or `[B,T,d]`, both of them.
    ///
    /// # Panics
    /// If `x`'s last dimension is not `d`.
    pub fn forward(&self, x_btd: &Tensor, before: &mut Before) -> Gate {
        let kind = sum_kind(x_btd.kind());
        let product_btc = match self.weight.dim() {
            1 => row_dot(x_btd, &self.weight),
            _ => linear(x_btd, &self.weight).to_kind(kind),
        };
        let product_btc = match self.window {
            Some(window) => before.window_mean(&product_btc, window),
            None => product_btc,
        };
        let logit = match &self.bias_c {
            Some(bias_c) => product_btc + bias_c.to_kind(kind),
            None => product_btc,
        };
        let unrounded = (self.activation)(&logit);
        Gate { value: unrounded.to_kind(x_btd.kind()), unrounded, logit }
    }
}

/// `min(1, max(0, (ζ − γ) σ(z) + γ))`: exactly 0 from `z = −ln 11` down, where its gradient is 0 too.
fn hard_sigmoid(logit: &Tensor) -> Tensor {
    let [low, high] = GateActivation::STRETCH;
    (logit.sigmoid() * (high - low) + low).clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::start::Source;
    use crate::start::tests::tiny_base;
    use neutral_torch::ParamStore;
    use tch::{Device, Kind};

    fn relu_gate(weight: &[f32], bias: Option<f32>) -> BlockGate {
        let bias = bias.map(|b| Tensor::from_slice(&[b]));
        BlockGate::new(GateActivation::Relu, Tensor::from_slice(weight), bias).unwrap()
    }

    #[test]
    fn relu_is_exactly_zero_where_the_logit_is_not_positive() {
        let x_btd = Tensor::from_slice(&[1.0_f32, 0.0, 0.0, 1.0, 0.0, 0.0]).view([1, 3, 2]);
        for kind in [Kind::Float, Kind::BFloat16, Kind::Double] {
            let gate =
                relu_gate(&[-2.0, 0.5], None).forward(&x_btd.to_kind(kind), &mut Before::nothing());
            assert_eq!(gate.value.kind(), kind);
            assert_eq!(
                Vec::<f64>::try_from(gate.value.to_kind(Kind::Double).view(-1)).unwrap(),
                [0.0, 0.5, 0.0]
            );
            assert_eq!(
                Vec::<f64>::try_from(gate.logit.to_kind(Kind::Double).view(-1)).unwrap(),
                [-2.0, 0.5, 0.0]
            );
        }
    }

    #[test]
    fn the_bias_is_added_in_fp32_even_if_x_is_bf16() {
        // 1 + 2⁻¹⁰ is no bf16 number: added in bf16, the bias would be lost.
        let x_btd = Tensor::from_slice(&[1.0_f32]).view([1, 1, 1]).to_kind(Kind::BFloat16);
        let gate = relu_gate(&[1.0], Some(1.0 / 1024.0)).forward(&x_btd, &mut Before::nothing());
        assert_eq!(gate.logit.kind(), Kind::Float);
        assert!(gate.logit.equal(&Tensor::from_slice(&[1.0_f32 + 1.0 / 1024.0]).view([1, 1, 1])));
    }

    /// As the losses of a gate see it: 1 and 2⁻¹⁰ are one number in bf16.
    #[test]
    fn the_gradients_of_the_residue_and_of_a_loss_are_summed_in_fp32() {
        let x_btd = Tensor::zeros([1, 1, 1], (Kind::BFloat16, Device::Cpu));
        let bias = Tensor::from_slice(&[0.5_f32]).set_requires_grad(true);
        let weight = Tensor::zeros([1], (Kind::Float, Device::Cpu));
        let gate = BlockGate::new(GateActivation::Relu, weight, Some(bias.shallow_clone()));
        let gate = gate.unwrap().forward(&x_btd, &mut Before::nothing());
        let [residue, loss] = [gate.value, gate.unrounded].map(|gate| gate.sum(Kind::Float));
        (residue + loss / 1024.0).backward();
        assert_eq!(bias.grad().double_value(&[0]), 1.0 + 1.0 / 1024.0);
    }

    #[test]
    fn without_a_gate_its_options_are_errors() {
        let mut store = ParamStore::new(Device::Cpu);
        let base = tiny_base();
        let source = Source::Start { seed: 0, base: &base };
        let mut weights = Weights { store: &mut store, source };
        let mut none = GateSpec { activation: GateActivation::None, ..GateSpec::default() };
        assert!(BlockGate::start(&mut weights, "gate", none, 4, 1.0).unwrap().is_none());
        none.bias = Some(0.5);
        let message = BlockGate::start(&mut weights, "gate", none, 4, 1.0).unwrap_err().to_string();
        assert!(message.contains("method.gate.bias is 0.5"), "{message}");
        none = GateSpec { per: GatePer::Channel, bias: None, ..none };
        let message = BlockGate::start(&mut weights, "gate", none, 4, 1.0).unwrap_err().to_string();
        assert!(message.contains("method.gate.per is channel"), "{message}");
        none = GateSpec { per: GatePer::Token, shared: true, ..none };
        let message = BlockGate::start(&mut weights, "gate", none, 4, 1.0).unwrap_err().to_string();
        assert!(message.contains("method.gate.shared is true"), "{message}");
        none = GateSpec { shared: false, window: Some(8), ..none };
        let message = BlockGate::start(&mut weights, "gate", none, 4, 1.0).unwrap_err().to_string();
        assert!(message.contains("method.gate.window is 8"), "{message}");
        let one = GateSpec { window: Some(1), ..GateSpec::default() };
        let message = BlockGate::start(&mut weights, "gate", one, 4, 1.0).unwrap_err().to_string();
        assert!(message.contains("method.gate.window is 1, expected 2"), "{message}");
    }

    #[test]
    fn the_hard_sigmoid_is_its_formula_and_exactly_zero_and_one_beyond_its_corners() {
        let logits: Vec<f64> = (-60..=60).map(|i| f64::from(i) / 10.0).collect();
        let x_btd = Tensor::from_slice(&logits).view([1, -1, 1]);
        let value = |kind| {
            let weight = Tensor::ones([1], (kind, Device::Cpu));
            let gate = BlockGate::new(GateActivation::HardSigmoid, weight, None).unwrap();
            let value = gate.forward(&x_btd.to_kind(kind), &mut Before::nothing()).value;
            Vec::<f64>::try_from(value.to_kind(Kind::Double).view(-1)).unwrap()
        };
        let corner = 11_f64.ln();
        for (kind, tolerance) in [(Kind::Double, 1e-15), (Kind::Float, 2e-7)] {
            for (z, found) in logits.iter().zip(value(kind)) {
                let expected = (1.2 / (1.0 + (-z).exp()) - 0.1).clamp(0.0, 1.0);
                assert!((found - expected).abs() <= tolerance, "{z}: {found} for {expected}");
                assert_eq!(found == 0.0, *z < -corner, "{z}: {found}");
                assert_eq!(found == 1.0, *z > corner, "{z}: {found}");
            }
        }
    }
}
