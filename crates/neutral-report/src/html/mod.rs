//! `report.html`: runs on one page that needs nothing else, for screens of any width and for paper.

mod neutral;
mod samples;
mod table;

use std::fmt::Write;

use self::table::{number_table, table};
use crate::columns::grid;
use crate::escape::escaped;
use crate::figure;
use crate::format::{decimals, thousands};
use crate::markdown::meanings;
use crate::over_seeds;
use crate::paper;
use crate::results::{Results, TrialResult};
use crate::run::Run;
use crate::series::groups;
use crate::tasks;
use crate::{best, equal_learning, hypervolume};
use crate::{tradeoff_corpora_svg, tradeoff_svg};

/// One page of some runs, in the order given, without anything from elsewhere: styles and figures are
/// in it, scripts and fonts there are none.
pub fn html(runs: &[Run]) -> String {
    let title =
        runs.iter().map(|run| run.results.experiment.as_str()).collect::<Vec<_>>().join(", ");
    let mut out = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{}</title>\n<style>\n{}</style>\n</head>\n<body>\n",
        escaped(&title),
        include_str!("style.css")
    );
    if runs.len() > 1 {
        out.push_str("<nav><ul>\n");
        for (i, run) in runs.iter().enumerate() {
            let Results { experiment, question, .. } = &run.results;
            let (experiment, question) = (escaped(experiment), escaped(question));
            let _ = writeln!(out, "<li><a href=\"#run{i}\">{experiment}</a>: {question}</li>");
        }
        out.push_str("</ul></nav>\n");
    }
    for (i, run) in runs.iter().enumerate() {
        let _ = writeln!(out, "<article id=\"run{i}\">");
        push_run(&mut out, run);
        out.push_str("</article>\n");
    }
    out.push_str("</body>\n</html>\n");
    out
}

fn push_run(out: &mut String, run: &Run) {
    let results = &run.results;
    let _ = writeln!(
        out,
        "<h1>{}</h1>\n<p class=\"lead\">{}</p>",
        escaped(&results.experiment),
        escaped(&results.question)
    );
    push_results(out, results);
    push_seeds(out, results);
    push_best(out, results);
    push_paper(out, results);
    push_tasks(out, results);
    let _ = writeln!(out, "<h2>Learning against forgetting</h2>");
    let plots = [Some(tradeoff_svg(results)), tradeoff_corpora_svg(results)];
    push_figures(out, &plots.into_iter().flatten().collect::<Vec<_>>());
    push_curves(out, results);
    let curves = figure::curves(run);
    if !curves.is_empty() {
        let _ = writeln!(out, "<h2>Training</h2>");
        push_figures(out, &curves);
    }
    neutral::push(out, results);
    push_cost(out, results);
    push_origin(out, results);
}

fn push_results(out: &mut String, results: &Results) {
    let grid = grid(results);
    let _ = writeln!(out, "<h2>Results</h2>");
    out.push_str(&table(&grid));
    let _ = writeln!(out, "<p class=\"note\">The best of each column is bold.");
    if let Some(control) = results.control_name() {
        let _ = writeln!(
            out,
            "There are two baselines: the pristine base, and the control, {}, of the same seed.",
            escaped(&control)
        );
    }
    out.push_str("</p>\n<details><summary>What the columns mean</summary>\n<ul>\n");
    for line in meanings(&grid) {
        // Markdown's one mark there.
        let mut pieces = line.split("**");
        let (before, term, after) = (pieces.next(), pieces.next(), pieces.next());
        let piece = |text: Option<&str>| escaped(text.unwrap_or_default());
        let _ = writeln!(
            out,
            "<li>{}<strong>{}</strong>{}</li>",
            piece(before),
            piece(term),
            piece(after)
        );
    }
    out.push_str("</ul>\n</details>\n");
    for trial in results.trials.iter().filter(|trial| trial.error.is_some()) {
        let _ = writeln!(
            out,
            "<p><strong>{}</strong>, {}: {}</p>",
            escaped(&trial.id),
            trial.status.name(),
            escaped(trial.error.as_deref().unwrap_or_default())
        );
    }
}

