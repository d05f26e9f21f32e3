//! Which process of how many this one is, as `torchrun`, `neutral launch` or `srun` say it in the environment.

use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

use neutral_torch::{Group, Rendezvous, TorchError};
use tch::Device;

use crate::exit::BadInput;

/// Seconds that processes wait for each other.
pub(crate) const TIMEOUT: &str = "NEUTRAL_GROUP_TIMEOUT";

/// That, where nothing else is said: a rank may write a checkpoint of many gigabytes meanwhile.
pub(crate) const DEFAULT_TIMEOUT: Duration = Duration::from_mins(10);

/// A process's place in its group.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub meeting: Rendezvous,
    /// What keys begin with in the store of whoever started the processes; none if rank 0 hosts one.
    pub prefix: Option<String>,
    /// Which of this host's processes it is, from 0: chooses the device.
    pub local_rank: usize,
}

impl Place {
    /// Meets the others.
    pub(crate) fn connect(&self, device: Device) -> Result<Group, TorchError> {
        match &self.prefix {
            None => Group::connect(&self.meeting, device),
            Some(prefix) => Group::connect_through(&self.meeting, prefix, device),
        }
    }

    /// This process's; none if it is alone.
    pub(crate) fn of_process() -> Result<Option<Self>, BadInput> {
        Self::read(&|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
    }

    fn read(read: &dyn Fn(&str) -> Option<String>) -> Result<Option<Self>, BadInput> {
        let variables = Variables(read);
        let place = match variables.of_torchrun()? {
            Launched::Alone => return Ok(None),
            Launched::As(place) => Some(place),
            Launched::Not => variables.of_srun()?,
        };
        let Some(place) = place else { return Ok(None) };
        let Rendezvous { rank, size, .. } = place.meeting;
        let local = place.local_rank;
        if rank >= size {
            return Err(wrong(
                "the rank",
                rank,
                &format!("the ranks of {size} processes are 0 to {}", size - 1),
            ));
        }
        if local > rank {
            return Err(wrong(
                "LOCAL_RANK",
                local,
                &format!("the rank among all hosts' processes, {rank}, cannot be less"),
            ));
        }
        Ok(Some(place))
    }
}

/// What the variables of torchrun say.
enum Launched {
    /// Nothing.
    Not,
    /// There is one process.
    Alone,
    As(Place),
}

struct Variables<'a>(&'a dyn Fn(&str) -> Option<String>);

impl Variables<'_> {
    fn get(&self, name: &str) -> Option<String> {
        (self.0)(name)
    }

    fn number<T: FromStr>(&self, name: &str) -> Result<Option<T>, BadInput> {
        let parse = |value: String| {
            value.parse().map_err(|_| wrong(name, format!("`{value}`"), "a number is expected"))
        };
        self.get(name).map(parse).transpose()
    }

    fn of_torchrun(&self) -> Result<Launched, BadInput> {
        let (rank, size) = (self.number("RANK")?, self.number::<usize>("WORLD_SIZE")?);
        let local: Option<usize> = self.number("LOCAL_RANK")?;
        if size == Some(1) && rank.unwrap_or(0) == 0 {
            return Ok(Launched::Alone);
        }
        let Some(one) = [
            ("RANK", rank.is_some()),
            ("WORLD_SIZE", size.is_some()),
            ("LOCAL_RANK", local.is_some()),
        ]
        .into_iter()
        .find_map(|(name, there)| there.then_some(name)) else {
            return Ok(Launched::Not);
        };
        let size = needed(size, "WORLD_SIZE", one)?;
        if size == 0 {
            return Err(wrong("WORLD_SIZE", size, "there is at least one process"));
        }
        let meeting = Rendezvous {
            rank: needed(rank, "RANK", one)?,
            size,
            address: needed(self.get("MASTER_ADDR"), "MASTER_ADDR", one)?,
            port: needed(self.port()?, "MASTER_PORT", one)?,
            timeout: self.timeout()?,
        };
        let local_rank = needed(local, "LOCAL_RANK", one)?;
        // torchrun hosts the store itself, for all of its attempts, and says so as Python prints it.
        let agents = self.get("TORCHELASTIC_USE_AGENT_STORE").is_some_and(|value| value == "True");
        let attempt = self.get("TORCHELASTIC_RESTART_COUNT").unwrap_or_default();
        let prefix = agents.then(|| format!("neutral/attempt {attempt}"));
        Ok(Launched::As(Place { meeting, prefix, local_rank }))
    }

    /// In a step of srun's with several tasks, each is a process of the group. A batch script's own process, which
    /// is none, has SLURM's variables too, and those of a step if it was submitted from within one; but then the
    /// numbers of tasks differ, which srun sets both.
    fn of_srun(&self) -> Result<Option<Place>, BadInput> {
        let step: Option<u64> = self.number("SLURM_STEP_ID").unwrap_or_default();
        let tasks: Option<usize> = self.number("SLURM_STEP_NUM_TASKS")?;
        let all = self.number("SLURM_NTASKS")?;
        let (Some(step), Some(size)) =
            (step, tasks.filter(|tasks| *tasks > 1 && all == Some(*tasks)))
        else {
            return Ok(None);
        };
        let because = "SLURM_STEP_NUM_TASKS";
        let rank = needed(self.number("SLURM_PROCID")?, "SLURM_PROCID", because)?;
        let local_rank = needed(self.number("SLURM_LOCALID")?, "SLURM_LOCALID", because)?;
        let job: u64 = needed(self.number("SLURM_JOB_ID")?, "SLURM_JOB_ID", because)?;
        // Those of the job script, if it names a place.
        let address = self.get("MASTER_ADDR");
        let address = address.or_else(|| first_host(&self.get("SLURM_STEP_NODELIST")?));
        let meeting = Rendezvous {
            rank,
            size,
            address: needed(address, "SLURM_STEP_NODELIST", because)?,
            port: self.port()?.unwrap_or_else(|| port_of(job, step)),
            timeout: self.timeout()?,
        };
        Ok(Some(Place { meeting, prefix: None, local_rank }))
    }

    fn port(&self) -> Result<Option<u16>, BadInput> {
        match self.number("MASTER_PORT")? {
            Some(0) => {
                Err(wrong("MASTER_PORT", 0, "all processes must know the port: write 1 to 65535"))
            }
            port => Ok(port),
        }
    }

    fn timeout(&self) -> Result<Duration, BadInput> {
        match self.number(TIMEOUT)? {
            Some(0) => Err(wrong(TIMEOUT, 0, "write at least one second")),
            seconds => Ok(seconds.map_or(DEFAULT_TIMEOUT, Duration::from_secs)),
        }
    }
}

