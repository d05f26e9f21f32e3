//! Results to test with: made up, in the size of the real ones.

use std::collections::BTreeMap;

use serde_json::json;

use crate::against_base::{
    AgainstBase, BlockGates, Distribution, Divergence, NeutralPrefixes, Sample, Spectrum,
};
use crate::results::{ByCorpus, ByDomain, Metrics, Results, Status, TrialResult, forgetting};
use crate::step::Step;

/// The file of [`quick`], byte for byte as it is written.
pub(crate) const QUICK: &str = include_str!("../fixtures/quick.json");

/// Four methods, one seed.
pub(crate) fn quick() -> Results {
    serde_json::from_str(QUICK).unwrap()
}

/// The same, on four corpora of the original domain, with a control in the last place.
pub(crate) fn control() -> Results {
    let mut results = quick();
    let mut control = results.trials[0].clone();
    control.id = "english-alone-s0".to_owned();
    control.label = "English alone".to_owned();
    control.learning = Some([("libreoffice-help/fr".to_owned(), -0.1042)].into());
    for (metrics, by) in control.metrics.as_mut().unwrap().original.values_mut().zip([0.1, 0.4]) {
        metrics.bits_per_byte -= by;
    }
    results.trials.push(control);
    let more = |metrics: &mut ByCorpus<Metrics>| {
        let first = metrics[0];
        for (corpus, more) in [("manpages/en", 0.31), ("scipy-docs/en", 0.58)] {
            let bits_per_byte = first.bits_per_byte + more;
            metrics.insert(corpus.to_owned(), Metrics { bits_per_byte, ..first });
        }
    };
    more(&mut results.base.metrics.original);
    for trial in &mut results.trials {
        let after = trial.metrics.as_mut().unwrap();
        more(&mut after.original);
        trial.forgetting = Some(forgetting(&results.base.metrics.original, &after.original));
    }
    results.control = Some("English alone".to_owned());
    results.measure_from_control();
    results
}

fn shift(trial: &mut TrialResult, by: f64) {
    for map in [&mut trial.forgetting, &mut trial.learning] {
        for value in map.as_mut().unwrap().values_mut() {
            *value *= 1.0 + by;
        }
    }
}

/// Four methods, three seeds each.
pub(crate) fn seeds() -> Results {
    let mut results = quick();
    results.trials = (results.trials.iter())
        .flat_map(|trial| {
            (0..3).map(|seed| {
                let mut trial = trial.clone();
                trial.seed = seed;
                trial.id = trial.id.replace("s0", &format!("s{seed}"));
                shift(&mut trial, [0.0, 0.12, -0.05][seed as usize]);
                trial
            })
        })
        .collect();
    results
}

/// A learning rate varied for two labels of one method; one trial diverged, one was interrupted.
pub(crate) fn sweep() -> Results {
    let mut results = quick();
    let neutral = results.trials.pop().unwrap();
    results.trials = Vec::new();
    for (label, by) in [("neutral_residues", 0.0), ("neutral residues, ELU gate", 1.5)] {
        for (i, rate) in [0.001, 0.002, 0.004, 0.008].into_iter().enumerate() {
            let mut trial = neutral.clone();
            trial.label = label.to_owned();
            trial.id = format!("{}-lr{rate}-s0", if by > 0.0 { "elu" } else { "relu" });
            trial.spec["varied"] = json!([["training.learning_rate", rate]]);
            let step = i as f64;
            shift(&mut trial, by);
            trial.forgetting.as_mut().unwrap()[0] += 0.01 * step * step;
            trial.learning.as_mut().unwrap()[0] = 2.0 + 0.5 * step.sqrt() - by / 20.0;
            results.trials.push(trial);
        }
    }
    for (i, status, error) in [
        (7, Status::Diverged, "the loss became NaN at step 31"),
        (6, Status::Interrupted, "stopped at step 12; the same command goes on"),
    ] {
        let trial = &mut results.trials[i];
        trial.status = status;
        trial.error = Some(error.to_owned());
        trial.metrics = None;
        trial.forgetting = None;
        trial.learning = None;
        trial.neutrality = None;
        trial.tokens = None;
        trial.tokens_per_second = None;
        trial.peak_rss_bytes = None;
        trial.elapsed_seconds = None;
    }
    results
}

