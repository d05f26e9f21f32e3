//! What the gate lets through, stops, and refuses.

use neutral_store::{read_json, write_json};

use crate::sample::{DOCUMENTS, answered, policy, scored};
use crate::{
    CheckError, Failure, Metric, Noise, Policy, Row, Scored, Verdict, calibrate, check,
    read_baseline, store_noise, write_baseline,
};

const BOTH: [(&str, u64, f64, f64); 2] =
    [("lora", 0, 0.10, 2.0), ("neutral-residues", 0, 0.05, 1.5)];

fn rows(run: &Scored, baseline: &Scored, policy: &Policy) -> Vec<Row> {
    check(run, Some(baseline), policy).unwrap().rows
}

fn refused(run: &Scored, baseline: &Scored, policy: &Policy) -> String {
    check(run, Some(baseline), policy).unwrap_err().to_string()
}

#[test]
fn an_unchanged_run_passes_for_certain() {
    let run = scored(&BOTH, 0.01, 3);
    let result = check(&run, Some(&run), &Policy::default()).unwrap();
    assert_eq!((result.verdict, result.rows.len()), (Verdict::Pass, 4));
    for row in result.rows {
        let interval = row.interval.unwrap();
        assert_eq!((row.worse_by, interval.low, interval.high), (0.0, 0.0, 0.0));
        assert_eq!((row.p_within, row.p_beyond), (Some(0.0), Some(1.0)));
    }
}

#[test]
fn more_forgetting_or_less_learning_fails_and_the_reverse_passes() {
    let baseline = scored(&BOTH, 0.01, 3);
    let verdicts = |forgetting: f64, learning: f64| {
        let trials = [BOTH[0], ("neutral-residues", 0, forgetting, learning)];
        let rows = rows(&scored(&trials, 0.01, 50), &baseline, &Policy::default());
        [rows[2].verdict, rows[3].verdict]
    };
    assert_eq!(verdicts(0.10, 1.5), [Verdict::Fail, Verdict::Pass]);
    assert_eq!(verdicts(0.05, 1.2), [Verdict::Pass, Verdict::Fail]);
    assert_eq!(verdicts(0.01, 2.0), [Verdict::Pass, Verdict::Pass]);
    assert_eq!(verdicts(0.06, 1.5)[0], Verdict::Inconclusive);
}

#[test]
fn a_change_for_the_better_fails_only_where_no_change_is_meant() {
    let baseline = scored(&BOTH, 0.01, 3);
    let run = scored(&[BOTH[0], ("neutral-residues", 0, 0.01, 1.5)], 0.01, 50);
    for (policy, verdict) in [("{}", Verdict::Pass), ("either_way: true", Verdict::Fail)] {
        assert_eq!(rows(&run, &baseline, &self::policy(policy))[2].verdict, verdict);
        assert_eq!(rows(&baseline, &baseline, &self::policy(policy))[2].verdict, Verdict::Pass);
    }
}

#[test]
fn a_base_that_moved_either_way_fails() {
    let baseline = scored(&BOTH, 0.01, 3);
    let policy = policy("margins: { base.bits_per_byte: 0.01 }");
    for moved in [-10.0, 10.0] {
        let mut run = baseline.clone();
        for nats in &mut run.base.nats.original["text/a"] {
            *nats += moved;
        }
        let rows = rows(&run, &baseline, &policy);
        assert_eq!([rows[0].verdict, rows[1].verdict], [Verdict::Fail, Verdict::Pass]);
    }
}

#[test]
fn what_the_base_gained_is_no_forgetting() {
    // The same training on a base that is better by the same on every document.
    let baseline = scored(&BOTH, 0.01, 3);
    let mut run = baseline.clone();
    let all = run.trials.iter_mut().map(|trial| &mut trial.nats);
    for nats in all.chain([&mut run.base.nats]).flat_map(|nats| &mut nats.original["text/a"]) {
        *nats -= 5.0;
    }
    let rows = rows(&run, &baseline, &Policy::default());
    assert!(rows.iter().all(|row| row.worse_by.abs() < 1e-9), "{rows:?}");
}

