//! A run's folder: its files, each written whole or not at all.

use std::io::Write;
use std::path::Path;

use neutral_store::{read_json, write_atomic, write_json};

use crate::markdown::markdown_with;
use crate::results::Results;
use crate::{ReportError, Run, SCHEMA, csv, html, markdown, tradeoff_corpora_svg, tradeoff_svg};

/// Writes `results.json`, `results.csv`, `report.md` and its plots, `tradeoff.svg` and, if there are several corpora,
/// `tradeoff-corpora.svg`, into a folder.
///
/// # Errors
/// If a finished trial holds a number that is not finite, or a file cannot be written; a file that
/// was not replaced keeps its old content.
pub fn write_all(results: &Results, folder: &Path) -> Result<(), ReportError> {
    results.check()?;
    write_json(&folder.join("results.json"), results)?;
    let mut texts = plots(results, "tradeoff");
    texts.push(("results.csv".to_owned(), csv(results)));
    texts.push(("report.md".to_owned(), markdown(results)));
    write_texts(texts, folder)
}

/// Names and texts of the plots of a `report.md`.
fn plots(results: &Results, stem: &str) -> Vec<(String, String)> {
    let corpora = tradeoff_corpora_svg(results).map(|svg| (format!("{stem}-corpora.svg"), svg));
    [(format!("{stem}.svg"), tradeoff_svg(results))].into_iter().chain(corpora).collect()
}

fn write_texts(texts: Vec<(String, String)>, folder: &Path) -> Result<(), ReportError> {
    for (name, text) in texts {
        write_atomic(&folder.join(name), |w| w.write_all(text.as_bytes()))?;
    }
    Ok(())
}

/// Writes `report.html` of some runs, and `report.md` with its plots, into a folder.
///
/// # Errors
/// If a file cannot be written.
pub fn write_report(runs: &[Run], folder: &Path) -> Result<(), ReportError> {
    let mut texts = vec![("report.html".to_owned(), html(runs))];
    let mut pages = Vec::new();
    for (i, run) in runs.iter().enumerate() {
        let stem = match runs.len() {
            1 => "tradeoff".to_owned(),
            _ => format!("tradeoff-{}", i + 1),
        };
        pages.push(markdown_with(&run.results, &stem));
        texts.extend(plots(&run.results, &stem));
    }
    texts.push(("report.md".to_owned(), pages.join("\n")));
    write_texts(texts, folder)
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
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 5);
    }

    #[test]
    fn an_unfinished_trial_survives_the_file() {
        let folder = tempfile::tempdir().unwrap();
        write_all(&sample::sweep(), folder.path()).unwrap();
        assert_eq!(read(&folder.path().join("results.json")).unwrap(), sample::sweep());
    }

    #[test]
    fn what_was_compared_with_the_base_survives_the_file() {
        let folder = tempfile::tempdir().unwrap();
        write_all(&sample::against_base(), folder.path()).unwrap();
        let path = folder.path().join("results.json");
        assert_eq!(read(&path).unwrap(), sample::against_base());
        let mut results = sample::against_base();
        let against_base = results.trials[3].against_base.as_mut().unwrap();
        against_base.divergence.new[0].kl_nats.p99 = f64::NAN;
        let error = write_all(&results, folder.path()).unwrap_err().to_string();
        assert!(error.contains("neutral-residues-s0: against_base.divergence"), "{error}");
    }

    #[test]
    fn a_report_of_several_runs_has_a_plot_each() {
        let folder = tempfile::tempdir().unwrap();
        write_all(&sample::quick(), folder.path()).unwrap();
        let trial = folder.path().join("trials/lora-s0");
        std::fs::create_dir_all(&trial).unwrap();
        let write = |tokens: u64| {
            let lines = format!("{{\"tokens\":8}}\n{{\"tokens\":{tokens}}}\n");
            std::fs::write(trial.join("metrics.jsonl"), lines).unwrap();
        };
        let trained = sample::quick().trials.iter().find(|t| t.id == "lora-s0").unwrap().tokens;
        let trained = trained.unwrap();
        write(trained - 8);
        let error = Run::read(folder.path()).unwrap_err().to_string();
        let said = ["metrics.jsonl ends at", "delete its folder"];
        assert!(said.iter().all(|part| error.contains(part)), "{error}");
        write(trained);
        let run = Run::read(folder.path()).unwrap();
        assert_eq!(run.steps.keys().collect::<Vec<_>>(), ["lora-s0"]);
        let out = tempfile::tempdir().unwrap();
        write_report(&[run.clone(), run], out.path()).unwrap();
        let text = |name: &str| std::fs::read_to_string(out.path().join(name)).unwrap();
        assert!(text("report.md").contains("(tradeoff-2.svg)"));
        assert!(text("report.md").contains("(tradeoff-2-corpora.svg)"));
        assert_eq!(text("report.html").matches("<article").count(), 2);
        assert_eq!(text("tradeoff-1.svg"), text("tradeoff-2.svg"));
        assert_eq!(text("tradeoff-1-corpora.svg"), text("tradeoff-2-corpora.svg"));
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
