//! What the tests of disturbed runs have in common: a run that passes through every phase in a second or
//! two, what of its files must come out the same, and whether a file is whole.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use neutral_report::{Run, csv, html, markdown, tradeoff_svg};
use serde_json::Value;

use crate::command::{Sandbox, assert_code, root};
use crate::interruption::EXPERIMENT;

/// What says how long something took and how much memory it held; no two runs agree on it.
const OF_THE_MOMENT: [&str; 3] = ["tokens_per_second", "peak_rss_bytes", "elapsed_seconds"];

/// Files' contents by their path in a sandbox.
pub(crate) type Files = BTreeMap<String, Vec<u8>>;

/// `neutral run` and `neutral report` in a sandbox, with tasks in the experiment.
pub(crate) struct Disturbed {
    pub sandbox: Sandbox,
}

impl Disturbed {
    /// Before the first command.
    pub(crate) fn new() -> Self {
        let sandbox = Sandbox::new();
        let tasks = "max_bytes: 5000, tasks: { include_path: [cases], original: [minimal_pairs], \
             new: [mutual_information], limit: 5 } }";
        sandbox.write("disturbed.yaml", &EXPERIMENT.replace("max_bytes: 5000 }", tasks));
        let fixtures = root().join("tests/fixtures/tasks");
        for file in ["minimal_pairs.yaml", "mutual_information.yaml"] {
            std::fs::create_dir_all(sandbox.path("cases")).unwrap();
            std::fs::copy(fixtures.join("cases").join(file), sandbox.path("cases").join(file))
                .unwrap();
        }
        std::os::unix::fs::symlink(fixtures.join("data"), sandbox.path("data")).unwrap();
        Self { sandbox }
    }

    /// One that went through undisturbed.
    pub(crate) fn calm() -> Self {
        let calm = Self::new();
        calm.finish();
        calm
    }

    /// Where everything is, as the system calls it.
    pub(crate) fn folder(&self) -> PathBuf {
        self.sandbox.path("").canonicalize().unwrap()
    }

    /// The two commands of a run.
    pub(crate) fn commands(&self) -> [Command; 2] {
        let mut report = self.sandbox.neutral(&["report"]);
        report.arg(self.sandbox.path("out"));
        [self.run(), report]
    }

    /// `neutral run`.
    pub(crate) fn run(&self) -> Command {
        self.run_into("out")
    }

    /// `neutral run` with another folder.
    pub(crate) fn run_into(&self, out: &str) -> Command {
        let manifests = root().join("data-manifests");
        let mut command = self.sandbox.neutral(&["run", "disturbed.yaml", "--device", "cpu"]);
        command.arg("--manifests").arg(manifests);
        command.arg("--out").arg(self.sandbox.path(out));
        command
    }

    /// Both commands, which must succeed.
    #[track_caller]
    pub(crate) fn finish(&self) {
        for mut command in self.commands() {
            assert_code(&command.output().unwrap(), 0);
        }
    }

    /// Both commands, up to the first that fails.
    pub(crate) fn attempt(&self) -> Output {
        let [mut run, mut report] = self.commands();
        let output = run.output().unwrap();
        if output.status.success() { report.output().unwrap() } else { output }
    }

    /// Every file under its final name, but for those that are rewritten without end: locks, and
    /// TensorBoard's events, which nothing reads back.
    pub(crate) fn files(&self) -> Files {
        let mut files = Files::new();
        for folder in ["cache", "out"] {
            collect(&self.sandbox.path(folder), folder, &mut files);
        }
        files
    }

    /// What must be the same after every disturbance, byte for byte.
    pub(crate) fn lasting(&self) -> Files {
        let here = self.sandbox.path("").display().to_string();
        let files = self.files().into_iter().filter(|(name, _)| !is_drawn(name));
        files.map(|(name, bytes)| (name.clone(), lasting(&name, &bytes, &here))).collect()
    }

    /// Fails unless all files are those of a calm run, and what is drawn belongs to the results.
    #[track_caller]
    pub(crate) fn assert_equals(&self, calm: &Files, what: &str) {
        let ours = self.lasting();
        let names = |files: &Files| files.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&ours), names(calm), "{what}: files");
        for (name, bytes) in &ours {
            let (ours, calm) =
                (String::from_utf8_lossy(bytes), String::from_utf8_lossy(&calm[name]));
            assert!(ours == calm, "{what}: {name}\n{ours:.2000}\nundisturbed:\n{calm:.2000}");
        }
        // Pages are functions of the results and the metrics, which are equal but for the moment.
        let out = self.sandbox.path("out");
        let run = Run::read(&out).unwrap();
        let results = &run.results;
        let drawn = [
            ("results.csv", csv(results)),
            ("tradeoff.svg", tradeoff_svg(results)),
            ("report.md", markdown(results)),
            ("report.html", html(std::slice::from_ref(&run))),
        ];
        for (name, text) in drawn {
            let found = std::fs::read_to_string(out.join(name)).unwrap();
            assert!(found == text, "{what}: {name} is not of these results");
        }
    }

    /// Fails if a file that has its final name is not whole: an entry of the cache is the calm run's.
    #[track_caller]
    pub(crate) fn assert_whole(&self, calm: &Files, what: &str) {
        let here = self.sandbox.path("").display().to_string();
        for (name, bytes) in self.files() {
            let entry = name.starts_with("cache/") && !name.contains(".partial/");
            let whole = if entry {
                calm.get(&name) == Some(&lasting(&name, &bytes, &here))
            } else {
                is_whole(&name, &bytes)
            };
            assert!(whole, "{what}: {name} is half of itself, {} bytes", bytes.len());
        }
    }
}

