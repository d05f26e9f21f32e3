//! Sweeps: which trials a method's lists of values stand for.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::draft::{Draft, overrides, to_value};
use crate::error::Problem;
use crate::experiment::{Experiment, Sweep};
use crate::field_path::FieldPath;
use crate::say::{nearest, quoted};
use crate::schema::Schema;

/// More trials than anyone could run: a mistake, told before memory is full of it.
const MOST_TRIALS: usize = 10_000;

/// One value that a sweep sets in a trial.
#[derive(Clone, Debug)]
pub(crate) struct Setting {
    /// The dotted path within the trial: `training.learning_rate`.
    pub(crate) key: String,
    pub(crate) value: Value,
    /// Where the value stands in the experiment.
    pub(crate) path: FieldPath,
}

/// Settings that go together: one of a grid's key, or one step of a zip.
type Axis = Vec<Vec<Setting>>;

/// The combinations of settings that a method is run with: the experiment's sweep, outermost, then
/// the method's own; without any, one empty combination.
pub(crate) fn points(
    experiment: &Experiment,
    entry: usize,
    schema: &Schema,
) -> Result<Vec<Vec<Setting>>, Vec<Problem>> {
    let own = FieldPath::dotted("methods").index(entry).key("sweep");
    let sweeps: Vec<(&Sweep, FieldPath)> =
        (experiment.sweep.iter().map(|s| (s, FieldPath::dotted("sweep"))))
            .chain(experiment.methods[entry].sweep.iter().map(|s| (s, own.clone())))
            .collect();
    let mut problems = check_keys(&sweeps, experiment, entry, schema);
    let axes: Vec<Axis> =
        sweeps.iter().flat_map(|(sweep, path)| axes(sweep, path, &mut problems)).collect();
    let count = axes.iter().fold(experiment.seeds.len(), |n, axis| n.saturating_mul(axis.len()));
    if count > MOST_TRIALS
        && let Some((_, path)) = sweeps.last()
    {
        let message = format!("stands for {count} trials a method, more than {MOST_TRIALS}");
        problems.push(Problem::new(path.clone(), message));
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    Ok(axes.iter().fold(vec![Vec::new()], |points, axis| {
        let longer = |point: &Vec<Setting>| -> Vec<Vec<Setting>> {
            axis.iter().map(|step| [point.as_slice(), step].concat()).collect()
        };
        points.iter().flat_map(longer).collect()
    }))
}

fn axes(sweep: &Sweep, path: &FieldPath, problems: &mut Vec<Problem>) -> Vec<Axis> {
    let setting = |list: &str, key: &str, i: usize, value: &Value| Setting {
        key: key.to_owned(),
        value: value.clone(),
        path: path.key(list).key(key).index(i),
    };
    let grid = sweep.grid.iter().map(|(key, values)| {
        values.iter().enumerate().map(|(i, v)| vec![setting("grid", key, i, v)]).collect()
    });
    let mut axes: Vec<Axis> = grid.collect();
    let lengths: BTreeSet<usize> = sweep.zip.values().map(Vec::len).collect();
    if lengths.len() > 1 {
        let each: Vec<_> =
            sweep.zip.iter().map(|(key, values)| format!("`{key}` has {}", values.len())).collect();
        let message = format!("lists that go in step need one length, found: {}", each.join(", "));
        problems.push(Problem::new(path.key("zip"), message));
    } else if let Some(&steps) = lengths.first() {
        let step = |i| sweep.zip.iter().map(|(k, v)| setting("zip", k, i, &v[i])).collect();
        axes.push((0..steps).map(step).collect());
    }
    if sweep.grid.is_empty() && sweep.zip.is_empty() {
        problems.push(Problem::new(path.clone(), "varies nothing; give it a `grid` or a `zip`"));
    }
    axes
}

/// Every key names something in the trial, each thing is set once, and no value is ignored.
fn check_keys(
    sweeps: &[(&Sweep, FieldPath)],
    experiment: &Experiment,
    entry: usize,
    schema: &Schema,
) -> Vec<Problem> {
    let known = schema.keys(&to_value(&Draft::of(experiment, entry)));
    let fixed = overrides(experiment, entry);
    let mut problems = Vec::new();
    let mut seen: Vec<(&str, FieldPath)> = Vec::new();
    for (number, (sweep, path)) in sweeps.iter().enumerate() {
        let lists = [("grid", &sweep.grid), ("zip", &sweep.zip)];
        let keys = lists.iter().flat_map(|(name, map)| map.keys().map(move |key| (name, key)));
        for (name, key) in keys {
            let path = path.key(name).key(key);
            let mut problem = |message| problems.push(Problem::new(path.clone(), message));
            if !settable(key, &known) {
                let common = number == 0 && experiment.sweep.is_some();
                problem(unknown_key(key, common, experiment, entry, schema));
            } else if let Some((other, at)) = seen.iter().find(|(k, _)| overlap(k, key)) {
                let what = if other == key { "varied" } else { "varied in part" };
                problem(format!("is {what} by {at} too; keep one"));
            } else if let Some(own) = fixed.iter().find(|k| overlap(k, key)) {
                problem(format!(
                    "would override methods[{entry}].{own}; remove that value, or give each method its own sweep"
                ));
            }
            seen.push((key, path));
        }
    }
    problems
}

/// `method`, `training` and `data` as a whole are no keys.
fn settable(key: &str, known: &[String]) -> bool {
    key.contains('.') && known.iter().any(|k| k == key)
}

/// Is one of two keys the other, or a field of it?
fn overlap(a: &str, b: &str) -> bool {
    let (a, b) = (FieldPath::dotted(a), FieldPath::dotted(b));
    a.after(&b).is_some() || b.after(&a).is_some()
}

/// What to say about a key that names nothing in an entry's trial; the same for every entry, if the
/// sweep is common to all.
fn unknown_key(
    key: &str,
    common: bool,
    experiment: &Experiment,
    entry: usize,
    schema: &Schema,
) -> String {
    let known = |i: usize| schema.keys(&to_value(&Draft::of(experiment, i)));
    let entries = if common { 0..experiment.methods.len() } else { entry..entry + 1 };
    let (with, without): (Vec<_>, Vec<_>) =
        entries.clone().partition(|&i| settable(key, &known(i)));
    let list = |entries: Vec<usize>| {
        let names = entries.iter().map(|i| format!("methods[{i}]"));
        names.collect::<Vec<_>>().join(", ")
    };
    if !with.is_empty() {
        return format!(
            "names nothing in {}, though it does in {}; put it into the `sweep` of the methods that have it",
            list(without),
            list(with)
        );
    }
    let known: BTreeSet<String> = entries.flat_map(known).filter(|k| k.contains('.')).collect();
    if let Some(whole) = key.strip_suffix(".kind")
        && known.contains(whole)
    {
        return format!(
            "a kind goes with its fields; vary `{whole}` with whole values such as `{{ kind: … }}`"
        );
    }
    let hint = nearest(key, known.iter().map(String::as_str));
    let hint = hint.map_or(String::new(), |k| format!("; did you mean `{k}`?"));
    let room = key.split_once('.').map_or("", |(room, _)| room);
    let beside = |k: &&str| k.split_once('.').is_some_and(|(r, _)| r == room);
    let mut keys: Vec<&str> = known.iter().map(String::as_str).filter(beside).collect();
    if keys.is_empty() {
        keys = known.iter().map(String::as_str).collect();
    }
    format!("names nothing in {}{hint} (the keys there: {})", list(without), quoted(&keys))
}
