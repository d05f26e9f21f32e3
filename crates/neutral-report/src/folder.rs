//! A run's folder: the four files, each written whole or not at all.

use std::io::Write;
use std::path::Path;

use neutral_store::{read_json, write_atomic, write_json};

use crate::results::Results;
use crate::{ReportError, SCHEMA, csv, markdown, tradeoff_svg};

/// Writes `results.json`, `results.csv`, `tradeoff.svg` and `report.md` into a folder.
///
/// # Errors
/// If a finished trial holds a number that is not finite, or a file cannot be written; a file that
/// was not replaced keeps its old content.
pub fn write_all(results: &Results, folder: &Path) -> Result<(), ReportError> {
    results.check()?;
    write_json(&folder.join("results.json"), results)?;
    let texts = [
        ("results.csv", csv(results)),
        ("tradeoff.svg", tradeoff_svg(results)),
        ("report.md", markdown(results)),
    ];
    for (name, text) in texts {
        write_atomic(&folder.join(name), |w| w.write_all(text.as_bytes()))?;
    }
    Ok(())
}

/// Reads a `results.json`.
///
/// # Errors
/// If it cannot be read, has another schema, or is not what [`write_all`] writes.
pub fn read(path: &Path) -> Result<Results, ReportError> {
    // The number first: a file of another schema would fail on some field and say less.
    #[derive(serde::Deserialize)]
    struct Numbered {
        schema: u32,
    }
    let Numbered { schema } = read_json(path)?;
    if schema != SCHEMA {
        return Err(ReportError::Schema { path: path.to_path_buf(), found: schema });
    }
    Ok(read_json(path)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    #[test]
    fn results_json_is_what_other_tools_read() {
        // The fixture is the golden of schema 1: same keys, same order, same numbers.
        let folder = tempfile::tempdir().unwrap();
        write_all(&sample::quick(), folder.path()).unwrap();
        let written = std::fs::read_to_string(folder.path().join("results.json")).unwrap();
        assert_eq!(written, sample::QUICK);
        assert_eq!(read(&folder.path().join("results.json")).unwrap(), sample::quick());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 4);
    }

    #[test]
    fn an_unfinished_trial_survives_the_file() {
        let folder = tempfile::tempdir().unwrap();
        write_all(&sample::sweep(), folder.path()).unwrap();
        assert_eq!(read(&folder.path().join("results.json")).unwrap(), sample::sweep());
    }

    #[test]
    fn another_schema_is_refused_by_its_number() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("results.json");
        std::fs::write(&path, r#"{"schema": 2, "trails": []}"#).unwrap();
        let error = read(&path).unwrap_err().to_string();
        assert!(error.contains("schema is 2, this version reads 1"), "{error}");
    }
}
