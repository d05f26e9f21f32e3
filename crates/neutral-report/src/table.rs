//! The comparison for a terminal.

use std::fmt::Write;

use crate::columns::{Cell, Column, Grid, Row, grid};
use crate::results::Results;

/// Characters of a line, if it can be helped: what does not fit goes into another block of rows.
const WIDTH: usize = 120;

/// Letters of a line of a column's head, if the corpus' name can be broken so.
const HEAD: usize = 12;

/// How the best values stand out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Bold: for terminals.
    Ansi,
    /// An asterisk: for files and pipes.
    Plain,
}

/// The comparison as text: the question, the baselines if there are two, the base, the trials sorted by method then label, the best
/// of each column marked; then why some did not finish, if any.
pub fn terminal_table(results: &Results, style: Style) -> String {
    let grid = grid(results);
    let widths: Vec<usize> = (0..grid.columns.len())
        .map(|i| {
            let heads = head(&grid.columns[i]);
            let heads = heads.iter().map(|h| width(h));
            let cells = grid.rows.iter().map(|r| width(&r.cells[i].text));
            heads.chain(cells).max().unwrap_or(0)
        })
        .collect();
    let mut out = format!("{}: {}\n", results.experiment, results.question);
    if let Some(control) = results.control_name() {
        let _ = writeln!(
            out,
            "forgetting: bits/byte above the pristine base's; from control: above those of {control}"
        );
    }
    out.push('\n');
    for (i, block) in blocks(&grid.columns, &widths).iter().enumerate() {
        if i > 0 {
            out.push('\n');
        }
        push_block(&mut out, &grid, &widths, block, style);
    }
    for trial in results.trials.iter().filter(|t| t.error.is_some()) {
        let error = trial.error.as_deref().unwrap_or_default();
        let _ = writeln!(out, "{} {}: {error}", trial.id, trial.status.name());
    }
    out
}

/// The columns of each block: as many as fit, columns of one title together where that can be. Each
/// block begins with the columns that tell which row it is.
fn blocks(columns: &[Column], widths: &[usize]) -> Vec<Vec<usize>> {
    let room = |block: &[usize]| block.iter().map(|&i| widths[i] + 2).sum::<usize>();
    let (keys, others): (Vec<_>, Vec<_>) = (0..columns.len()).partition(|&i| columns[i].key);
    let mut blocks: Vec<Vec<usize>> = Vec::new();
    for group in others.chunk_by(|&a, &b| columns[a].title == columns[b].title) {
        let together = room(&keys) + room(group) <= WIDTH;
        for piece in group.chunks(if together { group.len() } else { 1 }) {
            match blocks.last_mut() {
                Some(block) if room(block) + room(piece) <= WIDTH => block.extend(piece),
                _ => blocks.push([&keys, piece].concat()),
            }
        }
    }
    blocks
}

fn push_block(out: &mut String, grid: &Grid, widths: &[usize], block: &[usize], style: Style) {
    let columns: Vec<_> = block.iter().map(|&i| (&grid.columns[i], widths[i])).collect();
    let heads: Vec<_> = columns.iter().map(|(column, _)| head(column)).collect();
    for line in 0..heads.iter().map(Vec::len).max().unwrap_or(0) {
        let texts = heads.iter().map(|h| Cell::from(h.get(line).cloned().unwrap_or_default()));
        push_line(out, texts, &columns, style);
    }
    let rule = "─".repeat(columns.iter().map(|(_, width)| width + 2).sum());
    let says =
        |row: &&Row| block.iter().any(|&i| !grid.columns[i].key && !row.cells[i].text.is_empty());
    // Below the head, and between the base, where it says something, and the trials.
    let rules = 1 + grid.rows.iter().take(1).filter(says).count();
    for (i, row) in grid.rows.iter().filter(says).enumerate() {
        if i < rules {
            out.push_str(&rule);
            out.push('\n');
        }
        push_line(out, block.iter().map(|&i| row.cells[i].clone()), &columns, style);
    }
}

/// The title, then the corpus, broken before its slash and after hyphens.
fn head(column: &Column) -> Vec<String> {
    let pieces = column.of.split_inclusive('-').flat_map(|part| {
        let (before, after) = part.split_at(part.find('/').unwrap_or(part.len()));
        [before, after]
    });
    let mut lines = vec![column.title.clone()];
    for piece in pieces.filter(|piece| !piece.is_empty()) {
        match lines.get_mut(1..).and_then(<[_]>::last_mut) {
            Some(line) if width(line) + width(piece) <= HEAD => line.push_str(piece),
            _ => lines.push(piece.to_owned()),
        }
    }
    lines
}

fn width(text: &str) -> usize {
    text.chars().count()
}

fn push_line(
    out: &mut String,
    cells: impl Iterator<Item = Cell>,
    columns: &[(&Column, usize)],
    style: Style,
) {
    let mut line = String::new();
    for (cell, (column, width_of_column)) in cells.zip(columns) {
        let space = " ".repeat(width_of_column - width(&cell.text));
        let (before, after) =
            if column.number { (space, String::new()) } else { (String::new(), space) };
        let (on, off, mark) = match (cell.best, style) {
            (true, Style::Ansi) => ("\x1b[1m", "\x1b[0m", " "),
            (true, Style::Plain) => ("", "", "*"),
            (false, _) => ("", "", " "),
        };
        let _ = write!(line, "{before}{on}{}{off}{mark}{after} ", cell.text);
    }
    out.push_str(line.trim_end());
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    #[test]
    fn quick_looks_like_this() {
        insta::assert_snapshot!(terminal_table(&sample::quick(), Style::Plain));
    }

    #[test]
    fn several_seeds_look_like_this() {
        insta::assert_snapshot!(terminal_table(&sample::seeds(), Style::Plain));
    }

    #[test]
    fn a_sweep_with_a_diverged_trial_looks_like_this() {
        insta::assert_snapshot!(terminal_table(&sample::sweep(), Style::Plain));
    }

    #[test]
    fn a_control_and_four_original_corpora_look_like_this() {
        insta::assert_snapshot!(terminal_table(&sample::control(), Style::Plain));
    }

    #[test]
    fn a_wide_table_is_broken_and_says_every_column_once() {
        let results = sample::seeds();
        let grid = grid(&results);
        for widths in [10, 30, 50, 200] {
            let blocks = blocks(&grid.columns, &vec![widths; grid.columns.len()]);
            let mut seen: Vec<_> = blocks.concat();
            seen.retain(|&i| !grid.columns[i].key);
            assert_eq!(seen, (2..grid.columns.len()).collect::<Vec<_>>());
            assert!(blocks.iter().all(|block| block.starts_with(&[0, 1]) && block.len() > 2));
        }
    }

    #[test]
    fn bold_takes_no_room() {
        let bold = terminal_table(&sample::quick(), Style::Ansi);
        assert!(bold.contains("\x1b[1m"));
        let bare = bold.replace("\x1b[1m", "").replace("\x1b[0m", "");
        let plain = terminal_table(&sample::quick(), Style::Plain).replace('*', " ");
        let trim = |t: &str| t.lines().map(str::trim_end).collect::<Vec<_>>().join("\n");
        assert_eq!(trim(&bare), trim(&plain));
    }
}
