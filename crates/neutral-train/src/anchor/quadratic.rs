//! A quadratic penalty on leaving the base's weights: L2-SP, and EWC with a weight each.
//!
//! `ℓ = weight / 2 · Σ F (w − w_base)²`, with `F = 1` for L2-SP. Its gradient `weight · F (w − w_base)`
//! is written down and added, which costs a pass over the weights and no graph. It is part of the loss,
//! so that clipping and `AdamW` see it, unlike decoupled weight decay.

use neutral_torch::ParamStore;
use tch::{Kind, Tensor, no_grad};

/// The penalty: where it pulls to, and how much each weight counts.
#[derive(Debug)]
pub struct Quadratic {
    origin: Vec<Tensor>,
    importance: Option<Vec<Tensor>>,
    weight: f64,
}

impl Quadratic {
    /// A penalty on leaving the weights as they are now; `importance`, in the order of the store, is 1
    /// everywhere if absent.
    pub fn new(params: &ParamStore, importance: Option<Vec<Tensor>>, weight: f64) -> Self {
        let origin = params.iter().map(|(_, tensor)| tensor.detach().copy()).collect();
        Self { origin, importance, weight }
    }

    /// Adds its gradient to those of the same weights, and returns `1/2 · Σ F (w − w_base)²`.
    ///
    /// # Panics
    /// If these are not the weights that it was made for.
    pub fn add_to(&self, params: &ParamStore, gradients: &mut [Tensor]) -> f64 {
        assert_eq!(gradients.len(), self.origin.len(), "one gradient a tensor");
        no_grad(|| {
            let mut total = Tensor::zeros([], (Kind::Double, params.device()));
            let tensors = params.iter().zip(&self.origin).zip(gradients);
            for (i, (((_, tensor), origin), gradient)) in tensors.enumerate() {
                let away = tensor - origin;
                let pull = match &self.importance {
                    Some(importance) => &away * &importance[i],
                    None => away.shallow_clone(),
                };
                total += (&pull * &away).sum(Kind::Double) * 0.5;
                // Never in place: autograd may hand out one tensor twice.
                *gradient = &*gradient + pull * self.weight;
            }
            // Read once: a GPU would stop for every tensor.
            total.double_value(&[])
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::host;
    use tch::Device;

    fn store() -> ParamStore {
        let mut params = ParamStore::new(Device::Cpu);
        params
            .insert("matrix", Tensor::from_slice(&[0.5_f32, -1.0, 2.0, 0.25]).view([2, 2]))
            .unwrap();
        params.insert("vector", Tensor::from_slice(&[3.0_f32, -0.5])).unwrap();
        params
    }

    #[test]
    fn its_gradient_is_that_of_the_formula_by_autograd() {
        let fisher = vec![
            Tensor::from_slice(&[0.1_f32, 2.0, 0.0, 1.5]).view([2, 2]),
            Tensor::from_slice(&[4.0_f32, 0.3]),
        ];
        for importance in [None, Some(fisher)] {
            let mut params = store();
            let origin: Vec<Tensor> =
                params.iter().map(|(_, t)| t.copy().to_kind(Kind::Double)).collect();
            let penalty = Quadratic::new(
                &params,
                importance.as_ref().map(|f| f.iter().map(Tensor::shallow_clone).collect()),
                0.7,
            );
            let mut zero = params.iter().map(|(_, t)| t.zeros_like()).collect::<Vec<_>>();
            assert_eq!(penalty.add_to(&params, &mut zero), 0.0, "nothing at the base");
            assert!(zero.iter().all(|g| g.abs().max().double_value(&[]) == 0.0));

            params.set_trainable(true);
            no_grad(|| {
                for (_, tensor) in params.iter() {
                    let _ = tensor.shallow_clone().g_mul_scalar_(1.5);
                }
            });
            let loss = params.iter().zip(&origin).enumerate().map(|(i, ((_, w), w0))| {
                let away = w.to_kind(Kind::Double) - w0;
                let f =
                    importance.as_ref().map_or_else(|| away.ones_like(), |f| f[i].shallow_clone());
                (f.to_kind(Kind::Double) * &away * &away).sum(Kind::Double) / 2.0
            });
            let loss = loss.reduce(|a, b| a + b).unwrap();
            let leaves: Vec<_> = params.iter().map(|(_, t)| t).collect();
            let expected = Tensor::run_backward(&[&loss * 0.7], &leaves, false, false);
            // On top of a gradient that is there already.
            let mut found: Vec<_> = leaves.iter().map(|t| t.ones_like()).collect();
            let value = penalty.add_to(&params, &mut found);
            assert!((value - loss.double_value(&[])).abs() < 1e-6, "{value}");
            for (found, expected) in found.iter().zip(&expected) {
                for (found, expected) in host(found).into_iter().zip(host(expected)) {
                    assert!((found - 1.0 - expected).abs() < 1e-6, "{found} is not 1 + {expected}");
                }
            }
        }
    }
}
