//! `AdamW` with decoupled decay on matrices, whose whole state can be saved.
//!
//! `m ← m + (1 − β₁)(g − m)`, `v ← v + (1 − β₂)(g² − v)`, then
//! `w ← w(1 − ηλ) − η m̂ / (√v̂ + ε)` with `m̂ = m / (1 − β₁ᵗ)`, `v̂ = v / (1 − β₂ᵗ)`; the decay λ only
//! for tensors of two or more dimensions, so that norms, biases and gate vectors are left alone.
//! Source: Loshchilov and Hutter, *Decoupled Weight Decay Regularization*, ICLR 2019.
//!
//! tch's optimizer cannot save its state and finds its variables in a `VarStore`; this one is given
//! a [`ParamStore`] and updates its tensors in place, since branches hold shallow clones of them.

use std::collections::BTreeMap;

use neutral_spec::TrainingSpec;
use neutral_torch::ParamStore;
use neutral_torch::fused::{AdamWStep, adamw};
use tch::Tensor;

/// First and second moment of one tensor's gradient.
#[derive(Debug)]
pub struct Moments {
    /// Mean of gradients, `m`.
    pub first: Tensor,
    /// Mean of squared gradients, `v`.
    pub second: Tensor,
}

impl Moments {
    fn zero(tensor: &Tensor) -> Self {
        let zeros = || tensor.detach().zeros_like();
        Self { first: zeros(), second: zeros() }
    }

    fn handles(&self) -> Self {
        Self { first: self.first.shallow_clone(), second: self.second.shallow_clone() }
    }
}

/// The optimizer and its state: two moments a tensor and the number of steps taken.
#[derive(Debug)]
pub struct AdamW {
    beta1: f64,
    beta2: f64,
    epsilon: f64,
    weight_decay: f64,
    steps: u64,
    moments: BTreeMap<String, Moments>,
}

impl AdamW {
    /// An optimizer at step 0, with moments of zero, for exactly the tensors of one store.
    pub fn new(params: &ParamStore, spec: &TrainingSpec) -> Self {
        Self::of(params, spec, |_| true)
    }

    /// As [`AdamW::new`] for some of the tensors, chosen by their place in the store; the others are left alone.
    pub fn of(params: &ParamStore, spec: &TrainingSpec, keeps: impl Fn(usize) -> bool) -> Self {
        let kept = params.iter().enumerate().filter(|(place, _)| keeps(*place));
        let moments =
            kept.map(|(_, (name, tensor))| (name.to_owned(), Moments::zero(tensor))).collect();
        Self {
            beta1: spec.beta1,
            beta2: spec.beta2,
            epsilon: spec.epsilon,
            weight_decay: spec.weight_decay,
            steps: 0,
            moments,
        }
    }

    /// The moments by the tensor's name, ordered as the store is.
    pub fn moments(&self) -> &BTreeMap<String, Moments> {
        &self.moments
    }

    /// Second handles of its moments, and moments of zero for all other tensors of the store.
    pub(crate) fn all_moments(&self, params: &ParamStore) -> BTreeMap<String, Moments> {
        let of = |(name, tensor): (&str, &Tensor)| {
            let kept = self.moments.get(name).map(Moments::handles);
            (name.to_owned(), kept.unwrap_or_else(|| Moments::zero(tensor)))
        };
        params.iter().map(of).collect()
    }

    /// Goes on from a saved state: the number of steps, once the moments are copied into place.
    pub(crate) fn set_steps(&mut self, steps: u64) {
        self.steps = steps;
    }

