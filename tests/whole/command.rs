//! Calls the command `neutral` as a user would, with a cache of the test's own.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output};
use std::time::{Duration, Instant};

/// The program.
pub(crate) fn program() -> &'static str {
    env!("CARGO_BIN_EXE_neutral-under-test")
}

/// The checkout.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// A folder for one test: its cache, its runs, its files.
pub(crate) struct Sandbox {
    folder: tempfile::TempDir,
}

impl Sandbox {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file and gives its path.
    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// Writes a program `bin/<name>` and gives a `PATH` on which it comes first.
    pub(crate) fn program(&self, name: &str, script: &str) -> String {
        std::fs::create_dir_all(self.path("bin")).unwrap();
        let path = self.write(&format!("bin/{name}"), script);
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
        format!("{}:{}", self.path("bin").display(), std::env::var("PATH").unwrap())
    }

    /// The command with some arguments, started in the sandbox, on one thread: the tests beside this one need the others.
    pub(crate) fn neutral<S: AsRef<std::ffi::OsStr>>(&self, arguments: &[S]) -> Command {
        let mut command = Command::new(program());
        command
            .args(arguments)
            .current_dir(self.folder.path())
            .env("NEUTRAL_CACHE", self.path("cache"))
            .env("OMP_NUM_THREADS", "1")
            .env("RUST_LOG", "info");
        command
    }

    /// Runs an experiment of `text` to its end; the manifests are the shipped ones.
    pub(crate) fn run(&self, experiment: &Path, out: &str) -> Output {
        let manifests = root().join("data-manifests");
        let arguments = [
            "run".as_ref(),
            experiment.as_os_str(),
            "--out".as_ref(),
            self.path(out).as_os_str(),
            "--manifests".as_ref(),
            manifests.as_os_str(),
            "--device".as_ref(),
            "cpu".as_ref(),
        ]
        .map(std::ffi::OsStr::to_owned);
        self.neutral(&arguments).output().unwrap()
    }

    /// The `results.json` of a run.
    pub(crate) fn results(&self, out: &str) -> serde_json::Value {
        let path = self.path(out).join("results.json");
        serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
    }
}

/// Fails with the command's own words unless it ended with the given code.
#[track_caller]
pub(crate) fn assert_code(output: &Output, code: i32) {
    let words = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{words}");
}

/// What the command said on standard error.
pub(crate) fn words(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Waits for a sign of progress in the sandbox, then a little longer; false if the run ended before.
pub(crate) fn wait_for(child: &mut Child, sign: impl Fn() -> bool) -> bool {
    let begin = Instant::now();
    while !sign() {
        assert!(begin.elapsed() < Duration::from_mins(2), "no progress");
        if child.try_wait().unwrap().is_some() {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    true
}

/// Asks a running command to stop. It may have ended, but not been waited for.
pub(crate) fn terminate(child: &Child) {
    assert!(Command::new("kill").arg(child.id().to_string()).status().unwrap().success());
}
