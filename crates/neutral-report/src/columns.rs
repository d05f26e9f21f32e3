//! The comparison as a grid of text, before it is drawn for a terminal or for Markdown.

use crate::format::{decimals, mean_and_deviation, of_fewer, thousands, value};
use crate::results::{ByDomain, Results, Status, TrialResult};
use crate::series::{Group, groups, name, varied_paths};
use crate::tasks::{ByTask, mean_score};

/// A grid of text.
pub(crate) struct Grid {
    /// One a column.
    pub columns: Vec<Column>,
    /// The base, then the trials.
    pub rows: Vec<Row>,
}

/// The head of a column.
pub(crate) struct Column {
    /// What it is, with its unit; the same for neighbours that differ in their corpus.
    pub title: String,
    /// The corpus or the domain, if it is about one.
    pub of: String,
    /// Numbers stand flush right.
    pub number: bool,
    /// It tells which row it is, and is said again wherever the table is broken.
    pub key: bool,
}

/// A line of the grid.
#[derive(Default)]
pub(crate) struct Row {
    /// One a column.
    pub cells: Vec<Cell>,
}

/// A field of the grid.
#[derive(Clone, Default)]
pub(crate) struct Cell {
    /// What it says.
    pub text: String,
    /// The best of its column.
    pub best: bool,
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self { text, best: false }
    }
}

type Get<'a> = Box<dyn Fn(&TrialResult) -> Option<f64> + 'a>;

/// A column of measured numbers.
struct Measure<'a> {
    title: &'static str,
    of: String,
    places: usize,
    /// Which end is good.
    less_is_better: bool,
    base: Option<f64>,
    get: Get<'a>,
}

fn measures(results: &Results) -> Vec<Measure<'_>> {
    let mut all = Vec::new();
    for (corpus, metrics) in &results.base.metrics.original {
        all.push(Measure {
            title: "forgetting",
            of: corpus.clone(),
            places: 4,
            less_is_better: true,
            base: Some(metrics.bits_per_byte),
            get: Box::new(|t| t.forgetting.as_ref()?.get(corpus).copied()),
        });
    }
    for corpus in results.control.iter().flat_map(|_| results.base.metrics.original.keys()) {
        all.push(Measure {
            title: "from control",
            of: corpus.clone(),
            places: 4,
            less_is_better: true,
            base: None,
            get: Box::new(|t| t.forgetting_from_control.as_ref()?.get(corpus).copied()),
        });
    }
    for (corpus, metrics) in &results.base.metrics.new {
        all.push(Measure {
            title: "learning",
            of: corpus.clone(),
            places: 4,
            less_is_better: false,
            base: Some(metrics.bits_per_byte),
            get: Box::new(|t| t.learning.as_ref()?.get(corpus).copied()),
        });
    }
    let domains: [(&str, fn(&ByDomain<ByTask>) -> &ByTask); 2] =
        [("original", |tasks| &tasks.original), ("new", |tasks| &tasks.new)];
    for (domain, of) in domains {
        let Some(base) = results.base.tasks.as_ref().and_then(|tasks| mean_score(of(tasks))) else {
            continue;
        };
        all.push(Measure {
            title: "tasks, %",
            of: domain.to_owned(),
            places: 1,
            less_is_better: false,
            base: Some(100.0 * base),
            get: Box::new(move |t| Some(100.0 * mean_score(of(t.tasks.as_ref()?))?)),
        });
    }
    let mut plain =
        |title, of: &str, places, less_is_better, get: fn(&TrialResult) -> Option<f64>| {
            let (of, get) = (of.to_owned(), Box::new(get));
            all.push(Measure { title, of, places, less_is_better, base: None, get });
        };
    if results.trials.iter().any(|t| t.gates_zero().is_some()) {
        plain("gates zero", "original", 1, false, |t| Some(100.0 * t.gates_zero()?.original));
        plain("gates zero", "new", 1, true, |t| Some(100.0 * t.gates_zero()?.new));
    }
    plain("tokens/s", "", 0, false, |t| t.tokens_per_second);
    plain("minutes", "", 2, true, |t| t.elapsed_seconds.map(|s| s / 60.0));
    all
}

