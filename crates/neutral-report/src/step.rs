//! `metrics.jsonl`: what a training wrote down at each step.

use std::path::Path;

use neutral_store::StoreError;
use serde::Deserialize;

use crate::ReportError;

/// One line; what is not drawn is not read.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Step {
    /// Tokens trained on up to and with this step.
    pub tokens: u64,
    /// Loss over tokens of the original domain; absent if there were none, or it was no number.
    #[serde(default)]
    pub loss_nats_per_token_original: Option<f64>,
    /// The same over those of the new domain.
    #[serde(default)]
    pub loss_nats_per_token_new: Option<f64>,
    /// Share of gate values above 0 on tokens of the original domain; absent without gates.
    #[serde(default)]
    pub gate_open_fraction_original: Option<f64>,
    /// The same on those of the new domain.
    #[serde(default)]
    pub gate_open_fraction_new: Option<f64>,
}

/// One of a step's numbers.
pub(crate) type Quantity = fn(&Step) -> Option<f64>;

/// Reads the lines of a file; a last one that was cut short, by a training that is still running, is
/// left out.
pub(crate) fn read_steps(path: &Path) -> Result<Vec<Step>, ReportError> {
    let text = std::fs::read_to_string(path).map_err(|e| StoreError::io("read", path, e))?;
    let complete = text.rfind('\n').map_or("", |end| &text[..end]);
    let line = |(at, line): (usize, &str)| {
        serde_json::from_str(line).map_err(|e| ReportError::Metrics {
            path: path.to_path_buf(),
            line: at + 1,
            message: e.to_string(),
        })
    };
    complete.lines().enumerate().map(line).collect()
}

/// A quantity against tokens, in at most so many points: each the mean of as many neighbouring steps.
pub(crate) fn curve(steps: &[Step], quantity: Quantity, most: usize) -> Vec<(f64, f64)> {
    let found: Vec<(f64, f64)> =
        steps.iter().filter_map(|step| Some((step.tokens as f64, quantity(step)?))).collect();
    let mean = |points: &[(f64, f64)], of: fn(&(f64, f64)) -> f64| {
        points.iter().map(of).sum::<f64>() / points.len() as f64
    };
    let together = found.len().div_ceil(most).max(1);
    found.chunks(together).map(|points| (mean(points, |p| p.0), mean(points, |p| p.1))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(text: &str) -> Result<Vec<Step>, ReportError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        std::fs::write(&path, text).unwrap();
        read_steps(&path)
    }

    #[test]
    fn lines_are_read_whatever_else_they_hold_and_a_half_one_is_not() {
        let text = "{\"step\":1,\"tokens\":8,\"loss_nats_per_token_new\":2.5,\"later\":{}}\n\
                    {\"tokens\":16,\"loss_nats_per_token_new\":null}\n{\"tok";
        let steps = written(text).unwrap();
        assert_eq!(curve(&steps, |step| step.loss_nats_per_token_new, 10), [(8.0, 2.5)]);
        assert_eq!((steps.len(), steps[1].tokens), (2, 16));
        assert!(written("").unwrap().is_empty());
    }

    #[test]
    fn a_broken_line_is_named() {
        let error = written("{\"tokens\":8}\nnonsense\n").unwrap_err().to_string();
        assert!(error.contains("metrics.jsonl") && error.contains("line 2"), "{error}");
    }

    #[test]
    fn many_steps_are_put_together_and_none_is_lost() {
        let step = |tokens| Step {
            tokens,
            loss_nats_per_token_original: Some(tokens as f64),
            loss_nats_per_token_new: None,
            gate_open_fraction_original: None,
            gate_open_fraction_new: None,
        };
        let steps: Vec<_> = (0..10).map(step).collect();
        let points = curve(&steps, |step| step.loss_nats_per_token_original, 4);
        assert_eq!(points, [(1.0, 1.0), (4.0, 4.0), (7.0, 7.0), (9.0, 9.0)]);
        assert!(curve(&steps, |step| step.loss_nats_per_token_new, 4).is_empty());
    }
}