#[test]
fn seeds_are_paired_whatever_their_order_and_none_may_lack() {
    let trials = [0, 1, 2].map(|seed| ("lora", seed, 0.1 + 0.1 * seed as f64, 2.0));
    let baseline = scored(&trials, 0.0, 3);
    let mut run = baseline.clone();
    run.trials.reverse();
    let rows = rows(&run, &baseline, &Policy::default());
    assert_eq!((rows[0].seeds, rows[0].verdict), (3, Verdict::Pass));
    run.trials.pop();
    let error = refused(&run, &baseline, &Policy::default());
    assert!(error.contains("(lora, seed 0) differs, present in the baseline"), "{error}");
}

#[test]
fn three_seeds_that_agree_fail_and_three_that_differ_are_inconclusive() {
    let of = |forgetting: [f64; 3]| {
        let trials = [0, 1, 2].map(|seed| ("lora", seed, forgetting[seed as usize], 2.0));
        scored(&trials, 0.0, 3)
    };
    let baseline = of([0.1, 0.2, 0.3]);
    let forgetting = |run: &Scored| {
        let rows = rows(run, &baseline, &Policy::default());
        rows.into_iter().find(|row| row.metric == Metric::Forgetting).unwrap()
    };
    // Seeds are paired: those of the baseline lie farther apart than what each lost.
    let all = forgetting(&of([0.15, 0.251, 0.349]));
    assert_eq!((all.seeds, all.verdict), (3, Verdict::Fail), "{all:?}");
    assert!((all.worse_by - 0.05).abs() < 1e-9);
    // As much on the mean, but of one seed: Student's interval of [0.15, 0, 0], t = 4.303.
    let one = forgetting(&of([0.25, 0.2, 0.3]));
    assert!((one.worse_by - 0.05).abs() < 1e-9 && one.verdict == Verdict::Inconclusive, "{one:?}");
    let interval = one.interval.unwrap();
    let half = 4.302_653 * 0.15 / 3.0;
    assert!((interval.high - 0.05 - half).abs() < 1e-5, "{interval:?}");
    assert!((interval.low - 0.05 + half).abs() < 1e-5, "{interval:?}");
}

#[test]
fn a_trial_that_failed_fails_the_check_and_needs_no_scores() {
    let baseline = scored(&BOTH, 0.01, 3);
    let mut run = baseline.clone();
    run.trials.remove(0);
    run.failures.push(Failure { trial: "lora-s0".to_owned(), error: "diverged".to_owned() });
    let result = check(&run, Some(&baseline), &Policy::default()).unwrap();
    assert_eq!((result.verdict, result.rows.len()), (Verdict::Fail, 2));
}

#[test]
fn few_documents_are_inconclusive_and_other_documents_are_refused() {
    let run = scored(&BOTH, 0.01, 3);
    let rows = rows(&run, &run, &policy("minimum_documents: 41"));
    assert_eq!(rows[0].verdict, Verdict::Inconclusive);
    assert_eq!(rows[0].note.as_deref(), Some("40 documents, at least 41 are needed"));
    assert_eq!(rows[0].interval, None);

    let mut other = run.clone();
    other.base.documents.original["text/a"].ids[7] = "other".to_owned();
    let error = refused(&other, &run, &Policy::default());
    assert!(error.contains("text/a: document 7 is `other` of 100 bytes, expected `d7`"), "{error}");
}

#[test]
fn scores_that_are_no_numbers_are_refused_by_their_place() {
    let baseline = scored(&BOTH, 0.01, 3);
    let mut run = baseline.clone();
    run.trials[0].nats.original["text/a"][5] = f64::NAN;
    let error = refused(&run, &baseline, &Policy::default());
    assert!(error.contains("lora / forgetting / text/a: numerator 5 is NaN"), "{error}");
}