fn push_tasks(out: &mut String, results: &Results) {
    let Some((heads, rows)) = tasks::rows(results) else { return };
    let heads: Vec<&str> = heads.iter().map(String::as_str).collect();
    let _ = writeln!(out, "<h2>Tasks</h2>");
    out.push_str(&number_table(&heads, 2, &rows));
    let _ = writeln!(out, "<p class=\"note\">{}</p>", tasks::MEANING);
}

fn push_seeds(out: &mut String, results: &Results) {
    let (heads, rows) = over_seeds::table(results);
    if rows.is_empty() {
        return;
    }
    let _ = writeln!(out, "<h2>Over seeds</h2>");
    out.push_str(&number_table(&heads, over_seeds::TEXTS, &rows));
    let _ = writeln!(out, "<p class=\"note\">{}</p>", over_seeds::MEANING);
}

fn push_best(out: &mut String, results: &Results) {
    let (heads, rows) = best::table(results);
    if rows.is_empty() {
        return;
    }
    let _ = writeln!(out, "<h2>Best settings</h2>");
    out.push_str(&number_table(&heads, best::TEXTS, &rows));
    let _ = writeln!(out, "<p class=\"note\">{}</p>", best::MEANING);
}

fn push_paper(out: &mut String, results: &Results) {
    let rows = paper::rows(results);
    let Some(paper) = results.paper.as_ref().filter(|_| !rows.is_empty()) else { return };
    let _ = writeln!(out, "<h2>The paper says, and we see</h2>");
    out.push_str(&number_table(&paper::HEADS, paper::TEXTS, &rows));
    let (what, meaning) = (escaped(&paper.what), paper::MEANING);
    let _ = writeln!(out, "<p class=\"note\">The paper: {what}. {meaning}</p>");
}

fn push_curves(out: &mut String, results: &Results) {
    let rows = hypervolume::rows(results);
    if rows.is_empty() {
        return;
    }
    out.push_str(&number_table(&hypervolume::HEADS, hypervolume::TEXTS, &rows));
    let _ = writeln!(out, "<p class=\"note\">{}</p>", hypervolume::MEANING);
    let (heads, rows) = equal_learning::table(results);
    if !rows.is_empty() {
        out.push_str(&number_table(&heads, equal_learning::TEXTS, &rows));
        let _ = writeln!(out, "<p class=\"note\">{}</p>", equal_learning::MEANING);
    }
}

/// Figures side by side where there is room. Each is SVG of this crate's own making.
fn push_figures(out: &mut String, figures: &[String]) {
    out.push_str("<div class=\"figures\">\n");
    for svg in figures {
        let _ = writeln!(out, "<figure>{svg}</figure>");
    }
    out.push_str("</div>\n");
}

fn push_cost(out: &mut String, results: &Results) {
    let _ = writeln!(out, "<h2>Cost</h2>");
    let heads = ["trial", "tokens", "minutes", "tokens/s", "peak memory, MiB"];
    let dash = || "–".to_owned();
    let row = |trial: &&TrialResult| {
        let whole = |n: Option<f64>| n.map_or_else(dash, |n| thousands(n.round().max(0.0) as u64));
        let minutes = trial.elapsed_seconds.map(|s| decimals(s / 60.0, 2));
        vec![
            trial.id.clone(),
            trial.tokens.map_or_else(dash, thousands),
            minutes.unwrap_or_else(dash),
            whole(trial.tokens_per_second),
            whole(trial.peak_rss_bytes.map(|bytes| bytes as f64 / f64::from(1 << 20))),
        ]
    };
    let groups = groups(results);
    let rows: Vec<_> = groups.iter().flat_map(|group| &group.trials).map(row).collect();
    out.push_str(&number_table(&heads, 1, &rows));
    let _ = writeln!(
        out,
        "<p class=\"note\">Training alone, evaluation not included. Memory is the largest that the \
         process has held so far, earlier trials of the same run included.</p>"
    );
}

