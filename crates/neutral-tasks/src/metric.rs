//! What is measured: metrics, and how the values of documents become one number and its standard error.
//!
//! The formulas are those of `lm_eval/api/metrics.py` (0.4.13). Sums are taken from left to right, as
//! Python does before 3.12; later ones compensate, which may move the last digit.

use std::fmt;

use crate::config::OutputType;
use crate::labels::{self, Pair};
use crate::random::PythonRandom;

/// How often perplexities are bootstrapped for their standard error, unless told otherwise.
pub const BOOTSTRAP_ITERATIONS: usize = 100_000;
/// Replicates that one seed draws; the seeds are 0, 1, 2, ….
const CHUNK: usize = 1000;

/// A metric, by the harness's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Metric {
    /// The most likely choice is right; for one continuation: greedy decoding gives it.
    Acc,
    /// The F1 score of the choices, of which the second is the positive one.
    F1,
    /// Matthews' correlation of right and picked choices.
    Mcc,
    /// As `acc`, by log-likelihood per character (Unicode code point) of the choice.
    AccNorm,
    /// As `acc`, by log-likelihood per byte of the choice.
    AccBytes,
    /// The right choice is what greedy decoding gives.
    ExactMatch,
    /// As `acc`, by what the context adds to the log-likelihood of the choice alone.
    AccMutualInfo,
    /// exp of the negative mean log-likelihood of continuations.
    Perplexity,
    /// exp of the negative log-likelihood per word of the corpus.
    WordPerplexity,
    /// exp of the negative log-likelihood per byte of the corpus.
    BytePerplexity,
    /// The negative log-likelihood per byte of the corpus, in bits.
    BitsPerByte,
}

/// Every metric: its name, and what it is measured on. In the order of results.
const METRICS: [(Metric, &str, &[OutputType]); 11] = [
    (Metric::Perplexity, "perplexity", &[OutputType::LogLikelihood]),
    (Metric::Acc, "acc", &[OutputType::MultipleChoice, OutputType::LogLikelihood]),
    (Metric::F1, "f1", &[OutputType::MultipleChoice]),
    (Metric::Mcc, "mcc", &[OutputType::MultipleChoice]),
    (Metric::AccNorm, "acc_norm", &[OutputType::MultipleChoice]),
    (Metric::AccBytes, "acc_bytes", &[OutputType::MultipleChoice]),
    (Metric::ExactMatch, "exact_match", &[OutputType::MultipleChoice]),
    (Metric::AccMutualInfo, "acc_mutual_info", &[OutputType::MultipleChoice]),
    (Metric::WordPerplexity, "word_perplexity", &[OutputType::LogLikelihoodRolling]),
    (Metric::BytePerplexity, "byte_perplexity", &[OutputType::LogLikelihoodRolling]),
    (Metric::BitsPerByte, "bits_per_byte", &[OutputType::LogLikelihoodRolling]),
];

impl Metric {
    pub(crate) fn find(name: &str, output: OutputType) -> Result<Self, String> {
        let fits = |outputs: &[OutputType]| outputs.contains(&output);
        let found = METRICS.iter().find(|(_, n, outputs)| *n == name && fits(outputs));
        found.map(|(metric, _, _)| *metric).ok_or_else(|| {
            let names: Vec<_> =
                METRICS.iter().filter(|(_, _, o)| fits(o)).map(|(_, n, _)| *n).collect();
            format!("is {name}; for this output_type there are {}", names.join(", "))
        })
    }

    /// What is measured where the file has no `metric_list`.
    pub(crate) fn defaults(output: OutputType) -> &'static [Self] {
        match output {
            OutputType::MultipleChoice => &[Self::Acc, Self::AccNorm],
            OutputType::LogLikelihood => &[Self::Perplexity, Self::Acc],
            OutputType::LogLikelihoodRolling => {
                &[Self::WordPerplexity, Self::BytePerplexity, Self::BitsPerByte]
            }
        }
    }

    /// All metrics, in the order of results.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        METRICS.iter().map(|(metric, _, _)| *metric)
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = METRICS.iter().find(|(metric, _, _)| metric == self).map(|(_, name, _)| *name);
        f.write_str(name.unwrap_or_default())
    }
}

