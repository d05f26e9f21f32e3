//! What a result was computed on.

use std::process::Command;
use std::sync::OnceLock;

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
        git: code().map(str::to_owned),
    }
}

/// The commit of the checkout that this binary was built in, `-dirty` if it has changed, when the process first
/// asked; none if the checkout is gone.
pub(crate) fn code() -> Option<&'static str> {
    static CODE: OnceLock<Option<String>> = OnceLock::new();
    CODE.get_or_init(git_commit).as_deref()
}

fn git_commit() -> Option<String> {
    let output = Command::new("git")
        .args(["-C", env!("CARGO_MANIFEST_DIR"), "describe", "--always", "--dirty", "--abbrev=12"])
        .output();
    let output = output.ok().filter(|o| o.status.success())?;
    let text = String::from_utf8(output.stdout).ok()?;
    Some(text.trim().to_owned()).filter(|t| !t.is_empty())
}
