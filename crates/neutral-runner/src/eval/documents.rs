//! The documents of a task's data set: files of its own, or a corpus of the manifests.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use neutral_data::{Control, DatasetSource, Manifests, Split, fetch_dataset, prepare};
use neutral_spec::CorpusRef;
use neutral_store::{Cache, StoreError};
use neutral_tasks::{HubDataset, RequestOptions, Splits, Task, TaskError, Value};

use crate::exit::BadInput;
use crate::inputs;

/// `dataset_path` of tasks on a corpus of the manifests, which `dataset_name` names.
const MANIFESTS: &str = "data-manifests";

/// Where documents are looked for.
pub(crate) struct Sources<'a> {
    /// Names of files are relative to it, as in the harness, or to the task's own folder.
    pub here: &'a Path,
    /// The folders of corpus manifests, if any was named.
    pub manifests: &'a [PathBuf],
    pub cache: &'a Cache,
    pub control: &'a Control,
}

impl Sources<'_> {
    /// The splits that a task reads; of files on disk perhaps others.
    pub(crate) fn splits(&self, task: &Task, requests: &RequestOptions) -> anyhow::Result<Splits> {
        let dataset = task.dataset();
        if dataset.is_local() {
            return self.files(task);
        }
        if dataset.path == MANIFESTS {
            self.corpus(task, &task.splits(requests)?)
        } else {
            self.hub(task, requests)
        }
    }

    /// Files on disk: where the harness looks for them, else beside the task.
    fn files(&self, task: &Task) -> anyhow::Result<Splits> {
        let is_missing = |error: &TaskError| matches!(error, TaskError::Store(StoreError::Io { cause, .. }) if cause.kind() == ErrorKind::NotFound);
        let beside = task.path().parent().unwrap_or(Path::new(""));
        match task.dataset().load(self.here) {
            Err(error) if is_missing(&error) => task.dataset().load(beside).map_err(|other| {
                if !is_missing(&other) {
                    return other.into();
                }
                let (name, beside) = (task.name(), beside.display());
                anyhow::Error::new(error).context(format!("{name}: nor is it in {beside}"))
            }),
            loaded => Ok(loaded?),
        }
    }

    /// A corpus's splits; only those that are wanted are read, training text above all is long.
    fn corpus(&self, task: &Task, wanted: &[&str]) -> anyhow::Result<Splits> {
        let wrong = |found: String| BadInput(format!("{}: dataset_name {found}", task.name()));
        let Some(name) = &task.dataset().name else {
            return Err(wrong("is missing; it names a corpus".to_owned()).into());
        };
        let corpus = CorpusRef::try_from(name.clone()).map_err(|e| wrong(format!("is {e}")))?;
        let manifests: Manifests = inputs::manifests(self.manifests, self.here)?;
        let corpus = prepare(&corpus, &manifests, self.cache, self.control)?;
        let mut splits = Splits::new();
        for split in Split::ALL {
            let documents = splits.entry(split.name().to_owned()).or_default();
            if !wanted.contains(&split.name()) {
                continue;
            }
            for document in corpus.documents(split)? {
                let document = document?;
                let columns = [("id", document.id), ("text", document.text)];
                let column = |(name, text): (&str, String)| (name.to_owned(), Value::Text(text));
                documents.push(columns.into_iter().map(column).collect());
            }
        }
        Ok(splits)
    }

    /// The splits that a task reads, of a data set on the hub.
    fn hub(&self, task: &Task, requests: &RequestOptions) -> anyhow::Result<Splits> {
        let dataset = task.dataset();
        let Some(HubDataset { repo, name, revision, files }) = dataset.hub() else {
            let message = format!("{}: {} is no data set of the hub", task.name(), dataset.path);
            return Err(BadInput(message).into());
        };
        let splits = task.splits(requests)?.into_iter().map(str::to_owned).collect();
        let files = files.into_iter().collect();
        let source = DatasetSource { repo, config: name, revision, files, splits };
        let fetched = fetch_dataset(&source, self.cache, self.control)
            .with_context(|| format!("the documents of {}", task.name()))?;
        tracing::info!("{}: {}", task.name(), fetched.version);
        Ok(dataset.read_files(&fetched.splits.into_iter().collect())?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use neutral_tasks::Library;

    #[test]
    fn files_lie_in_the_working_folder_or_beside_the_task() {
        let (tasks, here) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let task = "task: mine\ndataset_path: json\ndataset_kwargs: {data_files: {test: d.jsonl}}\n\
            test_split: test\noutput_type: multiple_choice\ndoc_to_text: q\ndoc_to_choice: [x, y]\n\
            doc_to_target: a\nmetric_list: [{metric: acc}]\n";
        std::fs::write(tasks.path().join("mine.yaml"), task).unwrap();
        let library = Library::open(&[tasks.path().to_path_buf()]).unwrap();
        let selection = library.select(&["mine"]).unwrap();
        let task = &selection.tasks["mine"];
        let (cache, control) = (Cache::at(here.path().join("cache")), Control::default());
        let sources =
            Sources { here: here.path(), manifests: &[], cache: &cache, control: &control };
        let count = || sources.files(task).map(|splits| splits["test"].len());

        let error = format!("{:#}", count().unwrap_err());
        let (first, second) = (here.path().display(), tasks.path().display());
        assert!(error.contains(&format!("nor is it in {second}: cannot")), "{error}");
        assert!(error.contains(&format!("{first}/d.jsonl")), "{error}");
        let row = "{\"q\": \"?\", \"a\": 0}\n";
        std::fs::write(tasks.path().join("d.jsonl"), row).unwrap();
        assert_eq!(count().unwrap(), 1);
        std::fs::write(here.path().join("d.jsonl"), row.repeat(2)).unwrap();
        assert_eq!(count().unwrap(), 2);
    }
}