/// A metric of a task.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MetricRule {
    pub(crate) metric: Metric,
    pub(crate) aggregation: Aggregation,
    pub(crate) higher_is_better: bool,
}

impl MetricRule {
    /// A metric with its own aggregation and direction.
    pub(crate) fn new(metric: Metric) -> Self {
        use Metric::{BitsPerByte, BytePerplexity, F1, Mcc, Perplexity, WordPerplexity};
        let aggregation = match metric {
            Perplexity => Aggregation::Perplexity,
            WordPerplexity | BytePerplexity => Aggregation::WeightedPerplexity,
            BitsPerByte => Aggregation::BitsPerByte,
            F1 => Aggregation::F1,
            Mcc => Aggregation::Matthews,
            _ => Aggregation::Mean,
        };
        let higher_is_better =
            !matches!(metric, Perplexity | WordPerplexity | BytePerplexity | BitsPerByte);
        Self { metric, aggregation, higher_is_better }
    }
}

/// How the values of documents become one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aggregation {
    /// The mean.
    Mean,
    /// exp of the negative mean.
    Perplexity,
    /// exp of the negative ratio of sums.
    WeightedPerplexity,
    /// The negative ratio of sums over ln 2.
    BitsPerByte,
    /// The F1 score of label 1.
    F1,
    /// The plain mean of every label's F1 score.
    F1Macro,
    /// The F1 score of all labels together.
    F1Micro,
    /// The mean of every label's F1 score, weighted by how often it is right.
    F1Weighted,
    /// Matthews' correlation coefficient.
    Matthews,
}

/// The values of a metric on documents: plain, log-likelihoods with lengths, or labels.
#[derive(Clone, Debug, PartialEq)]
pub enum Items {
    /// A number a document.
    Plain(Vec<f64>),
    /// Log-likelihood and length, a pair a document.
    Weighted(Vec<(f64, f64)>),
    /// The right label and the one that was picked, a pair a document.
    Labels(Vec<Pair>),
}

