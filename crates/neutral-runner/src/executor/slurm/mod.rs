//! `--executor slurm`: the shared steps as a job, the trials as a job array that depends on it, the results
//! as a job that depends on the array.
//!
//! Jobs requeue themselves, retry, and judge nodes (`job.sh`), so this process may end at any time. Called
//! again it finds the jobs by their comment, submits what is lost, and waits on.

mod alive;
#[cfg(test)]
mod job_tests;
mod queue;
mod record;
mod script;

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::path::{Path, absolute};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use neutral_report::{Results, Status, TrialResult};
use neutral_spec::ExecutorSpec;
use neutral_store::{Cache, Fingerprint, Lock, StoreError, write_atomic};

use self::alive::Alive;
pub(crate) use self::record::SlurmRecord;
use self::record::Submitted;
use self::script::{JobKind, Options};
use crate::cli::ExecutorArgs;
use crate::executor::bars::Bars;
use crate::executor::{
    Executor, Record, Work, attempts, command, folder, form, judgement, log_path, read_judged,
};
use crate::exit::{BadInput, Detached, Interrupted};
use crate::failure::Failure;
use crate::results;
use crate::run_file::{PlannedTrial, RunFile};

/// Times that a failed trial is tried again, if nothing else is said.
const RETRIES: u32 = 2;

/// How often the queue is asked while waiting: often enough for people, seldom enough for the controller.
const ASK_EVERY: Duration = Duration::from_secs(5);

/// A network file system may show another host's file this much later.
const SEEN_AFTER: Duration = Duration::from_secs(10);

/// Trials as a job array.
pub(crate) struct Slurm {
    options: Options,
    detach: bool,
}

/// An option of the command line that is SLURM's, if one was given.
pub(super) fn given(args: &ExecutorArgs) -> Option<&'static str> {
    let options = [
        ("--partition", args.partition.is_some()),
        ("--time", args.time.is_some()),
        ("--gres", args.gres.is_some()),
        ("--mem", args.mem.is_some()),
        ("--account", args.account.is_some()),
        ("--max-parallel", args.max_parallel.is_some()),
        ("--retries", args.retries.is_some()),
        ("--sbatch", !args.sbatch.is_empty()),
        ("--detach", args.detach),
    ];
    options.into_iter().find_map(|(name, given)| given.then_some(name))
}

/// The GPUs that a list such as `gpu:a100:2,shard:1` asks for.
fn gpus(gres: &str) -> u64 {
    let of_gpu = gres.split(',').filter_map(|one| one.strip_prefix("gpu"));
    let count = |rest: &str| rest.rsplit(':').next().and_then(|count| count.parse::<u64>().ok());
    of_gpu.map(|rest| count(rest).unwrap_or(1)).sum()
}

impl Slurm {
    pub(crate) fn new(args: &ExecutorArgs, spec: Option<&ExecutorSpec>) -> Self {
        let mut options = Options { retries: RETRIES, ..Options::default() };
        if let Some(ExecutorSpec::Slurm {
            partition,
            time,
            gres,
            mem,
            account,
            max_parallel,
            retries,
            sbatch,
        }) = spec
        {
            options = Options {
                partition: partition.clone(),
                time: time.clone(),
                gres: gres.clone(),
                mem: mem.clone(),
                account: account.clone(),
                max_parallel: max_parallel.map(NonZeroUsize::get),
                retries: retries.unwrap_or(RETRIES),
                sbatch: sbatch.clone(),
                threads: None,
            };
        }
        let replace = |place: &mut Option<String>, given: &Option<String>| {
            if given.is_some() {
                place.clone_from(given);
            }
        };
        replace(&mut options.partition, &args.partition);
        replace(&mut options.time, &args.time);
        replace(&mut options.gres, &args.gres);
        replace(&mut options.mem, &args.mem);
        replace(&mut options.account, &args.account);
        options.max_parallel = args.max_parallel.map(NonZeroUsize::get).or(options.max_parallel);
        options.retries = args.retries.unwrap_or(options.retries);
        options.sbatch.extend(args.sbatch.iter().cloned());
        if let Some(gres) = options.gres.as_deref().filter(|gres| gpus(gres) > 1) {
            tracing::warn!(
                "`gres: {gres}`: a trial computes on one GPU, and the others of its job would be idle; ask for one, or train one after another \
                 on all of them in a job of your own (`neutral launch`)"
            );
        }
        Self { options, detach: args.detach }
    }