#[test]
fn documents_without_text_have_no_say() {
    let mut run = scored(&BOTH, 0.01, 3);
    run.base.documents.original["text/a"].bytes[3] = 0;
    let rows = rows(&run, &run, &Policy::default());
    assert_eq!(rows[0].documents, DOCUMENTS - 1);
    assert_eq!(rows[0].verdict, Verdict::Pass);
}

#[test]
fn a_margin_that_means_nothing_is_refused() {
    let forgot_nothing = scored(&[("lora", 0, -0.1, 2.0)], 0.0, 3);
    let relative = policy("margins: { forgetting.bits_per_byte: 5% }");
    let error = refused(&forgot_nothing, &forgot_nothing, &relative);
    assert!(
        error.contains("5% of the baseline's -0.1000") && error.contains("give a number"),
        "{error}"
    );

    let run = scored(&BOTH, 0.01, 3);
    let noise = Noise {
        seeds: Some(1),
        runs: 6,
        environments: Vec::new(),
        deviations: [("lora / forgetting / text/a".to_owned(), 0.02)].into(),
    };
    let noisy = Policy { noise: Some(noise), ..Policy::default() };
    let error = refused(&run, &run, &noisy);
    // √2 · 2.571 · 0.02.
    assert!(error.contains("0.0100 is below what two runs of the same differ by"), "{error}");
    assert!(error.contains("expected at least 0.0727"), "{error}");
    let nothing = check(&run, Some(&run), &policy("margins: {}")).unwrap_err().to_string();
    assert!(nothing.contains("nothing to check"), "{nothing}");
}

/// 5 % of what a control learns of a language that it does not read would be no margin, or one that nothing meets.
#[test]
fn what_a_control_learns_is_not_checked_and_that_is_told() {
    let mut run = scored(&[("lora", 0, 0.1, 2.0), ("English alone", 0, 0.0, -0.001)], 0.01, 3);
    let error = refused(&run, &run, &Policy::default());
    assert!(error.contains("5% of the baseline's") && error.contains("English alone"), "{error}");
    run.trials[1].is_control = true;
    let checked = check(&run, Some(&run), &Policy::default()).unwrap();
    let rows = |trial: &str| checked.rows.iter().filter(|row| row.trial == trial).count();
    assert_eq!((rows("lora"), rows("English alone")), (2, 1));
    assert_eq!(checked.unchecked, ["what English alone learns, a control without new text"]);
}

#[test]
fn runs_of_other_numbers_of_seeds_say_nothing_of_noise() {
    let runs = [&BOTH[..1], &[("lora", 0, 0.1, 2.0), ("lora", 1, 0.1, 2.0)]];
    let runs = runs.map(|trials| scored(trials, 0.01, 3));
    let error = calibrate(&runs).unwrap_err().to_string();
    assert!(error.contains("runs of 1 and of 2 seeds"), "{error}");
}

#[test]
fn a_budget_picks_the_trial_that_learns_most_or_says_that_none_does() {
    let run = scored(
        &[("timid", 0, 0.0, 1.2), ("right", 0, 0.05, 2.0), ("greedy", 0, 0.4, 3.0)],
        0.01,
        3,
    );
    let budget = |learning: f64, forgetting: f64| {
        let text = format!(
            "budgets: [{{ name: b, learning_at_least: {learning}, forgetting_at_most: {forgetting} }}]"
        );
        let result = check(&run, None, &policy(&text)).unwrap();
        assert_eq!(result.verdict, result.budgets[0].verdict);
        (result.budgets[0].chosen.clone(), result.verdict)
    };
    assert_eq!(budget(1.0, 0.1), (Some("right".to_owned()), Verdict::Pass));
    assert_eq!(budget(1.0, 0.5), (Some("greedy".to_owned()), Verdict::Pass));
    assert_eq!(budget(2.5, 0.1), (None, Verdict::Fail));
    assert_eq!(budget(2.0, 0.1), (None, Verdict::Inconclusive));
}

