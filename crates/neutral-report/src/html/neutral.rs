//! The part of the page about the extended models beside their base.

use std::fmt::Write;

use super::push_figures;
use super::samples;
use super::table::number_table;
use crate::against_base::AgainstBase;
use crate::divergence::{HEADS, MEANINGS, SHOWN, TEXTS, rows};
use crate::escape::escaped;
use crate::figure::{gate_heatmap, gate_histograms, spectra};
use crate::results::{Results, TrialResult};
use crate::series::{groups, name};

/// Trials whose figures are shown at once; those of more are folded.
const UNFOLDED: usize = 3;

/// Divergence of all trials, then gates, weights and texts of what has gates, of one seed each.
pub(super) fn push(out: &mut String, results: &Results) {
    let rows = rows(results);
    let groups = groups(results);
    let trials = groups.iter().flat_map(|group| group.trials.iter().copied());
    // Of several seeds the first: a page of all would be too heavy for a telephone.
    let gated: Vec<_> = groups
        .iter()
        .filter_map(|group| group.trials.iter().copied().find(|trial| trial.gates_zero().is_some()))
        .collect();
    if rows.is_empty() && gated.is_empty() {
        return;
    }
    let _ = writeln!(out, "<h2>Beside the base</h2>");
    if !rows.is_empty() {
        let _ = writeln!(out, "<p>{SHOWN}</p>");
        out.push_str(&number_table(&HEADS, TEXTS, &rows));
        out.push_str("<details><summary>What the columns mean</summary>\n<ul>\n");
        for (term, meaning) in MEANINGS {
            let _ = writeln!(out, "<li><strong>{term}</strong>: {meaning}</li>");
        }
        out.push_str("</ul>\n</details>\n");
    }
    if groups.iter().any(|group| group.trials.len() > 1) && !gated.is_empty() {
        out.push_str("<p class=\"note\">Gates, weights and texts are of one seed each; <code>results.json</code> has all.</p>\n");
    }
    for trial in &gated {
        let open = if gated.len() <= UNFOLDED { " open" } else { "" };
        let _ = writeln!(
            out,
            "<details{open}><summary><h3 style=\"display:inline\">{}</h3> <span class=\"note\">{}</span></summary>",
            escaped(&name(trial)),
            escaped(&trial.id)
        );
        push_trial(out, trial);
        out.push_str("</details>\n");
    }
    push_ranks(out, trials);
}

fn push_trial(out: &mut String, trial: &TrialResult) {
    let mut figures: Vec<String> = gate_heatmap(trial).into_iter().collect();
    let histograms = gate_histograms(trial);
    let binned = !histograms.is_empty();
    figures.extend(histograms);
    if let Some(against_base) = &trial.against_base {
        figures.extend(spectra(&against_base.singular_values));
    }
    push_figures(out, &figures);
    if binned {
        let _ = writeln!(
            out,
            "<p class=\"note\">A bin of gate values begins at the value above it and ends where the next \
             begins. 0 in a cell is less than half a percent; where a cell is empty there was no value.</p>"
        );
    }
    if let Some(samples) = trial.against_base.as_ref().and_then(|found| found.samples.as_ref()) {
        out.push_str("<h3>Text, coloured by gate</h3>\n");
        out.push_str(&samples::legend());
        for (domain, corpus, sample) in samples.corpora() {
            let (corpus, document) = (escaped(corpus), escaped(&sample.document));
            let _ = writeln!(out, "<h4>{corpus}, {domain} domain: {document}</h4>");
            out.push_str(&samples::sample(sample));
        }
    }
}

/// The effective ranks of what each trial added, over blocks.
fn push_ranks<'a>(out: &mut String, trials: impl Iterator<Item = &'a TrialResult>) {
    let mut rows = Vec::new();
    for trial in trials {
        if let Some(against_base) = &trial.against_base {
            rows.extend(ranks(trial, against_base));
        }
    }
    if rows.is_empty() {
        return;
    }
    let _ = writeln!(out, "<details><summary>Effective ranks of what was added</summary>");
    let heads = ["trial", "matrix", "size", "least", "mean over blocks", "most", "singular values"];
    out.push_str(&number_table(&heads, 2, &rows));
    let _ = writeln!(
        out,
        "<p class=\"note\">The exponential of the entropy of a matrix' singular values as shares of their \
         sum (Roy and Vetterli, 2007): 1 for a matrix of rank 1, their number if all are equal.</p>\n</details>"
    );
}

fn ranks(trial: &TrialResult, against_base: &AgainstBase) -> Vec<Vec<String>> {
    let mut matrices: indexmap::IndexMap<&str, Vec<f64>> = indexmap::IndexMap::new();
    let mut sizes = indexmap::IndexMap::new();
    for spectrum in &against_base.singular_values {
        let Some((_, matrix)) = spectrum.block() else { continue };
        matrices.entry(matrix).or_default().push(spectrum.effective_rank);
        sizes.entry(matrix).or_insert((spectrum.rows, spectrum.columns));
    }
    let row = |(matrix, ranks): (&str, Vec<f64>)| {
        let (rows, columns) = sizes[matrix];
        let least = ranks.iter().copied().fold(f64::INFINITY, f64::min);
        let most = ranks.iter().copied().fold(0.0, f64::max);
        let mean = ranks.iter().sum::<f64>() / ranks.len() as f64;
        let mut row = vec![trial.id.clone(), matrix.to_owned(), format!("{rows} × {columns}")];
        row.extend([least, mean, most].map(|rank| format!("{rank:.1}")));
        row.push(rows.min(columns).to_string());
        row
    };
    matrices.into_iter().map(row).collect()
}
