//! Every shipped experiment parses, and its plan is the one on record.

use std::fmt::Write;
use std::path::PathBuf;

use neutral_spec::{BaseSpec, Experiment, Loaded, Plan, Shape, TokenizerSpec, resolve};

use crate::command::{Sandbox, assert_code, root};

/// The experiments of a folder, by the names of their files, which they bear.
fn experiments(folder: &str) -> Vec<(String, Experiment)> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(root().join(folder))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "yaml"))
        .collect();
    files.sort();
    let read = |file: PathBuf| {
        let experiment = Experiment::read(&file).unwrap_or_else(|e| panic!("{e}"));
        let stem = file.file_stem().unwrap().to_str().unwrap().to_owned();
        assert_eq!(experiment.experiment, stem, "an experiment is called as its file");
        (stem, experiment)
    };
    files.into_iter().map(read).collect()
}

fn plan(experiment: &Experiment) -> Plan {
    let vocab_size = match experiment.tokenizer {
        TokenizerSpec::Train { .. } => None,
        TokenizerSpec::Load { .. } | TokenizerSpec::Base { .. } => Some(49_152),
    };
    // SmolLM2-135M, the one model that shipped experiments load.
    let shape = Shape {
        d_model: 576,
        n_layers: 30,
        n_heads: 9,
        n_kv_heads: 3,
        d_ff: 1536,
        tie_embeddings: true,
        rope_theta: 1e5,
        norm_epsilon: 1e-5,
    };
    let loads = matches!(experiment.base, BaseSpec::Load { .. });
    let base = loads.then(|| shape.size(49_152));
    resolve(experiment, Loaded { vocab_size, base }).unwrap_or_else(|e| panic!("{e}"))
}

#[test]
fn every_shipped_experiment_has_the_plan_on_record() {
    let all = experiments("experiments");
    assert!(all.len() >= 4, "{}", all.len());
    for (stem, experiment) in all {
        insta::assert_json_snapshot!(format!("plan-{stem}"), plan(&experiment));
    }
}

/// The trials are many: of each, what tells it from the others, and the fingerprint of the rest.
#[test]
fn every_experiment_of_a_folder_has_the_plan_on_record_and_the_one_base() {
    for (folder, base) in [("paper", "base"), ("quick", "quick-ablations")] {
        let all = experiments(&format!("experiments/{folder}"));
        let (_, base) = all.iter().find(|(stem, _)| stem == base).unwrap();
        for (stem, experiment) in &all {
            assert_eq!(experiment.tokenizer, base.tokenizer, "{stem}");
            assert_eq!(experiment.base, base.base, "{stem}");
            assert_eq!(experiment.precision, base.precision, "{stem}");
            let plan = plan(experiment);
            let mut list = format!("{}\n", plan.question);
            for trial in &plan.trials {
                let (units, weights) = (trial.size.units, trial.size.extension_parameters);
                let fingerprint = trial.fingerprint();
                writeln!(list, "{} {units} {weights} {fingerprint}", trial.id).unwrap();
            }
            insta::assert_snapshot!(format!("plan-{folder}-{stem}"), list);
        }
    }
}

#[test]
fn every_corpus_has_its_perplexity_as_a_task() {
    let manifests = root().join("data-manifests");
    let arguments = ["data", "--manifests", manifests.to_str().unwrap()];
    let output = Sandbox::new().neutral(&arguments).output().unwrap();
    assert_code(&output, 0);
    let listed = String::from_utf8(output.stdout).unwrap();
    let corpora: Vec<&str> = listed.lines().filter_map(|line| line.split(' ').next()).collect();
    assert!(corpora.contains(&"libreoffice-help/fr"), "{corpora:?}");
    for corpus in corpora {
        let task = format!("corpus_{}", corpus.replace(['/', '-'], "_"));
        let file = root().join(format!("experiments/tasks/corpora/{task}.yaml"));
        let text = std::fs::read_to_string(&file).unwrap_or_else(|e| panic!("{corpus}: {e}"));
        assert_eq!(text, format!("include: _corpus\ntask: {task}\ndataset_name: {corpus}\n"));
    }
}
