//! The units of a run that processes of their own can do: what is shared, one trial, the results.

use std::fmt;
use std::str::FromStr;

use anyhow::anyhow;
use neutral_report::Status;
use neutral_spec::Trial;

use crate::exit::{Interrupted, is_interrupted};
use crate::group;
use crate::session::say_speed;
use crate::trial::Shared;

/// `--only`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Data, tokenizer, base, the base's scores.
    Prepare,
    /// A trial by its id, with all that is measured of it.
    Trial(String),
    /// `results.json` and its tables from the trials that are there.
    Collect,
}

impl FromStr for Unit {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match (text, text.strip_prefix("trial:")) {
            ("prepare", _) => Ok(Self::Prepare),
            ("collect", _) => Ok(Self::Collect),
            (_, Some(id)) if !id.is_empty() => Ok(Self::Trial(id.to_owned())),
            _ => Err("expected prepare, trial:ID or collect".to_owned()),
        }
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Prepare => f.write_str("prepare"),
            Self::Trial(id) => write!(f, "trial:{id}"),
            Self::Collect => f.write_str("collect"),
        }
    }
}

impl Shared<'_> {
    /// A trial and all that is measured of it, for another process to collect; the trials that it goes on from
    /// first, unless they are there.
    pub(crate) fn unit(&self, trial: &Trial) -> anyhow::Result<()> {
        if let Some(before) = self.before(trial) {
            self.unit_before(before, trial)?;
        }
        self.unit_of_fine_tuning(trial)?;
        let Some(_lock) = self.hold(trial)? else { return Err(Interrupted.into()) };
        if self.finished(trial)?.is_some() {
            tracing::info!("{}: finished earlier, kept", trial.id);
        } else {
            say_speed(trial, &self.attempt(trial)?);
        }
        let mut interrupted = false;
        self.against_base(trial, &mut interrupted)?;
        self.trial_tasks(trial, &mut interrupted)?;
        if interrupted { Err(Interrupted.into()) } else { Ok(()) }
    }

    /// The fine-tuning that a trial of WiSE-FT takes its training from, which saves a second one. Its failure is no
    /// reason for another.
    fn unit_of_fine_tuning(&self, trial: &Trial) -> anyhow::Result<()> {
        let Some(tuned) = self.fine_tuning_of(trial) else { return Ok(()) };
        if self.finished(trial)?.is_some() || self.finished(tuned)?.is_some() {
            return Ok(());
        }
        match self.unit(tuned) {
            Err(error) if is_interrupted(&error) => Err(error),
            // Others are in the middle of that training, if they are there at all.
            Err(error) if self.group.is_some() && !group::is_shared(&error) => Err(error),
            Err(error) => {
                tracing::warn!("{}: trains itself, as {} failed: {error:#}", trial.id, tuned.id);
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    /// What a trial goes on from. Why that failed is why the trial fails; a divergence is not tried again.
    fn unit_before(&self, before: &Trial, trial: &Trial) -> anyhow::Result<()> {
        let mut failure = self.failed_before(trial)?.filter(|f| f.status == Status::Diverged);
        if failure.is_none()
            && let Err(error) = self.unit(before)
        {
            failure = if is_interrupted(&error) { None } else { self.failed_before(trial)? };
            if failure.is_none() {
                return Err(error);
            }
        }
        let Some(failure) = failure else { return Ok(()) };
        failure.keep(&self.folder(trial));
        Err(anyhow!("{}: {}", trial.id, failure.error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_read_and_written() {
        for text in ["prepare", "trial:lora-s0", "collect"] {
            assert_eq!(text.parse::<Unit>().unwrap().to_string(), text);
        }
        for text in ["", "trial:", "trial", "lora-s0"] {
            assert!(text.parse::<Unit>().is_err(), "{text}");
        }
    }
}
