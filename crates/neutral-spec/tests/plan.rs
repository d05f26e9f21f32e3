//! What an experiment means: the plan of `quick.yaml`, and how sweeps, seeds and budgets make trials.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;

use neutral_spec::{
    BaseSpec, Experiment, Loaded, MixedCorpus, Plan, extension_size, resolve, training_cost,
};

const QUICK: &str = include_str!("quick.yaml");

fn plan(text: &str) -> Plan {
    let experiment = Experiment::from_yaml(text, Path::new("quick.yaml")).expect("valid");
    resolve(&experiment, Loaded::default()).expect("solvable")
}

/// `quick.yaml` with other methods.
fn text_with_methods(methods: &str) -> String {
    let (head, rest) = QUICK.split_once("methods:\n").expect("methods");
    let (_, tail) = rest.split_once("\nevaluation:").expect("evaluation");
    format!("{head}methods:\n{methods}\nevaluation:{tail}")
}

fn with_methods(methods: &str) -> Plan {
    plan(&text_with_methods(methods))
}

fn ids(plan: &Plan) -> Vec<&str> {
    plan.trials.iter().map(|t| t.id.as_str()).collect()
}

fn vocabulary(size: usize) -> Loaded {
    Loaded { vocab_size: Some(size), ..Loaded::default() }
}

#[test]
fn the_plan_of_quick() {
    let plan = plan(QUICK);
    let BaseSpec::Pretrain { shape, .. } = &plan.base else { panic!("a base to pretrain") };
    let mut text = format!("base: {} weights\n\n", shape.size(4096).parameters);
    for t in &plan.trials {
        let cost = training_cost(
            &shape.size(4096),
            Some(&t.method),
            t.size,
            &t.training,
            t.data.original_fraction,
            plan.precision,
        );
        writeln!(
            text,
            "{}: units {}, extension {}, trainable {}, {:.2e} operations, {} MB",
            t.id,
            t.size.units,
            t.size.extension_parameters,
            t.size.trainable_parameters,
            cost.flops,
            cost.memory_bytes / 1_000_000
        )
        .unwrap();
    }
    insta::assert_snapshot!("quick_trials", text);
    insta::assert_json_snapshot!("quick_last_trial", plan.trials.last().unwrap());
}

#[test]
fn where_trials_run_is_no_part_of_what_they_are() {
    let at = |executor: &str| plan(&format!("{QUICK}\nexecutor: {executor}\n"));
    let slurm = "{ kind: slurm, partition: gpu, time: \"12:00:00\", gres: \"gpu:1\", max_parallel: 8, sbatch: [--constraint=a100] }";
    for executor in ["{ kind: local, jobs: 4 }", slurm] {
        assert_eq!(at(executor), plan(QUICK), "{executor}");
    }
}

#[test]
fn trials_are_distinct_and_their_names_are_stable() {
    let plan = plan(QUICK);
    let trials = 2 * (1 + 1 + 1 + 4);
    let fingerprints: BTreeSet<_> =
        plan.trials.iter().map(neutral_spec::Trial::fingerprint).collect();
    assert_eq!((ids(&plan).len(), fingerprints.len()), (trials, trials));
    assert_eq!(ids(&plan).iter().collect::<BTreeSet<_>>().len(), trials);
    let renamed = self::plan(&QUICK.replace("experiment: quick", "experiment: other"));
    assert_eq!((ids(&plan), plan.fingerprint()), (ids(&renamed), renamed.fingerprint()));
    let changed = self::plan(&QUICK.replace("20%", "21%"));
    assert_eq!(ids(&plan), ids(&changed));
    assert_ne!(plan.fingerprint(), changed.fingerprint());
}

#[test]
fn a_common_grid_is_outermost_and_a_zip_goes_in_step() {
    let plan = with_methods(
        "  - label: A b
    method: { kind: adapter, budget: 20% }
    sweep: { zip: { training.tokens: [10_000, 20_000], training.batch_size: [1, 2] } }
sweep: { grid: { data.original_fraction: [0.1, 0.5] } }
",
    );
    let expected: Vec<_> = [
        "a-b-original-fraction-0.1-batch-size-1-tokens-10000",
        "a-b-original-fraction-0.1-batch-size-2-tokens-20000",
        "a-b-original-fraction-0.5-batch-size-1-tokens-10000",
        "a-b-original-fraction-0.5-batch-size-2-tokens-20000",
    ]
    .iter()
    .flat_map(|id| [format!("{id}-s0"), format!("{id}-s1")])
    .collect();
    assert_eq!(ids(&plan), expected);
    let last = plan.trials.last().unwrap();
    assert_eq!((last.training.tokens, last.training.batch_size), (20_000, 2));
    assert!((last.data.original_fraction - 0.5).abs() < 1e-12);
    let keys: Vec<_> = last.varied.iter().map(|(key, _)| key.as_str()).collect();
    assert_eq!(keys, ["data.original_fraction", "training.batch_size", "training.tokens"]);
}