impl Measure<'_> {
    fn number(&self, value: f64) -> String {
        if self.places == 0 {
            thousands(value.round().max(0.0) as u64)
        } else {
            decimals(value, self.places)
        }
    }

    /// One trial's number, or the mean of several seeds' and their sample deviation, with how many have one if
    /// not all do.
    fn cell(&self, trials: &[&TrialResult]) -> Cell {
        let values: Vec<f64> = trials.iter().filter_map(|t| (self.get)(t)).collect();
        if values.is_empty() {
            return Cell::from("–".to_owned());
        }
        let (mean, deviation) = mean_and_deviation(&values);
        let spread = deviation.map(|d| format!(" ±{}", self.number(d))).unwrap_or_default();
        Cell::from(self.number(mean) + &spread + &of_fewer(values.len(), trials.len()))
    }

    /// The mean over some trials, as coarse as it is shown, so that equal texts are equally good. Of fewer seeds
    /// it is not the same thing, and does not compete.
    fn shown(&self, trials: &[&TrialResult]) -> Option<i64> {
        let values: Vec<f64> = trials.iter().filter_map(|t| (self.get)(t)).collect();
        let scale = 10f64.powi(self.places as i32);
        let all = !values.is_empty() && values.len() == trials.len();
        all.then(|| (mean_and_deviation(&values).0 * scale).round() as i64)
    }
}

/// A row of trials: one, or the seeds of a group as their mean.
struct Line<'a> {
    trials: Vec<&'a TrialResult>,
    /// The text in the seed's column.
    seed: String,
    /// Seeds whose mean has a row of its own do not compete for the best, and no baseline does.
    competes: bool,
}

fn lines<'a>(group: &Group<'a>, control: Option<&str>) -> Vec<Line<'a>> {
    let several = group.trials.len() > 1;
    let method = control != Some(&group.first().label);
    let line = |t: &&'a TrialResult| Line {
        trials: vec![*t],
        seed: t.seed.to_string(),
        competes: method && !several,
    };
    let mut lines: Vec<_> = group.trials.iter().map(line).collect();
    let finished: Vec<_> = group.finished().collect();
    if several && !finished.is_empty() {
        let seed = format!("mean of {}", finished.len());
        // Without those that failed the mean would favour what is unstable.
        let competes = method && finished.len() == group.trials.len();
        lines.push(Line { trials: finished, seed, competes });
    }
    lines
}

/// The whole comparison.
pub(crate) fn grid(results: &Results) -> Grid {
    let measures = measures(results);
    let paths = varied_paths(results);
    let groups = groups(results);
    let seeds = groups.iter().any(|g| g.trials.len() > 1);
    let unfinished = results.trials.iter().any(|t| t.finished().is_none());

    let text = |title: &str| Column {
        title: title.to_owned(),
        of: String::new(),
        number: false,
        key: false,
    };
    let number = |title: &str| Column { number: true, ..text(title) };
    let mut columns = vec![Column { key: true, ..text("method") }];
    columns.extend(paths.iter().map(|p| Column { key: true, ..number(&short_path(p, &paths)) }));
    columns.extend(seeds.then(|| Column { key: true, ..number("seed") }));
    columns.extend(unfinished.then(|| text("status")));
    columns.extend(["weights", "%"].map(number));
    columns.extend(measures.iter().map(|m| Column { of: m.of.clone(), ..number(m.title) }));

    let lead = paths.len() + usize::from(seeds) + usize::from(unfinished);
    let mut base = vec![Cell::from("base, bits/byte".to_owned())];
    base.resize(1 + lead, Cell::default());
    base.push(thousands(results.base.parameters).into());
    base.push("100.0".to_owned().into());
    base.extend(measures.iter().map(|m| m.base.map(|b| m.number(b)).unwrap_or_default().into()));
    let mut rows = vec![Row { cells: base }];

    let control = results.control.as_deref();
    let lines: Vec<_> = groups.iter().flat_map(|group| lines(group, control)).collect();
    let best: Vec<_> = measures.iter().map(|m| best_of(m, &lines)).collect();
    for line in &lines {
        let trial = line.trials[0];
        let mut cells = vec![Cell::from(name(trial))];
        let varied = trial.varied();
        cells.extend(paths.iter().map(|path| {
            let found = varied.iter().find(|(p, _)| p == path);
            Cell::from(found.map(|(_, v)| value(v)).unwrap_or_default())
        }));
        cells.extend(seeds.then(|| line.seed.clone().into()));
        cells.extend(unfinished.then(|| {
            let done = trial.status == Status::Finished;
            Cell::from(if done { String::new() } else { trial.status.name().to_owned() })
        }));
        cells.push(thousands(trial.parameters.extension).into());
        let share = trial.parameters.extension as f64 / trial.parameters.base as f64;
        cells.push(decimals(100.0 * share, 1).into());
        for (measure, best) in measures.iter().zip(&best) {
            let best = line.competes && best.is_some() && measure.shown(&line.trials) == *best;
            cells.push(Cell { best, ..measure.cell(&line.trials) });
        }
        rows.push(Row { cells });
    }
    Grid { columns, rows }
}

