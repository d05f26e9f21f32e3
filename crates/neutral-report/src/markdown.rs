//! `report.md`: the answer in one page.

use std::fmt::Write;

use crate::columns::{Cell, Grid, grid};
use crate::divergence::{HEADS, MEANINGS, SHOWN, TEXTS, rows};
use crate::escape::escaped_markdown as escaped;
use crate::over_seeds;
use crate::paper;
use crate::plot::has_several_corpora;
use crate::results::Results;
use crate::tasks;
use crate::{best, equal_learning, hypervolume};

/// The question, the plot, the table, what its columns mean, and how to make it all again.
pub fn markdown(results: &Results) -> String {
    markdown_with(results, "tradeoff")
}

/// The same, with the name of the plots' files before `.svg` and `-corpora.svg`.
pub(crate) fn markdown_with(results: &Results, plots: &str) -> String {
    let grid = grid(results);
    let mut out =
        format!("# {}\n\n{}\n\n", escaped(&results.experiment), escaped(&results.question));
    push_table(&mut out, &grid);
    out.push_str("\nThe best of each column is bold.\n\n");
    if let Some(control) = results.control_name() {
        let _ = writeln!(
            out,
            "There are two baselines: **forgetting** is measured from the pristine base, and **from \
             control** from {} of the same seed, the control. A base that gets better with any text \
             of the original domain hides forgetting in the first; the control got better too, so \
             the second shows what a method lacks to it. The control does not compete for the best.\n",
            escaped(&control)
        );
    }
    let failures: Vec<_> = results.trials.iter().filter(|t| t.error.is_some()).collect();
    if !failures.is_empty() {
        out.push_str("## Trials that did not finish\n\n");
        for trial in failures {
            let error = escaped(trial.error.as_deref().unwrap_or_default());
            let _ = writeln!(out, "- {}, {}: {error}", escaped(&trial.id), trial.status.name());
        }
        out.push('\n');
    }
    let _ = writeln!(out, "![Learning against forgetting]({plots}.svg)\n");
    if has_several_corpora(results) {
        let _ = writeln!(out, "![The same by corpus]({plots}-corpora.svg)\n");
    }
    out.push_str("## Columns\n\n");
    for line in meanings(&grid) {
        let _ = writeln!(out, "- {line}");
    }
    let (heads, seeds) = over_seeds::table(results);
    if !seeds.is_empty() {
        out.push_str("\n## Over seeds\n\n");
        push_rows(&mut out, &heads, over_seeds::TEXTS, &seeds);
        let _ = writeln!(out, "\n{}", over_seeds::MEANING);
    }
    let (heads, best) = best::table(results);
    if !best.is_empty() {
        out.push_str("\n## Best settings\n\n");
        push_rows(&mut out, &heads, best::TEXTS, &best);
        let _ = writeln!(out, "\n{}", best::MEANING);
    }
    let swept = hypervolume::rows(results);
    if !swept.is_empty() {
        out.push_str("\n## Curves\n\n");
        push_rows(&mut out, &hypervolume::HEADS, hypervolume::TEXTS, &swept);
        let _ = writeln!(out, "\n{}", hypervolume::MEANING);
        let (heads, rows) = equal_learning::table(results);
        if !rows.is_empty() {
            out.push_str("\n### At equal learning\n\n");
            push_rows(&mut out, &heads, equal_learning::TEXTS, &rows);
            let _ = writeln!(out, "\n{}", equal_learning::MEANING);
        }
    }
    let beside = paper::rows(results);
    if let Some(paper) = results.paper.as_ref().filter(|_| !beside.is_empty()) {
        out.push_str("\n## The paper says, and we see\n\n");
        push_rows(&mut out, &paper::HEADS, paper::TEXTS, &beside);
        let _ = writeln!(out, "\nThe paper: {}. {}", escaped(&paper.what), paper::MEANING);
    }
    if let Some((heads, rows)) = tasks::rows(results) {
        let heads: Vec<&str> = heads.iter().map(String::as_str).collect();
        out.push_str("\n## Tasks\n\n");
        push_rows(&mut out, &heads, 2, &rows);
        let _ = writeln!(out, "\n{}", tasks::MEANING);
    }
    push_divergence(&mut out, results);
    push_origin(&mut out, results);
    out
}

/// How far trained models are from their base, where that was measured.
fn push_divergence(out: &mut String, results: &Results) {
    let rows = rows(results);
    if rows.is_empty() {
        return;
    }
    let _ = write!(out, "\n## Beside the base\n\n{SHOWN}\n\n");
    push_rows(out, &HEADS, TEXTS, &rows);
    out.push('\n');
    for (term, meaning) in MEANINGS {
        let _ = writeln!(out, "- **{term}**: {meaning}");
    }
}

/// Rows of so many texts, then numbers.
fn push_rows(out: &mut String, heads: &[&str], texts: usize, rows: &[Vec<String>]) {
    let rule = "---|".repeat(texts) + &"---:|".repeat(heads.len() - texts);
    let line = |cells: Vec<String>| format!("| {} |", cells.join(" | "));
    let _ = writeln!(out, "{}\n|{rule}", line(heads.iter().map(|head| escaped(head)).collect()));
    for row in rows {
        let _ = writeln!(out, "{}", line(row.iter().map(|cell| escaped(cell)).collect()));
    }
}

