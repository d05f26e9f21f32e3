//! Coverage of every interval, size and power of every test, by simulation: the table of `docs/statistics.md`.
//!
//!     cargo run --release -p neutral-stats --example simulate -- docs/statistics.md
//!
//! replaces what stands between the two marks of that file; without a file the table is printed.

#![expect(clippy::print_stdout, reason = "a program whose output is a table")]
#![expect(
    clippy::unwrap_used,
    reason = "simulated data is never degenerate, and a panic says where"
)]

use neutral_stats::{
    Bootstrap, Estimate, bootstrap_of_seeds, holm, mcnemar, mean, more_often_right, ratio,
    ratio_of_seeds,
};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Exp1, LogNormal, StandardNormal};

/// Simulated data sets a row.
const SETS: usize = 4000;
const CONFIDENCE: f64 = 0.95;
/// One-sided, of the interval above.
const LEVEL: f64 = 0.025;
const POWER: f64 = 0.8;
/// What the simulated models truly differ by.
const TRUTH: f64 = 0.1;

fn main() {
    let mut rows = Vec::new();
    for documents in [10, 20, 50, 200] {
        for skewed in [false, true] {
            documents_alone(&mut rows, documents, skewed);
        }
    }
    for seeds in [2, 3, 5, 10] {
        several_seeds(&mut rows, seeds, [0.2, 0.1]);
    }
    for seeds in [2, 3, 5] {
        several_seeds(&mut rows, seeds, [0.05, 0.4]);
    }
    means(&mut rows);
    answers(&mut rows);
    answers_within_a_margin(&mut rows);
    families(&mut rows);
    let head = "| what | data | quantity | nominal | simulated |\n|---|---|---|---|---|\n";
    let table = format!("{head}{}\n", rows.join("\n"));
    match std::env::args().nth(1) {
        Some(path) => {
            let text = std::fs::read_to_string(&path).unwrap();
            let (begin, end) = ("<!-- simulated -->\n", "<!-- end of simulated -->\n");
            let (before, rest) = text.split_once(begin).expect("a mark `<!-- simulated -->`");
            let (_, after) = rest.split_once(end).expect("a mark `<!-- end of simulated -->`");
            std::fs::write(&path, format!("{before}{begin}{table}{end}{after}")).unwrap();
        }
        None => println!("{table}"),
    }
}

/// How often a thing happened, beside how often it should.
fn row(what: &str, data: &str, quantity: &str, nominal: f64, hits: usize, of: usize) -> String {
    let share = hits as f64 / of as f64;
    let error = (share * (1.0 - share) / of as f64).sqrt();
    format!(
        "| {what} | {data} | {quantity} | {:.1} % | {:.1} ± {:.1} % |",
        100.0 * nominal,
        100.0 * share,
        100.0 * error
    )
}

/// What is counted over the data sets of one estimate.
#[derive(Default)]
struct Counts {
    covered: usize,
    wrong: [usize; 2],
    found: usize,
}

impl Counts {
    fn add(&mut self, estimate: &Estimate) {
        let interval = estimate.interval(CONFIDENCE);
        self.covered += usize::from(interval.low <= TRUTH && TRUTH <= interval.high);
        self.wrong[0] += usize::from(estimate.p_at_least(TRUTH) <= LEVEL);
        self.wrong[1] += usize::from(estimate.p_at_most(TRUTH) <= LEVEL);
        let margin = TRUTH + estimate.detectable(LEVEL, POWER);
        self.found += usize::from(estimate.p_at_least(margin) <= LEVEL);
    }

    fn report(&self, rows: &mut Vec<String>, what: &str, data: &str, all: bool) {
        rows.push(row(what, data, "coverage of the interval", CONFIDENCE, self.covered, SETS));
        if all {
            let [non_inferior, inferior] = self.wrong;
            rows.push(row(what, data, "size, non-inferiority", LEVEL, non_inferior, SETS));
            rows.push(row(what, data, "size, inferiority", LEVEL, inferior, SETS));
            rows.push(row(what, data, "power at the detectable effect", POWER, self.found, SETS));
        }
    }
}

/// Bytes of documents, from tens to thousands.
fn bytes(rng: &mut ChaCha8Rng, documents: usize) -> Vec<f64> {
    LogNormal::new(5.0, 0.8).unwrap().sample_iter(rng).take(documents).collect()
}

/// Of variance 1 and mean 0.
fn noise(rng: &mut ChaCha8Rng, skewed: bool) -> f64 {
    if skewed {
        let exponential: f64 = rng.sample(Exp1);
        exponential - 1.0
    } else {
        rng.sample(StandardNormal)
    }
}

fn documents_alone(rows: &mut Vec<String>, documents: usize, skewed: bool) {
    let mut counts = Counts::default();
    for set in 0..SETS {
        let mut rng = ChaCha8Rng::seed_from_u64(set as u64);
        let bytes = bytes(&mut rng, documents);
        let nats: Vec<_> =
            bytes.iter().map(|b| b * (TRUTH + 0.2 * noise(&mut rng, skewed))).collect();
        let bootstrap = Bootstrap { resamples: 999, seed: set as u64 };
        counts.add(&ratio(&nats, &bytes, bootstrap).unwrap());
    }
    let shape = if skewed { "exponential" } else { "normal" };
    counts.report(rows, "`ratio`, BCa", &format!("{documents} documents, {shape}"), true);
}

