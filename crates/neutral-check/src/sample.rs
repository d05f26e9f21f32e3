//! Made-up scores for tests: a base and two trials on two corpora of 40 documents.

use neutral_report::{ByCorpus, ByDomain, Environment};
use neutral_store::Fingerprint;

use crate::scored::{BaseFile, Documents, Nats, Scored, TrialScores};
use crate::{AllAnswers, Answers, Check, Fingerprints, Policy, check};

pub(crate) const DOCUMENTS: usize = 40;

pub(crate) fn fingerprints() -> Fingerprints {
    Fingerprints {
        tokenizer: Fingerprint::of(&"tokenizer"),
        base: Fingerprint::of(&"base"),
        scoring: Fingerprint::of(&"scoring"),
        precision: "fp32".to_owned(),
        corpora: [
            ("text/a".to_owned(), Fingerprint::of(&"a")),
            ("text/b".to_owned(), Fingerprint::of(&"b")),
        ]
        .into(),
    }
}

/// A number between −1 and 1 that depends on all of its arguments and on no library.
pub(crate) fn noise(a: usize, b: usize) -> f64 {
    let mixed = (a as u64 * 40_503 + b as u64 * 2_654_435_761 + 12_345) % 10_007;
    mixed as f64 / 5003.0 - 1.0
}

/// Nats of 100 bytes a document at some bits a byte, with a noise of each document and a number of its own.
fn nats(bits: f64, jitter: f64, which: usize) -> Vec<f64> {
    let of =
        |i| (bits + 0.2 * noise(i, 0) + jitter * noise(i, which)) * 100.0 * std::f64::consts::LN_2;
    (0..DOCUMENTS).map(of).collect()
}

fn scores(original: Vec<f64>, new: Vec<f64>) -> Nats {
    let corpus = |name: &str, nats| ByCorpus::from([(name.to_owned(), nats)]);
    ByDomain { original: corpus("text/a", original), new: corpus("text/b", new) }
}

/// Trials that forget and learn so much, with the noise of a number.
pub(crate) fn scored(trials: &[(&str, u64, f64, f64)], jitter: f64, which: usize) -> Scored {
    let documents = || Documents {
        ids: (0..DOCUMENTS).map(|i| format!("d{i}")).collect(),
        bytes: vec![100; DOCUMENTS],
    };
    let corpus = |name: &str| ByCorpus::from([(name.to_owned(), documents())]);
    Scored {
        schema: 1,
        experiment: "sample".to_owned(),
        environment: Environment {
            libtorch: "2.13.0".to_owned(),
            device: "cpu".to_owned(),
            precision: "fp32".to_owned(),
            threads: 2,
            processes: None,
            cpu: "a processor".to_owned(),
            git: Some("0123456789ab".to_owned()),
        },
        base: BaseFile {
            fingerprints: fingerprints(),
            documents: ByDomain { original: corpus("text/a"), new: corpus("text/b") },
            nats: scores(nats(1.0, 0.0, 1), nats(4.0, 0.0, 1)),
            tasks: AllAnswers::default(),
        },
        trials: trials
            .iter()
            .enumerate()
            .map(|(i, (name, seed, forgetting, learning))| TrialScores {
                name: (*name).to_owned(),
                seed: *seed,
                is_control: false,
                nats: scores(
                    nats(1.0 + forgetting, jitter, which + 2 * i),
                    nats(4.0 - learning, jitter, which + 2 * i + 1),
                ),
                tasks: AllAnswers::default(),
            })
            .collect(),
        failures: Vec::new(),
    }
}

/// A run of one seed or several, whose trial answers a task of the original domain.
pub(crate) fn answered(right: &[&dyn Fn(usize) -> bool]) -> Scored {
    let answers = |right: &dyn Fn(usize) -> bool| AllAnswers {
        original: [(
            "quiz".to_owned(),
            Answers {
                questions: Fingerprint::of(&"quiz"),
                metric: "acc".to_owned(),
                right: (0..200).map(right).collect(),
            },
        )]
        .into(),
        ..AllAnswers::default()
    };
    let trials: Vec<_> = (0..right.len() as u64).map(|seed| ("lora", seed, 0.1, 2.0)).collect();
    let mut scored = scored(&trials, 0.0, 3);
    scored.base.tasks = answers(&|i| i % 2 == 0);
    for (trial, right) in scored.trials.iter_mut().zip(right) {
        trial.tasks = answers(right);
    }
    scored
}

pub(crate) fn policy(text: &str) -> Policy {
    Policy::from_yaml(text, "policy.yaml").unwrap()
}

/// A check with every verdict, a failed trial and a budget.
pub(crate) fn checked() -> Check {
    let baseline = scored(&[("lora", 0, 0.10, 2.0), ("neutral-residues", 0, 0.01, 1.5)], 0.01, 3);
    let mut run = scored(&[("lora", 0, 0.20, 2.0), ("neutral-residues", 0, 0.0195, 1.5)], 0.01, 50);
    run.failures.push(crate::Failure {
        trial: "adapter-s0".to_owned(),
        error: "diverged: the loss is NaN <at> step 7".to_owned(),
    });
    let policy = policy(
        "margins: { forgetting.bits_per_byte: 0.01, learning.bits_per_byte: 5%, base.bits_per_byte: 0.01 }\n\
         budgets: [{ name: target, learning_at_least: 1.9, forgetting_at_most: 0.15 }]\n",
    );
    check(&run, Some(&baseline), &policy).unwrap()
}
