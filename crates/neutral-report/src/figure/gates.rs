//! What gates did: how often they are exactly zero, and which values they take.

use super::heatmap::Heatmap;
use crate::against_base::{AgainstBase, BlockGates, Divergence};
use crate::results::TrialResult;

/// Share of tokens at which a block's gates are exactly zero, a row a block, a column a corpus; by
/// domain where the trial has not been compared with its base. Nothing for a trial without gates.
pub(crate) fn gate_heatmap(trial: &TrialResult) -> Option<String> {
    trial.gates_zero()?;
    let by_corpus = trial.against_base.as_ref().and_then(of_corpora);
    let (columns, rows, cells) = by_corpus.or_else(|| of_domains(trial))?;
    let heatmap = Heatmap {
        title: "Gates that are exactly zero",
        subtitle: "share of tokens, %",
        row: "block",
        rows,
        columns,
        cells,
        decimals: 1,
    };
    Some(heatmap.draw())
}

/// Columns, rows and cells of a heatmap.
type Cells = (Vec<Vec<String>>, Vec<String>, Vec<Vec<Option<f64>>>);

fn of_corpora(against_base: &AgainstBase) -> Option<Cells> {
    let all: Vec<_> = against_base.divergence.corpora().collect();
    let blocks: Vec<usize> = all.first()?.2.gates.iter().map(|gates| gates.block).collect();
    if blocks.is_empty() {
        return None;
    }
    let columns = all.iter().map(|(domain, corpus, _)| {
        let (name, language) = corpus.split_once('/').unwrap_or((corpus, ""));
        vec![(*domain).to_owned(), name.to_owned(), language.to_owned()]
    });
    let cell = |divergence: &Divergence, block: usize| {
        divergence.gates.iter().find(|gates| gates.block == block).map(|gates| gates.zero_fraction)
    };
    let row = |&block: &usize| all.iter().map(|(.., found)| cell(found, block)).collect();
    let cells = blocks.iter().map(row).collect();
    Some((columns.collect(), blocks.iter().map(ToString::to_string).collect(), cells))
}

fn of_domains(trial: &TrialResult) -> Option<Cells> {
    let domains = trial.neutrality.as_ref()?;
    let [original, new] =
        [&domains.original, &domains.new].map(|domain| &domain.gate_zero_fraction_per_block);
    let columns = ["original", "new"].map(|domain| vec![domain.to_owned()]).to_vec();
    let rows = (0..original.len()).map(|block| block.to_string()).collect();
    let cells = original.iter().zip(new).map(|(a, b)| vec![Some(*a), Some(*b)]);
    Some((columns, rows, cells.collect()))
}

/// The values of gates, a figure a corpus: a row a block, a column a bin.
pub(crate) fn gate_histograms(trial: &TrialResult) -> Vec<String> {
    let Some(against_base) = &trial.against_base else { return Vec::new() };
    let edges = &against_base.gate_edges;
    let with_gates = against_base.divergence.corpora().filter(|(.., d)| !d.gates.is_empty());
    let draw = |(domain, corpus, divergence): (&str, &str, &Divergence)| {
        let gates = &divergence.gates;
        // A ReLU has none; an ELU has.
        let negative = gates.iter().any(|gates| gates.negative > 0);
        let title = format!("Values of gates, {corpus}");
        let heatmap = Heatmap {
            title: &title,
            subtitle: &format!("{domain} domain; share of values, %, by where the bin begins"),
            row: "block",
            rows: gates.iter().map(|gates| gates.block.to_string()).collect(),
            columns: bins(edges, negative),
            cells: gates.iter().map(|gates| shares(gates, negative)).collect(),
            decimals: 0,
        };
        heatmap.draw()
    };
    with_gates.map(draw).collect()
}

/// Where each bin begins.
fn bins(edges: &[f64], negative: bool) -> Vec<Vec<String>> {
    let names = negative.then(|| "<0".to_owned()).into_iter();
    let names = names.chain(["0", ">0"].map(str::to_owned));
    let edge = |edge: &f64| edge.to_string().trim_start_matches('0').to_owned();
    names.chain(edges.iter().map(edge)).map(|name| vec![name]).collect()
}

fn shares(gates: &BlockGates, negative: bool) -> Vec<Option<f64>> {
    let BlockGates { negative: below, zero, positive, .. } = gates;
    let total = below + zero + positive.iter().sum::<u64>();
    let counts = negative.then_some(*below).into_iter().chain([*zero]).chain(positive.clone());
    let share = |count: u64| (count > 0).then(|| count as f64 / total as f64);
    counts.map(share).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    #[test]
    fn gates_are_shown_by_corpus_where_they_were_measured_and_by_domain_else() {
        let trials = sample::against_base().trials;
        let [.., adapter, neutral] = trials.as_slice() else { panic!("four methods") };
        assert!(gate_heatmap(adapter).is_none() && gate_histograms(adapter).is_empty());
        let svg = gate_heatmap(neutral).unwrap();
        assert!(svg.contains(">janeausten<") && svg.contains(">78.1<"), "{svg}");
        let mut earlier = neutral.clone();
        earlier.against_base = None;
        let svg = gate_heatmap(&earlier).unwrap();
        assert!(svg.contains(">original<") && !svg.contains(">janeausten<"));
    }

    #[test]
    fn a_histogram_has_a_column_a_bin_and_negative_values_only_where_there_are_some() {
        let neutral = sample::against_base().trials.pop().unwrap();
        let all = gate_histograms(&neutral);
        assert_eq!(all.len(), 3);
        assert!(all[0].contains(">.003<") && all[0].contains(">10<") && !all[0].contains("&lt;0<"));
        let mut elu = neutral;
        elu.against_base.as_mut().unwrap().divergence.original[0].gates[0].negative = 5;
        assert!(gate_histograms(&elu)[0].contains(">&lt;0<"));
    }
}
