//! What results were computed on and measured on, for people.

use serde_json::Value;

use crate::format::thousands;
use crate::results::{Environment, Results};

impl Environment {
    /// The code that made the run, for people.
    pub(crate) fn code(&self) -> String {
        match &self.git {
            Some(git) if git.contains("-dirty") => {
                format!("{git}, where -dirty has changes that are in no commit")
            }
            Some(git) => git.clone(),
            None => "unknown (not run in a checkout)".to_owned(),
        }
    }

    /// Its threads and processes.
    pub(crate) fn workers(&self) -> String {
        let threads = format!("{} threads", self.threads);
        self.processes.map_or_else(|| threads.clone(), |n| format!("{n} processes of {threads}"))
    }
}

/// Where a model was loaded from.
fn loaded(source: &Value) -> String {
    let of = |key: &str| source.get(key).and_then(Value::as_str);
    let repository = of("repo").map(|repo| match of("revision") {
        Some(revision) => format!("{repo} at {revision}"),
        None => repo.to_owned(),
    });
    let package = of("package").map(|name| format!("{name} {}", of("version").unwrap_or_default()));
    let place = repository.or(package);
    let parts = [place.as_deref(), of("path"), of("file")].into_iter().flatten();
    parts.collect::<Vec<_>>().join(", ")
}

impl Results {
    /// What trials extend and what they were measured on, for people; none in results of earlier versions.
    pub(crate) fn setting(&self) -> Option<[(&'static str, String); 2]> {
        let of = |path: &str| self.setting.as_ref()?.pointer(path).filter(|value| !value.is_null());
        let number = |path| of(path).and_then(Value::as_u64).map(thousands);
        let pretrained = || {
            let tokens = number("/base/training/tokens");
            format!(
                "pretrained by neutral{}",
                tokens.map_or_else(String::new, |n| format!(" on {n} tokens"))
            )
        };
        let base = of("/base/source").map_or_else(pretrained, loaded);
        let text = number("/evaluation/max_bytes").map_or_else(
            || "all of them".to_owned(),
            |bytes| format!("at most {bytes} bytes a corpus"),
        );
        let split = of("/evaluation/split")?.as_str()?;
        let window = number("/evaluation/window")?;
        let separator = of("/document_separator").and_then(Value::as_str);
        let after = separator
            .map_or_else(String::new, |separator| format!(", each document after {separator}"));
        let measured = format!("{split} pages, {text}, in windows of {window} tokens{after}");
        Some([("base", base), ("measured on", measured)])
    }
}

#[cfg(test)]
mod tests {
    use crate::{markdown, sample};

    #[test]
    fn a_report_says_which_pages_of_which_base_were_measured() {
        let mut results = sample::quick();
        assert!(!markdown(&results).contains("measured on"), "earlier versions do not say");
        let hub = serde_json::json!({"kind": "hub", "repo": "us/m", "revision": "0123abc"});
        results.setting = Some(serde_json::json!({
            "base": {"kind": "load", "source": hub},
            "evaluation": {"split": "valid", "max_bytes": 100_000, "window": 1024},
            "document_separator": "<s>",
        }));
        let text = markdown(&results);
        let expected = "- measured on: valid pages, at most 100,000 bytes a corpus, in windows of 1,024 tokens, each document after \\<s>\n";
        assert!(text.contains(expected) && text.contains("- base: us/m at 0123abc\n"), "{text}");
    }
}
