//! `neutral launch`: several processes of this program on one machine, as `torchrun` starts them.

use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Parser;
use rustix::process::{Pid, Signal, kill_process};

use crate::cli::{self, Cli, ExecutorKind, LaunchArgs};
use crate::executor::{PARENT, exit_code};
use crate::exit::{BadInput, EXIT_BAD_INPUT, EXIT_INTERRUPTED, Interrupted};
use crate::group::rendezvous::TIMEOUT;
use crate::{executor, signals};

/// How often ended processes are looked for.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What the others have, once one has failed, to end by themselves: with its connections gone none can go on.
const SETTLING: Duration = Duration::from_millis(500);

/// After that they are asked to, and have until then.
const GRACE: Duration = Duration::from_secs(5);

/// How much of what a process said is shown, from its end, in bytes.
const SHOWN: u64 = 16 << 10;

/// One of several processes ended badly, and the others with it.
#[derive(Debug)]
pub(crate) struct RankEnded {
    rank: usize,
    status: ExitStatus,
}

impl RankEnded {
    /// Neither done nor stopped.
    fn is_failure(&self) -> bool {
        ![0, EXIT_INTERRUPTED].contains(&exit_code(self.status))
    }

    /// The exit code of the process, as shells have it.
    pub(crate) fn code(&self) -> u8 {
        u8::try_from(exit_code(self.status)).unwrap_or(1)
    }
}

impl fmt::Display for RankEnded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rank = self.rank;
        match self.status.signal() {
            Some(signal) => write!(f, "rank {rank} was ended by signal {signal}")?,
            None => write!(f, "rank {rank} ended with exit code {}", exit_code(self.status))?,
        }
        f.write_str(", see above; the other processes were ended with it")
    }
}

impl std::error::Error for RankEnded {}

/// `neutral launch`.
pub(crate) fn run(args: &LaunchArgs) -> anyhow::Result<()> {
    check(&args.command)?;
    let stop = signals::stop_flag()?;
    executor::end_with_parent()?;
    let port = match args.port {
        Some(port) => port,
        None => free_port().context("no port of loopback is free")?,
    };
    let program = std::env::current_exe()?;
    let threads = (neutral_torch::threads() / args.processes).max(1);
    let mut ranks = Vec::new();
    for rank in 0..args.processes.get() {
        let mut command = Command::new(&program);
        command
            .args(&args.command)
            .env("RANK", rank.to_string())
            .env("LOCAL_RANK", rank.to_string())
            .env("WORLD_SIZE", args.processes.to_string())
            .env("LOCAL_WORLD_SIZE", args.processes.to_string())
            .env("MASTER_ADDR", Ipv4Addr::LOCALHOST.to_string())
            .env("MASTER_PORT", port.to_string())
            .env("OMP_NUM_THREADS", threads.to_string())
            .env(TIMEOUT, args.timeout.to_string())
            .env(PARENT, std::process::id().to_string())
            .stdin(Stdio::null())
            // A terminal signals a whole group, and a second signal ends at once.
            .process_group(0);
        let said = if rank == 0 { None } else { Some(tempfile::tempfile()?) };
        if let Some(file) = &said {
            command.stdout(file.try_clone()?).stderr(file.try_clone()?);
        }
        ranks.push(Rank { number: rank, child: command.spawn()?, said, ended: None });
    }
    Ranks(ranks).wait(&stop)
}

/// Only runs have a use for several processes; a mistake in the arguments is said once, not by each of them.
fn check(command: &[OsString]) -> Result<(), BadInput> {
    let words = std::iter::once(OsString::from("neutral")).chain(command.iter().cloned());
    let parsed = Cli::try_parse_from(words).unwrap_or_else(|error| error.exit());
    let cli::Command::Run(run) = parsed.command else {
        let found = command[0].display();
        let message = format!(
            "`neutral launch` starts processes of `run`, not of `{found}`: write neutral launch --processes N -- run EXPERIMENT"
        );
        return Err(BadInput(message));
    };
    let own = [ExecutorKind::Local, ExecutorKind::Slurm];
    super::check(&run, run.executor.executor.is_some_and(|kind| own.contains(&kind)))
}

fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

struct Rank {
    number: usize,
    child: Child,
    /// Its words, unless they are on this terminal.
    said: Option<File>,
    ended: Option<ExitStatus>,
}

struct Ranks(Vec<Rank>);

impl Ranks {
    /// Until all have ended: by themselves, or because one failed.
    fn wait(mut self, stop: &AtomicBool) -> anyhow::Result<()> {
        let mut failed = Vec::new();
        let (mut since, mut asked, mut ending, mut killed) = (None, false, false, false);
        loop {
            let ended = self.look()?;
            // What is ended says nothing.
            if !ending {
                failed.extend(ended.into_iter().filter(RankEnded::is_failure));
            }
            if self.0.iter().all(|rank| rank.ended.is_some()) {
                break;
            }
            since = since.or_else(|| Some(Instant::now()).filter(|_| !failed.is_empty()));
            let for_longer = |time| since.is_some_and(|since| since.elapsed() > time);
            if stop.load(Ordering::SeqCst) && !asked {
                self.signal(Signal::TERM);
                asked = true;
            }
            if for_longer(SETTLING) && !ending {
                self.signal(Signal::TERM);
                ending = true;
            }
            if for_longer(GRACE) && !killed {
                self.signal(Signal::KILL);
                killed = true;
            }
            std::thread::sleep(LOOK_EVERY);
        }
        // Bad input is bad for all of them, and said once.
        let said = self.0[0].code() == Some(EXIT_BAD_INPUT);
        for (i, ended) in failed.iter().enumerate() {
            if !said || exit_code(ended.status) != EXIT_BAD_INPUT {
                // That of the others follows from the first's.
                self.0[ended.rank].show(if i == 0 { usize::MAX } else { 1 })?;
            }
        }
        if let Some(first) = failed.into_iter().next() {
            return Err(first.into());
        }
        let interrupted = self.0.iter().any(|rank| rank.code() == Some(EXIT_INTERRUPTED));
        if interrupted { Err(Interrupted.into()) } else { Ok(()) }
    }

    /// Who has ended since the last look, first those that cannot have done so because of another.
    fn look(&mut self) -> std::io::Result<Vec<RankEnded>> {
        let mut ended = Vec::new();
        for rank in self.0.iter_mut().filter(|rank| rank.ended.is_none()) {
            rank.ended = rank.child.try_wait()?;
            ended.extend(rank.ended.map(|status| RankEnded { rank: rank.number, status }));
        }
        ended.sort_by_key(|ended| ended.status.signal().is_none());
        Ok(ended)
    }

    fn signal(&self, signal: Signal) {
        for rank in self.0.iter().filter(|rank| rank.ended.is_none()) {
            // Refused only if it has just ended by itself.
            let _ = kill_process(Pid::from_child(&rank.child), signal);
        }
    }
}

impl Rank {
    fn code(&self) -> Option<i32> {
        self.ended.map(exit_code)
    }

    /// Prints the last lines of what a process said that is not on this terminal.
    fn show(&mut self, lines: usize) -> std::io::Result<()> {
        let Some(file) = &mut self.said else { return Ok(()) };
        let length = file.seek(SeekFrom::End(0))?;
        file.seek(SeekFrom::Start(length.saturating_sub(SHOWN)))?;
        let mut said = Vec::new();
        file.read_to_end(&mut said)?;
        let mut terminal = std::io::stderr().lock();
        let said = String::from_utf8_lossy(&said);
        let skipped = said.lines().count().saturating_sub(lines);
        for line in said.lines().skip(skipped) {
            writeln!(terminal, "[rank {}] {line}", self.number)?;
        }
        Ok(())
    }
}