    /// Submits what is neither done nor under way; none of it where a job is refused, as one that is never collected
    /// would compute in vain.
    fn submit_or_none(&self, work: &Work<'_>, run: &RunFile) -> anyhow::Result<()> {
        let jobs = |out: &Path| -> anyhow::Result<BTreeSet<String>> {
            match Record::read(out)? {
                Some(Record::Slurm(record)) => {
                    Ok(record.jobs.into_iter().map(|job| job.id).collect())
                }
                _ => Ok(BTreeSet::new()),
            }
        };
        let before = jobs(work.out)?;
        self.submit(work, run).inspect_err(|_| {
            let new = jobs(work.out).unwrap_or_default();
            let new: Vec<String> = new.difference(&before).cloned().collect();
            if let Err(error) = queue::cancel(&new) {
                tracing::warn!("jobs {} could not be cancelled: {error:#}", new.join(", "));
            }
        })
    }

    /// Submits what is neither done nor under way.
    fn submit(&self, work: &Work<'_>, run: &RunFile) -> anyhow::Result<()> {
        let out = absolute(work.out)?;
        run.check(&out)?;
        let _lock = Lock::acquire(&folder(&out))?;
        let alive = Alive::of(&out)?;
        let mark = |name: &str| folder(&out).join(name);
        let form = form(work.plan);
        let mut record = match Record::read(&out)? {
            Some(Record::Slurm(record)) if !alive.is_empty() => record,
            // Of jobs without a record their script says what they are for.
            _ if std::fs::read_to_string(mark("job.sh"))
                .is_ok_and(|s| s.contains(form.as_str())) =>
            {
                SlurmRecord { plan: form.clone(), jobs: Vec::new() }
            }
            _ => SlurmRecord { plan: Fingerprint::of(&"unknown"), jobs: Vec::new() },
        };
        if alive.is_empty() {
            attempts::clear(&out);
            let _ = std::fs::remove_dir_all(mark("excluded"));
            for name in ["cancelled", "prepared", "collected"] {
                let _ = std::fs::remove_file(mark(name));
            }
            self.write_script(work, run, &out)?;
            record.plan = form;
        } else if record.plan != form {
            let said = "jobs of an earlier form of the experiment are still there";
            return Err(wrong(&out, said, "`neutral cancel` them first"));
        } else if mark("cancelled").exists() {
            return Err(wrong(&out, "its jobs are being cancelled", "run it again in a moment"));
        }
        // Of another plan, say of other pages to score, a trial's own file does not tell whether its record holds.
        // One that does ends at once.
        let same = read_judged(&out).is_some_and(|judged| judged == judgement(work.plan));
        run.write(&out)?;
        Record::Slurm(record.clone()).write(&out)?;
        let is_left = |(index, trial): (usize, &PlannedTrial)| {
            let finished = same && run.is_done(trial, &out);
            (!finished && !alive.tasks.contains(&index)).then_some(index)
        };
        let left: Vec<usize> = run.trials.iter().enumerate().filter_map(is_left).collect();
        let mut submission = Submission {
            options: &self.options,
            experiment: &run.experiment,
            out: &out,
            record: &mut record,
        };
        let mut prepare = alive.prepare.clone();
        if prepare.is_none() && (alive.is_empty() || !mark("prepared").exists()) {
            prepare = Some(submission.submit(&JobKind::Prepare, None)?);
        }
        let mut arrays = alive.arrays.clone();
        if !left.is_empty() {
            for trial in left.iter().map(|&index| &run.trials[index]) {
                attempts::clear_trial(&out, &trial.id);
                Failure::clear(&trial.folder(&out));
            }
            let after = prepare.as_ref().map(|prepare| format!("afterok:{prepare}"));
            tracing::info!("{} trials are submitted", left.len());
            arrays.insert(submission.submit(&JobKind::Trials(left), after.as_deref())?);
        }
        if arrays != alive.arrays || alive.collect.is_none() {
            queue::cancel(&alive.collect.into_iter().collect::<Vec<_>>())?;
            let _ = std::fs::remove_file(mark("collected"));
            let before: Vec<String> = prepare.into_iter().chain(arrays).collect();
            let after = (!before.is_empty()).then(|| format!("afterany:{}", before.join(":")));
            submission.submit(&JobKind::Collect, after.as_deref())?;
        } else {
            tracing::info!("all jobs are under way");
        }
        Ok(())
    }

