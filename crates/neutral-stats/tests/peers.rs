//! Agreement with scipy and statsmodels, whose numbers `tests/fixtures/make_stats_fixtures.py` wrote.

#![expect(clippy::unwrap_used, reason = "in tests a panic is the report")]

use neutral_stats::{
    Bootstrap, Replicates, holm, mcnemar, mean, more_often_right, normal_quantile, ratio,
    student_cdf, student_quantile,
};
use serde_json::Value;

fn fixture() -> Value {
    serde_json::from_str(include_str!("../../../tests/fixtures/stats.json")).unwrap()
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|n| n.as_f64().unwrap()).collect()
}

fn rows<'a>(fixture: &'a Value, name: &str) -> impl Iterator<Item = Vec<f64>> + 'a {
    fixture[name].as_array().unwrap().iter().map(numbers)
}

#[track_caller]
fn near(found: f64, expected: f64, relative: f64) {
    assert!(
        (found - expected).abs() <= relative * expected.abs().max(1e-300),
        "{found}, expected {expected}"
    );
}

#[test]
fn quantiles_are_scipys() {
    let fixture = fixture();
    for row in rows(&fixture, "normal") {
        near(normal_quantile(row[0]), row[1], 1e-14);
    }
    for row in rows(&fixture, "student") {
        near(student_quantile(row[0], row[1]), row[2], 1e-8);
    }
    for row in rows(&fixture, "student_cdf") {
        near(student_cdf(row[0], row[1]), row[2], 1e-9);
    }
}

#[test]
fn tests_are_those_of_statsmodels_and_scipy() {
    let fixture = fixture();
    for case in fixture["mcnemar"].as_array().unwrap() {
        let found = mcnemar(case["b"].as_u64().unwrap(), case["c"].as_u64().unwrap());
        near(found.exact, case["exact"].as_f64().unwrap(), 1e-11);
        near(found.mid_p, case["mid_p"].as_f64().unwrap(), 1e-11);
    }
    for case in fixture["holm"].as_array().unwrap() {
        for (found, expected) in
            holm(&numbers(&case["p"])).unwrap().into_iter().zip(numbers(&case["adjusted"]))
        {
            near(found, expected, 1e-12);
        }
    }
    for case in fixture["means"].as_array().unwrap() {
        let found = mean(&numbers(&case["values"])).unwrap();
        let [low, high] = numbers(&case["interval"])[..] else { panic!("two ends") };
        near(found.interval(0.95).low, low, 1e-9);
        near(found.interval(0.95).high, high, 1e-9);
        near(found.p_at_most(0.0), case["p_at_most_0"].as_f64().unwrap(), 1e-9);
    }
}

#[test]
fn tangos_method_is_that_of_a_likelihood_maximised_by_search() {
    for case in fixture()["more_often_right"].as_array().unwrap() {
        let [n, b, c] = ["n", "b", "c"].map(|name| case[name].as_u64().unwrap());
        let found = more_often_right(n, b, c).unwrap();
        let expected = numbers(&case["p_at_least"]);
        for (margin, expected) in numbers(&case["margins"]).into_iter().zip(expected) {
            near(found.p_at_least(margin), expected, 1e-5);
        }
        let [low, high] = numbers(&case["interval"])[..] else { panic!("two ends") };
        near(found.interval(0.95).low, low, 1e-6);
        near(found.interval(0.95).high, high, 1e-6);
    }
}

#[test]
fn bca_intervals_of_scipys_replicates_are_scipys_and_our_replicates_spread_as_they_do() {
    for case in fixture()["ratios"].as_array().unwrap() {
        let [above, below] = ["numerators", "denominators"].map(|name| numbers(&case[name]));
        let sum = |values: &[f64]| values.iter().sum::<f64>();
        let estimate = sum(&above) / sum(&below);
        let left_out: Vec<_> =
            (0..above.len()).map(|i| (sum(&above) - above[i]) / (sum(&below) - below[i])).collect();
        let theirs = Replicates::new(numbers(&case["replicates"]), estimate, &left_out);
        let [low, high] = numbers(&case["interval_of_replicates"])[..] else { panic!("two ends") };
        near(theirs.bound(0.025), low, 1e-9);
        near(theirs.bound(0.975), high, 1e-9);

        let ours = ratio(&above, &below, Bootstrap { resamples: 199_999, seed: 5 }).unwrap();
        near(ours.value, estimate, 1e-12);
        let deviation = case["standard_error"].as_f64().unwrap();
        near(ours.standard_error, deviation, 0.01);

        // The confidence at which Student's quantile of so few documents is the normal one of 0.95.
        let documents = sum(&below).powi(2) / below.iter().map(|b| b * b).sum::<f64>();
        let narrower = (1.0 - 1.0 / documents).sqrt() * normal_quantile(0.975);
        let plain = ours.interval(2.0 * student_cdf(narrower, documents - 1.0) - 1.0);
        let [low, high] = numbers(&case["interval"])[..] else { panic!("two ends") };
        for (found, expected) in [(plain.low, low), (plain.high, high)] {
            // Both ends are quantiles of 199,999 draws: within 0.006 deviations of theirs.
            assert!((found - expected).abs() < 0.03 * deviation, "{found}, expected {expected}");
        }
    }
}
