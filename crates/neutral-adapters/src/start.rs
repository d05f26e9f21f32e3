//! Where an extension's weights come from: drawn at their start (paper, section 3.3), or a file.
//!
//! Every tensor draws from a stream of its own, named by the seed and the tensor's full name. So one
//! tensor's start depends neither on the order of building nor on which others there are: a vanilla
//! adapter and a neutral residue of one seed, width and variance start from the same `W_i` and `W_g`.

use neutral_model::Transformer;
use neutral_spec::Start;
use neutral_torch::{ParamStore, RandomStream, TensorFile, TorchError};
use tch::{Kind, Tensor};

use crate::AdapterError;

/// The variance of `W_i`, `W_g` and the gate's weights at the start.
///
/// ```text
/// low variance:  1 / (d · L)        He:  2 / d
/// ```
///
/// `x` leaves an RMS norm, so `‖x‖² ≈ d` and each entry of `W_i x` starts with a variance of about
/// `1 / L` or `2`.
///
/// Deviation: the paper states the start of `W_i` and `W_g`; the gate's weights get the same.
pub fn start_variance(start: Start, d_model: usize, n_layers: usize) -> f64 {
    match start {
        Start::LowVariance => 1.0 / (d_model as f64 * n_layers as f64),
        Start::He => 2.0 / d_model as f64,
    }
}

/// Where weights come from. The same code builds an extension either way, so a file is read onto
/// exactly the names and shapes that training has.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Source<'a> {
    /// At their start: drawn with a seed, or taken from the base.
    Start { seed: u64, base: &'a Transformer },
    /// Read, in fp32.
    File(&'a TensorFile),
}

/// Adds weights to a store and hands out the handles that layers keep.
pub(crate) struct Weights<'a> {
    pub(crate) store: &'a mut ParamStore,
    pub(crate) source: Source<'a>,
}

impl Weights<'_> {
    /// Entries from `N(0, variance)`.
    pub(crate) fn normal(
        &mut self,
        name: &str,
        shape: &[i64],
        variance: f64,
    ) -> Result<Tensor, AdapterError> {
        let device = self.store.device();
        let draw =
            |seed, _: &_| Ok(RandomStream::new(seed, name).normal(shape, variance.sqrt(), device));
        self.add(name, shape, draw)
    }

    /// Entries from `U(−1/√in, 1/√in)` for a matrix `[out, in]`.
    ///
    /// This is what Kaiming's uniform start with `a = √5` comes to: gain `√(2 / (1 + a²)) = 1/√3`,
    /// bound `√3 · gain / √in`.
    pub(crate) fn kaiming_uniform(
        &mut self,
        name: &str,
        [rows, columns]: [i64; 2],
    ) -> Result<Tensor, AdapterError> {
        let bound = 1.0 / (columns as f64).sqrt();
        let (shape, device) = ([rows, columns], self.store.device());
        let draw =
            |seed, _: &_| Ok(RandomStream::new(seed, name).uniform(&shape, -bound, bound, device));
        self.add(name, &shape, draw)
    }

    /// The same number everywhere.
    pub(crate) fn constant(
        &mut self,
        name: &str,
        shape: &[i64],
        value: f64,
    ) -> Result<Tensor, AdapterError> {
        let device = self.store.device();
        self.add(name, shape, |_, _| Ok(Tensor::full(shape, value, (Kind::Float, device))))
    }

    /// A weight that is in the store already.
    pub(crate) fn made(&self, name: &str) -> Option<Tensor> {
        self.store.get(name).ok().map(Tensor::shallow_clone)
    }

    /// A function of the base's weights.
    pub(crate) fn of_base(
        &mut self,
        name: &str,
        shape: &[i64],
        start: impl FnOnce(&Transformer) -> Result<Tensor, TorchError>,
    ) -> Result<Tensor, AdapterError> {
        self.add(name, shape, |_, base| start(base))
    }

    /// The start is drawn only if the weight is not read.
    fn add(
        &mut self,
        name: &str,
        shape: &[i64],
        start: impl FnOnce(u64, &Transformer) -> Result<Tensor, TorchError>,
    ) -> Result<Tensor, AdapterError> {
        let tensor = match self.source {
            Source::Start { seed, base } => start(seed, base)?,
            Source::File(file) => {
                check(file, name, shape, &[Kind::Float])?;
                file.read(name, self.store.device())?
            }
        };
        self.store.insert(name, tensor)?;
        // The store keeps a leaf of its own; the layer needs a handle to that one.
        Ok(self.store.get(name)?.shallow_clone())
    }
}

