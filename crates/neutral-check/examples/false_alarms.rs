//! How often the gate stops a run of unchanged code: checks of one run against another of the same setting, on
//! documents drawn anew, from the scores that were stored.
//!
//!     cargo run --release -p neutral-check --example false_alarms -- POLICY RUN RUN…
//!
//! Runs differ in what should not matter: seeds, threads, processors. A trial of several seeds is taken apart
//! into runs of one seed each, and every two of them are compared.

#![expect(clippy::print_stdout, reason = "a program whose output is a table")]
#![expect(clippy::unwrap_used, reason = "a panic says what is wrong with the arguments")]

use std::collections::BTreeMap;
use std::path::Path;

use neutral_check::{Nats, Policy, Scored, Verdict, check};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Simulated checks.
const CHECKS: usize = 1000;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let policy = Policy::read(Path::new(&arguments.next().expect("a policy"))).unwrap();
    let policy = Policy { resamples: 1999, ..policy };
    let runs: Vec<_> =
        arguments.flat_map(|run| Scored::of_run(Path::new(&run)).unwrap().by_seed()).collect();
    assert!(runs.len() > 1, "two runs, or one of several seeds, are needed");
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let (mut checks, mut rows) = (BTreeMap::new(), BTreeMap::new());
    for _ in 0..CHECKS {
        let baseline = rng.random_range(0..runs.len());
        let other = (baseline + rng.random_range(1..runs.len())) % runs.len();
        let draws: BTreeMap<String, Vec<usize>> = runs[0]
            .base
            .documents
            .original
            .iter()
            .chain(&runs[0].base.documents.new)
            .map(|(corpus, documents)| {
                let n = documents.ids.len();
                (corpus.clone(), (0..n).map(|_| rng.random_range(0..n)).collect())
            })
            .collect();
        let [baseline, run] = [baseline, other].map(|at| drawn(&runs[at], &draws));
        let result = check(&run, Some(&baseline), &policy).unwrap();
        *checks.entry(result.verdict).or_insert(0) += 1;
        for row in result.rows {
            *rows.entry(row.verdict).or_insert(0) += 1;
        }
    }
    for (what, counts) in [("checks", checks), ("rows", rows)] {
        let all: usize = counts.values().sum();
        for verdict in [Verdict::Pass, Verdict::Inconclusive, Verdict::Fail] {
            let n = counts.get(&verdict).copied().unwrap_or(0);
            let share = 100.0 * n as f64 / all as f64;
            println!("{what}, {}: {n} of {all}, {share:.1} %", verdict.name());
        }
    }
}

/// The run on documents that were drawn with replacement.
fn drawn(run: &Scored, draws: &BTreeMap<String, Vec<usize>>) -> Scored {
    let mut run = run.clone();
    let documents = run.base.documents.original.iter_mut().chain(&mut run.base.documents.new);
    for (corpus, documents) in documents {
        let draw = &draws[corpus];
        documents.bytes = draw.iter().map(|at| documents.bytes[*at]).collect();
    }
    let redraw = |nats: &mut Nats| {
        for (corpus, nats) in nats.original.iter_mut().chain(&mut nats.new) {
            *nats = draws[corpus].iter().map(|at| nats[*at]).collect();
        }
    };
    redraw(&mut run.base.nats);
    run.trials.iter_mut().for_each(|trial| redraw(&mut trial.nats));
    run
}
