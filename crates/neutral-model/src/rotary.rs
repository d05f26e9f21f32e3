//! Rotary position embeddings, on the halves of a head, in fp32.

use tch::{Device, Kind, Tensor};

/// Cosines and sines for positions `0..len`.
///
/// # Shapes
/// Both `[t, 1, e]`, fp32. The first half of the sines is negated, so that the rotation
/// `x ⊙ cos + cat(−x₂, x₁) ⊙ sin` becomes `x ⊙ cos + roll(x, e/2) ⊙ sin`: one copy less, same bits.
#[derive(Debug)]
pub(crate) struct RotaryTable {
    cos_t1e: Tensor,
    signed_sin_t1e: Tensor,
}

impl RotaryTable {
    /// Angle of position `t` and pair `i`: `t · theta^(−2i/e)`, computed in f64.
    pub(crate) fn new(len: i64, head_dim: i64, theta: f64, device: Device) -> Self {
        let options = (Kind::Double, device);
        let exponents = Tensor::arange(head_dim / 2, options) * (-2.0 / head_dim as f64);
        let frequencies = (exponents * theta.ln()).exp();
        let angles = Tensor::arange(len, options).outer(&frequencies);
        let (cos, sin) = (angles.cos(), angles.sin());
        let table =
            |halves: [Tensor; 2]| Tensor::cat(&halves, -1).to_kind(Kind::Float).unsqueeze(1);
        Self { cos_t1e: table([cos.shallow_clone(), cos]), signed_sin_t1e: table([-&sin, sin]) }
    }

    pub(crate) fn len(&self) -> i64 {
        self.cos_t1e.size()[0]
    }

    /// The table of the first `len` positions.
    pub(crate) fn first(&self, len: i64) -> Self {
        let first = |table: &Tensor| table.narrow(0, 0, len);
        Self { cos_t1e: first(&self.cos_t1e), signed_sin_t1e: first(&self.signed_sin_t1e) }
    }

    /// Rotates queries or keys by their positions.
    ///
    /// # Shapes
    /// `x`: `[b, t, heads, e]` with the table's `t`; result: the same, in the kind of `x`.
    ///
    /// Source: `apply_rotary_pos_emb` of Hugging Face transformers.
    pub(crate) fn rotate(&self, x_bthe: &Tensor) -> Tensor {
        let half = self.cos_t1e.size()[2] / 2;
        let x = x_bthe.to_kind(Kind::Float);
        let rotated = x.roll([half], [-1]) * &self.signed_sin_t1e + x * &self.cos_t1e;
        rotated.to_kind(x_bthe.kind())
    }
}
