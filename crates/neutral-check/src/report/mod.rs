//! A check as people and tools read it.

mod annotations;
mod badge;
mod junit;
mod markdown;
mod table;

pub use annotations::annotations;
pub use badge::badge;
pub use junit::junit;
pub use markdown::markdown;
pub use table::table;

use crate::{BudgetResult, Check, Row};

/// A row's cells, without its trial: measure, before, now, worse by, interval, margin, p, can see, verdict.
fn cells(row: &Row) -> [String; 9] {
    let optional = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), bits);
    let interval = row.interval.map_or_else(
        || "–".to_owned(),
        |interval| format!("{} to {}", bits(interval.low), bits(interval.high)),
    );
    // The p of what the verdict says: beyond for a failure, within otherwise.
    let failed = row.verdict == crate::Verdict::Fail;
    [
        format!("{}, {}", row.metric.name(), row.corpus),
        bits(row.baseline),
        bits(row.run),
        bits(row.worse_by),
        interval,
        bits(row.margin),
        optional(if failed { row.p_beyond } else { row.p_within }),
        optional(row.detectable),
        row.verdict.name().to_owned(),
    ]
}

fn bits(value: f64) -> String {
    neutral_report::decimals(value, 4)
}

/// The heads of [`cells`].
fn heads(check: &Check) -> [String; 9] {
    // In percent, to the second decimal where it has one.
    let confidence = (10_000.0 * (1.0 - 2.0 * check.level)).round() / 100.0;
    let interval = format!("{confidence} % interval");
    let words = ["measure", "before", "now", "worse by", "", "margin", "p", "can see", "verdict"];
    let mut heads = words.map(str::to_owned);
    heads[4] = interval;
    heads
}

/// What the numbers mean.
fn meaning(check: &Check) -> String {
    let is_share = |row: &Row| row.metric.unit().is_empty();
    let accuracies =
        if check.rows.iter().any(is_share) { " (accuracies: shares of right answers)" } else { "" };
    format!(
        "Bits/byte{accuracies}, paired by document. p: one-sided, of being beyond the margin (of being within it, where the verdict is fail), Holm-adjusted, level {}. Can see: how far within the margin the truth must lie for the row alone, before the adjustment, to be shown on its one side with 80 % probability.",
        check.level
    )
}

/// What the check does not tell, in a sentence; nothing where all of the run was checked.
fn unchecked(check: &Check) -> Option<String> {
    let all = || format!("Not checked, of what the run has: {}.", check.unchecked.join("; "));
    (!check.unchecked.is_empty()).then(all)
}

/// How the check ended, in a line.
fn headline(check: &Check) -> String {
    let of = |verdict| {
        let rows = check.rows.iter().map(|row| row.verdict);
        let budgets = check.budgets.iter().map(|budget| budget.verdict);
        rows.chain(budgets).filter(|v| *v == verdict).count()
    };
    let failed = check.failures.len() + of(crate::Verdict::Fail);
    format!(
        "{}: {} ({} within, {} not told, {failed} beyond)",
        check.experiment,
        check.verdict.name(),
        of(crate::Verdict::Pass),
        of(crate::Verdict::Inconclusive),
    )
}

/// A budget in words.
fn budget_sentence(result: &BudgetResult) -> String {
    let asked = format!(
        "{}: learn at least {} subject to forgetting at most {} bits/byte",
        result.budget.name, result.budget.learning_at_least, result.budget.forgetting_at_most
    );
    let learns = |trial: &str| {
        let found = result.candidates.iter().find(|candidate| candidate.trial == trial);
        found.map_or_else(String::new, |candidate| {
            format!(" (learns {:.4}, forgets {:.4})", candidate.learning, candidate.forgetting)
        })
    };
    match (&result.chosen, result.verdict) {
        (Some(trial), _) => format!("{asked}: {trial}{}", learns(trial)),
        (None, crate::Verdict::Fail) => {
            format!("{asked}: none of {} trials", result.candidates.len())
        }
        (None, _) => format!("{asked}: no trial is shown to, and not all are shown not to"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    #[test]
    fn an_interval_has_the_confidence_that_its_level_says() {
        let head = |level| heads(&Check { level, ..sample::checked() })[4].clone();
        assert_eq!(
            [0.025, 0.0125, 0.001].map(head),
            ["95", "97.5", "99.8"].map(|c| format!("{c} % interval"))
        );
    }
}
