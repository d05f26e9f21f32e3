//! How a task file says what is measured: `metric_list`, `process_results`, `filter_list`.

use crate::TaskError;
use crate::config::OutputType;
use crate::functions;
use crate::metric::{Aggregation, Metric, MetricRule};
use crate::value::Value;
use crate::yaml::{Fields, Node, no_python};

/// Options of a metric beside `aggregation` and `higher_is_better` are for generated text: of answers to
/// choices and continuations, the harness passes them over.
pub(crate) fn metrics(
    fields: &mut Fields,
    output: OutputType,
) -> Result<Vec<MetricRule>, TaskError> {
    let Some(list) = fields.maps("metric_list")? else {
        return Ok(Metric::defaults(output).iter().map(|m| MetricRule::new(*m)).collect());
    };
    let mut rules: Vec<MetricRule> = Vec::new();
    for mut fields in list {
        let Some(name) = fields.text("metric")? else {
            return Err(fields.wrong("metric", "is missing"));
        };
        let metric = Metric::find(&name, output).map_err(|found| fields.wrong("metric", found))?;
        let mut rule = MetricRule::new(metric);
        let aggregation = match fields.take("aggregation") {
            None => Ok(rule.aggregation),
            Some(Node::Function(function)) => functions::aggregation(&function)
                .ok_or_else(|| no_python(&function.name))
                .and_then(|found| found.goes_with(metric)),
            Some(other) => match other.value() {
                Value::Text(name) => Aggregation::find(&name, metric),
                other => Err(format!("is {}; a name is needed", other.kind())),
            },
        };
        rule.aggregation = aggregation.map_err(|found| fields.wrong("aggregation", found))?;
        rule.higher_is_better = fields.flag("higher_is_better")?.unwrap_or(rule.higher_is_better);
        // The last entry of a name wins, in the first one's place.
        match rules.iter_mut().find(|other| other.metric == metric) {
            Some(other) => *other = rule,
            None => rules.push(rule),
        }
    }
    Ok(rules)
}

/// Filters change what a model generates; of log-likelihoods only the first of several can be taken.
pub(crate) fn filters(fields: &mut Fields) -> Result<Vec<String>, TaskError> {
    let Some(list) = fields.maps("filter_list")? else { return Ok(vec!["none".to_owned()]) };
    let mut names = Vec::new();
    for mut fields in list {
        let Some(name) = fields.text("name")? else {
            return Err(fields.wrong("name", "is missing; results are told under it"));
        };
        for mut step in fields.maps("filter")?.unwrap_or_default() {
            match step.value("function")? {
                Some(Value::Text(function)) if function == "take_first" => step.finish()?,
                other => {
                    let found = other.unwrap_or(Value::Null);
                    let found = format!("is {found}; of log-likelihoods only take_first is taken");
                    return Err(step.wrong("function", found));
                }
            }
        }
        fields.finish()?;
        names.push(name);
    }
    Ok(names)
}
