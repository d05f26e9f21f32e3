//! Commands that GitHub's runners turn into annotations when they are printed.

use std::fmt::Write;

use super::{budget_sentence, headline};
use crate::{Check, Verdict};

/// A line for everything that did not pass; one notice if all did.
pub fn annotations(check: &Check) -> String {
    let mut out = String::new();
    let mut line = |verdict: Verdict, message: &str| {
        let command = match verdict {
            Verdict::Pass => return,
            Verdict::Fail => "error",
            Verdict::Inconclusive => "warning",
        };
        let _ = writeln!(out, "::{command} title=neutral check::{}", escaped(message));
    };
    for row in &check.rows {
        line(row.verdict, &row.sentence());
    }
    for failure in &check.failures {
        line(Verdict::Fail, &format!("{}: {}", failure.trial, failure.error));
    }
    for budget in &check.budgets {
        line(budget.verdict, &budget_sentence(budget));
    }
    if out.is_empty() {
        let _ = writeln!(out, "::notice title=neutral check::{}", escaped(&headline(check)));
    }
    out
}

/// A message is one line, in which a percent sign begins an escape.
fn escaped(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    #[test]
    fn what_did_not_pass_is_annotated_and_otherwise_one_notice() {
        let mut check = sample::checked();
        let text = annotations(&check);
        assert!(
            text.starts_with("::error title=neutral check::lora forgets more on text/a: worse by")
        );
        let passed = check.rows.iter().filter(|row| row.verdict == Verdict::Pass).count();
        let rest = check.rows.len() - passed + check.failures.len() + check.budgets.len();
        assert_eq!(text.lines().count(), rest, "{text}");
        check.rows.retain(|row| row.verdict == Verdict::Pass);
        (check.failures, check.budgets) = (Vec::new(), Vec::new());
        assert!(annotations(&check).starts_with("::notice"));
    }

    #[test]
    fn a_message_stays_one_line() {
        assert_eq!(escaped("5 %\nmore"), "5 %25%0Amore");
    }
}