    /// One update in place of every tensor that has moments, at a given learning rate.
    ///
    /// `gradients` are in the order of the store, and are multiplied by `gradient_scale` first.
    ///
    /// # Panics
    /// If the store or the gradients are not those the optimizer was made for.
    pub fn step(
        &mut self,
        params: &ParamStore,
        gradients: &[Tensor],
        gradient_scale: f64,
        learning_rate: f64,
    ) {
        assert_eq!(gradients.len(), params.len(), "one gradient a tensor");
        self.steps += 1;
        let t = self.steps as f64;
        let correction1 = 1.0 - self.beta1.powf(t);
        let correction2_root = (1.0 - self.beta2.powf(t)).sqrt();
        // √v̂ + ε = (√v + ε·√c₂) / √c₂, which saves a pass over the tensor.
        let update = AdamWStep {
            gradient_scale,
            beta1: self.beta1,
            beta2: self.beta2,
            step_size: learning_rate * correction2_root / correction1,
            epsilon: self.epsilon * correction2_root,
            keep: 1.0,
        };
        let decayed = AdamWStep { keep: 1.0 - learning_rate * self.weight_decay, ..update };
        let mut moments = self.moments.iter_mut().peekable();
        for ((name, tensor), gradient) in params.iter().zip(gradients) {
            let Some((_, kept)) = moments.next_if(|(kept, _)| *kept == name) else { continue };
            let update = if tensor.dim() >= 2 { &decayed } else { &update };
            let Moments { first, second } = kept;
            adamw(&mut tensor.shallow_clone(), first, second, gradient, update);
        }
        assert!(moments.next().is_none(), "the store the optimizer was made for");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::{host, training_spec};
    use tch::Device;

    /// The formula, written down again in plain f64.
    struct Reference {
        w: Vec<f64>,
        m: Vec<f64>,
        v: Vec<f64>,
        decays: bool,
    }

    impl Reference {
        fn step(&mut self, spec: &TrainingSpec, g: &[f64], t: i32, rate: f64) {
            for (i, &g) in g.iter().enumerate() {
                self.m[i] = spec.beta1 * self.m[i] + (1.0 - spec.beta1) * g;
                self.v[i] = spec.beta2 * self.v[i] + (1.0 - spec.beta2) * g * g;
                let m_hat = self.m[i] / (1.0 - spec.beta1.powi(t));
                let v_hat = self.v[i] / (1.0 - spec.beta2.powi(t));
                if self.decays {
                    self.w[i] -= rate * spec.weight_decay * self.w[i];
                }
                self.w[i] -= rate * m_hat / (v_hat.sqrt() + spec.epsilon);
            }
        }
    }

    #[test]
    fn several_steps_agree_with_an_independent_double_precision_computation() {
        let spec = TrainingSpec { weight_decay: 0.3, epsilon: 1e-4, ..training_spec() };
        let start = [0.5, -1.25, 2.0, 0.0];
        let mut params = ParamStore::new(Device::Cpu);
        let tensor = || Tensor::from_slice(&start.map(|x| x as f32));
        params.insert("matrix", tensor().view([2, 2])).unwrap();
        params.insert("vector", tensor()).unwrap();
        let mut references = [true, false].map(|decays| Reference {
            w: start.to_vec(),
            m: vec![0.0; 4],
            v: vec![0.0; 4],
            decays,
        });
        let mut optimizer = AdamW::new(&params, &spec);
        for t in 1..=8_i32 {
            let rate = 0.01 * f64::from(t);
            let g: Vec<f64> = (0..4).map(|i| f64::from(t * (i + 1) % 5 - 2) * 0.1).collect();
            let g32 = Tensor::from_slice(&g).to_kind(tch::Kind::Float);
            // Half the scale of twice the gradient is the gradient.
            let gradients = [g32.view([2, 2]) * 2.0, &g32 * 2.0];
            optimizer.step(&params, &gradients, 0.5, rate);
            for reference in &mut references {
                reference.step(&spec, &g, t, rate);
            }
        }
        for ((name, tensor), reference) in params.iter().zip(&references) {
            for (ours, theirs) in host(tensor).iter().zip(&reference.w) {
                assert!((ours - theirs).abs() < 2e-6, "{name}: {ours} is not {theirs}");
            }
            let second = host(&optimizer.moments()[name].second);
            for (ours, theirs) in second.iter().zip(&reference.v) {
                assert!((ours - theirs).abs() < 1e-8, "{name}: {ours} is not {theirs}");
            }
        }
        assert_ne!(host(params.get("matrix").unwrap()), host(params.get("vector").unwrap()));
    }

    #[test]
    fn two_optimizers_of_disjoint_tensors_are_one_of_all() {
        let spec = training_spec();
        let store = || {
            let mut params = ParamStore::new(Device::Cpu);
            for (name, size) in [("a", 3), ("b", 2), ("c", 4)] {
                let start = Tensor::arange(size, (tch::Kind::Float, Device::Cpu)) - 1.5;
                params.insert(name, start.view([1, -1])).unwrap();
            }
            params
        };
        let (together, apart) = (store(), store());
        let mut whole = AdamW::new(&together, &spec);
        let mut shards = [0, 1].map(|rank| AdamW::of(&apart, &spec, |place| place % 2 == rank));
        for t in 1..4 {
            let gradient = |(_, tensor): (&str, &Tensor)| tensor.cos() * f64::from(t);
            let gradients: Vec<_> = together.iter().map(gradient).collect();
            whole.step(&together, &gradients, 0.5, 0.1);
            for shard in &mut shards {
                shard.step(&apart, &gradients, 0.5, 0.1);
            }
        }
        assert_eq!(together.digest(), apart.digest());
        let [even, odd] = &shards;
        assert_eq!((even.moments().len(), odd.moments().len()), (2, 1));
        let all = even.all_moments(&apart);
        assert_eq!(all["c"].first, whole.moments()["c"].first);
        assert_eq!(host(&all["b"].first), [0.0; 2]);
    }
}
