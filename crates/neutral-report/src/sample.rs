//! Results to test with: made up, in the size of the real ones.

use serde_json::json;

use crate::results::{ByCorpus, Metrics, Results, Status, TrialResult, forgetting};

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