#[test]
fn what_is_absent_by_default_and_what_is_a_whole_can_be_swept() {
    let plan = with_methods(
        "  - method: { kind: lora, budget: 20% }
    sweep: { grid: { method.lora_alpha: [16], training.micro_batch_size: [4] } }
  - method: { kind: neutral_residues, budget: 20% }
    sweep:
      grid:
        method.local_loss: [{ kind: l1, weight: 1 }, { kind: none }]
        method.budget: [5%, 20%]
        training.schedule:
          - { kind: warmup_stable_decay, warmup_fraction: 0.1, decay_fraction: 0.2, final_fraction: 0 }
",
    );
    let sizes: BTreeSet<_> = plan.trials[2..].iter().map(|t| t.size.units).collect();
    assert_eq!((plan.trials.len(), sizes.len()), (2 + 8, 2));
    assert_eq!(plan.trials[0].id, "lora-lora-alpha-16-micro-batch-size-4-s0");
    // What is too long for a folder's name is cut, and stays distinct.
    let long = &plan.trials[9].id;
    assert!(long.starts_with("neutral-residues-budget-20-local-loss-none-schedule-"), "{long}");
    assert!(long.ends_with("-s1") && long.len() <= 120, "{long}");
    assert_eq!(ids(&plan).iter().collect::<BTreeSet<_>>().len(), 10);
}

#[test]
fn seeds_of_a_trial_have_one_name_however_long_it_is_and_whatever_else_has_it() {
    // The first label's ids have 120 bytes with seed 9, and more with 10.
    let long = "x".repeat(117);
    let text = text_with_methods(&format!(
        "  - {{ label: {long}, method: {{ kind: finetune }} }}
  - {{ label: {long}{long}, method: {{ kind: finetune }} }}
  - {{ label: a, method: {{ kind: finetune }}, sweep: {{ grid: {{ training.batch_size: [1, 2] }} }} }}
  - {{ label: a batch size 1, method: {{ kind: finetune }} }}
"
    ));
    let plan = plan(&text.replace("seeds: [0, 1]", "seeds: [9, 10]"));
    let name = |id: &str| id.rsplit_once("-s").unwrap().0.to_owned();
    let names: Vec<_> = plan.trials.iter().map(|trial| name(&trial.id)).collect();
    assert!(names.chunks(2).all(|seeds| seeds[0] == seeds[1]), "{names:?}");
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), 5, "{names:?}");
}

#[test]
fn a_control_reads_original_text_alone_and_changes_no_other_trial() {
    let control = "methods:
  - label: English alone
    method: { kind: finetune }
    training: { learning_rate: 5.0e-4 }
    data: { original_fraction: 1 }
";
    let with = plan(&QUICK.replace("methods:\n", &format!("control: English alone\n{control}")));
    let [trials @ .., _] = &with.trials[..3] else { panic!("two seeds and more") };
    assert_eq!(with.control.as_deref(), Some("English alone"));
    assert!(trials.iter().all(|t| t.label == "English alone" && t.id.starts_with("english-alone")));
    assert!(trials.iter().all(|t| t.data.original_fraction >= 1.0 && !t.data.new.is_empty()));
    assert_eq!(with.trials[2..], plan(QUICK).trials);

    let without = plan(&QUICK.replace("methods:\n", control));
    assert_eq!((with.trials.clone(), without.control.clone()), (without.trials.clone(), None));
    assert_eq!(with.fingerprint(), without.fingerprint());
}

