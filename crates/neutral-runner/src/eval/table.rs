//! The table of scores, with the columns of the harness's.

use std::fmt::Write;

use indexmap::IndexMap;
use neutral_tasks::{Score, Selection};

use super::evaluate::Evaluated;
use super::output::{higher_is_better, shots, shown};

const COLUMNS: [&str; 8] =
    ["Tasks", "Version", "n-shot", "Filter", "Metric", "", "Value", "Stderr"];

/// One line a metric, tasks below the groups that they belong to.
pub(crate) fn table(selection: &Selection, done: &IndexMap<String, Evaluated>) -> String {
    let member =
        |name: &String| selection.groups.values().any(|(group, _)| group.members.contains(name));
    let groups = selection.groups.keys().filter(|name| !member(name));
    let tasks = done.keys().filter(|name| !member(name));
    let mut table = Table {
        selection,
        done,
        shots: shots(selection, done),
        better: higher_is_better(selection, done),
        rows: vec![COLUMNS.map(str::to_owned)],
    };
    for name in groups.chain(tasks) {
        table.add(name, 0);
    }
    aligned(&table.rows)
}

struct Table<'a> {
    selection: &'a Selection,
    done: &'a IndexMap<String, Evaluated>,
    shots: IndexMap<String, usize>,
    better: IndexMap<String, IndexMap<String, Option<bool>>>,
    rows: Vec<[String; 8]>,
}

impl Table<'_> {
    fn add(&mut self, name: &str, depth: usize) {
        let Self { selection, done, .. } = *self;
        let title = |alias: &str| match depth {
            0 => alias.to_owned(),
            depth => format!("{}- {alias}", " ".repeat(depth)),
        };
        if let Some((group, below)) = selection.groups.get(name) {
            let members: Vec<_> =
                below.iter().filter_map(|task| done.get(task)).map(|done| &done.result).collect();
            if members.len() == below.len() {
                let result = group.aggregate(&members);
                self.metrics(name, title(&group.alias), group.version.clone(), &result.metrics);
            }
            for member in &group.members {
                self.add(member, depth + 1);
            }
            return;
        }
        if let (Some(task), Some(evaluated)) = (selection.tasks.get(name), done.get(name)) {
            let result = &evaluated.result;
            self.metrics(name, title(&result.alias), shown(task.version()), &result.metrics);
        }
    }

    fn metrics(
        &mut self,
        task: &str,
        title: String,
        version: String,
        metrics: &IndexMap<String, Score>,
    ) {
        let shots = self.shots.get(task).map(usize::to_string).unwrap_or_default();
        let better = self.better.get(task);
        let mut first = [title, version, shots];
        let mut names: Vec<(&str, &str)> =
            metrics.keys().filter_map(|key| key.split_once(',')).collect();
        names.retain(|(name, _)| !name.ends_with("_stderr"));
        names.sort_unstable();
        for (name, filter) in names {
            let number = |key: String| match metrics.get(&key) {
                Some(Score::Number(number)) if number.is_finite() => format!("{number:.4}"),
                Some(_) => "N/A".to_owned(),
                None => String::new(),
            };
            let arrow = match better.and_then(|better| better.get(name).copied().flatten()) {
                Some(true) => "↑",
                Some(false) => "↓",
                None => "",
            };
            let error = number(format!("{name}_stderr,{filter}"));
            let error = if error.is_empty() { error } else { format!("± {error}") };
            let [task, version, shots] = std::mem::take(&mut first);
            let value = number(format!("{name},{filter}"));
            let [filter, name, arrow] = [filter, name, arrow].map(str::to_owned);
            self.rows.push([task, version, shots, filter, name, arrow, value, error]);
        }
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
