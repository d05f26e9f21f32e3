//! Every gate that the vocabulary can express.

use neutral_spec::{GateActivation, GatePer, GateSpec};

const ACTIVATIONS: [(GateActivation, &str); 4] = [
    (GateActivation::Relu, "relu"),
    (GateActivation::Elu, "elu"),
    (GateActivation::Sigmoid, "sigmoid"),
    (GateActivation::HardSigmoid, "hard_sigmoid"),
];
const PERS: [(GatePer, &str); 2] = [(GatePer::Token, "token"), (GatePer::Channel, "channel")];

/// Activation × granularity × bias, under the names that the fixture has: `relu-token-plain`.
pub(crate) fn gates() -> Vec<(String, GateSpec)> {
    let mut gates = Vec::new();
    for (activation, activation_name) in ACTIVATIONS {
        for (per, per_name) in PERS {
            for (bias, bias_name) in [(None, "plain"), (Some(1.0), "bias")] {
                let name = format!("{activation_name}-{per_name}-{bias_name}");
                gates.push((name, GateSpec { activation, per, bias, shared: false, window: None }));
            }
        }
    }
    gates
}

/// The same and no gate at all.
pub(crate) fn gates_and_none() -> Vec<(String, GateSpec)> {
    let none = GateSpec { activation: GateActivation::None, ..GateSpec::default() };
    let mut all = gates();
    all.push(("none".to_owned(), none));
    all
}