impl Items {
    /// How many documents.
    pub fn len(&self) -> usize {
        match self {
            Self::Plain(items) => items.len(),
            Self::Weighted(items) => items.len(),
            Self::Labels(items) => items.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Aggregation {
    /// Every aggregation with a name of its own.
    const NAMES: [(Self, &'static str); 6] = [
        (Self::Mean, "mean"),
        (Self::Perplexity, "perplexity"),
        (Self::WeightedPerplexity, "weighted_perplexity"),
        (Self::BitsPerByte, "bits_per_byte"),
        (Self::F1, "f1"),
        (Self::Matthews, "matthews_corrcoef"),
    ];

    pub(crate) fn find(name: &str, metric: Metric) -> Result<Self, String> {
        let fits = |(aggregation, _): &&(Self, &str)| aggregation.goes_with(metric).is_ok();
        let found = Self::NAMES.iter().filter(fits).find(|(_, other)| *other == name);
        found.map(|(aggregation, _)| *aggregation).ok_or_else(|| {
            let names: Vec<_> = Self::NAMES.iter().filter(fits).map(|(_, name)| *name).collect();
            format!("is {name}; {} go with {metric}", names.join(" and "))
        })
    }

    /// Itself, if it is of the values that the metric has.
    pub(crate) fn goes_with(self, metric: Metric) -> Result<Self, String> {
        let own = MetricRule::new(metric).aggregation;
        let fits = self.values() == own.values();
        fits.then_some(self).ok_or_else(|| format!("does not go with {metric}"))
    }

    /// What it is taken of, as a number.
    fn values(self) -> u8 {
        match self {
            Self::Mean | Self::Perplexity => 0,
            Self::WeightedPerplexity | Self::BitsPerByte => 1,
            Self::F1 | Self::F1Macro | Self::F1Micro | Self::F1Weighted | Self::Matthews => 2,
        }
    }

    /// The number; not one (NaN) where there are no items or they are of the other kind.
    pub fn of(self, items: &Items) -> f64 {
        match (self, items) {
            (Self::Mean, Items::Plain(items)) => mean(items),
            (Self::Perplexity, Items::Plain(items)) => (-mean(items)).exp(),
            (Self::WeightedPerplexity, Items::Weighted(items)) => (-ratio(items)).exp(),
            (Self::BitsPerByte, Items::Weighted(items)) => -ratio(items) / std::f64::consts::LN_2,
            (Self::F1, Items::Labels(items)) => labels::f1(items),
            (Self::F1Macro, Items::Labels(items)) => labels::f1_macro(items),
            (Self::F1Micro, Items::Labels(items)) => labels::f1_micro(items),
            (Self::F1Weighted, Items::Labels(items)) => labels::f1_weighted(items),
            (Self::Matthews, Items::Labels(items)) => labels::matthews(items),
            _ => f64::NAN,
        }
    }

    /// The standard error: of a mean the sample deviation over √n, of a perplexity, F1 and Matthews'
    /// coefficient the deviation of so many bootstraps in chunks of a thousand, if any; of all else there is
    /// none, nor of one document, nor of anything without `bootstraps`.
    pub fn standard_error(self, items: &Items, bootstraps: Option<usize>) -> Option<f64> {
        let iterations = bootstraps.filter(|_| items.len() > 1)?;
        let deviation = |replicates: Vec<f64>| Some(sample_deviation(&replicates));
        match (self, items) {
            (Self::Mean, Items::Plain(items)) => {
                Some(sample_deviation(items) / (items.len() as f64).sqrt())
            }
            _ if iterations == 0 => None,
            (Self::Perplexity, Items::Plain(items)) => {
                deviation(bootstrap(items, iterations, |drawn| (-mean(drawn)).exp()))
            }
            (Self::F1, Items::Labels(items)) => deviation(bootstrap(items, iterations, labels::f1)),
            (Self::Matthews, Items::Labels(items)) => {
                deviation(bootstrap(items, iterations, labels::matthews))
            }
            _ => None,
        }
    }
}

fn mean(items: &[f64]) -> f64 {
    items.iter().sum::<f64>() / items.len() as f64
}

fn ratio(items: &[(f64, f64)]) -> f64 {
    let sum = |part: fn(&(f64, f64)) -> f64| items.iter().map(part).sum::<f64>();
    sum(|(a, _)| *a) / sum(|(_, b)| *b)
}

fn sample_deviation(items: &[f64]) -> f64 {
    let mean = mean(items);
    let squares: f64 = items.iter().map(|x| (x - mean) * (x - mean)).sum();
    (squares / (items.len() as f64 - 1.0)).sqrt()
}

/// A statistic of items drawn with replacement. Chunks have seeds of their own, so they are shared
/// between threads and come out in order.
fn bootstrap<T: Copy + Sync>(
    items: &[T],
    iterations: usize,
    statistic: fn(&[T]) -> f64,
) -> Vec<f64> {
    let size = CHUNK.min(iterations);
    let chunks = iterations / size;
    let chunk = |seed: usize| {
        let mut random = PythonRandom::new(seed as u64);
        let mut drawn = items.to_vec();
        let replicate = |_| {
            drawn.fill_with(|| items[random.choice(items.len())]);
            statistic(&drawn)
        };
        (0..size).map(replicate).collect::<Vec<_>>()
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(chunks);
    let mut replicates: Vec<(usize, Vec<f64>)> = std::thread::scope(|scope| {
        let work = |first| (first..chunks).step_by(threads).map(|seed| (seed, chunk(seed)));
        let running: Vec<_> = (0..threads)
            .map(|first| scope.spawn(move || work(first).collect::<Vec<_>>()))
            .collect();
        // A thread that panicked has its panic go on here.
        let join = |thread: std::thread::ScopedJoinHandle<'_, Vec<_>>| {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        running.into_iter().flat_map(join).collect()
    });
    replicates.sort_by_key(|(seed, _)| *seed);
    replicates.into_iter().flat_map(|(_, values)| values).collect()
}