fn push_table(out: &mut String, grid: &Grid) {
    let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
    let heads = grid.columns.iter().map(|c| escaped(format!("{} {}", c.title, c.of).trim()));
    out.push_str(&line(heads.collect()));
    let rule = grid.columns.iter().map(|c| if c.number { "---:" } else { "---" }.to_owned());
    out.push_str(&line(rule.collect()));
    let text = |c: &Cell| {
        let text = escaped(&c.text);
        if c.best { format!("**{text}**") } else { text }
    };
    for row in &grid.rows {
        out.push_str(&line(row.cells.iter().map(text).collect()));
    }
}

/// A line for each kind of column that the table has.
pub(crate) fn meanings(grid: &Grid) -> Vec<&'static str> {
    const ALL: [(&str, &str); 10] = [
        (
            "seed",
            "**seed**: of the extension's start and of the data's order; a mean of several comes with their sample deviation.",
        ),
        ("status", "**status**: how the trial ended, if it did not finish."),
        (
            "weights",
            "**weights**: those beside the base's, of all extensions of a sequence together, and their share of the base's (%); fine-tuning adds none and trains all of the base's.",
        ),
        (
            "forgetting",
            "**forgetting**: bits/byte on held-out text of the original domain after training, minus the pristine base's; less is better, 0 is none. In the base's row: its bits/byte.",
        ),
        (
            "from control",
            "**from control**: bits/byte on the same text after training, minus those of the control of the same seed; less is better. A dash for the control itself, and where it did not finish.",
        ),
        (
            "learning",
            "**learning**: the pristine base's bits/byte on held-out text of the new domain, minus those after training; more is better. In the base's row: its bits/byte.",
        ),
        (
            "gates zero",
            "**gates zero**: share (%) of tokens at which a block's gate is exactly zero, mean over blocks, on text of the original and of the new domain; a dash where there is no gate.",
        ),
        (
            "tasks, %",
            "**tasks, %**: mean accuracy over the tasks of the original and of the new domain; more is better. A fall of the first is forgetting.",
        ),
        ("tokens/s", "**tokens/s**: training speed."),
        ("minutes", "**minutes**: training time; evaluation not included."),
    ];
    ALL.iter()
        .filter(|(title, _)| grid.columns.iter().any(|c| c.title == *title))
        .map(|(_, line)| *line)
        .collect()
}

fn push_origin(out: &mut String, results: &Results) {
    let environment = &results.environment;
    let _ = write!(out, "\n## Origin\n\n");
    for (name, value) in results.setting().into_iter().flatten() {
        let _ = writeln!(out, "- {name}: {}", escaped(&value));
    }
    let _ = write!(
        out,
        "- trials: `{}` (fingerprint of all that determines their results: settings, text, tokenizer, base, numerics)\n\
         - code: {}\n\
         - libtorch {} on {}, {}, {}\n\
         - processor: {}\n\n\
         Every number stands in the run's `results.json`; forgetting, learning, gates and costs also in `results.csv`, one row a \
         trial. To make them again, \
         check out the code above and run the experiment file; for one that ships with neutral:\n\n    scripts/neutral run $(find experiments -name {}.yaml)\n",
        results.plan_fingerprint,
        escaped(&environment.code()),
        environment.libtorch,
        environment.device,
        environment.workers(),
        environment.precision,
        escaped(&environment.cpu),
        results.experiment,
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::ByDomain;
    use crate::sample;
    use crate::tasks::ByTask;

    #[test]
    fn quick_looks_like_this() {
        insta::assert_snapshot!(markdown(&sample::quick()));
    }

    #[test]
    fn a_control_looks_like_this() {
        let text = markdown(&sample::control());
        insta::assert_snapshot!(text.split("\n## Origin").next().unwrap());
    }

    #[test]
    fn a_label_cannot_break_the_table() {
        let mut results = sample::quick();
        results.trials[0].label = "a|b\n<i>".to_owned();
        let none = ByDomain { original: ByTask::new(), new: ByTask::new() };
        results.base.tasks = Some(none);
        let text = markdown(&results);
        let (before, tasks) = text.split_once("## Tasks").unwrap();
        for part in [before, tasks] {
            assert!(part.contains(r"a\|b \<i>") && !part.contains("a|b"), "{text}");
        }
    }

    #[test]
    fn what_was_compared_with_the_base_has_a_table() {
        let text = markdown(&sample::against_base());
        let section = text.split("## Beside the base").nth(1).unwrap();
        insta::assert_snapshot!(section.split("\n## Origin").next().unwrap());
        assert!(!markdown(&sample::quick()).contains("Beside the base"));
    }

    #[test]
    fn failures_are_listed() {
        let text = markdown(&sample::sweep());
        assert!(text.contains("- elu-lr0.008-s0, diverged: the loss became NaN"), "{text}");
    }
}