/// The same as [`quick`], the last two trials compared with their base.
pub(crate) fn against_base() -> Results {
    let mut results = quick();
    for (trial, shut, gated) in [(2, 0.0, false), (3, 0.0415, true)] {
        let divergence = |share: f64| divergence(share, shut, gated);
        let corpora = |names: [&str; 2], shares: [f64; 2]| -> ByCorpus<Divergence> {
            let pairs = names.into_iter().zip(shares).filter(|(name, _)| !name.is_empty());
            pairs.map(|(name, share)| (name.to_owned(), divergence(share))).collect()
        };
        let sample = Sample {
            document: "swriter/01/06080000.html".to_owned(),
            text: ["Specifies", " the", " dé", "", "<b>\n"].map(str::to_owned).to_vec(),
            open_gates: vec![0.0, 0.25, 0.5, 1.0, 0.75],
            mean_gate: vec![0.0, 0.12, 0.3, 1.1, 0.4],
            kl_nats: vec![0.0, 0.002, 0.3, 0.01, 0.2],
        };
        let original = ["libreoffice-help/en", "janeausten/en"];
        let samples = ByDomain {
            original: [(original[0].to_owned(), sample.clone())].into(),
            new: [("libreoffice-help/fr".to_owned(), sample)].into(),
        };
        results.trials[trial].against_base = Some(AgainstBase {
            divergence: ByDomain {
                original: corpora(original, [0.781, 0.121]),
                new: corpora(["libreoffice-help/fr", ""], [0.003, 0.0]),
            },
            gate_edges: vec![0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0],
            singular_values: (0..4).flat_map(|b| ["w_i", "w_o"].map(|m| spectrum(b, m))).collect(),
            samples: gated.then_some(samples),
        });
    }
    results
}

fn divergence(share: f64, shut: f64, gated: bool) -> Divergence {
    let zero = (share * 8192.0) as u64;
    let gates = |block| BlockGates {
        block,
        zero_fraction: share,
        negative: 0,
        zero,
        positive: vec![0, 0, 0, 100, 200, 300, 400, 8192 - zero, 10, 0],
    };
    Divergence {
        tokens: 8192,
        kl_nats: Distribution { mean: 0.0137, p50: 1.7e-5, p90: 0.0057, p99: 0.376, max: 3.03 },
        top1_agreement: 0.956,
        same_bits_fraction: 0.0486,
        neutral_prefixes: gated.then_some(NeutralPrefixes {
            fraction: shut,
            tokens: 340,
            violations: 0,
        }),
        gates: if gated { (0..4).map(gates).collect() } else { Vec::new() },
    }
}

fn spectrum(block: usize, matrix: &str) -> Spectrum {
    Spectrum {
        matrix: format!("layers.{block}.mlp.adapter.{matrix}"),
        rows: 209,
        columns: 192,
        effective_rank: 91.3,
        singular_values: (0..16).map(|i| 2.0_f64.powi(-i) * (1 + block) as f64).collect(),
    }
}

/// What `metrics.jsonl` might say of [`quick`]'s trials.
pub(crate) fn steps() -> BTreeMap<String, Vec<Step>> {
    let step = |gated: bool, i: u32| Step {
        tokens: 4096 * u64::from(i),
        loss_nats_per_token_original: (!i.is_multiple_of(3)).then(|| 4.0 + 1.0 / f64::from(i)),
        loss_nats_per_token_new: Some(4.0 + 3.0 / f64::from(i)),
        gate_open_fraction_original: gated.then(|| 0.5 / f64::from(i)),
        gate_open_fraction_new: gated.then_some(0.5),
    };
    let trials = quick().trials.into_iter();
    let steps = |t: TrialResult| {
        let gated = t.method == "neutral_residues";
        (t.id, (1..=74).map(|i| step(gated, i)).collect())
    };
    trials.map(steps).collect()
}