/// A file has a tensor of that name, shape and one of some kinds; nothing is read but its header.
pub(crate) fn check(
    file: &TensorFile,
    name: &str,
    shape: &[i64],
    kinds: &[Kind],
) -> Result<(), TorchError> {
    let (path, name) = (file.path().to_path_buf(), name.to_owned());
    if !file.has(&name) {
        return Err(TorchError::MissingTensor { path, name });
    }
    let (kind, found) = file.describe(&name)?;
    if found != shape {
        return Err(TorchError::ShapeMismatch { path, name, found, expected: shape.to_vec() });
    }
    if !kinds.contains(&kind) {
        return Err(TorchError::KindMismatch { path, name, found: kind, expected: kinds[0] });
    }
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use tch::Device;

    /// `|found − expected|` in standard errors of the estimate.
    fn errors_off(found: f64, expected: f64, standard_error: f64) -> f64 {
        (found - expected).abs() / standard_error
    }

    /// Nothing of it is read.
    pub(crate) fn tiny_base() -> Transformer {
        let shape = neutral_spec::Shape {
            d_model: 4,
            n_layers: 1,
            n_heads: 2,
            n_kv_heads: 1,
            d_ff: 4,
            tie_embeddings: true,
            rope_theta: 1e4,
            norm_epsilon: 1e-5,
        };
        let config = neutral_model::TransformerConfig::llama(&shape, 5);
        Transformer::new(config, 0, Device::Cpu, neutral_spec::Precision::Fp32).unwrap()
    }

    fn moments(x: &Tensor) -> (f64, f64, f64) {
        let x = x.to_kind(Kind::Double);
        (
            x.numel() as f64,
            x.mean(Kind::Double).double_value(&[]),
            (&x * &x).mean(Kind::Double).double_value(&[]),
        )
    }

    #[test]
    fn gaussian_starts_have_mean_zero_and_the_variance_of_the_formula() {
        let (d, layers) = (96, 6);
        for (start, expected) in [(Start::LowVariance, 1.0 / 576.0), (Start::He, 1.0 / 48.0)] {
            let variance = start_variance(start, d, layers);
            assert!((variance / expected - 1.0).abs() < 1e-15);
            let mut store = ParamStore::new(Device::Cpu);
            let base = tiny_base();
            let source = Source::Start { seed: 3, base: &base };
            let mut weights = Weights { store: &mut store, source };
            let drawn = weights.normal("w_i", &[128, d as i64], variance).unwrap();
            let (n, mean, square) = moments(&drawn);
            assert!(errors_off(mean, 0.0, (expected / n).sqrt()) < 4.0, "{start:?}: mean {mean}");
            // The square of a Gaussian has variance 2σ⁴.
            let standard_error = expected * (2.0 / n).sqrt();
            assert!(errors_off(square, expected, standard_error) < 4.0, "{start:?}: {square}");
        }
    }

    #[test]
    fn kaiming_uniform_fills_its_interval() {
        let mut store = ParamStore::new(Device::Cpu);
        let base = tiny_base();
        let source = Source::Start { seed: 3, base: &base };
        let mut weights = Weights { store: &mut store, source };
        let drawn = weights.kaiming_uniform("lora_a", [128, 64]).unwrap();
        let bound: f64 = 1.0 / 8.0;
        let (n, mean, square) = moments(&drawn);
        let variance = bound * bound / 3.0;
        assert!(errors_off(mean, 0.0, (variance / n).sqrt()) < 4.0, "mean {mean}");
        // The square of U(−b, b) has variance b⁴(1/5 − 1/9).
        let standard_error = bound * bound * (4.0 / 45.0 / n).sqrt();
        assert!(errors_off(square, variance, standard_error) < 4.0, "mean square {square}");
        let largest = drawn.abs().max().double_value(&[]);
        assert!(largest <= bound && largest > 0.995 * bound, "largest {largest}");
    }

    #[test]
    fn a_name_is_drawn_once() {
        let mut store = ParamStore::new(Device::Cpu);
        let base = tiny_base();
        let source = Source::Start { seed: 3, base: &base };
        let mut weights = Weights { store: &mut store, source };
        let _ = weights.constant("w_o", &[2], 0.0).unwrap();
        assert!(weights.constant("w_o", &[2], 0.0).is_err());
    }
}
