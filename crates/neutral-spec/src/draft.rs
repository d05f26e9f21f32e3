//! A trial before its budget is solved: the part of the experiment that sweeps reach into.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::Problem;
use crate::experiment::{DataSpec, Experiment, TrainingSpec};
use crate::field_path::FieldPath;
use crate::method::Method;
use crate::schema::Schema;
use crate::sweep::Setting;
use crate::validate;

/// What a sweep's key is a path within.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Draft {
    pub(crate) method: Method,
    pub(crate) training: TrainingSpec,
    pub(crate) data: DataSpec,
}

impl Draft {
    /// An entry's trial without any sweep: the method's own training and data values applied.
    pub(crate) fn of(experiment: &Experiment, entry: usize) -> Self {
        let entry = &experiment.methods[entry];
        let mut training = experiment.training.clone();
        if let Some(own) = &entry.training {
            training.tokens = own.tokens.unwrap_or(training.tokens);
            training.learning_rate = own.learning_rate.unwrap_or(training.learning_rate);
            training.weight_decay = own.weight_decay.unwrap_or(training.weight_decay);
            training.schedule = own.schedule.unwrap_or(training.schedule);
        }
        let mut data = experiment.data.clone();
        if let Some(own) = &entry.data {
            data.original = own.original.clone().unwrap_or(data.original);
            data.new = own.new.clone().unwrap_or(data.new);
            data.original_fraction = own.original_fraction.unwrap_or(data.original_fraction);
        }
        Self { method: entry.method.clone(), training, data }
    }

    /// The same with a sweep's values in place, read back and checked. Paths are the trial's.
    pub(crate) fn with(&self, settings: &[Setting], schema: &Schema) -> Result<Self, Vec<Problem>> {
        let mut value = to_value(self);
        for setting in settings {
            put(&mut value, &setting.key, setting.value.clone());
        }
        let draft: Self = schema.read(&value)?;
        let problems = validate::trial(&draft);
        if problems.is_empty() { Ok(draft) } else { Err(problems) }
    }
}

/// Where in the experiment a field of an entry's trial was written.
///
/// A swept value stands in its list; a value that the method sets for itself, with the method.
pub(crate) fn origin(
    path: &FieldPath,
    settings: &[Setting],
    experiment: &Experiment,
    entry: usize,
) -> FieldPath {
    for setting in settings {
        let key = FieldPath::dotted(&setting.key);
        if let Some(rest) = path.after(&key) {
            return setting.path.join(&rest);
        }
        if key.after(path).is_some() {
            return setting.path.clone();
        }
    }
    let own = FieldPath::dotted("methods").index(entry);
    let overridden = overrides(experiment, entry)
        .iter()
        .any(|key| path.after(&FieldPath::dotted(key)).is_some());
    if overridden || path.after(&FieldPath::dotted("method")).is_some() {
        own.join(path)
    } else {
        path.clone()
    }
}

/// The values that an entry sets for itself: `training.learning_rate`, `data.original_fraction`.
pub(crate) fn overrides(experiment: &Experiment, entry: usize) -> Vec<String> {
    let entry = &experiment.methods[entry];
    let own = [
        ("training", entry.training.as_ref().map(to_value)),
        ("data", entry.data.as_ref().map(to_value)),
    ];
    let keys = |(room, own): &(&str, Option<Value>)| {
        let keys = own.as_ref().and_then(Value::as_object).into_iter().flat_map(|map| map.keys());
        keys.map(|key| format!("{room}.{key}")).collect::<Vec<_>>()
    };
    own.iter().flat_map(keys).collect()
}

/// A type of this crate as a value.
///
/// # Panics
/// Never: the types of this crate have string keys throughout.
pub(crate) fn to_value(of: &impl Serialize) -> Value {
    serde_json::to_value(of).expect("types with string keys")
}

/// Sets the value at a dotted key whose parents exist, as the key was found in [`Schema::keys`].
fn put(value: &mut Value, key: &str, new: Value) {
    let mut place = value;
    for name in key.split('.') {
        place = &mut place[name];
    }
    *place = new;
}
