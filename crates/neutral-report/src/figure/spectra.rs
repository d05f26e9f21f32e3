//! Singular values, a figure a matrix, a line a block.

use super::chart::{Chart, Line};
use super::colour::line;
use crate::against_base::Spectrum;

/// Blocks that the legend names.
const NAMED: usize = 6;

/// Singular values against their rank, for each matrix that every block has.
pub(crate) fn spectra(all: &[Spectrum]) -> Vec<String> {
    let mut matrices: Vec<&str> = Vec::new();
    for (_, matrix) in all.iter().filter_map(Spectrum::block) {
        if !matrices.contains(&matrix) {
            matrices.push(matrix);
        }
    }
    matrices.iter().filter_map(|matrix| figure(matrix, all)).collect()
}

fn figure(matrix: &str, all: &[Spectrum]) -> Option<String> {
    let of_matrix = |spectrum: &&Spectrum| spectrum.block().is_some_and(|(_, m)| m == matrix);
    let mut found: Vec<_> = all.iter().filter(of_matrix).collect();
    found.sort_by_key(|spectrum| spectrum.block());
    let (first, last) = (found.first()?, found.len() - 1);
    let y = format!("{} × {} a block; by rank, the largest first", first.rows, first.columns);
    let draw = |(i, spectrum): (usize, &&Spectrum)| {
        let (block, _) = spectrum.block()?;
        // At even distances, both ends among them.
        let named = found.len() <= NAMED || (i * (NAMED - 1)) % last < NAMED - 1;
        let rank = format!("block {block}: effective rank {:.0}", spectrum.effective_rank);
        let kept = spectrum.singular_values.len();
        let steps = spectrum.count().saturating_sub(1) as f64 / (kept.max(2) - 1) as f64;
        let place = |(i, value): (usize, &f64)| (1.0 + (i as f64 * steps).floor(), *value);
        Some(Line {
            name: named.then(|| format!("block {block}")),
            title: rank,
            colour: line(i as f64 / last.max(1) as f64),
            dash: "",
            points: spectrum.singular_values.iter().enumerate().map(place).collect(),
        })
    };
    let lines = found.iter().enumerate().filter_map(draw).collect();
    let title = format!("Singular values of {}", matrix.replace(".adapter.", " "));
    Chart { title: &title, x: "rank", y: &y, logarithmic: true, share: false, lines }.draw()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spectrum(block: usize, matrix: &str) -> Spectrum {
        Spectrum {
            matrix: format!("layers.{block}.mlp.adapter.{matrix}"),
            rows: 31,
            columns: 64,
            effective_rank: 7.4,
            singular_values: (0..16).map(|i| 2.0_f64.powi(-i)).collect(),
        }
    }

    #[test]
    fn a_matrix_has_a_figure_and_a_block_a_line() {
        let all: Vec<_> = (0..12).flat_map(|b| ["w_i", "w_o"].map(|m| spectrum(b, m))).collect();
        let figures = spectra(&all);
        assert_eq!(figures.len(), 2);
        assert_eq!(figures[0].matches("effective rank 7</title>").count(), 12);
        assert!(figures[0].contains(">block 0<") && figures[0].contains(">block 11<"));
        let legend = figures[0].lines().filter(|l| l.contains(">block ") && l.contains("</text>"));
        assert_eq!(legend.count(), NAMED);
        assert!(figures[1].contains("Singular values of mlp w_o"));
        assert!(spectra(&[]).is_empty());
        // One block, one value.
        let one = Spectrum { singular_values: vec![0.0], rows: 1, ..spectrum(0, "w_o") };
        assert!(!spectra(&[one])[0].contains("NaN"));
    }
}
