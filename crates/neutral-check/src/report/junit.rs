//! JUnit XML: a test case a row, so that any CI lists them.

use std::fmt::Write;

use super::budget_sentence;
use crate::{Check, Verdict};

/// A check as a test suite. What fails is a failure, what is not told an error.
pub fn junit(check: &Check) -> String {
    let mut cases = String::new();
    let (mut failures, mut errors, mut tests) = (0, 0, 0);
    let mut case = |class: &str, name: &str, verdict: Verdict, message: &str| {
        tests += 1;
        let [class, name, message] = [class, name, message].map(escaped);
        let _ = write!(cases, "    <testcase classname=\"{class}\" name=\"{name}\"");
        let element = match verdict {
            Verdict::Pass => {
                let _ = writeln!(cases, "><system-out>{message}</system-out></testcase>");
                return;
            }
            Verdict::Fail => {
                failures += 1;
                "failure"
            }
            Verdict::Inconclusive => {
                errors += 1;
                "error"
            }
        };
        let kind = verdict.name();
        let _ = writeln!(
            cases,
            "><{element} type=\"{kind}\" message=\"{message}\">{message}</{element}></testcase>"
        );
    };
    for row in &check.rows {
        let name = format!("{}, {}", row.metric.name(), row.corpus);
        case(&row.trial, &name, row.verdict, &row.sentence());
    }
    for failure in &check.failures {
        case(&failure.trial, "training", Verdict::Fail, &failure.error);
    }
    for budget in &check.budgets {
        case("budget", &budget.budget.name, budget.verdict, &budget_sentence(budget));
    }
    let experiment = escaped(&check.experiment);
    let counts = format!("tests=\"{tests}\" failures=\"{failures}\" errors=\"{errors}\"");
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites {counts}>\n  <testsuite name=\"neutral check: {experiment}\" {counts}>\n{cases}  </testsuite>\n</testsuites>\n"
    )
}

/// Text that XML shows as it is, within attributes too, where a line's end would become a space.
fn escaped(text: &str) -> String {
    neutral_report::escaped(text).replace('\n', "&#10;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    #[test]
    fn a_suite_looks_like_this() {
        insta::assert_snapshot!(junit(&sample::checked()));
    }

    #[test]
    fn no_text_leaves_its_place() {
        assert_eq!(escaped("<a b=\"c\">&\u{1b}"), "&lt;a b=&quot;c&quot;&gt;&amp;\u{fffd}");
    }
}
