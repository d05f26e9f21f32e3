//! Every shipped experiment parses, and its plan is the one on record.

use neutral_spec::{Experiment, TokenizerSpec, resolve};

use crate::command::root;

#[test]
fn every_shipped_experiment_has_the_plan_on_record() {
    let mut files: Vec<_> = std::fs::read_dir(root().join("experiments"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "yaml"))
        .collect();
    files.sort();
    assert!(files.len() >= 4, "{files:?}");
    for file in files {
        let experiment = Experiment::read(&file).unwrap_or_else(|e| panic!("{e}"));
        let stem = file.file_stem().unwrap().to_str().unwrap();
        assert_eq!(experiment.experiment, stem, "an experiment is called as its file");
        let vocab_size = match experiment.tokenizer {
            TokenizerSpec::Train { .. } => None,
            TokenizerSpec::Load { .. } => Some(49_152),
        };
        let plan = resolve(&experiment, vocab_size).unwrap_or_else(|e| panic!("{e}"));
        insta::assert_json_snapshot!(format!("plan-{stem}"), plan);
    }
}
