//! What must be equal for two runs to be compared.

use neutral_report::ByCorpus;
use neutral_store::Fingerprint;
use serde::{Deserialize, Serialize};

use crate::CheckError;

/// Fingerprints of what is measured, and with what; not of the code, which is what a check is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprints {
    /// Text to tokens.
    pub tokenizer: Fingerprint,
    /// The base: the files of one that is loaded, the recipe and text of one that is pretrained.
    pub base: Fingerprint,
    /// The rules of scoring: split, sizes, window, separator.
    pub scoring: Fingerprint,
    /// The numbers that models compute in, `fp32` or `bf16`.
    pub precision: String,
    /// The held-out text of each corpus.
    pub corpora: ByCorpus<Fingerprint>,
}

impl Fingerprints {
    /// Refuses a run that measured something else. Corpora that only the run has are no matter.
    pub(crate) fn check(&self, run: &Self) -> Result<(), CheckError> {
        let differ = |what: String, baseline: &str, run: &str, advice| {
            if baseline == run {
                return Ok(());
            }
            let (baseline, run) = (baseline.to_owned(), run.to_owned());
            Err(CheckError::NotComparable { what, baseline, run, advice })
        };
        let named = |what: &str, ours: &Fingerprint, theirs: &Fingerprint| {
            let advice = "; write a new baseline if that was meant";
            differ(format!("fingerprint of the {what}"), ours.as_str(), theirs.as_str(), advice)
        };
        named("tokenizer", &self.tokenizer, &run.tokenizer)?;
        named("base", &self.base, &run.base)?;
        named("rules of scoring (split, max_bytes, window)", &self.scoring, &run.scoring)?;
        differ("precision".to_owned(), &self.precision, &run.precision, "")?;
        for (corpus, ours) in &self.corpora {
            let Some(theirs) = run.corpora.get(corpus) else {
                let advice = "; score it again, or write a new baseline";
                return differ(format!("set of corpora ({corpus})"), "present", "absent", advice);
            };
            named(&format!("held-out text of {corpus}"), ours, theirs)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    #[test]
    fn what_differs_is_named() {
        let of = |change: fn(&mut Fingerprints)| {
            let mut run = sample::fingerprints();
            change(&mut run);
            sample::fingerprints().check(&run).map_err(|error| error.to_string())
        };
        assert_eq!(of(|_| ()), Ok(()));
        let other = || Fingerprint::of(&"other");
        assert!(
            of(|f| f.tokenizer = Fingerprint::of(&9)).unwrap_err().contains("of the tokenizer")
        );
        assert!(of(|f| f.base = Fingerprint::of(&9)).unwrap_err().contains("of the base"));
        assert!(of(|f| f.scoring = Fingerprint::of(&9)).unwrap_err().contains("rules of scoring"));
        let precision = of(|f| f.precision = "bf16".to_owned()).unwrap_err();
        assert!(precision.contains("fp32 in the baseline and bf16 in the run"), "{precision}");
        let text = of(|f| f.corpora["text/a"] = Fingerprint::of(&9)).unwrap_err();
        assert!(text.contains("held-out text of text/a"), "{text}");
        let absent = of(|f| f.corpora.clear()).unwrap_err();
        assert!(absent.contains("text/a") && absent.contains("absent"), "{absent}");
        let mut more = sample::fingerprints();
        more.corpora.insert("text/c".to_owned(), other());
        assert!(sample::fingerprints().check(&more).is_ok());
    }
}
