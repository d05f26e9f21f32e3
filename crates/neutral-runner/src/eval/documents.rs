//! The documents of a task's data set: files of its own, or a corpus of the manifests.

use std::path::Path;

use neutral_data::{Control, Manifests, Split, prepare};
use neutral_spec::CorpusRef;
use neutral_store::Cache;
use neutral_tasks::{Splits, Task, Value};

use crate::exit::BadInput;
use crate::inputs;

/// `dataset_path` of tasks on a corpus of the manifests, which `dataset_name` names.
const MANIFESTS: &str = "data-manifests";

/// Where documents are looked for.
pub(crate) struct Sources<'a> {
    /// Names of files are relative to it, as in the harness.
    pub here: &'a Path,
    /// The folder of corpus manifests, if it was named.
    pub manifests: Option<&'a Path>,
    pub cache: &'a Cache,
    pub control: &'a Control,
}

impl Sources<'_> {
    /// All splits of a task.
    pub(crate) fn splits(&self, task: &Task) -> anyhow::Result<Splits> {
        let dataset = task.dataset();
        if dataset.is_local() {
            return Ok(dataset.load(self.here)?);
        }
        if dataset.path != MANIFESTS {
            let message = format!(
                "{}: dataset_path is {}, which is on the hub; get its files and name them: dataset_path: parquet, dataset_kwargs: {{data_files: {{…}}}}",
                task.name(),
                dataset.path
            );
            return Err(BadInput(message).into());
        }
        let corpus = match &dataset.name {
            Some(name) => CorpusRef::try_from(name.clone())
                .map_err(|e| BadInput(format!("{}: dataset_name: {e}", task.name())))?,
            None => {
                let message =
                    format!("{}: dataset_name is missing; it names a corpus", task.name());
                return Err(BadInput(message).into());
            }
        };
        let manifests: Manifests = inputs::manifests(self.manifests, self.here)?;
        let corpus = prepare(&corpus, &manifests, self.cache, self.control)?;
        let mut splits = Splits::new();
        for split in Split::ALL {
            let mut documents = Vec::new();
            for document in corpus.documents(split)? {
                let document = document?;
                let columns = [("id", document.id), ("text", document.text)];
                let column = |(name, text): (&str, String)| (name.to_owned(), Value::Text(text));
                documents.push(columns.into_iter().map(column).collect());
            }
            splits.insert(split.name().to_owned(), documents);
        }
        Ok(splits)
    }
}
