//! The size of a model, and what follows from it.

use neutral_spec::{LinearSite, Shape};
use serde::{Deserialize, Serialize};

use crate::ModelError;

/// A shape and a vocabulary: all that a backbone's weights depend on but for the seed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct TransformerConfig {
    /// Widths, depths and constants.
    pub shape: Shape,
    /// Number of tokens.
    pub vocab_size: usize,
}

impl TransformerConfig {
    /// Width of a head: `d_model / n_heads`.
    pub fn head_dim(&self) -> usize {
        self.shape.d_model / self.shape.n_heads
    }

    /// Width of all keys, or all values, of a token: `n_kv_heads · head_dim`.
    pub fn kv_dim(&self) -> usize {
        self.shape.n_kv_heads * self.head_dim()
    }

    /// Inputs and outputs of a linear layer of a block, as `(in, out)`; its weight is `[out, in]`.
    pub fn linear_shape(&self, site: LinearSite) -> (usize, usize) {
        let Shape { d_model, d_ff, .. } = self.shape;
        match site {
            LinearSite::QProj | LinearSite::OProj => (d_model, d_model),
            LinearSite::KProj | LinearSite::VProj => (d_model, self.kv_dim()),
            LinearSite::GateProj | LinearSite::UpProj => (d_model, d_ff),
            LinearSite::DownProj => (d_ff, d_model),
        }
    }

    /// Checks that such a model can be built.
    ///
    /// # Errors
    /// [`ModelError::Config`] names the first field that does not fit the others.
    pub fn validate(&self) -> Result<(), ModelError> {
        let shape = self.shape;
        let sizes = [
            ("vocab_size", self.vocab_size),
            ("d_model", shape.d_model),
            ("n_layers", shape.n_layers),
            ("n_heads", shape.n_heads),
            ("n_kv_heads", shape.n_kv_heads),
            ("d_ff", shape.d_ff),
        ];
        for (field, size) in sizes {
            require(field, size, size > 0 && size <= 1 << 24, "expected 1 to 16777216")?;
        }
        let heads = shape.n_heads;
        let even = shape.d_model.is_multiple_of(heads * 2);
        let expected = format!("expected a multiple of 2 · n_heads = {}", heads * 2);
        require("d_model", shape.d_model, even, &expected)?;
        let expected = format!("expected a divisor of n_heads = {heads}");
        require("n_kv_heads", shape.n_kv_heads, heads.is_multiple_of(shape.n_kv_heads), &expected)?;
        let positive = |x: f64| x.is_finite() && x > 0.0;
        let (theta, epsilon) = (shape.rope_theta, shape.norm_epsilon);
        require("rope_theta", theta, positive(theta), "expected a positive number")?;
        require("norm_epsilon", epsilon, positive(epsilon), "expected a positive number")
    }
}

fn require(
    field: &'static str,
    value: impl ToString,
    holds: bool,
    expected: &str,
) -> Result<(), ModelError> {
    if holds {
        return Ok(());
    }
    Err(ModelError::Config { field, value: value.to_string(), expected: expected.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transformer::tests::tiny_config;

    #[test]
    fn linear_layers_have_llamas_shapes() {
        let config = tiny_config(true);
        let shapes = LinearSite::ALL.map(|site| config.linear_shape(site));
        assert_eq!(shapes, [(16, 16), (16, 8), (16, 8), (16, 16), (16, 24), (16, 24), (24, 16)]);
    }

    #[test]
    fn a_wrong_size_is_named_with_its_value_and_what_would_be_right() {
        let broken = |change: fn(&mut Shape)| {
            let mut config = tiny_config(true);
            change(&mut config.shape);
            config.validate().unwrap_err().to_string()
        };
        tiny_config(true).validate().unwrap();
        assert_eq!(
            broken(|s| s.n_kv_heads = 3),
            "n_kv_heads is 3, expected a divisor of n_heads = 4"
        );
        assert_eq!(
            broken(|s| s.d_model = 12),
            "d_model is 12, expected a multiple of 2 · n_heads = 8"
        );
        assert!(broken(|s| s.n_heads = 0).starts_with("n_heads is 0"));
        assert!(broken(|s| s.norm_epsilon = f64::NAN).starts_with("norm_epsilon is NaN"));
    }
}