/// A variable that must be there because another one is.
fn needed<T>(found: Option<T>, name: &str, because: &str) -> Result<T, BadInput> {
    found.ok_or_else(|| {
        let message = format!(
            "{because} is set and {name} is not: `neutral launch` and torchrun set RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT, srun its own; all are needed, or none, for a single process, {because} included"
        );
        BadInput(message)
    })
}

fn wrong(name: &str, found: impl Display, right: &str) -> BadInput {
    BadInput(format!("{name} of this process's environment is {found}; {right}"))
}

/// The first of SLURM's list of hosts, where rank 0 runs: `n[03-05,9],m1` has `n03`.
fn first_host(list: &str) -> Option<String> {
    let mut host = String::new();
    let mut rest = list;
    loop {
        let end = rest.find(['[', ',']).unwrap_or(rest.len());
        host.push_str(&rest[..end]);
        if !rest[end..].starts_with('[') {
            return Some(host).filter(|host| !host.is_empty());
        }
        let (numbers, after) = rest[end + 1..].split_once(']')?;
        host.push_str(&numbers[..numbers.find(['-', ',']).unwrap_or(numbers.len())]);
        rest = after;
    }
}

/// A port that all tasks of a step know, and steps of one host seldom share: below those that systems give
/// to whoever asks for any.
fn port_of(job: u64, step: u64) -> u16 {
    const FIRST: u64 = 15_000;
    const COUNT: u64 = 15_000;
    (FIRST + (job.wrapping_mul(7) + step) % COUNT) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Option<Place>, String> {
        let get = |name: &str| {
            let found = variables.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        Place::read(&get).map_err(|error| error.0)
    }

    const TORCHRUN: [(&str, &str); 5] = [
        ("RANK", "5"),
        ("WORLD_SIZE", "8"),
        ("LOCAL_RANK", "1"),
        ("MASTER_ADDR", "node7"),
        ("MASTER_PORT", "29500"),
    ];

    const SRUN: [(&str, &str); 7] = [
        ("SLURM_NTASKS", "4"),
        ("SLURM_JOB_ID", "1234"),
        ("SLURM_STEP_ID", "0"),
        ("SLURM_STEP_NUM_TASKS", "4"),
        ("SLURM_PROCID", "3"),
        ("SLURM_LOCALID", "1"),
        ("SLURM_STEP_NODELIST", "gpu[07-08]"),
    ];

    fn with<const N: usize>(
        mut all: [(&'static str, &'static str); N],
        name: &str,
        value: &'static str,
    ) -> [(&'static str, &'static str); N] {
        all.iter_mut().find(|(key, _)| *key == name).unwrap().1 = value;
        all
    }

    #[test]
    fn torchruns_variables_are_a_place() {
        let place = read(&TORCHRUN).unwrap().unwrap();
        let timeout = DEFAULT_TIMEOUT;
        let meeting =
            Rendezvous { rank: 5, size: 8, address: "node7".to_owned(), port: 29500, timeout };
        assert_eq!(place, Place { meeting, prefix: None, local_rank: 1 });
        let all = [&TORCHRUN[..], &[(TIMEOUT, "30")]].concat();
        assert_eq!(read(&all).unwrap().unwrap().meeting.timeout, Duration::from_secs(30));
        let all = [
            &TORCHRUN[..],
            &[("TORCHELASTIC_USE_AGENT_STORE", "True"), ("TORCHELASTIC_RESTART_COUNT", "2")],
        ];
        let prefix = read(&all.concat()).unwrap().unwrap().prefix;
        assert_eq!(prefix.as_deref(), Some("neutral/attempt 2"));
        // One torchrun a node, each started by srun.
        assert_eq!(read(&[&TORCHRUN[..], &SRUN].concat()).unwrap().unwrap(), place);
    }

    #[test]
    fn one_process_is_no_group() {
        let alone: [&[(&str, &str)]; 4] = [
            &[],
            &[("WORLD_SIZE", "1")],
            &with(with(TORCHRUN, "WORLD_SIZE", "1"), "RANK", "0"),
            // A script may name a place for others.
            &[("MASTER_ADDR", "a"), ("MASTER_PORT", "1")],
        ];
        for variables in alone {
            assert_eq!(read(variables).unwrap(), None, "{variables:?}");
        }
    }

    #[test]
    fn half_a_place_and_a_contradiction_are_named() {
        for missing in 0..TORCHRUN.len() {
            let mut some = TORCHRUN.to_vec();
            let (name, _) = some.remove(missing);
            let error = read(&some).unwrap_err();
            assert!(error.contains(&format!("is set and {name} is not")), "{name}: {error}");
        }
        assert!(read(&[("LOCAL_RANK", "0")]).unwrap_err().contains("LOCAL_RANK is set"));
        let cases = [
            ("RANK", "8", "is 8; the ranks of 8 processes are 0 to 7"),
            ("RANK", "-1", "RANK of this process's environment is `-1`; a number is expected"),
            ("RANK", "0", "LOCAL_RANK of this process's environment is 1; the rank"),
            ("WORLD_SIZE", "0", "WORLD_SIZE of this process's environment is 0; there is at least"),
            ("WORLD_SIZE", "1", "is 5; the ranks of 1 processes are 0 to 0"),
            ("MASTER_PORT", "0", "MASTER_PORT of this process's environment is 0; all processes"),
            ("MASTER_PORT", "70000", "is `70000`; a number is expected"),
        ];
        for (name, value, expected) in cases {
            let error = read(&with(TORCHRUN, name, value)).unwrap_err();
            assert!(error.contains(expected), "{name}={value}: {error}");
        }
    }

    #[test]
    fn tasks_of_a_step_of_srun_are_a_group() {
        let Place { meeting, local_rank, .. } = read(&SRUN).unwrap().unwrap();
        assert_eq!((meeting.rank, meeting.size, local_rank), (3, 4, 1));
        assert_eq!(meeting.address, "gpu07");
        assert_eq!(meeting.port, port_of(1234, 0));
        let named = [("MASTER_ADDR", "here"), ("MASTER_PORT", "77")];
        let place = read(&[&SRUN[..], &named].concat()).unwrap().unwrap();
        assert_eq!((place.meeting.address.as_str(), place.meeting.port), ("here", 77));
        let error = read(&SRUN[..6]).unwrap_err();
        assert!(error.contains("SLURM_STEP_NODELIST is not"), "{error}");
    }

    #[test]
    fn a_batch_script_and_a_step_of_one_task_are_no_group() {
        // A job of four tasks, whose script has not called srun.
        let batch = [("SLURM_JOB_ID", "9"), ("SLURM_NTASKS", "4"), ("SLURM_PROCID", "0")];
        assert_eq!(read(&batch).unwrap(), None);
        assert_eq!(read(&with(SRUN, "SLURM_STEP_NUM_TASKS", "1")).unwrap(), None);
        // A job of one task that was submitted in a step of four.
        assert_eq!(read(&with(SRUN, "SLURM_NTASKS", "1")).unwrap(), None);
        assert_eq!(read(&with(SRUN, "SLURM_STEP_ID", "batch")).unwrap(), None);
    }

    #[test]
    fn the_first_of_slurms_hosts_is_found() {
        let cases = [
            ("node1", Some("node1")),
            ("node1,node2", Some("node1")),
            ("gpu[07-08]", Some("gpu07")),
            ("gpu[3,5-9],cpu1", Some("gpu3")),
            ("r1-n[2-3]-x,other", Some("r1-n2-x")),
            ("r[1-2]n[04-05]", Some("r1n04")),
            ("", None),
            ("r[1", None),
        ];
        for (list, host) in cases {
            assert_eq!(first_host(list).as_deref(), host, "{list}");
        }
    }
}
