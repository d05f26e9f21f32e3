//! Every method that adds weights, with every option.

use std::collections::BTreeSet;

use neutral_spec::{
    BranchPlacement, Budget, GatePer, GateSpec, GluActivation, LinearSite, LocalLossSpec, Method,
    Start, json_schema,
};

use crate::gate_variants::gates_and_none;

const PLACEMENTS: [BranchPlacement; 2] = [BranchPlacement::Ffn, BranchPlacement::Attention];
const STARTS: [Start; 2] = [Start::LowVariance, Start::He];

fn budget() -> Budget {
    Budget::from_percent(25.0).unwrap()
}

pub(crate) fn lora(targets: &[LinearSite], lora_alpha: Option<f64>) -> Method {
    Method::Lora { budget: budget(), lora_alpha, targets: targets.to_vec() }
}

pub(crate) fn dora(targets: &[LinearSite], lora_alpha: Option<f64>) -> Method {
    Method::Dora { budget: budget(), lora_alpha, targets: targets.to_vec() }
}

pub(crate) fn adapter(placement: BranchPlacement, start: Start) -> Method {
    Method::Adapter { budget: budget(), placement, start, activation: None }
}

pub(crate) fn neutral(gate: GateSpec, placement: BranchPlacement, start: Start) -> Method {
    let local_loss = LocalLossSpec::default();
    Method::NeutralResidues {
        budget: budget(),
        gate,
        local_loss,
        placement,
        start,
        activation: None,
        input_norm: false,
    }
}

fn with_activation(mut method: Method, sigma: GluActivation) -> Method {
    if let Method::NeutralResidues { activation, .. } = &mut method {
        *activation = Some(sigma);
    }
    method
}

pub(crate) fn with_input_norm(mut method: Method) -> Method {
    if let Method::NeutralResidues { input_norm, .. } = &mut method {
        *input_norm = true;
    }
    method
}

pub(crate) fn blocks(percent: f64) -> Method {
    Method::BlockExpansion { budget: Budget::from_percent(percent).unwrap() }
}

/// A gate whose weights all blocks share.
pub(crate) fn shared(gate: GateSpec, placement: BranchPlacement) -> Method {
    neutral(GateSpec { shared: true, ..gate }, placement, Start::LowVariance)
}

/// A neutral residue beside the FFN with the paper's gate, but for its bias.
pub(crate) fn with_bias(bias: f64) -> Method {
    let gate = GateSpec { bias: Some(bias), ..GateSpec::default() };
    neutral(gate, BranchPlacement::Ffn, Start::LowVariance)
}

#[test]
fn no_method_that_adds_weights_is_left_out() {
    let schema = json_schema();
    let kinds = schema["$defs"]["Method"]["oneOf"].as_array().unwrap().iter();
    let kinds: BTreeSet<_> =
        kinds.map(|kind| kind["properties"]["kind"]["const"].as_str().unwrap()).collect();
    let train_the_base = ["finetune", "kl_to_base", "l2_sp", "ewc", "wise_ft"];
    let here = extending();
    let here = here.iter().map(|(_, method)| method.kind()).chain(train_the_base);
    assert_eq!(here.collect::<BTreeSet<_>>(), kinds);
}

/// All methods that add weights.
pub(crate) fn extending() -> Vec<(String, Method)> {
    let mut cases = vec![
        ("lora all".to_owned(), lora(&LinearSite::ALL, None)),
        ("lora attention".to_owned(), lora(&LinearSite::ALL[..4], Some(8.0))),
        ("dora all".to_owned(), dora(&LinearSite::ALL, None)),
        ("dora attention".to_owned(), dora(&LinearSite::ALL[..4], Some(8.0))),
    ];
    let (both, start) = (BranchPlacement::Both, Start::LowVariance);
    cases.push(("adapter Both".to_owned(), adapter(both, start)));
    cases.push(("neutral Both".to_owned(), neutral(GateSpec::default(), both, start)));
    for sigma in [GluActivation::Silu, GluActivation::GeluTanh, GluActivation::Relu] {
        let method = neutral(GateSpec::default(), BranchPlacement::Ffn, start);
        cases.push((format!("neutral with {sigma:?}"), with_activation(method, sigma)));
    }
    cases.push(("one block".to_owned(), blocks(40.0)));
    cases.push(("two blocks".to_owned(), blocks(90.0)));
    let biased = GateSpec { bias: Some(1.0), ..GateSpec::default() };
    let channels = GateSpec { per: GatePer::Channel, ..biased };
    cases.push((
        "neutral shared gate".to_owned(),
        shared(GateSpec::default(), BranchPlacement::Ffn),
    ));
    cases.push(("neutral shared gates Both".to_owned(), shared(channels, both)));
    let windowed = GateSpec { window: Some(3), ..biased };
    cases.push(("neutral windowed gates Both".to_owned(), shared(windowed, both)));
    let channels = GateSpec { window: Some(3), ..channels };
    cases.push((
        "neutral windowed channels".to_owned(),
        neutral(channels, BranchPlacement::Ffn, start),
    ));
    let normed = with_input_norm(neutral(biased, BranchPlacement::Ffn, start));
    cases.push(("neutral input norm".to_owned(), normed));
    cases.push(("neutral input norm Both".to_owned(), with_input_norm(shared(biased, both))));
    for placement in PLACEMENTS {
        for start in STARTS {
            let place = format!("{placement:?} {start:?}");
            cases.push((format!("adapter {place}"), adapter(placement, start)));
            for (gate, spec) in gates_and_none() {
                let method = neutral(spec, placement, start);
                cases.push((format!("neutral {gate} {place}"), method));
            }
        }
    }
    cases
}
