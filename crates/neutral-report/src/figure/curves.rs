//! Training curves: what `metrics.jsonl` says of each trial, against tokens.

use super::chart::{Chart, Line};
use crate::plot::series;
use crate::run::Run;
use crate::step::{Quantity, curve};

/// Points of a line; of more steps, neighbours are put together as their mean.
const POINTS: usize = 40;

/// Losses a domain, and open gates where there are some; nothing where no trial's folder was found.
pub(crate) fn curves(run: &Run) -> Vec<String> {
    let tokens = run.steps.values().flatten().map(|step| step.tokens).max().unwrap_or(0);
    let (unit, scale) = if tokens >= 10_000_000 { ("million", 1e6) } else { ("thousand", 1e3) };
    let x = format!("{unit} tokens of training");
    let draw = |(title, y, share, quantity): (&str, &str, bool, Quantity)| {
        let lines = lines(run, quantity, scale);
        Chart { title, x: &x, y, logarithmic: false, share, lines }.draw()
    };
    let loss = "nats/token of the training mix, mean over some steps";
    let gates = "share of gate values above 0, training mix";
    let all: [(&str, &str, bool, Quantity); 4] = [
        ("Loss, new domain", loss, false, |step| step.loss_nats_per_token_new),
        ("Loss, original domain", loss, false, |step| step.loss_nats_per_token_original),
        ("Open gates, new domain", gates, true, |step| step.gate_open_fraction_new),
        ("Open gates, original domain", gates, true, |step| step.gate_open_fraction_original),
    ];
    all.into_iter().filter_map(draw).collect()
}

/// A line a trial; seeds and swept values of a label look alike.
fn lines(run: &Run, quantity: Quantity, scale: f64) -> Vec<Line> {
    let mut lines = Vec::new();
    for series in series(&run.results) {
        let (colour, dash) = series.marker.line();
        for trial in series.groups.iter().flat_map(|group| &group.trials) {
            let Some(steps) = run.steps.get(&trial.id) else { continue };
            let points = curve(steps, quantity, POINTS);
            if points.is_empty() {
                continue;
            }
            lines.push(Line {
                name: Some(series.name.clone()),
                title: trial.id.clone(),
                colour: colour.clone(),
                dash,
                points: points.into_iter().map(|(tokens, y)| (tokens / scale, y)).collect(),
            });
        }
    }
    lines
}
