//! One extension after another: methods that go on from what another one made of the base.

use crate::cost::kl_to_the_base;
use crate::error::Problem;
use crate::experiment::Experiment;
use crate::field_path::FieldPath;
use crate::method::Method;
use crate::plan::{After, Trial};
use crate::validate::{label, no_label, once_a_seed};

/// What is wrong with an experiment's sequences.
pub(crate) fn check(experiment: &Experiment, found: &mut Vec<Problem>) {
    for (entry, method) in experiment.methods.iter().enumerate() {
        let Some(after) = &method.after else { continue };
        let path = FieldPath::dotted("methods").index(entry).key("after");
        let messages = if let Some(before) = before(experiment, entry) {
            once_a_seed(experiment, before)
        } else {
            vec![unknown(after, experiment, entry)]
        };
        found.extend(messages.into_iter().map(|message| Problem::new(path.clone(), message)));
    }
}

fn unknown(after: &str, experiment: &Experiment, entry: usize) -> String {
    let above: Vec<_> = (0..entry).map(|i| label(experiment, i).0).collect();
    let above: Vec<_> = above.iter().map(String::as_str).collect();
    no_label(after, "no method above this one", &above)
}

/// Links the trials of methods that have an `after`, in the order of the plan.
pub(crate) fn link(experiment: &Experiment, trials: &mut [Trial]) {
    for at in 0..trials.len() {
        let (above, trial) = trials.split_at_mut(at);
        let trial = &mut trial[0];
        let entry = (0..experiment.methods.len()).find(|&i| label(experiment, i).0 == trial.label);
        let Some(after) = entry.and_then(|entry| experiment.methods[entry].after.as_ref()) else {
            continue;
        };
        let before = above.iter().find(|t| t.label == *after && t.seed == trial.seed);
        trial.after = before
            .map(|before| After { trial: before.id.clone(), fingerprint: before.fingerprint() });
    }
}

/// The entry that one goes on from: above it, so that there are no circles.
fn before(experiment: &Experiment, entry: usize) -> Option<usize> {
    let after = experiment.methods[entry].after.as_ref()?;
    (0..entry).find(|&above| label(experiment, above).0 == *after)
}

/// Why a method, with a sweep's values in place, cannot stand on those before its entry.
pub(crate) fn misfit(experiment: &Experiment, entry: usize, own: &Method) -> Option<String> {
    let below = std::iter::successors(before(experiment, entry), |&at| before(experiment, at));
    let below: Vec<&Method> = below.map(|at| &experiment.methods[at].method).collect();
    let has = |what: fn(&Method) -> bool| below.iter().any(|method| what(method));
    let to_the_base = kl_to_the_base(own).is_some();
    let why = if matches!(own, Method::Dora { .. })
        && has(|m| matches!(m, Method::Lora { .. } | Method::Dora { .. }))
    {
        "DoRA scales the weights of a layer, and one of the methods before it has changed the layer's output already"
    } else if matches!(own, Method::BlockExpansion { .. })
        && has(|m| matches!(m, Method::BlockExpansion { .. }))
    {
        "blocks would come above blocks that are new themselves"
    } else if to_the_base && has(|m| !m.trains_base()) {
        "its KL is to a base without extensions, and one of the methods before it adds one"
    } else {
        return None;
    };
    Some(format!("`{}` cannot go on from here: {why}", own.kind()))
}
