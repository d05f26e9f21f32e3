//! Many tests at once.

use crate::StatsError;

/// p values adjusted by Holm's method: of those at or below the level, with whatever probability, at most the
/// level are wrong in the whole family, however they depend on each other.
///
/// The `i`-th smallest of `m`, from 0, becomes the largest `min(1, (m − j) · p_j)` over `j ≤ i`. Ties get one value.
///
/// # Errors
/// If a p is not from 0 to 1.
///
/// Source: S. Holm, *A simple sequentially rejective multiple test procedure*, 1979.
pub fn holm(p_values: &[f64]) -> Result<Vec<f64>, StatsError> {
    if let Some(at) = p_values.iter().position(|p| !(0.0..=1.0).contains(p)) {
        return Err(StatsError::Probability { at, value: p_values[at] });
    }
    let mut order: Vec<usize> = (0..p_values.len()).collect();
    order.sort_by(|a, b| p_values[*a].total_cmp(&p_values[*b]));
    let (mut adjusted, mut largest) = (vec![0.0; p_values.len()], 0.0_f64);
    for (rank, at) in order.into_iter().enumerate() {
        let left = (p_values.len() - rank) as f64;
        largest = largest.max(f64::min(1.0, left * p_values[at]));
        adjusted[at] = largest;
    }
    Ok(adjusted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand_with_ties_and_alone() {
        assert_eq!(holm(&[0.04, 0.01, 0.03]).unwrap(), [0.06, 0.03, 0.06]);
        assert_eq!(holm(&[0.02, 0.02]).unwrap(), [0.04, 0.04]);
        assert_eq!(holm(&[0.3]).unwrap(), [0.3]);
        assert_eq!(holm(&[]).unwrap(), [0.0; 0]);
    }

    #[test]
    fn what_is_no_probability_is_refused_by_its_place() {
        let error = holm(&[0.5, f64::NAN]).unwrap_err().to_string();
        assert_eq!(error, "p value 1 is NaN; expected a number from 0 to 1");
        assert!(holm(&[1.1]).is_err() && holm(&[-0.1]).is_err());
    }
}
