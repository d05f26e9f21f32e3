//! What the processes of a group but the first do in a run: train with it whatever it trains, and forget the result.

use std::sync::atomic::Ordering;

use neutral_model::ModelFolder;
use neutral_spec::Trial;
use neutral_torch::Group;

use crate::exit::{Interrupted, is_interrupted};
use crate::group::{Next, is_shared};
use crate::session::Setting;
use crate::trial::Shared;

/// Follows the leader until its run ends, however that does.
pub(crate) fn run(
    setting: &Setting<'_>,
    folder: Option<ModelFolder>,
    group: &Group,
) -> anyhow::Result<()> {
    let mut interrupted = false;
    follow(setting, folder, group, &mut interrupted)?;
    group.leave(super::PATIENCE)?;
    if interrupted || setting.stop.load(Ordering::SeqCst) {
        Err(Interrupted.into())
    } else {
        Ok(())
    }
}

fn follow(
    setting: &Setting<'_>,
    folder: Option<ModelFolder>,
    group: &Group,
    interrupted: &mut bool,
) -> anyhow::Result<()> {
    let mut ended = |done: anyhow::Result<()>| match done {
        Err(error) if is_interrupted(&error) => {
            *interrupted = true;
            Ok(())
        }
        // The leader states it.
        Err(error) if is_shared(&error) => Ok(()),
        done => done,
    };
    // The leader speaks once it has the text, so that it is in the cache.
    let mut next = hear(group)?;
    if next == Next::End {
        return Ok(());
    }
    let inputs = setting.inputs(folder.as_ref())?;
    if next == Next::Base {
        ended(setting.pretraining(&inputs).follow())?;
        next = hear(group)?;
    }
    if next == Next::End {
        return Ok(());
    }
    let session = setting.opened(inputs, folder)?;
    let shared = session.shared();
    while let Next::Trial(id) = &next {
        ended(shared.follow(setting.trial(id)?))?;
        next = hear(group)?;
    }
    anyhow::ensure!(next == Next::End, "the leader pretrains a base after its first trial");
    Ok(())
}

fn hear(group: &Group) -> anyhow::Result<Next> {
    Ok(serde_json::from_str(&group.listen()?)?)
}

impl Shared<'_> {
    /// The training of a trial, as [`Shared::attempt`] does it, and nothing besides.
    fn follow(&self, trial: &Trial) -> anyhow::Result<()> {
        let (mut model, mut extension) = self.build(trial, &self.file(trial)?)?;
        self.train(trial, &mut model, &mut extension).map(drop)
    }
}
