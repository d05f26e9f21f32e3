//! How far runs of the same experiment lie apart: the noise below which no margin means anything.
//!
//! Trainings on other processors, numbers of threads or seeds end elsewhere, and no resampling of documents
//! knows it: a bootstrap sees the two models that there are. So runs are compared with each other.

use std::collections::BTreeMap;
use std::path::Path;

use neutral_store::{StoreError, write_atomic};

use crate::answers::of_the_same;
use crate::gate::{Domain, mean_bits, new, original};
use crate::policy::noise_key;
use crate::scored::{Documents, Scored};
use crate::{CheckError, Metric, Noise, Policy};

/// What stands above the section that [`store_noise`] writes.
const MARK: &str = "# Measured by `neutral check calibrate`; measured again it is replaced, from here to the end.\n";

/// The deviation between runs of every trial, metric and corpus that all of them have; of one run, between its
/// seeds.
///
/// # Errors
/// If there are neither two runs nor two seeds of one, one has failed trials, or they measured different things.
pub fn calibrate(runs: &[Scored]) -> Result<Noise, CheckError> {
    let apart = if let [only] = runs { only.by_seed() } else { Vec::new() };
    let runs = if apart.is_empty() { runs } else { &apart };
    let [first, others @ ..] = runs else {
        return Err(CheckError::Calibration("no runs; give at least 2".to_owned()));
    };
    if others.is_empty() {
        let message = "1 run of 1 seed; at least 2 are needed, such as one with another number of --threads, or on another machine, each in a folder of its own, or 1 run of several seeds";
        return Err(CheckError::Calibration(message.to_owned()));
    }
    for run in others {
        first.base.fingerprints.check(&run.base.fingerprints)?;
        for domain in [original as Domain<_>, new] {
            for (task, ours) in domain(&run.base.tasks) {
                if let Some(theirs) = domain(&first.base.tasks).get(task) {
                    of_the_same(task, ours, theirs)?;
                }
            }
        }
    }
    let seeds_of = |run: &Scored| run.names().first().map_or(1, |name| run.named(name).count());
    let seeds = seeds_of(first);
    if let Some(other) = others.iter().map(seeds_of).find(|other| *other != seeds) {
        let message = format!("runs of {seeds} and of {other} seeds; give runs of as many each");
        return Err(CheckError::Calibration(message));
    }
    let mut values: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for run in runs {
        if let Some(failure) = run.failures.first() {
            let message = format!("trial {} {}", failure.trial, failure.error);
            return Err(CheckError::Calibration(message));
        }
        // A corpus or task of both domains is one of the base.
        for (key, value) in BTreeMap::from_iter(metrics(run)) {
            values.entry(key).or_default().push(value);
        }
    }
    values.retain(|_, values| values.len() == runs.len());
    let deviation = |values: &[f64]| {
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (n - 1.0)).sqrt()
    };
    let mut environments: Vec<_> = runs.iter().map(environment).collect();
    environments.sort();
    environments.dedup();
    let deviations = values.iter().map(|(key, values)| (key.clone(), deviation(values))).collect();
    Ok(Noise { runs: runs.len(), seeds: Some(seeds), environments, deviations })
}

fn environment(run: &Scored) -> String {
    let of = &run.environment;
    format!("{}, {}, {}, {} threads", of.cpu, of.device, of.precision, of.threads)
}

/// Every metric of a run, the mean over seeds.
fn metrics(run: &Scored) -> Vec<(String, f64)> {
    let mut found = Vec::new();
    let documents = &run.base.documents;
    let domains = [
        (original as Domain<_>, &documents.original, Metric::Forgetting, 1.0),
        (new as Domain<_>, &documents.new, Metric::Learning, -1.0),
    ];
    for (domain, documents, metric, sign) in domains {
        for (corpus, base_nats) in domain(&run.base.nats) {
            let Some(documents) = documents.get(corpus) else { continue };
            let mut add = |name: &str, metric, bits| {
                found.push((noise_key(name, metric, corpus), bits));
            };
            add("base", Metric::Base, bits(&[base_nats], documents));
            for name in run.names() {
                let nats: Vec<_> =
                    run.named(name).filter_map(|trial| domain(&trial.nats).get(corpus)).collect();
                if nats.is_empty() {
                    continue;
                }
                let above = bits(&nats, documents) - bits(&[base_nats], documents);
                add(name, metric, sign * above);
            }
        }
    }
    found.extend(accuracies(run));
    found
}

fn accuracies(run: &Scored) -> Vec<(String, f64)> {
    let mut found = Vec::new();
    let domains =
        [(original as Domain<_>, Metric::ForgettingAccuracy), (new, Metric::LearningAccuracy)];
    for (domain, metric) in domains {
        for (task, answers) in domain(&run.base.tasks) {
            let key = noise_key("base", Metric::BaseAccuracy, task);
            found.push((key, answers.accuracy()));
            for name in run.names() {
                let of_seeds: Vec<_> = run
                    .named(name)
                    .filter_map(|trial| Some(domain(&trial.tasks).get(task)?.accuracy()))
                    .collect();
                if of_seeds.is_empty() {
                    continue;
                }
                let mean = of_seeds.iter().sum::<f64>() / of_seeds.len() as f64;
                found.push((noise_key(name, metric, task), mean));
            }
        }
    }
    found
}

fn bits(nats: &[&Vec<f64>], documents: &Documents) -> f64 {
    let nats: Vec<_> = nats.iter().map(|nats| (*nats).clone()).collect();
    mean_bits(&nats, documents)
}

/// Writes the noise into a policy's file, in place of what was measured before. What people wrote stays.
///
/// # Errors
/// If the file cannot be read or written, or is no policy.
pub fn store_noise(path: &Path, noise: &Noise) -> Result<(), CheckError> {
    let text = std::fs::read_to_string(path).map_err(|e| StoreError::io("read", path, e))?;
    let (written, _) = text.split_once(MARK).unwrap_or((&text, ""));
    let section = BTreeMap::from([("noise", noise)]);
    let file = path.display().to_string();
    let wrong = |message: String| {
        let field = "noise".to_owned();
        CheckError::Policy { file: file.clone(), field, message }
    };
    let yaml = serde_yaml::to_string(&section).map_err(|e| wrong(e.to_string()))?;
    let text = format!("{}\n\n{MARK}{yaml}", written.trim_end());
    // A file whose own `noise` stands above the mark would have two.
    Policy::from_yaml(&text, &file)?;
    write_atomic(path, |w| std::io::Write::write_all(w, text.as_bytes()))?;
    Ok(())
}
