//! Random numbers that are named, not shared.
//!
//! Every tensor draws from a stream of its own, keyed by the seed and the tensor's full name: the
//! order in which a model is built has no influence, adding a tensor changes no other one, and the
//! numbers are the same on every device. libtorch's own generator is one a process and is not used.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use sha2::{Digest, Sha256};
use tch::{Device, Tensor};

/// A stream of random numbers for one purpose.
///
/// It is `ChaCha8` under the key `SHA-256("neutral random 1" ‖ seed ‖ purpose)`, the seed as eight
/// little-endian bytes.
#[derive(Clone, Debug)]
pub struct RandomStream {
    rng: ChaCha8Rng,
}

impl RandomStream {
    /// The stream of a seed and a purpose, from its beginning.
    pub fn new(seed: u64, purpose: &str) -> Self {
        let mut hasher = Sha256::new();
        hasher.update(b"neutral random 1");
        hasher.update(seed.to_le_bytes());
        hasher.update(purpose.as_bytes());
        Self { rng: ChaCha8Rng::from_seed(hasher.finalize().into()) }
    }

    /// The next numbers of `N(0, std²)`, as fp32, row by row.
    ///
    /// # Panics
    /// If a size is negative or the tensor does not fit into memory.
    pub fn normal(&mut self, shape: &[i64], std: f64, device: Device) -> Tensor {
        self.fill(shape, device, |rng| {
            let unit: f64 = StandardNormal.sample(rng);
            unit * std
        })
    }

    /// The next numbers of `U[low, high)`, rounded to fp32, which may give `high`, row by row.
    ///
    /// # Panics
    /// As [`RandomStream::normal`].
    pub fn uniform(&mut self, shape: &[i64], low: f64, high: f64, device: Device) -> Tensor {
        self.fill(shape, device, |rng| low + (high - low) * rng.random::<f64>())
    }

    fn fill(
        &mut self,
        shape: &[i64],
        device: Device,
        mut draw: impl FnMut(&mut ChaCha8Rng) -> f64,
    ) -> Tensor {
        let count: i64 = shape.iter().product();
        let values: Vec<f32> = (0..count).map(|_| draw(&mut self.rng) as f32).collect();
        Tensor::from_slice(&values).reshape(shape).to_device(device)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(tensor: &Tensor) -> Vec<f32> {
        Vec::try_from(tensor.reshape([-1])).unwrap()
    }

    #[test]
    fn the_numbers_are_these_for_ever() {
        let mut stream = RandomStream::new(7, "model.norm.weight");
        let normal = values(&stream.normal(&[2, 2], 0.5, Device::Cpu));
        let uniform = values(&stream.uniform(&[3], -1.0, 1.0, Device::Cpu));
        assert_eq!(normal, [0.282_112_4, -0.184_611_9, -0.681_519_2, 0.735_760_1]);
        assert_eq!(uniform, [-0.549_665_3, -0.510_566_8, 0.963_754_5]);
    }

    #[test]
    fn seed_and_purpose_each_make_another_stream() {
        let first = |seed, purpose| {
            values(&RandomStream::new(seed, purpose).normal(&[4], 1.0, Device::Cpu))
        };
        assert_eq!(first(1, "a"), first(1, "a"));
        assert_ne!(first(1, "a"), first(2, "a"));
        assert_ne!(first(1, "a"), first(1, "b"));
    }

    #[test]
    fn a_stream_goes_on_where_it_was() {
        let mut stream = RandomStream::new(1, "a");
        let mut parts = values(&stream.normal(&[3], 1.0, Device::Cpu));
        parts.extend(values(&stream.normal(&[2, 1], 1.0, Device::Cpu)));
        assert_eq!(parts, values(&RandomStream::new(1, "a").normal(&[5], 1.0, Device::Cpu)));
    }

    #[test]
    fn moments_are_those_of_the_distribution() {
        let n = 100_000.0f64;
        let moments = |tensor: Tensor| {
            let x = values(&tensor).into_iter().map(f64::from).collect::<Vec<_>>();
            let mean = x.iter().sum::<f64>() / n;
            let moment = |k: i32| x.iter().map(|x| (x - mean).powi(k)).sum::<f64>() / n;
            (mean, moment(2), moment(4) / moment(2).powi(2))
        };
        let mut stream = RandomStream::new(1, "moments");
        // Five standard errors each: 1/√n of the mean, √(2/n) of the variance, √(24/n) of the kurtosis.
        let (mean, variance, kurtosis) = moments(stream.normal(&[100_000], 1.0, Device::Cpu));
        assert!(mean.abs() < 0.016, "{mean}");
        assert!((variance - 1.0).abs() < 0.023, "{variance}");
        assert!((kurtosis - 3.0).abs() < 0.08, "{kurtosis}");
        let uniform = stream.uniform(&[100_000], -1.0, 3.0, Device::Cpu);
        assert!(uniform.min().double_value(&[]) >= -1.0 && uniform.max().double_value(&[]) < 3.0);
        let (mean, variance, _) = moments(uniform);
        assert!((mean - 1.0).abs() < 0.019 && (variance - 16.0 / 12.0).abs() < 0.02);
    }
}
