//! The rules of the two domains: which text a trial reads and is scored on, and how much of each.

use std::fmt::Display;

use crate::error::Problem;
use crate::evaluation::EvaluationSpec;
use crate::experiment::{DataSpec, TrainingSpec};
use crate::field_path::FieldPath;
use crate::mixed_corpus::MixedCorpus;

const BILLION: u128 = 1_000_000_000;

/// What is wrong with a trial's text; paths are the trial's.
pub(crate) fn check(data: &DataSpec, training: &TrainingSpec, found: &mut Vec<Problem>) {
    let p = data.original_fraction;
    let mut problem = |key, message: String| {
        found.push(Problem::new(FieldPath::dotted("data").key(key), message));
    };
    if p > 0.0 && data.original.is_empty() {
        problem(
            "original",
            format!(
                "found an empty list with original_fraction: {p}; name a corpus, or set the fraction to 0"
            ),
        );
    }
    if p < 1.0 && data.new.is_empty() {
        problem(
            "new",
            format!(
                "found an empty list with original_fraction: {p}; name a corpus, or set the fraction to 1"
            ),
        );
    }
    let sequences = training.steps() * training.batch_size as u64;
    // As mixes count, in billionths.
    let billionths = (p * 1e9).round() as u128;
    if p > 0.0 && u128::from(sequences) * billionths < BILLION {
        let least = BILLION.div_ceil(u128::from(sequences.max(1))) as f64 / 1e9;
        problem(
            "original_fraction",
            format!(
                "{p} of {sequences} sequences is less than one; expected 0, or at least {least}"
            ),
        );
    }
    if p < 1.0 && billionths == BILLION {
        problem(
            "original_fraction",
            format!("{p} is all but 1; expected 1, or at most 0.999999999"),
        );
    }
    let original = (u128::from(sequences) * billionths / BILLION) as u64;
    check_weights("original", &data.original, original, found);
    check_weights("new", &data.new, sequences.saturating_sub(original), found);
    let [original, new] = [&data.original, &data.new].map(|corpora| MixedCorpus::corpora(corpora));
    disjoint("corpus", original, new, &FieldPath::dotted("data.new"), found);
}

/// The weights of a domain's corpora, which share its sequences by them.
fn check_weights(domain: &str, corpora: &[MixedCorpus], sequences: u64, found: &mut Vec<Problem>) {
    let sum: f64 = corpora.iter().filter_map(MixedCorpus::weight).sum();
    let weighted = corpora.iter().find(|corpus| corpus.weight().is_some());
    for (i, mixed) in corpora.iter().enumerate() {
        let corpus = mixed.corpus();
        let twice = MixedCorpus::corpora(&corpora[..i]).any(|before| before == corpus);
        let share = mixed.weight().map(|weight| weight / sum);
        let message = match (share, weighted) {
            _ if twice => format!("`{corpus}` is in the list twice, expected it once"),
            (None, Some(other)) => format!(
                "`{corpus}` has no weight and `{}` has; weigh every corpus of a domain or none",
                other.corpus()
            ),
            (Some(share), _) if sequences > 0 && share * (sequences as f64) < 1.0 => format!(
                "its weight is {share:.1e} of all; of {sequences} sequences that is less than one"
            ),
            _ => continue,
        };
        found.push(Problem::new(FieldPath::dotted("data").key(domain).index(i), message));
    }
}

/// No corpus, and no task, is of both domains.
pub(crate) fn disjoint<'a, T: Display + PartialEq + 'a>(
    what: &str,
    original: impl IntoIterator<Item = &'a T>,
    new: impl IntoIterator<Item = &'a T>,
    path: &FieldPath,
    found: &mut Vec<Problem>,
) {
    let original: Vec<_> = original.into_iter().collect();
    for (i, name) in new.into_iter().enumerate().filter(|(_, name)| original.contains(name)) {
        let message = format!("`{name}` is in `original` as well; a {what} is of one domain");
        found.push(Problem::new(path.index(i), message));
    }
}

