//! A summary in Markdown, such as CI systems show beside a job.

use std::fmt::Write;

use neutral_report::escaped_markdown as escaped;

use super::{budget_sentence, cells, headline, heads, meaning, unchecked};
use crate::Check;

/// A check as Markdown.
pub fn markdown(check: &Check) -> String {
    let mut out = format!("### {}\n", escaped(&headline(check)));
    if !check.rows.is_empty() {
        let heads = heads(check);
        let _ = writeln!(out, "\n| trial | {} |", heads.join(" | "));
        let _ = writeln!(out, "|---|---|{}---|", "--:|".repeat(heads.len() - 2));
        for row in &check.rows {
            let cells = cells(row).map(|cell| escaped(&cell));
            let _ = writeln!(out, "| {} | {} |", escaped(&row.trial), cells.join(" | "));
        }
        let _ = writeln!(out, "\n{}", meaning(check));
    }
    if let Some(sentence) = unchecked(check) {
        let _ = writeln!(out, "\n{}", escaped(&sentence));
    }
    let notes = check.rows.iter().filter_map(|row| row.note.as_ref().map(|note| (row, note)));
    for (row, note) in notes {
        let _ = writeln!(out, "\n- {}, {}: {}", escaped(&row.trial), escaped(&row.corpus), note);
    }
    for failure in &check.failures {
        let _ = writeln!(out, "\n- **{}**: {}", escaped(&failure.trial), escaped(&failure.error));
    }
    for budget in &check.budgets {
        let _ =
            writeln!(out, "\n**{}**: {}", budget.verdict.name(), escaped(&budget_sentence(budget)));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    #[test]
    fn a_summary_looks_like_this() {
        insta::assert_snapshot!(markdown(&sample::checked()));
    }
}
