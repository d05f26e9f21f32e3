//! Models that are scored in double precision.

use neutral_model::Extension;
use neutral_spec::Precision;
use tch::{Device, Kind, Tensor};

use crate::contract::{frozen_base, logits, trained};
use crate::methods::extending;

#[test]
fn in_fp64_nothing_is_rounded_to_less() {
    let base = frozen_base(Precision::Fp64);
    let weights: Vec<(Tensor, Tensor)> =
        base.params().iter().map(|(_, weight)| (weight.shallow_clone(), weight.copy())).collect();
    // The slope of the logits along one direction of the base's weights. A step of 1e-8 is below fp32's
    // resolution: what is rounded to it anywhere on the way makes no difference there, or far too large a one.
    let slope = |extension: &Extension, step: f64| {
        let moved = |step: f64| {
            tch::no_grad(|| {
                for (weight, start) in &weights {
                    let places = Tensor::arange(start.numel() as i64, (Kind::Double, Device::Cpu));
                    let direction = (places * 1.7).cos().view_as(start) * step + 1.0;
                    weight.shallow_clone().copy_(&(start * direction));
                }
            });
            logits(&base, extension)
        };
        (moved(step) - moved(-step)) / (2.0 * step)
    };
    let none = [("base".to_owned(), Extension::none())].into_iter();
    for (name, extension) in none.chain(extending().into_iter().map(|(name, method)| {
        let extension = trained(&base, &method, 0);
        (name, extension)
    })) {
        let (near, far) = (slope(&extension, 1e-8), slope(&extension, 1e-5));
        assert_eq!(near.kind(), Kind::Double);
        let apart = ((&near - &far).norm() / far.norm()).double_value(&[]);
        assert!(apart < 1e-5, "{name}: {apart:.1e}");
    }
}
