//! Folders of task files, and what a name in them stands for.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use indexmap::IndexMap;
use neutral_store::StoreError;

use crate::TaskError;
use crate::config::Task;
use crate::group::{Group, Member};
use crate::value::Value;
use crate::yaml::{self, Keys, Node};

/// How many names are offered for one that is not known.
const NEAREST: usize = 8;

/// What a name stands for.
#[derive(Clone, Debug)]
enum Entry {
    Task(PathBuf),
    Group(PathBuf),
    /// Tasks, by name.
    Tag(BTreeSet<String>),
}

/// The tasks, groups and tags of some folders, by name.
#[derive(Debug, Default)]
pub struct Library {
    entries: IndexMap<String, Entry>,
    /// Files that could not be read, which only matters if somebody wants what is in them.
    broken: Vec<TaskError>,
}

/// Folders that the harness leaves out: copies that Python and Jupyter keep.
const LEFT_OUT: [&str; 2] = ["__pycache__", ".ipynb_checkpoints"];

/// Names of tasks and groups, with the tasks below each.
type Children = IndexMap<String, Vec<String>>;

/// Tasks and groups that were asked for.
#[derive(Debug, Default)]
pub struct Selection {
    /// Tasks by name, each once.
    pub tasks: IndexMap<String, Task>,
    /// Groups by name, with the names of all tasks below, one that is in several subgroups as often; members
    /// come before what they belong to.
    pub groups: IndexMap<String, (Group, Vec<String>)>,
}

impl Selection {
    /// Refuses a task that is there already with other keys: results by name would be of either.
    fn keep(&mut self, name: &str, task: Task) -> Result<(), TaskError> {
        if self.tasks.get(name).is_some_and(|before| before.config() != task.config()) {
            let found = "is asked for twice, with other keys; ask for one of the two".to_owned();
            let path = task.path().to_path_buf();
            return Err(TaskError::Config { path, field: name.to_owned(), found });
        }
        self.tasks.insert(name.to_owned(), task);
        Ok(())
    }
}

impl Library {
    /// Reads the `.yaml` files below the folders. Of two entries of a name the first one of a folder
    /// counts, and the later folder.
    ///
    /// # Errors
    /// If a folder cannot be read; task files that cannot are kept in [`Library::broken`].
    pub fn open(folders: &[PathBuf]) -> Result<Self, TaskError> {
        let mut library = Self::default();
        for folder in folders {
            let mut files = Vec::new();
            find(folder, &mut files)?;
            files.sort();
            let mut here: IndexMap<String, Entry> = IndexMap::new();
            for file in files {
                match yaml::load(&file) {
                    Ok(map) => register(&mut here, &file, &map),
                    Err(error) => library.broken.push(error),
                }
            }
            library.entries.extend(here);
        }
        Ok(library)
    }

    /// The names of all tasks, groups and tags.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// The names of all tasks.
    pub fn tasks(&self) -> impl Iterator<Item = &str> {
        let tasks = self.entries.iter().filter(|(_, entry)| matches!(entry, Entry::Task(_)));
        tasks.map(|(name, _)| name.as_str())
    }

    /// What is wrong with a name, if it is not known.
    pub fn missing(&self, name: &str) -> Option<String> {
        (!self.entries.contains_key(name)).then(|| self.unknown(name))
    }

    /// Files that could not be read.
    pub fn broken(&self) -> &[TaskError] {
        &self.broken
    }

    /// The tasks and groups that names stand for.
    ///
    /// # Errors
    /// If a name is not known, its file not understood, or a task comes twice with other keys.
    pub fn select(&self, names: &[&str]) -> Result<Selection, TaskError> {
        let mut selection = Selection::default();
        for name in names {
            self.add(name, &Keys::new(), &mut selection, &mut Vec::new())?;
        }
        Ok(selection)
    }

    /// Adds what a name stands for, with some of its tasks' keys changed; returns what was added: the task or
    /// group, or all tasks of a tag.
    fn add(
        &self,
        name: &str,
        changed: &Keys,
        selection: &mut Selection,
        above: &mut Vec<String>,
    ) -> Result<Children, TaskError> {
        match self.entries.get(name) {
            None => Err(TaskError::Config {
                path: PathBuf::from("tasks"),
                field: name.to_owned(),
                found: self.unknown(name),
            }),
            Some(Entry::Task(path)) => {
                let task = Task::read(path, with(yaml::load(path)?, changed))?;
                selection.keep(name, task)?;
                Ok(Children::from([(name.to_owned(), vec![name.to_owned()])]))
            }
            Some(Entry::Tag(tasks)) => {
                let mut added = Children::new();
                for task in tasks {
                    added.extend(self.add(task, changed, selection, above)?);
                }
                Ok(added)
            }
            Some(Entry::Group(path)) => {
                self.add_group(path, yaml::load(path)?, changed, selection, above)
            }
        }
    }