#[test]
fn noise_is_the_deviation_between_runs_and_is_kept_beside_what_people_wrote() {
    let runs = [0.1, 0.2, 0.3].map(|forgetting| scored(&[("lora", 0, forgetting, 2.0)], 0.0, 3));
    let noise = calibrate(&runs).unwrap();
    assert_eq!((noise.runs, noise.environments.len()), (3, 1));
    assert!((noise.deviations["lora / forgetting / text/a"] - 0.1).abs() < 1e-12);
    assert!(noise.deviations["lora / learning / text/b"].abs() < 1e-12);
    let error = calibrate(&runs[..1]).unwrap_err().to_string();
    assert!(error.contains("1 run of 1 seed; at least 2"), "{error}");
    let seeds = [(0, 0.1), (1, 0.2), (2, 0.3)].map(|(seed, bits)| ("lora", seed, bits, 2.0));
    let of_seeds = calibrate(&[scored(&seeds, 0.0, 3)]).unwrap();
    assert!((of_seeds.deviations["lora / forgetting / text/a"] - 0.1).abs() < 1e-12);

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("policy.yaml");
    std::fs::write(&path, "# A word on why.\nlevel: 0.01\n").unwrap();
    for runs in [3, 5] {
        store_noise(&path, &Noise { runs, ..noise.clone() }).unwrap();
        let policy = Policy::read(&path).unwrap();
        assert_eq!((policy.level, policy.noise.unwrap().runs), (0.01, runs));
    }
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(
        text.starts_with("# A word on why.\n") && text.matches("noise:").count() == 1,
        "{text}"
    );
}

#[test]
fn noise_is_of_what_every_run_has_and_of_each_domain_by_itself() {
    let mut runs = [2, 3, 4].map(|n| answered(&[&|i| i % n != 0]));
    for run in &mut runs {
        run.base.tasks.new = run.base.tasks.original.clone();
        run.trials[0].tasks.new = run.base.tasks.original.clone();
    }
    let noise = calibrate(&runs).unwrap().deviations;
    assert!(noise["lora / forgetting accuracy / quiz"] > 0.1, "{noise:?}");
    let same = ["lora / learning accuracy / quiz", "base / accuracy / quiz"];
    assert_eq!(same.map(|key| noise[key]), [0.0, 0.0]);

    runs[1].trials[0].tasks.original.clear();
    runs[1].trials[0].nats.original.clear();
    let noise = calibrate(&runs).unwrap().deviations;
    let gone = ["lora / forgetting accuracy / quiz", "lora / forgetting / text/a"];
    assert!(gone.iter().all(|key| !noise.contains_key(*key)), "{noise:?}");
    assert_eq!(same.map(|key| noise[key]), [0.0, 0.0]);
}

#[test]
fn a_baseline_is_of_a_clean_tree_and_of_trials_that_finished() {
    let folder = tempfile::tempdir().unwrap();
    let (run, path) = (folder.path(), folder.path().join("baseline.json"));
    let clean = scored(&BOTH, 0.01, 3);
    let write = |change: fn(&mut Scored)| {
        let mut scored = clean.clone();
        change(&mut scored);
        write_baseline(run, &scored, &path).map_err(|error| error.to_string())
    };
    let dirty = write(|s| s.environment.git = Some("0123-dirty".to_owned())).unwrap_err();
    assert!(dirty.contains("0123-dirty") && dirty.contains("commit them"), "{dirty}");
    assert!(write(|s| s.environment.git = None).unwrap_err().contains("no known commit"));
    let failed = write(|s| {
        s.failures.push(Failure { trial: "a-s0".to_owned(), error: "diverged".to_owned() });
    });
    assert!(failed.unwrap_err().contains("trial a-s0 diverged"));
    assert!(!path.exists());

    write(|_| ()).unwrap();
    assert_eq!(read_baseline(&path).unwrap(), clean);
    let mut other: serde_json::Value = read_json(&path).unwrap();
    other["schema"] = 2.into();
    write_json(&path, &other).unwrap();
    assert!(matches!(read_baseline(&path), Err(CheckError::Schema { found: 2, .. })));
}