/// The best number of a column, if there are at least two different ones to choose from.
fn best_of(measure: &Measure<'_>, lines: &[Line<'_>]) -> Option<i64> {
    let shown = || lines.iter().filter(|l| l.competes).filter_map(|l| measure.shown(&l.trials));
    let (least, most) = (shown().min()?, shown().max()?);
    (least != most).then_some(if measure.less_is_better { least } else { most })
}

/// `learning_rate` for `training.learning_rate`, unless another path ends in the same.
pub(crate) fn short_path(path: &str, all: &[&str]) -> String {
    let Some((_, short)) = path.split_once('.') else { return path.to_owned() };
    let clash = all.iter().filter(|p| p.split_once('.').is_some_and(|(_, s)| s == short)).count();
    if clash > 1 { path.to_owned() } else { short.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Status, sample};

    fn best_methods(grid: &Grid, title: &str) -> Vec<String> {
        let column = grid.columns.iter().position(|c| c.title == title).unwrap();
        let best = grid.rows.iter().filter(|r| r.cells[column].best);
        best.map(|r| r.cells[0].text.clone()).collect()
    }

    #[test]
    fn the_least_forgetting_and_the_most_learning_are_marked() {
        let grid = grid(&sample::quick());
        assert_eq!(best_methods(&grid, "forgetting"), ["neutral residues"]);
        assert_eq!(best_methods(&grid, "learning"), ["fine-tuning"]);
        assert!(grid.rows.iter().all(|r| r.cells.len() == grid.columns.len()));
    }

    #[test]
    fn a_control_forgets_the_least_and_does_not_compete() {
        let grid = grid(&sample::control());
        assert_eq!(best_methods(&grid, "forgetting"), ["neutral residues"]);
        assert_eq!(best_methods(&grid, "from control"), ["neutral residues"]);
        let column = grid.columns.iter().position(|c| c.title == "from control").unwrap();
        let control = grid.rows.iter().find(|r| r.cells[0].text.ends_with("English alone"));
        assert_eq!(
            (&*grid.rows[0].cells[column].text, &*control.unwrap().cells[column].text),
            ("", "–")
        );
    }

    #[test]
    fn seeds_do_not_compete_with_means() {
        let grid = grid(&sample::seeds());
        let seed = grid.columns.iter().position(|c| c.title == "seed").unwrap();
        for row in grid.rows.iter().filter(|r| r.cells.iter().any(|c| c.best)) {
            assert_eq!(row.cells[seed].text, "mean of 3");
        }
    }

    #[test]
    fn a_mean_of_fewer_seeds_says_so_and_does_not_compete() {
        let mut results = sample::seeds();
        let method = best_methods(&grid(&results), "learning").remove(0);
        let of_best = |t: &&mut TrialResult| crate::series::name(t) == method;
        results.trials.iter_mut().find(of_best).unwrap().learning = None;
        let grid = grid(&results);
        assert!(!best_methods(&grid, "learning").contains(&method));
        let column = grid.columns.iter().position(|c| c.title == "learning").unwrap();
        let cells = grid.rows.iter().map(|row| row.cells[column].text.as_str());
        assert_eq!(cells.filter(|text| text.ends_with(" (of 2)")).count(), 1);
    }

    #[test]
    fn the_mean_of_the_seeds_that_survived_does_not_compete() {
        let mut results = sample::seeds();
        let method = best_methods(&grid(&results), "learning").remove(0);
        let of_best = |t: &&mut TrialResult| crate::series::name(t) == method;
        for trial in results.trials.iter_mut().filter(of_best).skip(1) {
            trial.status = Status::Diverged;
        }
        assert!(!best_methods(&grid(&results), "learning").contains(&method));
    }

    #[test]
    fn equal_texts_are_equally_good_and_a_lone_number_is_not_best() {
        let mut results = sample::quick();
        for trial in &mut results.trials {
            *trial.learning.as_mut().unwrap() = [("libreoffice-help/fr".to_owned(), 2.0)].into();
        }
        let grid = grid(&results);
        assert!(best_methods(&grid, "learning").is_empty());
        assert!(best_methods(&grid, "gates zero").is_empty());
    }

    #[test]
    fn a_path_is_shortened_only_while_it_stays_unique() {
        assert_eq!(
            short_path("training.learning_rate", &["training.learning_rate"]),
            "learning_rate"
        );
        assert_eq!(short_path("a.x", &["a.x", "b.x"]), "a.x");
    }
}