    /// Adds a group of a file, or one that another group lists.
    fn add_group(
        &self,
        path: &Path,
        map: Keys,
        changed: &Keys,
        selection: &mut Selection,
        above: &mut Vec<String>,
    ) -> Result<Children, TaskError> {
        let (mut group, members, own) = Group::read(path, map)?;
        let changed = with(own, changed);
        let wrong = |found: String| {
            let field = "task".to_owned();
            TaskError::Config { path: path.to_path_buf(), field, found }
        };
        if above.contains(&group.name) {
            return Err(wrong(format!("leads from the group {} back to it", group.name)));
        }
        above.push(group.name.clone());
        let mut children = Children::new();
        for Member { name, mut keys, is_group } in members {
            let known = self.entries.contains_key(&name);
            let within = format!("{}::{name}", group.name);
            let added = if is_group && !known {
                keys.insert("group".to_owned(), Node::Plain(Value::Text(within)));
                self.add_group(path, keys, &changed, selection, above)?
            } else if known || keys.is_empty() {
                keys.shift_remove("group");
                self.add(&name, &with(changed.clone(), &keys), selection, above)?
            } else {
                let mut keys = with(changed.clone(), &keys);
                keys.insert("task".to_owned(), Node::Plain(Value::Text(within.clone())));
                selection.keep(&within, Task::read(path, keys)?)?;
                Children::from([(within.clone(), vec![within])])
            };
            // What is listed twice counts once.
            for (child, tasks) in added {
                if children.get(&child).is_some_and(|before| *before != tasks) {
                    return Err(wrong(format!("lists {child} twice, with other tasks")));
                }
                children.insert(child, tasks);
            }
        }
        above.pop();
        let below: Vec<String> = children.values().flatten().cloned().collect();
        group.members = children.into_keys().collect();
        let name = group.name.clone();
        selection.groups.insert(name.clone(), (group, below.clone()));
        Ok(Children::from([(name, below)]))
    }

    fn unknown(&self, name: &str) -> String {
        let broken = self.broken.first().map(|e| format!("; a file could not be read: {e}"));
        let mut known: Vec<_> = self.names().collect();
        known.sort_by_cached_key(|other| strsim::levenshtein(name, other));
        known.truncate(NEAREST);
        let known = if known.is_empty() {
            "there are none".to_owned()
        } else {
            format!("the nearest are {}", known.join(", "))
        };
        format!("is no task, group or tag; {known}{}", broken.unwrap_or_default())
    }
}

/// Keys of which some are changed.
fn with(mut keys: Keys, changed: &Keys) -> Keys {
    keys.extend(changed.clone());
    keys
}

fn find(folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), TaskError> {
    let entries = std::fs::read_dir(folder).map_err(|e| StoreError::io("read", folder, e))?;
    for entry in entries {
        let path = entry.map_err(|e| StoreError::io("read", folder, e))?.path();
        if path.is_dir() {
            let name = path.file_name().unwrap_or_default();
            if !LEFT_OUT.iter().any(|out| name == *out) {
                find(&path, files)?;
            }
        } else if path.extension().is_some_and(|extension| extension == "yaml") {
            files.push(path);
        }
    }
    Ok(())
}

/// A file with `group` is a group, else one with `task` a task; others are only included.
fn register(here: &mut IndexMap<String, Entry>, file: &Path, map: &Keys) {
    let text =
        |key: &str| map.get(key).map(Node::value).and_then(|v| v.as_text().map(str::to_owned));
    if let Some(group) = text("group") {
        here.entry(group).or_insert_with(|| Entry::Group(file.to_path_buf()));
        return;
    }
    let Some(task) = text("task") else { return };
    if here.contains_key(&task) {
        return;
    }
    here.insert(task.clone(), Entry::Task(file.to_path_buf()));
    let tags = match map.get("tag").map(Node::value) {
        Some(Value::Text(tag)) => vec![tag],
        Some(Value::List(tags)) => {
            tags.iter().filter_map(|t| t.as_text().map(str::to_owned)).collect()
        }
        _ => Vec::new(),
    };
    for tag in tags {
        if let Entry::Tag(tasks) = here.entry(tag).or_insert_with(|| Entry::Tag(BTreeSet::new())) {
            tasks.insert(task.clone());
        }
    }
}
