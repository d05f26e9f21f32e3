//! `--executor local`: trials side by side on this machine, a process each.
//!
//! Each has its share of the threads and, with CUDA, a device. They stop when this process is asked to, or
//! ends in any other way ([`crate::executor::process`]).

use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::num::NonZeroUsize;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use neutral_spec::ExecutorSpec;
use neutral_store::{Lock, StoreError};
use neutral_torch::DeviceChoice;
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

use crate::cli::{ExecutorArgs, MachineArgs};
use crate::executor::bars::Bars;
use crate::executor::process::{PARENT, exit_code, host_name, stop_owner};
use crate::executor::{
    Executor, Record, Started, UnderWay, Work, attempts, command, folder, log_path,
};
use crate::exit::{BadInput, EXIT_INTERRUPTED, Interrupted, UnitEnded};
use crate::failure::Failure;
use crate::run_file::RunFile;
use crate::unit::Unit;

/// How often ended processes are looked for.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How often the bars are drawn anew: each time a file a trial is read.
const SHOW_EVERY: Duration = Duration::from_secs(1);

/// Trials side by side on this machine.
pub(crate) struct Local {
    jobs: NonZeroUsize,
    /// Threads of the shared steps, which run alone.
    threads: usize,
    /// Devices, shared out in turn.
    devices: Vec<DeviceChoice>,
}

/// What is kept of it in the run's folder.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct LocalRecord {
    pub host: String,
}

impl Local {
    pub(crate) fn new(
        args: &ExecutorArgs,
        spec: Option<&ExecutorSpec>,
        machine: MachineArgs,
    ) -> anyhow::Result<Self> {
        let of_spec = match spec {
            Some(ExecutorSpec::Local { jobs }) => Some(*jobs),
            _ => None,
        };
        let jobs = args.jobs.or(of_spec).ok_or_else(|| {
            BadInput("--executor local needs --jobs N: trials at a time".to_owned())
        })?;
        let threads = machine.threads.unwrap_or_else(neutral_torch::threads);
        Ok(Self { jobs, threads, devices: neutral_torch::devices(machine.device)? })
    }

    /// Threads of a trial. However many trials are left, so that going on with a run changes no sum's order.
    fn threads_per_trial(&self) -> usize {
        (self.threads / self.jobs.get()).max(1)
    }

    /// A process for a unit; `slot` is less than the number of jobs.
    fn command(&self, common: &[OsString], unit: &Unit, slot: usize) -> Command {
        let threads = match unit {
            Unit::Prepare => self.threads,
            // The results say what the trials were computed with.
            Unit::Trial(_) | Unit::Collect => self.threads_per_trial(),
        };
        let device = self.devices[slot % self.devices.len()];
        let mut command = Command::new(&common[0]);
        command
            .args(&common[1..])
            .args(["--only", &unit.to_string()])
            .args(["--device", &device.to_string(), "--threads", &threads.to_string()])
            .env(PARENT, std::process::id().to_string())
            .stdin(Stdio::null())
            // A terminal signals a whole group, and a second signal ends at once.
            .process_group(0);
        command
    }

    /// A shared step, alone, its words on this terminal. It knows of a wish to stop that is older, and does what is left
    /// to do then.
    fn alone(&self, work: &Work<'_>, common: &[OsString], unit: &Unit) -> anyhow::Result<()> {
        let mut asked = work.stop.load(Ordering::SeqCst);
        if asked && *unit == Unit::Prepare {
            return Err(Interrupted.into());
        }
        let mut command = self.command(common, unit, 0);
        if asked {
            command.arg("--stopped");
        }
        let mut child = command.spawn()?;
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break status;
            }
            if work.stop.load(Ordering::SeqCst) && !asked {
                terminate(&child);
                asked = true;
            }
            std::thread::sleep(LOOK_EVERY);
        };
        match exit_code(status) {
            0 => Ok(()),
            EXIT_INTERRUPTED => Err(Interrupted.into()),
            code => Err(UnitEnded { unit: unit.to_string(), code }.into()),
        }
    }

    /// The trials that have not finished, as many at a time as there are jobs.
    fn trials(&self, work: &Work<'_>, common: &[OsString], run: &RunFile) -> anyhow::Result<()> {
        let left = run.trials.iter().filter(|trial| !run.is_done(trial, work.out));
        let mut left: VecDeque<&str> = left.map(|trial| trial.id.as_str()).collect();
        let mut ended = run.trials.len() - left.len();
        if ended > 0 {
            tracing::info!("{ended} of {} trials finished earlier, kept", run.trials.len());
        }
        let mut running: Vec<Option<(&str, Child)>> = Vec::new();
        running.resize_with(self.jobs.get().min(left.len()), || None);
        let mut bars = Bars::new(work.bars, run);
        let mut shown: Option<Instant> = None;
        let mut asked = false;
        loop {
            let stop = work.stop.load(Ordering::SeqCst);
            for (slot, place) in running.iter_mut().enumerate() {
                if let Some((id, child)) = place
                    && let Some(status) = child.try_wait()?
                {
                    note_end(work.out, id, status);
                    ended += 1;
                    *place = None;
                }
                if place.is_none()
                    && !stop
                    && let Some(id) = left.pop_front()
                {
                    // Why it failed at an earlier call is not why it fails now.
                    Failure::clear(&work.out.join("trials").join(id));
                    let mut command = self.command(common, &Unit::Trial(id.to_owned()), slot);
                    command.stdout(Stdio::null()).stderr(log(work.out, id)?);
                    *place = Some((id, command.spawn()?));
                }
            }
            let alive: Vec<_> = running.iter().flatten().collect();
            if alive.is_empty() {
                break;
            }
            if stop && !asked {
                for (_, child) in &alive {
                    terminate(child);
                }
                asked = true;
            }
            if shown.is_none_or(|shown| shown.elapsed() > SHOW_EVERY) {
                let ids: Vec<&str> = alive.iter().map(|(id, _)| *id).collect();
                bars.show(run, work.out, ended, &ids);
                shown = Some(Instant::now());
            }
            std::thread::sleep(LOOK_EVERY);
        }
        if work.stop.load(Ordering::SeqCst) { Err(Interrupted.into()) } else { Ok(()) }
    }
}

