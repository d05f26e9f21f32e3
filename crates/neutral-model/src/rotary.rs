//! Rotary position embeddings: a table of cosines and sines.
//!
//! Pair `j` of a head is `(x_j, x_{j + e/2})`, the halves of the head and not neighbours; at position
//! `t` it turns by `t · f_j`, `f_j = θ^(−2j/e)` before any scaling.

use neutral_torch::sum_kind;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use crate::ModelError;

/// How positions turn queries and keys.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rotary {
    /// θ.
    pub theta: f64,
    /// What became of the frequencies when the context was made longer.
    pub scaling: RotaryScaling,
}

/// What becomes of the frequencies `f_j`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum RotaryScaling {
    /// Nothing.
    None,
    /// `f / factor`.
    Linear {
        /// How much longer the context is.
        factor: f64,
    },
    /// With `n` turns within the original context: `f / factor` where `n` is at most
    /// `low_freq_factor`, `f` from `high_freq_factor` on, and a mean of both between, linear in `n`.
    Llama3 {
        /// How much longer the context is.
        factor: f64,
        /// Turns up to which a frequency is low.
        low_freq_factor: f64,
        /// Turns from which a frequency is high.
        high_freq_factor: f64,
        /// Positions of the original context.
        original_context: f64,
    },
}

impl Rotary {
    /// A base without scaling.
    pub fn plain(theta: f64) -> Self {
        Self { theta, scaling: RotaryScaling::None }
    }

    pub(crate) fn validate(&self) -> Result<(), ModelError> {
        let mut numbers = vec![("rope_theta", self.theta)];
        match self.scaling {
            RotaryScaling::None => {}
            RotaryScaling::Linear { factor } => numbers.push(("rope factor", factor)),
            RotaryScaling::Llama3 {
                factor,
                low_freq_factor,
                high_freq_factor,
                original_context,
            } => numbers.extend([
                ("rope factor", factor),
                ("low_freq_factor", low_freq_factor),
                ("high_freq_factor − low_freq_factor", high_freq_factor - low_freq_factor),
                ("original_max_position_embeddings", original_context),
            ]),
        }
        for (field, number) in numbers {
            if !(number.is_finite() && number > 0.0) {
                let expected = "expected a positive number".to_owned();
                return Err(ModelError::Config { field, value: number.to_string(), expected });
            }
        }
        Ok(())
    }

    /// `f_j` of every pair, scaled.
    ///
    /// Source: `ROPE_INIT_FUNCTIONS` of Hugging Face transformers.
    fn frequencies(&self, head_dim: i64) -> Vec<f64> {
        let frequency = |j: i64| self.theta.powf((-2 * j) as f64 / head_dim as f64);
        let scaled = |f: f64| match self.scaling {
            RotaryScaling::None => f,
            RotaryScaling::Linear { factor } => f / factor,
            RotaryScaling::Llama3 {
                factor,
                low_freq_factor,
                high_freq_factor,
                original_context,
            } => {
                let turns = original_context * f / std::f64::consts::TAU;
                let high = (turns - low_freq_factor) / (high_freq_factor - low_freq_factor);
                let high = high.clamp(0.0, 1.0);
                (1.0 - high) * f / factor + high * f
            }
        };
        (0..head_dim / 2).map(|j| scaled(frequency(j))).collect()
    }
}

/// `cos` and `sin` of every position and pair, `[t, e/2]`, fp32, or fp64 for a model that computes in it.
#[derive(Debug)]
pub(crate) struct RotaryTable {
    cos_te: Tensor,
    sin_te: Tensor,
}

impl RotaryTable {
    pub(crate) fn new(
        len: i64,
        head_dim: i64,
        rotary: &Rotary,
        (compute_kind, device): (Kind, Device),
    ) -> Self {
        let frequencies = Tensor::from_slice(&rotary.frequencies(head_dim)).to_device(device);
        let angles = Tensor::arange(len, (Kind::Double, device)).outer(&frequencies);
        let kind = sum_kind(compute_kind);
        let table = |x: Tensor| x.to_kind(kind);
        Self { cos_te: table(angles.cos()), sin_te: table(angles.sin()) }
    }

    pub(crate) fn len(&self) -> i64 {
        self.cos_te.size()[0]
    }

    /// The table of `len` positions from `start` on.
    pub(crate) fn slice(&self, start: i64, len: i64) -> Self {
        let slice = |table: &Tensor| table.narrow(0, start, len);
        Self { cos_te: slice(&self.cos_te), sin_te: slice(&self.sin_te) }
    }

    /// Cosines and sines, as [`neutral_torch::fused::attention`] takes them.
    pub(crate) fn halves(&self) -> [&Tensor; 2] {
        [&self.cos_te, &self.sin_te]
    }
}

/// The tables of a model's kinds of rotation, each made for the longest sequence so far.
#[derive(Debug, Default)]
pub(crate) struct RotaryTables(Vec<(Rotary, RotaryTable)>);

impl RotaryTables {
    /// The table of `len` positions from `start` on.
    pub(crate) fn get(
        &mut self,
        rotary: &Rotary,
        head_dim: usize,
        [start, len]: [i64; 2],
        place: (Kind, Device),
    ) -> RotaryTable {
        let new = |len| RotaryTable::new(len, head_dim as i64, rotary, place);
        let at = self.0.iter().position(|(known, _)| known == rotary);
        let at = at.unwrap_or_else(|| {
            self.0.push((*rotary, new(start + len)));
            self.0.len() - 1
        });
        let table = &mut self.0[at].1;
        if table.len() < start + len {
            // Twice as long, so that generating a token at a time does not make one a token.
            *table = new(2 * (start + len));
        }
        table.slice(start, len)
    }
}
