//! The mean of a fine-tuned model's weights and its base's.
//!
//! Source: Wortsman et al., *Robust fine-tuning of zero-shot models* (WiSE-FT), CVPR 2022.

use neutral_torch::{ParamStore, TorchError};
use tch::no_grad;

/// `w ← w_base + share · (w − w_base)`, in place and in the kind of `w`.
///
/// # Errors
/// If a weight of the one store is missing in the other.
pub fn average_weights(
    trained: &ParamStore,
    base: &ParamStore,
    share: f64,
) -> Result<(), TorchError> {
    for (name, weight) in trained.iter() {
        let base = base.get(name)?;
        no_grad(|| {
            let mean = base.to_kind(weight.kind()).lerp(weight, share);
            weight.shallow_clone().copy_(&mean);
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::host;
    use tch::{Device, Kind, Tensor};

    fn store(values: &[f32], kind: Kind) -> ParamStore {
        let mut params = ParamStore::new(Device::Cpu);
        params.insert("w", Tensor::from_slice(values).to_kind(kind)).unwrap();
        params
    }

    #[test]
    fn each_weight_moves_by_its_share_and_the_ends_are_both_models() {
        // These are numbers of bf16, in which a base is held.
        let base = store(&[1.0, -2.0, 0.5], Kind::BFloat16);
        for (share, expected) in
            [(0.0, [1.0, -2.0, 0.5]), (0.25, [1.5, -1.0, 0.5]), (1.0, [3.0, 2.0, 0.5])]
        {
            let mut trained = store(&[3.0, 2.0, 0.5], Kind::Float);
            trained.set_trainable(true);
            average_weights(&trained, &base, share).unwrap();
            assert_eq!(host(trained.get("w").unwrap()), expected);
        }
        let other = ParamStore::new(Device::Cpu);
        assert!(average_weights(&base, &other, 0.5).unwrap_err().to_string().contains("`w`"));
    }
}
