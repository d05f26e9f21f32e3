//! Singular values of an extension's matrices (the paper's analysis of what adapters have learned).

use neutral_model::Extension;
use tch::{Device, Kind, Tensor};

/// The singular values of one matrix.
#[derive(Clone, Debug, PartialEq)]
pub struct Spectrum {
    /// The matrix' name among the extension's weights.
    pub name: String,
    /// Its rows and columns.
    pub shape: [i64; 2],
    /// As many as the shorter side is long, the largest first.
    pub singular_values: Vec<f64>,
}

impl Spectrum {
    /// The singular values of a matrix, computed in fp32.
    ///
    /// # Panics
    /// If the tensor is no matrix.
    pub fn of(name: &str, matrix: &Tensor) -> Self {
        let &[rows, columns] = matrix.size().as_slice() else {
            panic!("{name} is no matrix: its shape is {:?}", matrix.size())
        };
        let matrix = matrix.detach().to_kind(Kind::Float);
        let values = tch::no_grad(|| matrix.svd(true, false).1).to_kind(Kind::Double);
        let singular_values = Vec::try_from(values.to_device(Device::Cpu)).expect("a vector");
        Self { name: name.to_owned(), shape: [rows, columns], singular_values }
    }

    /// How many directions the matrix uses: `exp(−Σ p ln p)` with `p = σ / Σσ`, from 1 for a matrix of
    /// rank 1 to the length of its shorter side if all are equal; 0 for a matrix of zeros.
    ///
    /// Source: Roy and Vetterli, The effective rank, EUSIPCO 2007.
    pub fn effective_rank(&self) -> f64 {
        let sum: f64 = self.singular_values.iter().sum();
        if sum <= 0.0 {
            return 0.0;
        }
        let shares = self.singular_values.iter().map(|value| value / sum).filter(|p| *p > 0.0);
        (-shares.map(|p| p * p.ln()).sum::<f64>()).exp()
    }
}

/// The singular values of all matrices among an extension's weights, by name; vectors are left out.
pub fn spectra(extension: &Extension) -> Vec<Spectrum> {
    let matrices = extension.params().iter().filter(|(_, weight)| weight.dim() == 2);
    matrices.map(|(name, matrix)| Spectrum::of(name, matrix)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spectrum(numbers: &[f32], shape: [i64; 2]) -> Spectrum {
        Spectrum::of("w", &Tensor::from_slice(numbers).view(shape))
    }

    #[test]
    fn singular_values_by_hand() {
        // Orthogonal rows of lengths 5 and 2.
        let found = spectrum(&[3.0, 4.0, 0.0, 0.0, 0.0, 2.0], [2, 3]);
        assert_eq!(found.shape, [2, 3]);
        for (found, expected) in found.singular_values.iter().zip([5.0, 2.0]) {
            assert!((found - expected).abs() < 1e-5);
        }
        let shares = [5.0_f64 / 7.0, 2.0 / 7.0];
        let entropy: f64 = -shares.iter().map(|p| p * p.ln()).sum::<f64>();
        assert!((found.effective_rank() - entropy.exp()).abs() < 1e-5);
    }

    #[test]
    fn effective_rank_is_the_rank_where_directions_are_equal() {
        assert!((spectrum(&[0.0, 3.0, -3.0, 0.0], [2, 2]).effective_rank() - 2.0).abs() < 1e-5);
        assert!((spectrum(&[1.0, 2.0, 2.0, 4.0], [2, 2]).effective_rank() - 1.0).abs() < 1e-3);
        assert!(spectrum(&[0.0; 4], [2, 2]).effective_rank().abs() < f64::EPSILON);
    }
}
