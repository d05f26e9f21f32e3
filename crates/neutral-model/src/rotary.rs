//! The angles of rotary position embeddings.

use tch::{Device, Kind, Tensor};

/// Cosines and sines for positions `0..len`, computed in f64.
///
/// Angle of position `t` and pair `i`: `t · theta^(−2i/e)`. A pair is `(x[i], x[i + e/2])`: the halves
/// of a head, not neighbours.
///
/// # Shapes
/// Both `[t, e/2]`, fp32.
#[derive(Debug)]
pub(crate) struct RotaryTable {
    cos_te: Tensor,
    sin_te: Tensor,
}

impl RotaryTable {
    pub(crate) fn new(len: i64, head_dim: i64, theta: f64, device: Device) -> Self {
        let options = (Kind::Double, device);
        let exponents = Tensor::arange(head_dim / 2, options) * (-2.0 / head_dim as f64);
        let frequencies = (exponents * theta.ln()).exp();
        let angles = Tensor::arange(len, options).outer(&frequencies);
        let table = |x: Tensor| x.to_kind(Kind::Float);
        Self { cos_te: table(angles.cos()), sin_te: table(angles.sin()) }
    }

    pub(crate) fn len(&self) -> i64 {
        self.cos_te.size()[0]
    }

    /// The table of the first `len` positions.
    pub(crate) fn first(&self, len: i64) -> Self {
        let first = |table: &Tensor| table.narrow(0, 0, len);
        Self { cos_te: first(&self.cos_te), sin_te: first(&self.sin_te) }
    }

    /// Cosines and sines, as [`neutral_torch::fused::attention`] takes them.
    pub(crate) fn halves(&self) -> [&Tensor; 2] {
        [&self.cos_te, &self.sin_te]
    }
}