fn push_origin(out: &mut String, results: &Results) {
    let environment = &results.environment;
    let _ = writeln!(out, "<h2>Origin</h2>\n<dl>");
    let facts = [
        ("trials", results.plan_fingerprint.to_string()),
        ("code", environment.code()),
        ("libtorch", environment.libtorch.clone()),
        ("device", environment.device.clone()),
        ("precision", environment.precision.clone()),
        ("at work", environment.workers()),
        ("processor", environment.cpu.clone()),
    ];
    let setting = results.setting().into_iter().flatten();
    for (name, value) in setting.chain(facts) {
        let _ = writeln!(out, "<dt>{name}</dt><dd>{}</dd>", escaped(&value));
    }
    let _ = writeln!(
        out,
        "</dl>\n<p class=\"note\">The trials' fingerprint is of all that determines their results: settings, text, \
         tokenizer, base, numerics. Every number here stands in the run's <code>results.json</code>.</p>"
    );
    for trial in &results.trials {
        let spec = serde_json::to_string_pretty(&trial.spec).unwrap_or_default();
        let _ = writeln!(
            out,
            "<details><summary>Resolved spec of {}</summary>\n<pre><code>{}</code></pre>\n</details>",
            escaped(&trial.id),
            escaped(&spec)
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    fn run(results: Results) -> Run {
        Run { results, steps: sample::steps() }
    }

    #[test]
    fn a_page_needs_nothing_from_elsewhere() {
        let page = html(&[run(sample::against_base()), run(sample::seeds())]);
        for foreign in ["src=", "<script", "<link", "@import", "url(", "href=\"http"] {
            assert!(!page.contains(foreign), "{foreign}");
        }
        assert!(page.matches("http").count() == page.matches("http://www.w3.org/2000/svg").count());
        assert!(!page.contains("NaN") && !page.contains("inf"));
    }

    #[test]
    fn every_part_of_a_run_is_on_its_page() {
        let page = html(&[run(sample::against_base())]);
        for part in [
            "Which way of extending",
            "<h2>Results</h2>",
            "<td class=\"n\"><strong>",
            "Learning against forgetting</text>",
            ">Loss, new domain<",
            ">Open gates, original domain<",
            ">Gates that are exactly zero<",
            "Values of gates, libreoffice-help/en",
            "Singular values of mlp w_o",
            "KL",
            "class=\"sample\"",
            "<h2>Cost</h2>",
            "Resolved spec of neutral-residues-s0",
        ] {
            assert!(page.contains(part), "{part}");
        }
        assert!(html(&[run(sample::seeds())]).contains("<h2>Over seeds</h2>"));
        // A run of an earlier version has less to say, and its page no empty parts.
        let page = html(&[Run { results: sample::quick(), steps: [].into() }]);
        assert!(page.contains(">Gates that are exactly zero<"));
        for part in ["class=\"sample\"", "Singular values", "<h2>Training</h2>", "Over seeds"] {
            assert!(!page.contains(part), "{part}");
        }
    }

    #[test]
    fn of_several_seeds_the_gates_of_one_are_drawn() {
        let page = html(&[run(sample::seeds())]);
        let figures_of = |id: &str| page.contains(&format!("<span class=\"note\">{id}</span>"));
        assert!(figures_of("neutral-residues-s0"));
        assert!(!figures_of("neutral-residues-s1") && !figures_of("neutral-residues-s2"));
        assert_eq!(page.matches("are of one seed each").count(), 1);
        assert!(!html(&[run(sample::against_base())]).contains("are of one seed each"));
    }

    #[test]
    fn text_of_the_run_cannot_become_markup() {
        let mut results = sample::against_base();
        let evil = "</title><script>alert(1)</script>\"'&";
        results.experiment = evil.to_owned();
        results.question = evil.to_owned();
        results.environment.cpu = evil.to_owned();
        for trial in &mut results.trials {
            trial.id = evil.to_owned();
            trial.label = evil.to_owned();
            trial.error = Some(evil.to_owned());
            trial.spec["evil"] = evil.into();
        }
        let samples = results.trials[3].against_base.as_mut().unwrap().samples.as_mut().unwrap();
        for sample in samples.original.values_mut() {
            sample.document = evil.to_owned();
            sample.text[0] = evil.to_owned();
        }
        let page = html(&[run(results)]);
        assert!(!page.contains("<script"));
        assert!(page.contains("&lt;script&gt;"));
    }
}
