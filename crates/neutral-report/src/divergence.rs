//! The table of how far trained models are from their base, for HTML and Markdown.

use crate::against_base::Divergence;
use crate::format::thousands;
use crate::results::{Results, TrialResult};
use crate::series::groups;

/// The heads of the columns, the first [`TEXTS`] of text and the others of numbers.
pub(crate) const HEADS: [&str; 12] = [
    "trial",
    "corpus",
    "tokens",
    "neutral prefixes, %",
    "violations",
    "same bits, %",
    "same top token, %",
    "KL, mean",
    "median",
    "p90",
    "p99",
    "max",
];

/// Columns of text.
pub(crate) const TEXTS: usize = 2;

/// What the table shows.
pub(crate) const SHOWN: &str = "Each trained model and what it extends, which is the pristine base unless another trial is named, on the same held-out tokens.";

/// What the columns mean.
pub(crate) const MEANINGS: [(&str, &str); 5] = [
    ("tokens", "scored tokens of held-out text, of each corpus the first ones."),
    (
        "neutral prefixes",
        "share of tokens that are predicted from a prefix at which every gate of every block (without a gate, what is added) was exactly zero; a dash where nothing was added beside sub-layers.",
    ),
    (
        "violations",
        "of these tokens, those whose hidden state after the final norm, and so whose logits, are not the base's bit for bit, though computed by the same kernels on the same shapes; 0 is what neutral means.",
    ),
    (
        "same bits, same top token",
        "share of all tokens whose hidden state has the base's bits, and for which both models hold the same token for the likeliest.",
    ),
    (
        "KL",
        "KL(base ‖ trained) of each token's distribution in nats: mean, median, 90th and 99th percentile, largest. 0 is the base itself; on the original domain less is better.",
    ),
];

/// A row a trial and corpus, trials in the order of tables.
pub(crate) fn rows(results: &Results) -> Vec<Vec<String>> {
    let groups = groups(results);
    let trials = groups.iter().flat_map(|group| &group.trials);
    let found = trials.filter_map(|trial| Some((trial, trial.against_base.as_ref()?)));
    let of_trial = found.flat_map(|(trial, against_base)| {
        against_base
            .divergence
            .corpora()
            .map(|(domain, corpus, found)| row(trial, domain, corpus, found))
    });
    of_trial.collect()
}

fn row(trial: &TrialResult, domain: &str, corpus: &str, found: &Divergence) -> Vec<String> {
    let percent = |share: f64| format!("{:.2}", 100.0 * share);
    let dash = || "–".to_owned();
    let (prefixes, kl) = (&found.neutral_prefixes, &found.kl_nats);
    // One that goes on from another is compared with that one.
    let name = match trial.after() {
        Some(before) => format!("{}, beside {before}", trial.id),
        None => trial.id.clone(),
    };
    let mut row = vec![
        name,
        format!("{corpus}, {domain}"),
        thousands(found.tokens),
        prefixes.map_or_else(dash, |prefixes| percent(prefixes.fraction)),
        prefixes.map_or_else(dash, |prefixes| thousands(prefixes.violations)),
        percent(found.same_bits_fraction),
        percent(found.top1_agreement),
    ];
    row.extend([kl.mean, kl.p50, kl.p90, kl.p99, kl.max].map(nats));
    row
}

/// Three digits, in the form that is shortest for the size.
fn nats(value: f64) -> String {
    match value {
        0.0 => "0".to_owned(),
        v if v < 1e-3 => format!("{v:.1e}"),
        v if v < 1.0 => format!("{v:.4}"),
        v => format!("{v:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    #[test]
    fn a_trial_has_a_row_a_corpus_and_one_that_was_not_compared_has_none() {
        let rows = rows(&sample::against_base());
        assert_eq!(rows.len(), 3 + 3, "vanilla adapter and neutral residues");
        assert!(rows.iter().all(|row| row.len() == HEADS.len()));
        assert_eq!(rows[3][..2], ["neutral-residues-s0", "libreoffice-help/en, original"]);
        assert_eq!(rows[3][3..5], ["4.15", "0"]);
        assert_eq!(rows[0][3], "–");
        assert!(super::rows(&sample::quick()).is_empty());
    }

    #[test]
    fn small_numbers_keep_their_digits() {
        assert_eq!([0.0, 1.7e-5, 0.01371, 3.03].map(nats), ["0", "1.7e-5", "0.0137", "3.03"]);
    }
}
