//! `base.json`: what the pristine base scored on every document and answered to tasks, and what makes it comparable with another
//! run's; `neutral check` reads it.

use neutral_check::{AllAnswers, BaseFile, Documents, Fingerprints};
use neutral_spec::{BaseSpec, Plan};
use neutral_store::Fingerprint;

use crate::base::Base;
use crate::inputs::Inputs;
use crate::scores::{Scores, of_scores};

/// The base of a run.
///
/// Its fingerprints leave out `NUMERICS_VERSION`: whether a change of the numerics made anything worse is what
/// a check is for.
pub(crate) fn describe(
    plan: &Plan,
    inputs: &Inputs,
    base: &Base,
    scores: &Scores,
    tasks: AllAnswers,
) -> BaseFile {
    let evaluation = &plan.evaluation;
    let corpora = evaluation.original.iter().chain(&evaluation.new);
    let text = |corpus| (format!("{corpus}"), inputs.fingerprint([corpus]));
    let fingerprints = Fingerprints {
        tokenizer: Fingerprint::of(&inputs.tokenizer.fingerprint()),
        base: match &plan.base {
            BaseSpec::Pretrain { corpora, .. } => {
                Fingerprint::of(&(&plan.base, inputs.fingerprint(corpora)))
            }
            BaseSpec::Load { .. } => Fingerprint::of(&base.digest),
        },
        scoring: Fingerprint::of(&(
            evaluation.split,
            evaluation.max_bytes,
            evaluation.window,
            inputs.tokenizer.separator_id(),
        )),
        precision: plan.precision.name().to_owned(),
        corpora: corpora.map(text).collect(),
    };
    BaseFile {
        fingerprints,
        documents: of_scores(scores, |score| Documents {
            ids: score.per_document.iter().map(|document| document.id.clone()).collect(),
            bytes: score.per_document.iter().map(|document| document.bytes).collect(),
        }),
        nats: of_scores(scores, |score| {
            score.per_document.iter().map(|document| document.nats).collect()
        }),
        tasks,
    }
}
