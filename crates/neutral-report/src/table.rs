//! The comparison for a terminal.

use std::fmt::Write;

use crate::columns::{Cell, Column, grid};
use crate::results::Results;

/// How the best values stand out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Bold: for terminals.
    Ansi,
    /// An asterisk: for files and pipes.
    Plain,
}

/// The comparison as text: the question, the base, the trials sorted by method then label, the best
/// of each column marked; then why some did not finish, if any.
pub fn terminal_table(results: &Results, style: Style) -> String {
    let grid = grid(results);
    let widths: Vec<usize> = (0..grid.columns.len())
        .map(|i| {
            let heads = head(&grid.columns[i]).into_iter().map(|h| width(&h));
            let cells = grid.rows.iter().map(|r| width(&r.cells[i].text));
            heads.chain(cells).max().unwrap_or(0)
        })
        .collect();
    let mut out = format!("{}: {}\n\n", results.experiment, results.question);
    for line in 0..3 {
        let heads = grid.columns.iter().map(|c| Cell::from(head(c)[line].clone()));
        push_line(&mut out, heads, &grid.columns, &widths, style);
    }
    let rule = "─".repeat(widths.iter().sum::<usize>() + 2 * widths.len());
    for (i, row) in grid.rows.iter().enumerate() {
        // Below the head, and between the base and the trials.
        if i < 2 {
            out.push_str(&rule);
            out.push('\n');
        }
        push_line(&mut out, row.cells.iter().cloned(), &grid.columns, &widths, style);
    }
    for trial in results.trials.iter().filter(|t| t.error.is_some()) {
        let error = trial.error.as_deref().unwrap_or_default();
        let _ = writeln!(out, "{} {}: {error}", trial.id, trial.status.name());
    }
    out
}

/// Three lines: title, then the corpus before and after its slash.
fn head(column: &Column) -> [String; 3] {
    match column.of.split_once('/') {
        Some((manifest, variant)) => {
            [column.title.clone(), manifest.to_owned(), format!("/{variant}")]
        }
        None => [column.title.clone(), column.of.clone(), String::new()],
    }
}

fn width(text: &str) -> usize {
    text.chars().count()
}

fn push_line(
    out: &mut String,
    cells: impl Iterator<Item = Cell>,
    columns: &[Column],
    widths: &[usize],
    style: Style,
) {
    let mut line = String::new();
    for ((cell, column), width_of_column) in cells.zip(columns).zip(widths) {
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
    fn bold_takes_no_room() {
        let bold = terminal_table(&sample::quick(), Style::Ansi);
        assert!(bold.contains("\x1b[1m"));
        let bare = bold.replace("\x1b[1m", "").replace("\x1b[0m", "");
        let plain = terminal_table(&sample::quick(), Style::Plain).replace('*', " ");
        let trim = |t: &str| t.lines().map(str::trim_end).collect::<Vec<_>>().join("\n");
        assert_eq!(trim(&bare), trim(&plain));
    }
}