    fn write_script(&self, work: &Work<'_>, run: &RunFile, out: &Path) -> anyhow::Result<()> {
        let mut command = command::common(work)?;
        command.extend(["--device".into(), work.args.machine.device.to_string().into()]);
        let cache = absolute(Cache::from_env()?.root())?;
        let cache = script::word_of(&cache.into())?;
        let place = script::word_of(&out.into())?;
        let retries = self.options.retries;
        let text = script::text(&command, &run.experiment, &place, &cache, retries)?;
        let mut trials: Vec<&str> = run.trials.iter().map(|trial| trial.id.as_str()).collect();
        trials.push("");
        let trials = trials.join("\n");
        let write = |name: &str, text: &str| {
            write_atomic(&folder(out).join(name), |file| {
                std::io::Write::write_all(file, text.as_bytes())
            })
        };
        write("trials", &trials)?;
        write("job.sh", &text)?;
        // SLURM opens its output before anything of ours runs.
        let logs = out.join("logs");
        std::fs::create_dir_all(&logs).map_err(|e| StoreError::io("create", &logs, e))?;
        Ok(())
    }
}

/// Shows how far the jobs are until there are none left, or the user has seen enough.
fn wait(work: &Work<'_>, run: &RunFile) -> anyhow::Result<()> {
    let out = absolute(work.out)?;
    let mut bars = Bars::new(work.bars, run);
    let mut asked = false;
    loop {
        match Alive::of(&out) {
            Ok(alive) if alive.is_empty() => return Ok(()),
            Ok(alive) => {
                asked = false;
                let running = alive.running.iter().filter_map(|&index| run.trials.get(index));
                let running: Vec<&str> = running.map(|trial| trial.id.as_str()).collect();
                let ended = run.trials.len().saturating_sub(alive.tasks.len());
                bars.show(run, &out, ended, &running);
            }
            // A controller that starts anew does not answer for a while, and its jobs go on.
            Err(error) if !asked => {
                tracing::warn!("{error:#}; asked again until it answers");
                asked = true;
            }
            Err(_) => {}
        }
        let since = Instant::now();
        while since.elapsed() < ASK_EVERY {
            if work.stop.load(Ordering::SeqCst) {
                return Err(Detached(work.out.to_path_buf()).into());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Executor for Slurm {
    fn is_elsewhere(&self) -> bool {
        true
    }

    fn run(&self, work: &Work<'_>) -> anyhow::Result<()> {
        let run = RunFile::new(work.plan, None);
        let mut asked = self.options.clone();
        asked.threads = work.args.machine.threads;
        let this = Self { options: asked, detach: self.detach };
        this.submit_or_none(work, &run)?;
        if this.detach {
            tracing::info!("submitted; `neutral status {}` says how it goes", work.out.display());
            return Ok(());
        }
        let mut found = collected(work, &run)?;
        // That text or a base is another one `prepare` alone can tell, and then it has removed records of trials that
        // had got no task.
        let is_left = |trial: &TrialResult| trial.status == Status::Interrupted;
        if found.trials.iter().any(is_left) && !folder(work.out).join("cancelled").exists() {
            this.submit_or_none(work, &run)?;
            found = collected(work, &run)?;
        }
        results::print(&found, work.out)?;
        results::verdict(&found, work.plan, work.out)
    }
}

/// What the jobs have made, once they have ended.
fn collected(work: &Work<'_>, run: &RunFile) -> anyhow::Result<Results> {
    wait(work, run)?;
    let [collected, cancelled] = ["collected", "cancelled"].map(|name| folder(work.out).join(name));
    let since = Instant::now();
    while !collected.exists() {
        if cancelled.exists() {
            return Err(Interrupted.into());
        }
        if since.elapsed() > SEEN_AFTER {
            anyhow::bail!(
                "the jobs have ended without results; see {} and prepare.log beside it",
                log_path(work.out, "collect").display()
            );
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    Ok(neutral_report::read(&work.out.join("results.json"))?)
}

/// The submission of one run's jobs.
struct Submission<'a> {
    options: &'a Options,
    experiment: &'a str,
    out: &'a Path,
    record: &'a mut SlurmRecord,
}

impl Submission<'_> {
    /// Submits a job and writes its number down at once. Were this process to end in between, the job would
    /// still be known by its comment.
    fn submit(&mut self, kind: &JobKind, after: Option<&str>) -> anyhow::Result<String> {
        let out = script::word_of(&self.out.into())?;
        let arguments = script::arguments(kind, self.options, self.experiment, &out, after);
        let id = queue::submit(&arguments)?;
        tracing::info!("job {id}: {}", kind.name());
        self.record.jobs.push(Submitted { id: id.clone(), kind: kind.name().to_owned() });
        Record::Slurm(self.record.clone()).write(self.out)?;
        Ok(id)
    }
}

fn wrong(out: &Path, said: &str, advice: &str) -> anyhow::Error {
    BadInput(format!("{}: {said}; {advice}", out.display())).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gpus_are_counted_whatever_their_kind() {
        let all = ["gpu", "gpu:1", "gpu:8", "gpu:a100:2,shard:9", "gpu:a:1,gpu:b:3", "shard:2"];
        assert_eq!(all.map(gpus), [1, 1, 8, 2, 4, 0]);
    }

    #[test]
    fn the_command_line_replaces_the_experiments_options() {
        let spec = ExecutorSpec::Slurm {
            partition: Some("cpu".to_owned()),
            time: Some("60".to_owned()),
            gres: None,
            mem: None,
            account: None,
            max_parallel: NonZeroUsize::new(4),
            retries: Some(0),
            sbatch: vec!["--nice".to_owned()],
        };
        let args = ExecutorArgs {
            partition: Some("gpu".to_owned()),
            gres: Some("gpu:1".to_owned()),
            sbatch: vec!["--nice=5".to_owned()],
            ..ExecutorArgs::default()
        };
        let Slurm { options, .. } = Slurm::new(&args, Some(&spec));
        assert_eq!(options.partition.as_deref(), Some("gpu"));
        assert_eq!(options.time.as_deref(), Some("60"));
        assert_eq!(options.gres.as_deref(), Some("gpu:1"));
        assert_eq!((options.max_parallel, options.retries), (Some(4), 0));
        assert_eq!(options.sbatch, ["--nice", "--nice=5"]);
        let defaults = Slurm::new(&ExecutorArgs::default(), None).options;
        assert_eq!(defaults.retries, RETRIES);
        assert_eq!(given(&args), Some("--partition"));
        assert_eq!(given(&ExecutorArgs::default()), None);
    }
}