impl Executor for Local {
    fn is_elsewhere(&self) -> bool {
        false
    }

    fn run(&self, work: &Work<'_>) -> anyhow::Result<()> {
        let run = RunFile::new(work.plan, None);
        run.check(work.out)?;
        super::refuse_jobs(work.out)?;
        let _lock = Lock::acquire(&folder(work.out))?;
        Record::Local(LocalRecord { host: host_name() }).write(work.out)?;
        attempts::clear(work.out);
        let common = command::common(work)?;
        self.alone(work, &common, &Unit::Prepare)?;
        let ended = self.trials(work, &common, &run);
        // Of a run that is stopped too: its results then say what there is.
        let collected = self.alone(work, &common, &Unit::Collect);
        ended.and(collected)
    }
}

impl Started for LocalRecord {
    fn describe(&self) -> String {
        format!("local, on {}", self.host)
    }

    fn under_way(&self, _: &RunFile, _: &Path) -> anyhow::Result<BTreeMap<String, UnderWay>> {
        Ok(BTreeMap::new())
    }

    fn cancel(&self, out: &Path) -> anyhow::Result<Option<String>> {
        stop_owner(&folder(out))
    }
}

/// Says how a trial's process ended, and keeps that where the process could not say so itself.
fn note_end(out: &Path, id: &str, status: ExitStatus) {
    let code = exit_code(status);
    if code == EXIT_INTERRUPTED {
        return;
    }
    let failed = Some(code).filter(|code| *code != 0);
    if let Err(error) = attempts::add(out, id, &host_name(), failed) {
        tracing::warn!("{id}: how it ended cannot be kept: {error}");
    }
    match failed {
        None => tracing::info!("{id}: done"),
        Some(code) => {
            let kept = Failure::read(&out.join("trials").join(id)).ok().flatten();
            let why = kept.map_or_else(|| format!("exit code {code}"), |failure| failure.error);
            tracing::error!("{id}: {why}; see {}", log_path(out, id).display());
        }
    }
}

fn terminate(child: &Child) {
    // Refused only if it has just ended by itself.
    let _ = kill_process(Pid::from_child(child), Signal::TERM);
}

fn log(out: &Path, id: &str) -> Result<File, StoreError> {
    let path = log_path(out, id);
    let parent = path.parent().unwrap_or(out);
    std::fs::create_dir_all(parent).map_err(|e| StoreError::io("create", parent, e))?;
    let file = OpenOptions::new().create(true).append(true).open(&path);
    file.map_err(|e| StoreError::io("open", &path, e))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn local(jobs: usize, threads: usize, devices: Vec<DeviceChoice>) -> Local {
        Local { jobs: NonZeroUsize::new(jobs).unwrap(), threads, devices }
    }

    fn words(command: &Command) -> Vec<&str> {
        command.get_args().map(|word| word.to_str().unwrap()).collect()
    }

    #[test]
    fn threads_are_divided_and_devices_shared_out() {
        let cuda = |n| DeviceChoice::Cuda(n);
        let local = local(4, 10, vec![cuda(0), cuda(1), cuda(2)]);
        let common = ["neutral".into(), "run".into()];
        let trial = Unit::Trial("a-s0".to_owned());
        let devices = (0..4).map(|slot| {
            let command = local.command(&common, &trial, slot);
            let words = words(&command);
            assert_eq!(words[..4], ["run", "--only", "trial:a-s0", "--device"]);
            assert_eq!(words[5..], ["--threads", "2"]);
            words[4].to_owned()
        });
        assert_eq!(devices.collect::<Vec<_>>(), ["cuda:0", "cuda:1", "cuda:2", "cuda:0"]);
        let prepare = local.command(&common, &Unit::Prepare, 0);
        assert_eq!(words(&prepare)[5..], ["--threads", "10"]);
    }

    #[test]
    fn a_trial_has_a_thread_however_many_there_are() {
        assert_eq!(local(8, 2, vec![DeviceChoice::Cpu]).threads_per_trial(), 1);
    }

    #[test]
    fn jobs_must_be_given_somewhere() {
        let machine = MachineArgs { device: DeviceChoice::Cpu, threads: Some(4) };
        let none = ExecutorArgs::default();
        assert!(Local::new(&none, None, machine).is_err());
        let spec = ExecutorSpec::Local { jobs: NonZeroUsize::new(2).unwrap() };
        assert_eq!(Local::new(&none, Some(&spec), machine).unwrap().threads_per_trial(), 2);
        let given = ExecutorArgs { jobs: NonZeroUsize::new(4), ..none };
        assert_eq!(Local::new(&given, Some(&spec), machine).unwrap().threads_per_trial(), 1);
    }
}
