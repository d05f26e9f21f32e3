//! `DoRA`: LoRA whose rows keep a trained length apart from their direction.
//!
//! Source: Liu et al., *`DoRA`: Weight-Decomposed Low-Rank Adaptation*, ICML 2024, as PEFT computes it
//! (`tuners/lora/dora.py`): the norm is a constant of the backward pass (their section 4.3), and the
//! lengths start as those of the base's rows.
//!
//! Shape suffixes: i input width, o output width, r rank.

use neutral_model::LinearDelta;
use tch::{Kind, Tensor};

use crate::glu_adapter::linear;

/// `y = m ⊙ (W + s·B A) x / ‖W + s·B A‖ + b`, with the norm of each row, which gets no gradient.
///
/// `B = 0` and `m = ‖W‖` at the start, so `y = W x + b` there, to the bit.
#[derive(Debug)]
pub struct DoraDelta {
    a_ri: Tensor,
    b_or: Tensor,
    magnitude_o: Tensor,
    scale: f64,
}

impl DoraDelta {
    /// A delta of given weights and scale `s`.
    ///
    /// # Shapes
    /// `a`: `[r, in]`; `b`: `[out, r]`; `magnitude`: `[out]`.
    pub fn new(a_ri: Tensor, b_or: Tensor, magnitude_o: Tensor, scale: f64) -> Self {
        Self { a_ri, b_or, magnitude_o, scale }
    }

    /// `‖W + s·B A‖` of each row, without a gradient.
    fn norm(&self, weight_oi: &Tensor) -> Tensor {
        tch::no_grad(|| {
            let trained = self.a_ri.kind();
            let kind = if weight_oi.kind() == Kind::Double { Kind::Double } else { trained };
            let [a_ri, b_or] = [&self.a_ri, &self.b_or].map(|weight| weight.to_kind(kind));
            row_norms(&(weight_oi.to_kind(kind) + b_or.matmul(&a_ri) * self.scale))
        })
    }
}

impl LinearDelta for DoraDelta {
    /// # Shapes
    /// `x`: `[…, in]`; `y = x Wᵀ + b` and the result: `[…, out]`.
    fn apply(&self, x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, y: Tensor) -> Tensor {
        let low_rank = linear(&(linear(x, &self.a_ri) * self.scale), &self.b_or);
        // In fp32: near 1, where it starts, bf16 has steps of 0.4 and 0.8 %, the same for all that a row gives.
        let factor_o = factor(&self.magnitude_o, &self.norm(weight));
        let scaled = match bias {
            None => (y + low_rank) * factor_o,
            // Only the product has a length. Written so that the factor 1 gives `y` to the bit.
            Some(bias_o) => &y + (&y - bias_o) * (&factor_o - 1.0) + low_rank * factor_o,
        };
        scaled.to_kind(x.kind())
    }
}

/// `m / ‖W + s·B A‖`; 1 where that is a row of zeros, which has no direction to be scaled.
pub(crate) fn factor(magnitude_o: &Tensor, norm_o: &Tensor) -> Tensor {
    let none_o = norm_o.eq(0.0);
    // Twice, for the gradient: what divides by zero is NaN there even where nobody reads it.
    (magnitude_o / norm_o.masked_fill(&none_o, 1.0)).masked_fill(&none_o, 1.0)
}

/// The Euclidean norm of each row.
///
/// # Shapes
/// `[out, in] → [out]`.
pub(crate) fn row_norms(weight_oi: &Tensor) -> Tensor {
    weight_oi.square().sum_dim_intlist(-1, false, weight_oi.kind()).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device;

    #[test]
    fn a_row_of_zeros_starts_as_it_is_and_has_a_gradient() {
        let mut random = neutral_torch::RandomStream::new(0, "dora");
        let mut normal = |shape: &[i64]| random.normal(shape, 1.0, Device::Cpu);
        let [weight_oi, x, a_ri] = [&[6, 8], &[5, 8], &[2, 8]].map(|shape| normal(shape));
        let _ = weight_oi.get(2).zero_();
        let magnitude_o = row_norms(&weight_oi).set_requires_grad(true);
        let b_or = Tensor::zeros([6, 2], (Kind::Float, Device::Cpu)).set_requires_grad(true);
        let trained = [&b_or, &magnitude_o].map(Tensor::shallow_clone);
        let dora = DoraDelta { a_ri, b_or, magnitude_o, scale: 2.0 };
        let y = linear(&x, &weight_oi);
        let out = dora.apply(&x, &weight_oi, None, y.shallow_clone());
        assert_eq!(out, y);
        let gradients = Tensor::run_backward(&[out.sum(Kind::Float)], &trained, false, false);
        for gradient in &gradients {
            assert!(gradient.isfinite().all().double_value(&[]) == 1.0);
        }
        assert!(gradients[0].get(2).abs().min().double_value(&[]) > 0.0, "it can learn");
    }

    #[test]
    fn in_bf16_a_length_is_not_rounded_to_a_step_of_its_kind() {
        let mut random = neutral_torch::RandomStream::new(0, "dora");
        let mut normal = |shape: &[i64]| random.normal(shape, 1.0, Device::Cpu);
        let [weight, x, a] = [&[96, 64], &[256, 64], &[4, 64]].map(|shape| normal(shape));
        let [weight, x] = [weight, x].map(|t| t.to_kind(Kind::BFloat16));
        let lengths = row_norms(&weight.to_kind(Kind::Float)) * 1.05;
        let delta =
            DoraDelta::new(a, Tensor::zeros([96, 4], (Kind::Float, Device::Cpu)), lengths, 1.0);
        for bias in [None, Some(normal(&[96]).to_kind(Kind::BFloat16))] {
            let y = x.linear(&weight, bias.as_ref());
            let out = delta.apply(&x, &weight, bias.as_ref(), y.shallow_clone());
            assert_eq!(out.kind(), Kind::BFloat16);
            // What the product has grown by, over what it is, by least squares.
            let [out, y] = [out, y].map(|t| t.to_kind(Kind::Double));
            let product = bias.map_or_else(|| y.shallow_clone(), |bias| &y - bias);
            let grown =
                ((&out - &y) * &product).sum(Kind::Double) / product.square().sum(Kind::Double);
            let grown = grown.double_value(&[]);
            // The number of bf16 that is nearest to 1.05 is 1.046875.
            assert!((grown - 0.05).abs() < 5e-4, "{grown}");
        }
    }
}