/// What a trial learns from as one domain and is scored on as the other, so that learning would be called
/// forgetting. Not for one that goes on from another, which may well hold on to what that has learnt.
pub(crate) fn crossed(data: &DataSpec, evaluation: &EvaluationSpec) -> Vec<Problem> {
    let p = data.original_fraction;
    let mut found = Vec::new();
    for (name, corpora, read, scored_as, scored) in [
        ("original", &data.original, p > 0.0, "new", &evaluation.new),
        ("new", &data.new, p < 1.0, "original", &evaluation.original),
    ] {
        let corpora = MixedCorpus::corpora(corpora);
        let both = corpora.enumerate().filter(|(_, c)| read && scored.contains(c));
        for (i, corpus) in both {
            let message =
                format!("`{corpus}` is in `evaluation.{scored_as}`; a corpus is of one domain");
            found.push(Problem::new(FieldPath::dotted("data").key(name).index(i), message));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(p: f64, original: &[&str], new: &[&str]) -> DataSpec {
        let corpora = |names: &[&str]| names.iter().map(|name| mixed(name)).collect();
        DataSpec {
            original: corpora(original),
            new: corpora(new),
            original_fraction: p,
            documents: crate::DocumentPolicy::default(),
        }
    }

    /// `a/fr`, or with a weight `a/fr 2`.
    fn mixed(text: &str) -> MixedCorpus {
        let (name, weight) = text.split_once(' ').map_or((text, None), |(n, w)| (n, Some(w)));
        let corpus = name.to_owned().try_into().unwrap();
        match weight {
            None => MixedCorpus::Named(corpus),
            Some(weight) => MixedCorpus::Weighted { corpus, weight: weight.parse().unwrap() },
        }
    }

    fn paths(found: &[Problem]) -> Vec<String> {
        found.iter().map(|p| p.path.to_string()).collect()
    }

    fn training() -> TrainingSpec {
        // 100 sequences.
        let text = r#"{"tokens": 6400, "sequence_length": 64, "batch_size": 4, "learning_rate": 0.001,
            "schedule": {"kind": "cosine", "warmup_fraction": 0, "final_fraction": 0}}"#;
        serde_json::from_str(text).unwrap()
    }

    fn data(p: f64, original: &[&str], new: &[&str]) -> Vec<String> {
        let mut found = Vec::new();
        check(&spec(p, original, new), &training(), &mut found);
        paths(&found)
    }

    #[test]
    fn each_domain_that_is_read_has_text() {
        let none: [&str; 0] = [];
        assert_eq!(data(0.0, &[], &["a/fr"]), none);
        assert_eq!(data(0.0, &["a/en"], &["a/fr"]), none);
        assert_eq!(data(1.0, &["a/en"], &[]), none);
        assert_eq!(data(1.0, &["a/en"], &["a/fr"]), none);
        assert_eq!(data(1.0, &[], &["a/fr"]), ["data.original"]);
        assert_eq!(data(0.1, &[], &["a/fr"]), ["data.original"]);
        assert_eq!(data(0.1, &["a/en"], &[]), ["data.new"]);
        assert_eq!(data(0.1, &["a/en"], &["a/fr", "a/en"]), ["data.new[1]"]);
    }

    #[test]
    fn a_domain_of_less_than_a_sequence_is_none() {
        assert_eq!(data(0.01, &["a/en"], &["a/fr"]), [""; 0]);
        assert_eq!(data(0.999, &["a/en"], &["a/fr"]), [""; 0]);
        for p in [0.009, 1e-10] {
            assert_eq!(data(p, &["a/en"], &["a/fr"]), ["data.original_fraction"], "{p}");
        }
        // A third of a percent of 300 is one, but not in the billionths that mixes count in.
        let longer = TrainingSpec { tokens: 19_200, ..training() };
        let told = |p| {
            let mut found = Vec::new();
            check(&spec(p, &["a/en"], &["a/fr"]), &longer, &mut found);
            found.pop().map(|problem| problem.message)
        };
        assert!(told(1.0 / 300.0).unwrap().ends_with("at least 0.003333334"));
        assert_eq!(told(0.003_333_334), None);
    }

    #[test]
    fn all_corpora_of_a_domain_have_weights_or_none() {
        // 100 sequences, of which 10 are original.
        let none: [&str; 0] = [];
        assert_eq!(data(0.1, &["a/en 1", "b/en 9"], &["a/fr", "b/fr"]), none);
        assert_eq!(data(0.1, &["a/en"], &["a/fr 0.5", "b/fr 0.1"]), none);
        assert_eq!(
            data(0.1, &["a/en 1", "b/en"], &["a/fr", "b/fr 2"]),
            ["data.original[1]", "data.new[0]"]
        );
        assert_eq!(data(0.1, &["a/en"], &["a/fr 1", "a/fr 2"]), ["data.new[1]"]);
        assert_eq!(data(0.1, &["a/en"], &["a/en 1"]), ["data.new[0]"]);
        // Less than one sequence of its domain's, but not where the domain has none.
        assert_eq!(data(0.1, &["a/en 1", "b/en 10"], &["a/fr"]), ["data.original[0]"]);
        assert_eq!(data(0.0, &["a/en 1", "b/en 10"], &["a/fr"]), none);
    }

    #[test]
    fn a_corpus_is_scored_as_the_domain_that_it_is_read_as() {
        let evaluation: EvaluationSpec =
            serde_json::from_str(r#"{"original": ["a/en", "b/en"], "new": ["a/fr"]}"#).unwrap();
        let crossed = |p, original: &[&str], new: &[&str]| {
            paths(&crossed(&spec(p, original, new), &evaluation))
        };
        assert_eq!(crossed(0.1, &["a/en"], &["a/fr"]), [""; 0]);
        assert_eq!(crossed(0.1, &["c/en"], &["a/fr", "b/en"]), ["data.new[1]"]);
        assert_eq!(crossed(0.1, &["a/fr"], &["c/fr"]), ["data.original[0]"]);
        // What is not read does not matter.
        assert_eq!(crossed(0.0, &["a/fr"], &["c/fr"]), [""; 0]);
        assert_eq!(crossed(1.0, &["a/en"], &["b/en"]), [""; 0]);
    }
}
