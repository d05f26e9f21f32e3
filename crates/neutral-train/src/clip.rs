//! Gradient clipping by the global norm.

use tch::{Kind, Tensor};

/// The norm of every gradient, as computed on its device: `‖g‖₂`, in fp32 (fp64 for fp64).
///
/// One transfer for all of them, so that a GPU is waited for once.
pub fn norms(gradients: &[Tensor]) -> Vec<f64> {
    if gradients.is_empty() {
        return Vec::new();
    }
    let norms: Vec<_> = gradients.iter().map(|g| g.norm().to_kind(Kind::Double)).collect();
    let stacked = Tensor::stack(&norms, 0).to_device(tch::Device::Cpu);
    let mut host = vec![0.0; norms.len()];
    stacked.copy_data(&mut host, norms.len());
    host
}

/// The norm of all gradients as one vector, summed in f64: `√Σ‖gᵢ‖²`.
pub fn global_norm(norms: &[f64]) -> f64 {
    norms.iter().map(|n| n * n).sum::<f64>().sqrt()
}

/// What to multiply every gradient by, so that the global norm is at most `limit`; a limit of 0
/// clips nothing.
pub fn scale(global_norm: f64, limit: f64) -> f64 {
    if limit > 0.0 && global_norm > limit { limit / global_norm } else { 1.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_norm_is_of_all_tensors_together_and_clipping_brings_it_to_the_limit() {
        let gradients =
            [Tensor::from_slice(&[3.0_f32, 0.0]), Tensor::from_slice(&[4.0_f32]).view([1, 1])];
        let norm = global_norm(&norms(&gradients));
        assert!((norm - 5.0).abs() < 1e-12);
        assert!((scale(norm, 1.0) - 0.2).abs() < 1e-12);
        let clipped: Vec<_> = gradients.iter().map(|g| g * scale(norm, 1.0)).collect();
        assert!((global_norm(&norms(&clipped)) - 1.0).abs() < 1e-6);
        assert!((scale(norm, 0.0) - 1.0).abs() < f64::EPSILON);
        assert!((scale(norm, 6.0) - 1.0).abs() < f64::EPSILON);
    }

    #[test]
    fn a_bad_gradient_shows_in_the_norm() {
        let bad = [Tensor::from_slice(&[1.0_f32, f32::NAN])];
        assert!(global_norm(&norms(&bad)).is_nan());
    }
}
