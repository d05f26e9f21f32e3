//! The table of `neutral status`.

use std::fmt::Write;

use jiff::tz::TimeZone;
use jiff::{Timestamp, Unit};

use crate::status::{RunStatus, State, TrialStatus};
use crate::table::aligned;

const HEAD: [&str; 7] = ["trial", "state", "step", "tokens/s", "ends", "node", "failures"];

/// The run in one line, then a line a trial.
pub(crate) fn table(status: &RunStatus, now: Timestamp) -> String {
    let mut out = String::new();
    let count = |state| status.trials.iter().filter(|trial| trial.state == state).count();
    let all = [
        State::Finished,
        State::Running,
        State::Queued,
        State::Waiting,
        State::Stopped,
        State::Failed,
        State::Diverged,
    ];
    let counts = all.into_iter().filter(|state| count(*state) > 0);
    let counts: Vec<_> = counts.map(|state| format!("{} {}", count(state), name(state))).collect();
    let _ = writeln!(
        out,
        "{}: {} trials, {}",
        status.experiment,
        status.trials.len(),
        counts.join(", ")
    );
    if let Some(executor) = &status.executor {
        let _ = writeln!(out, "executor: {executor}");
    }
    for (unit, state) in &status.shared {
        let _ = writeln!(out, "{unit}: {state}");
    }
    let trials = status.trials.iter().map(|trial| row(trial, now));
    let rows: Vec<_> = std::iter::once(HEAD.map(str::to_owned).to_vec()).chain(trials).collect();
    out.push('\n');
    // Words to the left, numbers to the right.
    out += &aligned(&rows, &[false, false, true, true, true, false, true]);
    out
}

fn row(trial: &TrialStatus, now: Timestamp) -> Vec<String> {
    vec![
        trial.trial.clone(),
        name(trial.state).to_owned(),
        format!("{}/{}", trial.step, trial.steps),
        trial.tokens_per_second.map_or(String::new(), |speed| format!("{speed:.0}")),
        trial.ends.map_or(String::new(), |ends| when(ends, now)),
        trial.node.clone().unwrap_or_default(),
        if trial.failures == 0 { String::new() } else { trial.failures.to_string() },
    ]
}

/// The local time, with the date if it is another day.
fn when(time: Timestamp, now: Timestamp) -> String {
    let zone = TimeZone::system();
    let (time, now) = (time.to_zoned_datetime(zone.clone()), now.to_zoned_datetime(zone));
    let time = time.round(Unit::Minute).unwrap_or(time);
    let form = if time.date() == now.date() { "%H:%M" } else { "%Y-%m-%d %H:%M" };
    time.strftime(form).to_string()
}

fn name(state: State) -> &'static str {
    match state {
        State::Waiting => "waiting",
        State::Queued => "queued",
        State::Running => "running",
        State::Stopped => "stopped",
        State::Failed => "failed",
        State::Diverged => "diverged",
        State::Finished => "finished",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn the_table_has_a_line_a_trial() {
        let trial = |id: &str, state, step| TrialStatus {
            trial: id.to_owned(),
            state,
            step,
            steps: 40,
            tokens_per_second: (step > 0).then_some(1234.5),
            ends: None,
            node: (step > 0).then(|| "node7".to_owned()),
            failures: usize::from(state == State::Failed),
        };
        let status = RunStatus {
            experiment: "smoke".to_owned(),
            executor: Some("slurm, jobs 11, 12, 13".to_owned()),
            shared: BTreeMap::from([("collect".to_owned(), "PENDING (Dependency)".to_owned())]),
            trials: vec![
                trial("lora-s0", State::Running, 20),
                trial("adapter-s0", State::Failed, 3),
                trial("finetune-s0", State::Queued, 0),
            ],
        };
        let expected = "\
smoke: 3 trials, 1 running, 1 queued, 1 failed
executor: slurm, jobs 11, 12, 13
collect: PENDING (Dependency)

trial        state     step  tokens/s  ends  node   failures
lora-s0      running  20/40      1234        node7
adapter-s0   failed    3/40      1234        node7         1
finetune-s0  queued    0/40
";
        assert_eq!(table(&status, Timestamp::UNIX_EPOCH), expected);
    }
}
