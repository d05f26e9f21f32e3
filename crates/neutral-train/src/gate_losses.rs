//! Local losses of the gate itself, in place of what it lets through: its size, and how often it is open.
//!
//! Both are sums over tokens of the original domain, means over blocks and over a gate's channels, as
//! the losses of [`crate::local_loss`] are; so that accumulation over micro batches is exact.
//!
//! Shape suffixes: b batch, t tokens, c number of gates (1 or d).

use neutral_data::Domain;
use neutral_model::Residue;
use neutral_spec::GateActivation;
use tch::Tensor;

use crate::local_loss::original_sum;

/// `β`, the temperature of the noise that the gate has by its authors.
const TEMPERATURE: f64 = 2.0 / 3.0;

/// `Σ_{original tokens} mean_{gates} |g|`; nothing if no row is original or a residue has no gate.
///
/// # Shapes
/// Gates `[B,T,1]` or `[B,T,d]`; the result is a scalar in fp32, or fp64 if they are.
pub fn l1_token_sum(residues: &[Residue], domains: &[Domain]) -> Option<Tensor> {
    original_sum(residues, domains, |residue| Some(&residue.gate.as_ref()?.unrounded), Tensor::abs)
}

/// `Σ_{original tokens} mean_{gates} P(g > 0)`; nothing if no row is original or a residue has no gate.
///
/// Noise `u` from `U(0, 1)` enters the gate of Louizos, Welling and Kingma (ICLR 2018) as
/// `σ((ln u − ln(1 − u) + z) / β)` in place of `σ(z)`, before it is stretched to `γ … ζ` and cut; it is then
/// above zero with probability `σ(z − β ln(−γ/ζ))`, their equation 12. Deviation: the gate that
/// the model computes with has no noise, so this is a smooth count of gates that are open or nearly so,
/// and pushes on those that have just closed, too.
///
/// # Shapes
/// As [`l1_token_sum`]; in the logits' kind.
pub fn l0_token_sum(residues: &[Residue], domains: &[Domain]) -> Option<Tensor> {
    let [low, high] = GateActivation::STRETCH;
    let shift = -TEMPERATURE * (-low / high).ln();
    let open = |z: &Tensor| (z + shift).sigmoid();
    original_sum(residues, domains, |residue| Some(&residue.gate.as_ref()?.logit), open)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::local_loss::tests::{DOMAINS, difference_quotients, numbers, residues};
    use crate::test_support::host;

    /// Residues with two gates, one a token and one a channel, and the same as lists a row.
    fn gated() -> (Vec<Residue>, [Tensor; 2]) {
        let logits = [numbers([3, 2, 1], 0.3) * 4.0, numbers([3, 2, 4], 2.0) * 4.0];
        let outputs = [numbers([3, 2, 4], 0.1), numbers([3, 2, 4], 0.7)];
        (residues(&outputs, &logits), logits)
    }

    /// The mean over blocks and channels, summed over the tokens of the one original row.
    fn by_hand(tensors: &[Tensor], f: impl Fn(f64) -> f64) -> f64 {
        let of = |x: &Tensor| {
            let row = host(&x.get(1));
            row.iter().map(|&x| f(x)).sum::<f64>() / *x.size().last().unwrap() as f64
        };
        tensors.iter().map(of).sum::<f64>() / tensors.len() as f64
    }

    #[test]
    fn each_is_its_formula_over_the_original_rows_alone() {
        let (residues, logits) = gated();
        let values: Vec<_> =
            residues.iter().map(|r| r.gate.as_ref().unwrap().value.shallow_clone()).collect();
        let l1 = l1_token_sum(&residues, &DOMAINS).unwrap().double_value(&[]);
        assert!((l1 - by_hand(&values, f64::abs)).abs() < 1e-12);
        let l0 = l0_token_sum(&residues, &DOMAINS).unwrap().double_value(&[]);
        // P(g > 0) by integrating over the noise: the gate is above 0 where σ((logit(u) + z) / β) > 1/12.
        let open = |z: f64| {
            let n = 20_000;
            let above = (0..n).filter(|i| {
                let u = (f64::from(*i) + 0.5) / f64::from(n);
                1.2 / (1.0 + (-((u / (1.0 - u)).ln() + z) * 1.5).exp()) > 0.1
            });
            above.count() as f64 / f64::from(n)
        };
        assert!((l0 - by_hand(&logits, open)).abs() < 1e-3, "{l0}");
        for loss in [l1_token_sum, l0_token_sum] {
            assert!(loss(&residues, &[Domain::New; 3]).is_none());
        }
    }

    #[test]
    fn gradients_agree_with_finite_differences() {
        for loss in [l1_token_sum, l0_token_sum] {
            let (_, logits) = gated();
            let outputs = [numbers([3, 2, 4], 0.1), numbers([3, 2, 4], 0.7)];
            difference_quotients(&logits[1], || {
                loss(&residues(&outputs, &logits), &DOMAINS).unwrap()
            });
        }
    }
}
