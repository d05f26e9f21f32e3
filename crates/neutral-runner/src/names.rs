//! The names in an experiment that files of their own explain: corpora and tasks, looked up before anything is
//! fetched or trained.

use std::path::Path;

use neutral_data::Manifests;
use neutral_spec::{CorpusRef, Experiment, SpecError, TasksSpec, nearest};

use crate::tasks;

/// A name, and what is wrong with it.
type Wrong = (String, String);

/// Fails with every place of the file that names what is not there.
pub(crate) fn check(
    experiment: &Experiment,
    manifests: &Manifests,
    file: &Path,
    text: &str,
) -> anyhow::Result<()> {
    let corpora = neutral_spec::corpora(experiment).map_err(|e| e.located(file, text))?;
    let mut wrong = unknown_corpora(&corpora, manifests);
    let instead = experiment.if_unavailable.as_ref();
    let instead = instead
        .map_or(String::new(), |file| format!("; `{file}` asks the same question of other text"));
    wrong.extend(corpora.iter().filter_map(|corpus| {
        let path = manifests.missing(corpus)?;
        let message = format!(
            "the text of `{corpus}` is not there: no {}; put it there, or correct `path` in its manifest{instead}",
            path.display()
        );
        Some((corpus.to_string(), message))
    }));
    if let Some(spec) = &experiment.evaluation.tasks {
        let here = file.parent().unwrap_or(Path::new("."));
        wrong.extend(unknown_tasks(spec, here, text)?);
    }
    if wrong.is_empty() { Ok(()) } else { Err(SpecError::of_names(&wrong, file, text).into()) }
}

fn unknown_corpora(corpora: &[CorpusRef], manifests: &Manifests) -> Vec<Wrong> {
    let known = manifests.names();
    let names = corpora.iter().map(ToString::to_string);
    let unknown = names.filter(|name| !known.contains(name));
    let explained = unknown.map(|name| {
        let hint = match nearest(&name, known.iter().map(String::as_str)) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("there are: {}", known.join(", ")),
        };
        let message = format!("unknown corpus `{name}`; {hint}");
        (name, message)
    });
    explained.collect()
}

fn unknown_tasks(spec: &TasksSpec, here: &Path, text: &str) -> anyhow::Result<Vec<Wrong>> {
    // The folder that is taken where none is named stands nowhere in the file, but the tasks in it do.
    let first =
        spec.original.iter().chain(&spec.new).next().filter(|_| !text.contains("include_path"));
    let absent: Vec<_> = spec
        .include_path
        .iter()
        .filter(|folder| !here.join(folder).is_dir())
        .map(|folder| (first.unwrap_or(folder).clone(), no_folder(&here.join(folder))))
        .collect();
    if !absent.is_empty() {
        return Ok(absent);
    }
    let library = tasks::library(spec, here)?;
    let names = spec.original.iter().chain(&spec.new);
    let unknown = names.filter_map(|name| Some((name.clone(), library.missing(name)?)));
    Ok(unknown.map(|(name, found)| (name.clone(), format!("`{name}` {found}"))).collect())
}

fn no_folder(folder: &Path) -> String {
    format!("there is no folder {} of task files; name theirs in `include_path`", folder.display())
}