#[test]
fn a_trial_goes_on_from_that_of_its_seed_and_is_known_by_what_it_stands_on() {
    let sequence = |rate: &str| {
        with_methods(&format!(
            "  - method: {{ kind: adapter, budget: 20% }}
    training: {{ learning_rate: {rate} }}
  - label: then German
    after: adapter
    method: {{ kind: neutral_residues, budget: 20% }}
    data: {{ new: [libreoffice-help/de] }}
    sweep: {{ grid: {{ training.learning_rate: [1.0e-3, 2.0e-3] }} }}
  - label: then a task
    after: adapter
    method: {{ kind: finetune }}
"
        ))
    };
    let plan = sequence("1.0e-3");
    let stands_on = |id: &str| plan.trial(id).unwrap().after.as_ref().map(|a| a.trial.as_str());
    assert_eq!(stands_on("adapter-s1"), None);
    assert_eq!(stands_on("then-german-learning-rate-0.002-s1"), Some("adapter-s1"));
    assert_eq!(stands_on("then-a-task-s0"), Some("adapter-s0"));
    let german = plan.trial("then-german-learning-rate-0.001-s0").unwrap();
    assert_eq!(german.data.new[0].to_string(), "libreoffice-help/de");
    assert!(plan.corpora().contains(german.data.new[0].corpus()));
    // What stands below is a part of what a trial is.
    let other = sequence("2.0e-3");
    let other = other.trial(&german.id).unwrap();
    assert_eq!((german.training.clone(), german.seed), (other.training.clone(), other.seed));
    assert_ne!(german.fingerprint(), other.fingerprint());
}

#[test]
fn a_sweep_may_pass_through_all_original_text() {
    let plan = with_methods(
        "  - method: { kind: adapter, budget: 20% }
    sweep: { grid: { data.original_fraction: [0, 0.5, 1] } }
",
    );
    let mut ids = ids(&plan).into_iter().step_by(2);
    assert_eq!(ids.next_back(), Some("adapter-original-fraction-1-s0"));
}

#[test]
fn a_tokenizer_to_load_brings_its_vocabulary() {
    let text = QUICK.replace(
        "  kind: train\n  vocab_size: 4096\n  corpora: [libreoffice-help/en]",
        "  kind: load\n  path: tokenizer.json",
    );
    let experiment = Experiment::from_yaml(&text, Path::new("quick.yaml")).unwrap();
    assert!(resolve(&experiment, Loaded::default()).is_err());
    let plan = resolve(&experiment, vocabulary(1000)).unwrap();
    let BaseSpec::Pretrain { shape, .. } = &plan.base else { panic!("a base to pretrain") };
    let lora = &plan.trials[2];
    assert_eq!(lora.size, extension_size(&lora.method, &shape.size(1000)).unwrap());

    // A budget that the vocabulary makes too small gets its line afterwards.
    let text = text.replace("kind: adapter, budget: 20%", "kind: adapter, budget: 0.01%");
    let experiment = Experiment::from_yaml(&text, Path::new("quick.yaml")).unwrap();
    let error = resolve(&experiment, vocabulary(1000)).unwrap_err();
    assert!(error.to_string().starts_with("methods[2].method.budget: 0.01% of"), "{error}");
    let error = error.located(Path::new("quick.yaml"), &text).to_string();
    assert!(error.starts_with("quick.yaml:38: methods[2].method.budget: 0.01% of"), "{error}");
}

#[test]
fn a_plan_lists_its_corpora_once() {
    let corpora: Vec<_> = plan(QUICK).corpora().iter().map(ToString::to_string).collect();
    assert_eq!(corpora, ["janeausten/en", "libreoffice-help/en", "libreoffice-help/fr"]);
}

#[test]
fn the_example_of_the_readme_is_an_experiment() {
    let readme = include_str!("../README.md");
    let (_, rest) = readme.split_once("```yaml\n").unwrap();
    let (yaml, _) = rest.split_once("```").unwrap();
    assert!(plan(yaml).trials.len() > 10);

    // The mix that docs/corpora.md shows, in its place.
    let page = include_str!("../../../docs/corpora.md");
    let (_, rest) = page.split_once("```yaml\ndata:\n").unwrap();
    let (data, _) = rest.split_once("```").unwrap();
    let (head, rest) = yaml.split_once("data:\n").unwrap();
    let (_, tail) = rest.split_once("\n\n").unwrap();
    let mixed = plan(&format!("{head}data:\n{data}\n{tail}"));
    assert_eq!(MixedCorpus::weights(&mixed.trials[0].data.new), [3.0, 1.0]);
}
