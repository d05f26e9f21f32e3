//! Groups: several tasks under one name, whose metrics are averaged. `Group.aggregate` of
//! `lm_eval/api/group.py`.

use std::path::Path;

use indexmap::IndexMap;

use crate::TaskError;
use crate::results::{GroupResult, Score, TaskResult};
use crate::value::Value;
use crate::yaml::{Fields, Node};

/// A group.
#[derive(Clone, Debug)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// What tables call it.
    pub alias: String,
    /// Tasks, groups and tags, as the file lists them.
    pub members: Vec<String>,
    /// `metadata.version`, as text; `N/A` where there is none.
    pub version: String,
    averages: Vec<Average>,
}

#[derive(Clone, Debug)]
struct Average {
    metric: String,
    by_size: bool,
}

impl Group {
    pub(crate) fn read(path: &Path, map: IndexMap<String, Node>) -> Result<Self, TaskError> {
        let mut fields = Fields::new(path, "", map);
        let Some(name) = fields.text("group")? else {
            return Err(fields.wrong("group", "is missing; it names the group"));
        };
        let alias = fields.text("group_alias")?.unwrap_or_else(|| name.clone());
        let items = match fields.value("task")? {
            Some(Value::List(items)) => items,
            Some(one) => vec![one],
            None => Vec::new(),
        };
        let member = |item: Value| match item {
            Value::Text(name) => Ok(name),
            other => Err(fields.wrong(
                "task",
                format!(
                    "holds {}; only names of tasks, groups and tags are supported",
                    other.kind()
                ),
            )),
        };
        let members = items.into_iter().map(member).collect::<Result<_, _>>()?;
        let version = match fields.value("metadata")? {
            Some(Value::Map(map)) => match map.get("version") {
                Some(Value::Text(version)) => version.clone(),
                Some(version) => version.to_string(),
                None => "N/A".to_owned(),
            },
            _ => "N/A".to_owned(),
        };
        let mut averages = Vec::new();
        for mut fields in fields.maps("aggregate_metric_list")?.unwrap_or_default() {
            let Some(metric) = fields.text("metric")? else {
                return Err(fields.wrong("metric", "is missing"));
            };
            if fields.text("aggregation")?.is_some_and(|name| name != "mean") {
                return Err(fields.wrong("aggregation", "is not mean, the only one there is"));
            }
            match fields.value("filter_list")? {
                None => {}
                Some(Value::Text(filter)) if filter == "none" => {}
                Some(Value::List(filters)) if filters == [Value::Text("none".to_owned())] => {}
                Some(other) => {
                    let found = format!("is {other}; tasks here have the filter none alone");
                    return Err(fields.wrong("filter_list", found));
                }
            }
            let by_size = fields.flag("weight_by_size")?.unwrap_or(true);
            fields.finish()?;
            averages.push(Average { metric, by_size });
        }
        fields.ignore(&["tag"]);
        fields.finish()?;
        Ok(Self { name, alias, members, version, averages })
    }

    /// The group's result, of those of its tasks, groups within it included.
    ///
    /// Weighted by size, a metric is that of all documents together if it is a mean, and its standard
    /// error the pooled one; else both are those of the plain mean of tasks. A task that lacks the metric
    /// is left out of it.
    pub fn aggregate(&self, tasks: &[&TaskResult]) -> GroupResult {
        let mut result = GroupResult {
            alias: self.alias.clone(),
            name: self.name.clone(),
            sample_len: None,
            sample_count: IndexMap::new(),
            metrics: IndexMap::new(),
        };
        if self.averages.is_empty() {
            return result;
        }
        result.sample_len = Some(tasks.iter().map(|task| task.sample_len).sum());
        for Average { metric, by_size } in &self.averages {
            let (key, error_key) = (format!("{metric},none"), format!("{metric}_stderr,none"));
            let with =
                tasks.iter().filter_map(|task| Some((*task, task.metrics.get(&key)?.number()?)));
            let (with, values): (Vec<&TaskResult>, Vec<f64>) = with.unzip();
            if values.is_empty() {
                continue;
            }
            let sizes: Vec<f64> = with.iter().map(|task| task.sample_len as f64).collect();
            let errors: Option<Vec<f64>> =
                with.iter().map(|task| task.metrics.get(&error_key)?.number()).collect();
            let count = values.len() as f64;
            let (mean, error) = if *by_size {
                let total: f64 = sizes.iter().sum();
                let sum: f64 = values.iter().zip(&sizes).map(|(value, size)| value * size).sum();
                let pooled = |errors: Vec<f64>| {
                    let each = errors.iter().zip(&sizes);
                    let squares: f64 = each.map(|(e, size)| (size - 1.0) * e.powi(2) * size).sum();
                    (squares / (total - count) / total).sqrt()
                };
                (sum / total, errors.map(pooled))
            } else {
                let plain =
                    |errors: Vec<f64>| errors.iter().map(|e| e.powi(2)).sum::<f64>().sqrt() / count;
                (values.iter().sum::<f64>() / count, errors.map(plain))
            };
            result.metrics.insert(key.clone(), Score::Number(mean));
            result.metrics.insert(error_key, error.into());
            result.sample_count.insert(key, with.iter().map(|task| task.sample_len).sum());
        }
        result
    }
}
