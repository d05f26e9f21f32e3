//! The table on the terminal, at most 120 characters wide.

use std::fmt::Write;

use neutral_report::shorten;

use super::{budget_sentence, cells, headline, heads, meaning, unchecked};
use crate::Check;

/// Widths of the columns; the first is of text.
const WIDTHS: [usize; 9] = [30, 8, 8, 8, 18, 7, 6, 7, 12];

/// A check as text: how it ended, a block a trial, budgets, and what the numbers mean.
pub fn table(check: &Check) -> String {
    let mut out = format!("{}\n", headline(check));
    if !check.rows.is_empty() {
        out.push('\n');
        line(&mut out, &heads(check));
        out.push_str(&"─".repeat(WIDTHS.iter().sum::<usize>() + 2 * (WIDTHS.len() - 1)));
        out.push('\n');
    }
    for rows in check.rows.chunk_by(|a, b| a.trial == b.trial) {
        let seeds = match rows[0].seeds {
            1 => String::new(),
            seeds => format!(", {seeds} seeds"),
        };
        let _ = writeln!(out, "{}{seeds}", rows[0].trial);
        for row in rows {
            let mut cells = cells(row);
            cells[0] = format!("  {}", shorten(&cells[0], WIDTHS[0] - 2));
            line(&mut out, &cells);
            if let Some(note) = &row.note {
                let _ = writeln!(out, "    {note}");
            }
        }
    }
    for failure in &check.failures {
        let _ = writeln!(out, "{}: {}", failure.trial, failure.error);
    }
    if !check.rows.is_empty() {
        let _ = writeln!(out, "\n{}", wrapped(&meaning(check), 120));
    }
    if let Some(sentence) = unchecked(check) {
        let _ = writeln!(out, "\n{}", wrapped(&sentence, 120));
    }
    for budget in &check.budgets {
        let _ = writeln!(out, "\n{}", wrapped(&budget_sentence(budget), 120));
    }
    out
}

fn line(out: &mut String, cells: &[String; 9]) {
    let padded = cells.iter().zip(WIDTHS).enumerate().map(|(i, (cell, width))| {
        if i == 0 || i == 8 { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
    });
    let text = padded.collect::<Vec<_>>().join("  ");
    let _ = writeln!(out, "{}", text.trim_end());
}

fn wrapped(text: &str, width: usize) -> String {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let last = lines.len() - 1;
        let line = &mut lines[last];
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > width {
            lines.push(word.to_owned());
        } else {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    #[test]
    fn a_check_looks_like_this_and_is_narrow_enough() {
        let text = table(&sample::checked());
        assert!(text.lines().all(|line| line.chars().count() <= 120), "{text}");
        insta::assert_snapshot!(text);
    }
}