/// Seeds vary by 0.05, documents and both together by what is given.
fn several_seeds(rows: &mut Vec<String>, seeds: usize, [document, both]: [f64; 2]) {
    const DOCUMENTS: usize = 60;
    let (mut student, mut bootstrap) = (Counts::default(), Counts::default());
    for set in 0..SETS {
        let mut rng = ChaCha8Rng::seed_from_u64(set as u64);
        let bytes = bytes(&mut rng, DOCUMENTS);
        let of_document: Vec<_> = bytes.iter().map(|_| document * noise(&mut rng, true)).collect();
        let nats: Vec<Vec<f64>> = (0..seeds)
            .map(|_| {
                let of_seed = TRUTH + 0.05 * noise(&mut rng, false);
                let documents = bytes.iter().zip(&of_document);
                documents
                    .map(|(b, of_document)| {
                        b * (of_seed + of_document + both * noise(&mut rng, false))
                    })
                    .collect()
            })
            .collect();
        student.add(&ratio_of_seeds(&nats, &bytes).unwrap());
        let draws = Bootstrap { resamples: 499, seed: set as u64 };
        bootstrap.add(&bootstrap_of_seeds(&nats, &bytes, draws).unwrap());
    }
    let more = if both > document { ", both together" } else { "" };
    let data = format!("{seeds} seeds × {DOCUMENTS} documents{more}");
    student.report(rows, "`ratio_of_seeds`, Student", &data, true);
    bootstrap.report(rows, "`bootstrap_of_seeds`", &data, false);
}

fn means(rows: &mut Vec<String>) {
    for n in [3, 20] {
        let mut counts = Counts::default();
        for set in 0..SETS {
            let mut rng = ChaCha8Rng::seed_from_u64(set as u64);
            let values: Vec<_> = (0..n).map(|_| TRUTH + noise(&mut rng, false)).collect();
            counts.add(&mean(&values).unwrap());
        }
        counts.report(rows, "`mean`, Student", &format!("{n} values, normal"), true);
    }
}

/// Questions that one of two models answers differently, a fifth of all; then with a true difference.
fn answers(rows: &mut Vec<String>) {
    const LEVEL: f64 = 0.05;
    for questions in [100, 1000] {
        for (share, quantity, nominal) in [
            (0.5, "size", LEVEL),
            (0.5 + 1.4 / f64::from(questions).sqrt() / 0.447, "power", f64::NAN),
        ] {
            let (mut exact, mut mid_p) = (0, 0);
            let sets = 5 * SETS;
            for set in 0..sets {
                let mut rng = ChaCha8Rng::seed_from_u64(set as u64);
                let (mut first, mut second) = (0, 0);
                for _ in 0..questions {
                    if rng.random_bool(0.2) {
                        if rng.random_bool(share.min(1.0)) { first += 1 } else { second += 1 }
                    }
                }
                let found = mcnemar(first, second);
                exact += usize::from(found.exact <= LEVEL);
                mid_p += usize::from(found.mid_p <= LEVEL);
            }
            let data = format!("{questions} questions, a fifth differ");
            for (what, hits) in [("`mcnemar`, exact", exact), ("`mcnemar`, mid-p", mid_p)] {
                rows.push(row(what, &data, quantity, nominal, hits, sets).replace("NaN %", "–"));
            }
        }
    }
}

/// Questions that the first model gets right more often by `TRUTH`.
fn answers_within_a_margin(rows: &mut Vec<String>) {
    for (questions, only_second) in [(50, 0.05), (200, 0.05), (1000, 0.05), (200, 0.0)] {
        let mut counts = Counts::default();
        for set in 0..SETS {
            let mut rng = ChaCha8Rng::seed_from_u64(set as u64);
            let (mut first, mut second) = (0, 0);
            for _ in 0..questions {
                let drawn: f64 = rng.random();
                first += u64::from(drawn < TRUTH + only_second);
                second += u64::from(drawn > 1.0 - only_second);
            }
            counts.add(&more_often_right(questions, first, second).unwrap());
        }
        let right = 100.0 * only_second;
        let data = format!("{questions} questions, {:.0} % and {right:.0} % differ", 10.0 + right);
        counts.report(rows, "`more_often_right`, Tango", &data, true);
    }
}

/// Ten tests without any effect that share half their variance: any rejection is wrong.
fn families(rows: &mut Vec<String>) {
    const LEVEL: f64 = 0.05;
    let (mut adjusted, mut plain) = (0, 0);
    let sets = 5 * SETS;
    for set in 0..sets {
        let mut rng = ChaCha8Rng::seed_from_u64(set as u64);
        let shared = noise(&mut rng, false);
        let p: Vec<_> = (0..10)
            .map(|_| {
                let z = (shared + noise(&mut rng, false)) / std::f64::consts::SQRT_2;
                neutral_stats::normal_cdf(z)
            })
            .collect();
        adjusted += usize::from(holm(&p).unwrap().iter().any(|p| *p <= LEVEL));
        plain += usize::from(p.iter().any(|p| *p <= LEVEL));
    }
    let quantity = "any wrong rejection";
    let data = "10 tests, correlation ½";
    rows.push(row("`holm`", data, &format!("{quantity}, at most"), LEVEL, adjusted, sets));
    rows.push(row("without it", data, quantity, LEVEL, plain, sets));
}
