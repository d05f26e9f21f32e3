//! What determines a trial: its fingerprints, and the seed of what it draws.

use neutral_spec::Trial;
use neutral_store::Fingerprint;

use crate::numerics::{DRAWS_AFTER, NUMERICS_VERSION, version_of};
use crate::trial::Shared;

impl Shared<'_> {
    /// Fingerprint of everything that determines a trial's result.
    pub(crate) fn fingerprint(&self, trial: &Trial) -> Fingerprint {
        let evaluation = &self.plan.evaluation;
        let scored = evaluation.original.iter().chain(&evaluation.new);
        let own = (
            NUMERICS_VERSION,
            trial.fingerprint(),
            &self.base.fingerprint,
            self.inputs.fingerprint(trial.data.corpora()),
            self.inputs.fingerprint(scored),
            evaluation,
        );
        let before = self.before(trial).map(|before| (self.fingerprint(before), DRAWS_AFTER));
        match (before, version_of(&trial.method, self.plan.precision)) {
            (None, None) => Fingerprint::of(&own),
            (Some(before), None) => Fingerprint::of(&(own, before)),
            (None, Some(version)) => Fingerprint::of(&(own, version)),
            (Some(before), Some(version)) => Fingerprint::of(&(own, before, version)),
        }
    }

    /// Fingerprint of everything that determines what a trial's training makes; not of what is scored.
    pub(crate) fn training_fingerprint(&self, trial: &Trial) -> Fingerprint {
        let before = self.before(trial).map(|before| self.training_fingerprint(before));
        Fingerprint::of(&(
            NUMERICS_VERSION,
            trial.fingerprint(),
            &self.base.fingerprint,
            self.inputs.fingerprint(trial.data.corpora()),
            before.map(|before| (before, DRAWS_AFTER)),
            version_of(&trial.method, self.plan.precision),
        ))
    }

    /// The seed of what a trial draws, its start and the order of its text: not that of the trials that it goes on
    /// from, whose draws it would repeat.
    pub(crate) fn draws(&self, trial: &Trial) -> u64 {
        let before = std::iter::successors(self.before(trial), |trial| self.before(trial));
        trial.seed ^ ((before.count() as u64) << 32)
    }

    /// The trial that one goes on from.
    pub(crate) fn before(&self, trial: &Trial) -> Option<&Trial> {
        trial.after.as_ref().and_then(|after| self.plan.trial(&after.trial))
    }
}