/// Files and folders that are half of something.
pub(crate) fn halves(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().map(|e| e.unwrap().path());
    let mut found = Vec::new();
    for path in entries {
        if is_in_progress(&path.file_name().unwrap().to_string_lossy()) {
            found.push(path);
        } else if path.is_dir() {
            found.extend(halves(&path));
        }
    }
    found
}

/// Whether a file or folder of this name is still being made, or was when its maker ended.
pub(crate) fn is_in_progress(name: &str) -> bool {
    [".making-", ".neutral-"].iter().any(|start| name.starts_with(start))
}

fn collect(folder: &Path, name: &str, files: &mut Files) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let own = entry.file_name().into_string().unwrap();
        if is_in_progress(&own) || own == ".lock" || own == "tensorboard" {
            continue;
        }
        let (path, name) = (entry.path(), format!("{name}/{own}"));
        if path.is_dir() {
            collect(&path, &name, files);
        } else {
            match std::fs::read(&path) {
                Ok(bytes) => drop(files.insert(name, bytes)),
                // A run that works on its files may remove one at any time.
                Err(error) => assert_eq!(error.kind(), ErrorKind::NotFound, "{name}: {error}"),
            }
        }
    }
}

/// Whether a file's name has one of these endings.
pub(crate) fn is_of(name: &str, endings: &[&str]) -> bool {
    name.rsplit_once('.').is_some_and(|(_, ending)| endings.contains(&ending))
}

/// Pages with speeds in them, in many forms.
fn is_drawn(name: &str) -> bool {
    is_of(name, &["csv", "md", "svg", "html"])
}

fn lasting(name: &str, bytes: &[u8], here: &str) -> Vec<u8> {
    let text = || String::from_utf8_lossy(bytes).replace(here, "");
    if is_of(name, &["json"]) && !name.ends_with("tokenizer.json") {
        let Ok(mut value) = serde_json::from_str(&text()) else { return bytes.to_vec() };
        forget_the_moment(&mut value);
        format!("{value:#}").into_bytes()
    } else if name.ends_with("metrics.jsonl") {
        let line = |line: &str| {
            let Ok(mut value) = serde_json::from_str(line) else { return line.to_owned() };
            forget_the_moment(&mut value);
            value.to_string()
        };
        text().split_inclusive('\n').map(line).collect::<Vec<_>>().join("\n").into_bytes()
    } else {
        bytes.to_vec()
    }
}

fn forget_the_moment(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|name, _| !OF_THE_MOMENT.contains(&name.as_str()));
            fields.values_mut().for_each(forget_the_moment);
        }
        Value::Array(values) => values.iter_mut().for_each(forget_the_moment),
        _ => {}
    }
}

/// Whether a file by itself can be told to be whole. A log grows, so of it whole lines are asked for.
fn is_whole(name: &str, bytes: &[u8]) -> bool {
    let is_json = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).is_ok();
    let ends = |with: &str| bytes.ends_with(with.as_bytes());
    match name.rsplit('.').next().unwrap() {
        "json" => is_json(bytes) && ends("\n"),
        "jsonl" => {
            let mut lines: Vec<_> = bytes.split(|byte| *byte == b'\n').collect();
            lines.pop();
            lines.into_iter().all(is_json)
        }
        "safetensors" => fits(bytes),
        "svg" => ends("</svg>\n"),
        "html" => ends("</html>\n"),
        "md" | "csv" => ends("\n"),
        _ => panic!("{name}: what would a whole one be?"),
    }
}

/// Whether a safetensors file is as long as its header says.
fn fits(bytes: &[u8]) -> bool {
    let Some((length, rest)) = bytes.split_first_chunk() else { return false };
    let Some(header) = rest.get(..u64::from_le_bytes(*length) as usize) else { return false };
    let header: Value = serde_json::from_slice(header).unwrap();
    let tensors = header.as_object().unwrap().iter().filter(|(name, _)| *name != "__metadata__");
    let ends = tensors.map(|(_, tensor)| tensor["data_offsets"][1].as_u64().unwrap());
    ends.max() == Some((rest.len() as u64) - u64::from_le_bytes(*length))
}
