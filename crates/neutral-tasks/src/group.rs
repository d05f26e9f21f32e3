//! Groups: several tasks under one name, whose metrics are averaged. `Group.aggregate` of
//! `lm_eval/api/group.py`.

use std::collections::BTreeSet;
use std::path::Path;

use indexmap::IndexMap;
use serde::Serialize;

use crate::TaskError;
use crate::results::{GroupResult, Score, TaskResult};
use crate::value::Value;
use crate::yaml::{Fields, Keys, Node};

/// A group.
#[derive(Clone, Debug, Serialize)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// What tables call it.
    pub alias: String,
    /// Tasks and groups that are directly in it, each once: those of a tag in its place, and `GROUP::NAME` for one
    /// that the file itself describes.
    pub members: Vec<String>,
    /// `metadata.version`, as text; `N/A` where there is none.
    pub version: String,
    averages: Vec<Average>,
}

#[derive(Clone, Debug, Serialize)]
struct Average {
    metric: String,
    /// Names under which tasks tell the metric; none: all that there are.
    filters: Option<Vec<String>>,
    by_size: bool,
}

/// What a group lists: a task, a group or a tag, and the keys that are other there.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) name: String,
    pub(crate) keys: Keys,
    pub(crate) is_group: bool,
}

/// The keys of groups; others are keys of the tasks below.
const KEYS: [&str; 6] =
    ["group", "group_alias", "task", "aggregate_metric_list", "metadata", "tag"];

impl Group {
    /// The group, what it lists, and the keys that it changes in all tasks below.
    pub(crate) fn read(path: &Path, mut map: Keys) -> Result<(Self, Vec<Member>, Keys), TaskError> {
        let of_tasks = map.iter().filter(|(key, _)| !KEYS.contains(&key.as_str()));
        let changed: Keys = of_tasks.map(|(key, node)| (key.clone(), node.clone())).collect();
        map.retain(|key, _| KEYS.contains(&key.as_str()));
        let mut fields = Fields::new(path, "", map);
        let Some(name) = fields.text("group")? else {
            return Err(fields.wrong("group", "is missing; it names the group"));
        };
        let alias = fields.text("group_alias")?.unwrap_or_else(|| name.clone());
        let items = match fields.take("task") {
            Some(Node::List(items)) => items,
            Some(one) => vec![one],
            None => Vec::new(),
        };
        let member = |item: Node| member(item).map_err(|found| fields.wrong("task", found));
        let listed: Vec<_> = items.into_iter().map(member).collect::<Result<_, _>>()?;
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
            let filters = fields.texts("filter_list")?;
            let by_size = fields.flag("weight_by_size")?.unwrap_or(true);
            fields.finish()?;
            averages.push(Average { metric, filters, by_size });
        }
        // What names stand for is known to the library.
        let members = Vec::new();
        Ok((Self { name, alias, members, version, averages }, listed, changed))
    }

    /// It averages some metric of its tasks.
    pub fn has_score(&self) -> bool {
        !self.averages.is_empty()
    }

    /// The metrics that it averages, each with whether documents count alike, not tasks (`weight_by_size`).
    pub fn averages(&self) -> impl Iterator<Item = (&str, bool)> {
        self.averages.iter().map(|average| (average.metric.as_str(), average.by_size))
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
        for Average { metric, filters, by_size } in &self.averages {
            let filters = filters.clone();
            for filter in filters.unwrap_or_else(|| told(metric, tasks)) {
                average(&mut result, tasks, (metric, &filter), *by_size);
            }
        }
        result
    }
}

fn member(item: Node) -> Result<Member, String> {
    let mut keys = match item {
        Node::Map(keys) => keys,
        other => match other.value() {
            Value::Text(name) => return Ok(Member { name, keys: Keys::new(), is_group: false }),
            other => return Err(format!("holds {}, no task or group", other.kind())),
        },
    };
    // A group keeps its name among its keys: it is read as a group's file is.
    let is_group = keys.contains_key("group");
    let name = if is_group { keys.get("group").cloned() } else { keys.shift_remove("task") };
    match name.map(|name| name.value()) {
        Some(Value::Text(name)) => Ok(Member { name, keys, is_group }),
        _ => Err("holds a mapping without a name under task or group".to_owned()),
    }
}

/// The names of filters under which tasks tell a metric.
fn told(metric: &str, tasks: &[&TaskResult]) -> Vec<String> {
    let keys = tasks.iter().flat_map(|task| task.metrics.keys());
    let filter = |key: &String| Some(key.strip_prefix(metric)?.strip_prefix(',')?.to_owned());
    keys.filter_map(filter).collect::<BTreeSet<_>>().into_iter().collect()
}

fn average(
    result: &mut GroupResult,
    tasks: &[&TaskResult],
    (metric, filter): (&str, &str),
    by_size: bool,
) {
    let (key, error_key) = (format!("{metric},{filter}"), format!("{metric}_stderr,{filter}"));
    let with = tasks.iter().filter_map(|task| Some((*task, task.metrics.get(&key)?.number()?)));
    let (with, values): (Vec<&TaskResult>, Vec<f64>) = with.unzip();
    if values.is_empty() {
        return;
    }
    let sizes: Vec<f64> = with.iter().map(|task| task.sample_len as f64).collect();
    let errors: Option<Vec<f64>> =
        with.iter().map(|task| task.metrics.get(&error_key)?.number()).collect();
    let count = values.len() as f64;
    let (mean, error) = if by_size {
        let total: f64 = sizes.iter().sum();
        let sum: f64 = values.iter().zip(&sizes).map(|(value, size)| value * size).sum();
        let pooled = |errors: Vec<f64>| {
            let each = errors.iter().zip(&sizes);
            let squares: f64 = each.map(|(e, size)| (size - 1.0) * e.powi(2) * size).sum();
            (squares / (total - count) / total).sqrt()
        };
        (sum / total, errors.map(pooled))
    } else {
        let plain = |errors: Vec<f64>| errors.iter().map(|e| e.powi(2)).sum::<f64>().sqrt() / count;
        (values.iter().sum::<f64>() / count, errors.map(plain))
    };
    result.metrics.insert(key.clone(), Score::Number(mean));
    result.metrics.insert(error_key, error.into());
    result.sample_count.insert(key, with.iter().map(|task| task.sample_len).sum());
}
