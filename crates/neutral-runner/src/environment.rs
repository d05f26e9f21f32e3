//! What a result was computed on.

use neutral_report::Environment;
use neutral_spec::Precision;
use neutral_torch::Group;
use tch::Device;

/// Describes this process for `results.json`.
pub(crate) fn describe(device: Device, precision: Precision, group: Option<&Group>) -> Environment {
    Environment {
        libtorch: neutral_torch::LIBTORCH_VERSION.to_owned(),
        device: format!("{device:?}").to_lowercase(),
        precision: precision.name().to_owned(),
        threads: neutral_torch::threads(),
        processes: group.map(Group::size),
        cpu: neutral_torch::cpu_features().model.unwrap_or_else(|| "unknown".to_owned()),
        git: CODE.map(str::to_owned),
    }
}

/// The commit that last changed the code of this program when it was built, `-dirty` if the code was changed since;
/// none if it was not built in a checkout.
pub(crate) const CODE: Option<&str> = option_env!("NEUTRAL_CODE");
