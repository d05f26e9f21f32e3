//! Outputs and gradients of every layer against PyTorch in float64, by `make_adapter_fixtures.py`.

use std::collections::BTreeMap;
use std::path::Path;

use neutral_adapters::{BlockGate, DoraDelta, GluAdapter, LoraDelta, NeutralResidue};
use neutral_model::{Activation, Before, Branch, LinearDelta};
use neutral_spec::GatePer;
use neutral_torch::load_tensors;
use tch::{Device, Kind, Tensor};

use crate::gate_variants::gates;

/// Float32 against float64: some roundings of 6e-8. Float64 against float64: the order of sums.
const TOLERANCES: [(Kind, f64); 2] = [(Kind::Float, 1e-5), (Kind::Double, 1e-13)];

struct Fixture {
    tensors: BTreeMap<String, Tensor>,
    kind: Kind,
    tolerance: f64,
}

impl Fixture {
    fn each_kind() -> impl Iterator<Item = Self> {
        let file = "../../tests/fixtures/adapters.safetensors";
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
        TOLERANCES.into_iter().map(move |(kind, tolerance)| {
            let (tensors, _) = load_tensors(&path, Device::Cpu).unwrap();
            Self { tensors, kind, tolerance }
        })
    }

    fn get(&self, name: &str) -> Tensor {
        self.tensors[name].to_kind(self.kind)
    }

    fn leaf(&self, name: &str) -> Tensor {
        self.get(name).detach().copy().set_requires_grad(true)
    }

    /// The fixture's value of that name, to the tolerance, relative to its largest entry.
    fn check(&self, name: &str, found: &Tensor) {
        let expected = &self.tensors[name];
        assert_eq!(found.size(), expected.size(), "{name}");
        assert_eq!(found.kind(), self.kind, "{name}");
        let off = (found.to_kind(Kind::Double) - expected).abs().max() / expected.abs().max();
        let off = off.double_value(&[]);
        assert!(off < self.tolerance, "{name} in {:?} is off by {off:e}", self.kind);
    }

    fn check_gradients(&self, variant: &str, loss: &Tensor, leaves: &[(&str, &Tensor)]) {
        let inputs: Vec<&Tensor> = leaves.iter().map(|(_, leaf)| *leaf).collect();
        let gradients = Tensor::run_backward(&[loss], &inputs, false, false);
        for ((name, _), gradient) in leaves.iter().zip(&gradients) {
            self.check(&format!("{variant}.grad.{name}"), gradient);
        }
    }
}

#[test]
fn vanilla_adapters_agree_with_pytorch() {
    for fixture in Fixture::each_kind() {
        let [x, w_i, w_g, w_o] = ["x", "w_i", "w_g", "w_o"].map(|name| fixture.leaf(name));
        let layer = GluAdapter::new(
            w_i.shallow_clone(),
            w_g.shallow_clone(),
            w_o.shallow_clone(),
            Activation::Silu,
        );
        let output = layer.forward(&x, &mut Before::nothing());
        assert!(output.gate.is_none());
        fixture.check("glu.output", &output.output_btd);
        let loss = (output.output_btd * fixture.get("upstream")).sum(fixture.kind);
        let leaves = [("x", &x), ("w_i", &w_i), ("w_g", &w_g), ("w_o", &w_o)];
        fixture.check_gradients("glu", &loss, &leaves);
    }
}

#[test]
fn neutral_residues_agree_with_pytorch_for_every_gate() {
    for fixture in Fixture::each_kind() {
        for (variant, spec) in gates() {
            let per = if spec.per == GatePer::Token { "token" } else { "channel" };
            let [x, w_i, w_g, w_o] = ["x", "w_i", "w_g", "w_o"].map(|name| fixture.leaf(name));
            let weight = fixture.leaf(&format!("gate.{per}.weight"));
            let bias = spec.bias.map(|_| fixture.leaf(&format!("gate.{per}.bias")));
            let bias_handle = bias.as_ref().map(Tensor::shallow_clone);
            let layer = NeutralResidue::new(
                GluAdapter::new(
                    w_i.shallow_clone(),
                    w_g.shallow_clone(),
                    w_o.shallow_clone(),
                    Activation::Silu,
                ),
                BlockGate::new(spec.activation, weight.shallow_clone(), bias_handle),
            );
            let output = layer.forward(&x, &mut Before::nothing());
            let gate = output.gate.unwrap();
            fixture.check(&format!("{variant}.output"), &output.output_btd);
            fixture.check(&format!("{variant}.value"), &gate.value);
            fixture.check(&format!("{variant}.logit"), &gate.logit);
            let upstream_logit = fixture.get("upstream_logit").narrow(2, 0, gate.logit.size()[2]);
            let loss = (output.output_btd * fixture.get("upstream")).sum(fixture.kind)
                + (gate.logit * upstream_logit).sum(fixture.kind);
            let mut leaves =
                vec![("x", &x), ("w_i", &w_i), ("w_g", &w_g), ("w_o", &w_o), ("weight", &weight)];
            leaves.extend(bias.as_ref().map(|bias| ("bias", bias)));
            fixture.check_gradients(&variant, &loss, &leaves);
        }
    }
}

#[test]
fn lora_agrees_with_pytorch() {
    for fixture in Fixture::each_kind() {
        let [x, a, b] = ["x", "lora_a", "lora_b"].map(|name| fixture.leaf(name));
        let w = fixture.get("w");
        let layer = LoraDelta::new(a.shallow_clone(), b.shallow_clone(), 1.5);
        let output = layer.apply(&x, &w, None, x.linear(&w, None::<Tensor>));
        fixture.check("lora.output", &output);
        let loss = (output * fixture.get("upstream_lora")).sum(fixture.kind);
        fixture.check_gradients("lora", &loss, &[("x", &x), ("lora_a", &a), ("lora_b", &b)]);
    }
}

#[test]
fn dora_agrees_with_pytorch_with_and_without_a_bias() {
    for fixture in Fixture::each_kind() {
        let names = ["x", "lora_a", "lora_b", "magnitude"];
        for (variant, bias) in [("dora", None), ("dora-bias", Some(fixture.get("w_bias")))] {
            let leaves = names.map(|name| fixture.leaf(name));
            let [x, a, b, magnitude] = leaves.each_ref().map(Tensor::shallow_clone);
            let w = fixture.get("w");
            let layer = DoraDelta::new(a, b, magnitude, 1.5);
            let output = layer.apply(&x, &w, bias.as_ref(), x.linear(&w, bias.as_ref()));
            fixture.check(&format!("{variant}.output"), &output);
            let loss = (output * fixture.get("upstream_lora")).sum(fixture.kind);
            let leaves: Vec<_> = names.into_iter().zip(&leaves).collect();
            fixture.check_gradients(variant, &loss, &leaves);
        }
    }
}
