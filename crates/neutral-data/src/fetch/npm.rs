//! JavaScript packages through npm: the archive alone, no scripts, never installed.

use std::path::Path;

use super::command::Client;
use crate::{Control, DataError};

/// Downloads one package; its name and version.
pub(super) fn fetch(
    package: &str,
    version: &str,
    folder: &Path,
    control: &Control,
) -> Result<String, DataError> {
    let client = Client {
        program: "npm",
        what: format!("the npm package {package} {version}"),
        if_missing: "install Node.js with npm, or choose a corpus from another source",
    };
    let specifier = format!("{package}@{version}");
    let arguments =
        ["pack", "--ignore-scripts", "--loglevel=error", "--", &specifier].map(str::to_owned);
    client.run(&arguments, folder, control)?;
    Ok(format!("{package} {version}"))
}
