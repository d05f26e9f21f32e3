//! The table of scores, with the columns of the harness's.

use std::fmt::Write;

use indexmap::IndexMap;
use neutral_tasks::{Score, Selection};

use super::evaluate::Evaluated;
use super::output::shown;

const COLUMNS: [&str; 8] =
    ["Tasks", "Version", "n-shot", "Filter", "Metric", "", "Value", "Stderr"];

/// One line a metric, tasks below the groups that they belong to.
pub(crate) fn table(selection: &Selection, done: &IndexMap<String, Evaluated>) -> String {
    let mut rows = vec![COLUMNS.map(str::to_owned)];
    let member =
        |name: &String| selection.groups.values().any(|(group, _)| group.members.contains(name));
    let groups = selection.groups.keys().filter(|name| !member(name));
    let tasks = done.keys().filter(|name| !member(name));
    for name in groups.chain(tasks) {
        add(name, 0, selection, done, &mut rows);
    }
    aligned(&rows)
}

fn add(
    name: &str,
    depth: usize,
    selection: &Selection,
    done: &IndexMap<String, Evaluated>,
    rows: &mut Vec<[String; 8]>,
) {
    let title = |alias: &str| match depth {
        0 => alias.to_owned(),
        depth => format!("{}- {alias}", " ".repeat(depth)),
    };
    if let Some((group, below)) = selection.groups.get(name) {
        let members: Vec<_> =
            below.iter().filter_map(|task| done.get(task)).map(|done| &done.result).collect();
        if members.len() == below.len() {
            let result = group.aggregate(&members);
            let better: IndexMap<String, bool> = below
                .iter()
                .filter_map(|task| selection.tasks.get(task))
                .flat_map(neutral_tasks::Task::higher_is_better)
                .collect();
            let first = [title(&group.alias), group.version.clone(), String::new()];
            metrics(first, &result.metrics, &better, rows);
        }
        for member in &group.members {
            add(member, depth + 1, selection, done, rows);
        }
        return;
    }
    // A tag among a group's members is not shown: its tasks are.
    let (Some(task), Some(evaluated)) = (selection.tasks.get(name), done.get(name)) else {
        return;
    };
    let first =
        [title(&evaluated.result.alias), shown(task.version()), evaluated.shots.to_string()];
    metrics(first, &evaluated.result.metrics, &task.higher_is_better(), rows);
}

fn metrics(
    mut first: [String; 3],
    metrics: &IndexMap<String, Score>,
    better: &IndexMap<String, bool>,
    rows: &mut Vec<[String; 8]>,
) {
    let mut names: Vec<(&str, &str)> =
        metrics.keys().filter_map(|key| key.split_once(',')).collect();
    names.retain(|(name, _)| !name.ends_with("_stderr"));
    names.sort_unstable();
    for (name, filter) in names {
        let number = |key: String| match metrics.get(&key) {
            Some(Score::Number(number)) => format!("{number:.4}"),
            Some(Score::NotAvailable) => "N/A".to_owned(),
            None => String::new(),
        };
        let arrow = better.get(name).map_or("", |higher| if *higher { "↑" } else { "↓" });
        let error = number(format!("{name}_stderr,{filter}"));
        let error = if error.is_empty() { error } else { format!("± {error}") };
        let [task, version, shots] = std::mem::take(&mut first);
        let value = number(format!("{name},{filter}"));
        let rest = [filter, name, arrow].map(str::to_owned);
        let [filter, name, arrow] = rest;
        rows.push([task, version, shots, filter, name, arrow, value, error]);
    }
}

/// Numbers to the right, everything else to the left.
fn aligned(rows: &[[String; 8]]) -> String {
    let width = |i: usize| rows.iter().map(|row| row[i].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..COLUMNS.len()).map(width).collect();
    let mut out = String::new();
    for (line, row) in rows.iter().enumerate() {
        for ((cell, width), i) in row.iter().zip(&widths).zip(0..) {
            let padding = " ".repeat(width - cell.chars().count());
            let right = matches!(i, 2 | 6 | 7);
            let _ = if right {
                write!(out, "| {padding}{cell} ")
            } else {
                write!(out, "| {cell}{padding} ")
            };
        }
        out.push_str("|\n");
        if line == 0 {
            out.extend(widths.iter().map(|width| format!("|{}", "-".repeat(width + 2))));
            out.push_str("|\n");
        }
    }
    out
}
