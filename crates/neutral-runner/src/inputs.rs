//! The text of a plan as tokens: corpora, tokenizer, shards, documents to score.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context;
use neutral_data::{
    CleanCorpus, Control, EvalDocument, Manifests, Split, TokenShards, Tokenizer,
    evaluation_documents, prepare,
};
use neutral_model::ModelFolder;
use neutral_spec::{
    BaseSpec, BosPolicy, CorpusRef, DataSpec, Evaluation, EvaluationSplit, MixedCorpus, Plan,
    TokenizerSpec,
};
use neutral_store::{Cache, Fingerprint};

use crate::exit::BadInput;
use crate::model_source;

/// Everything that is read, prepared once a run and shared by its trials.
pub(crate) struct Inputs {
    corpora: BTreeMap<CorpusRef, CleanCorpus>,
    /// Text to tokens.
    pub tokenizer: Tokenizer,
    /// Training tokens, once they are checked: that reads all of them.
    shards: RefCell<BTreeMap<CorpusRef, TokenShards>>,
    cache: Cache,
    control: Control,
}

impl Inputs {
    /// Fetches, cleans and tokenises whatever the plan names and the cache lacks.
    pub(crate) fn prepare(
        plan: &Plan,
        experiment_folder: &Path,
        loaded: Option<&ModelFolder>,
        manifests: &Manifests,
        cache: &Cache,
        control: &Control,
    ) -> anyhow::Result<Self> {
        let mut corpora = BTreeMap::new();
        for reference in plan.corpora() {
            let corpus = prepare(&reference, manifests, cache, control).map_err(|error| {
                let fallback = plan.if_unavailable.as_ref().filter(|_| error.is_elsewhere());
                let error = anyhow::Error::new(error);
                match fallback {
                    Some(file) => error.context(format!(
                        "{reference} cannot be had on this machine; `{file}` asks the same question of other text"
                    )),
                    None => error,
                }
            })?;
            corpora.insert(reference, corpus);
        }
        for (reference, split) in splits(plan) {
            corpora[reference].check(split)?;
        }
        let tokenizer = match &plan.tokenizer {
            TokenizerSpec::Train { vocab_size, corpora: names } => {
                let text: Vec<_> = names.iter().map(|name| corpora[name].clone()).collect();
                Tokenizer::train(&text, *vocab_size, cache, control)?
            }
            TokenizerSpec::Load { path } => Tokenizer::load(&experiment_folder.join(path))?,
            TokenizerSpec::Base { bos } => {
                let folder = loaded.ok_or_else(|| BadInput("the base is not loaded".to_owned()))?;
                let tokenizer = model_source::tokenizer(folder)?;
                match bos {
                    BosPolicy::EverySequence => tokenizer.beginning_sequences()?,
                    BosPolicy::EveryDocument => {
                        warn_of_missing_bos(folder);
                        tokenizer
                    }
                }
            }
        };
        let (shards, cache, control) = (RefCell::default(), cache.clone(), control.clone());
        Ok(Self { corpora, tokenizer, shards, cache, control })
    }

    /// The training tokens of some corpora.
    pub(crate) fn shards<'a>(
        &self,
        references: impl IntoIterator<Item = &'a CorpusRef>,
    ) -> anyhow::Result<Vec<TokenShards>> {
        let mut known = self.shards.borrow_mut();
        let shards = references.into_iter().map(|reference| {
            if let Some(shards) = known.get(reference) {
                return Ok(shards.clone());
            }
            let Self { corpora, tokenizer, cache, control, .. } = self;
            let corpus = &corpora[reference];
            let shards = TokenShards::build(corpus, Split::Train, tokenizer, cache, control)?;
            known.insert(reference.clone(), shards.clone());
            Ok(shards)
        });
        shards.collect()
    }

    /// Those that a trial's mix is drawn from, by domain; none of one that has no share in it.
    pub(crate) fn mixed(&self, data: &DataSpec) -> anyhow::Result<[Vec<TokenShards>; 2]> {
        let [original, new] =
            data.mixed().map(|corpora| self.shards(MixedCorpus::corpora(corpora)));
        Ok([original?, new?])
    }

    /// The held-out documents of a corpus.
    pub(crate) fn documents(
        &self,
        reference: &CorpusRef,
        split: EvaluationSplit,
        max_bytes: Option<u64>,
    ) -> anyhow::Result<Vec<EvalDocument>> {
        let (corpus, split) = (&self.corpora[reference], scored(split));
        Ok(evaluation_documents(corpus, split, max_bytes, &self.tokenizer)?)
    }

    /// Fingerprint of the tokenizer and of the cleaned text of some corpora.
    pub(crate) fn fingerprint<'a>(
        &self,
        references: impl IntoIterator<Item = &'a CorpusRef>,
    ) -> Fingerprint {
        let text = references.into_iter().map(|reference| {
            let corpus = &self.corpora[reference];
            // The checksum is of all splits in a row, so the splits' sizes say where they part.
            let sizes = Split::ALL.map(|split| corpus.bytes(split));
            (reference, (corpus.sha256(), sizes))
        });
        let text: BTreeMap<_, _> = text.collect();
        Fingerprint::of(&(self.tokenizer.fingerprint(), text))
    }
}

/// What is known of families whose models break down where nothing stands before a text.
fn warn_of_missing_bos(folder: &ModelFolder) {
    let family = folder.config_json()["model_type"].as_str().unwrap_or_default();
    if family.starts_with("gemma") {
        tracing::warn!(
            "{family} predicts badly what does not begin with BOS, as all but the first sequence and window of a document do not; write `tokenizer: {{ kind: base, bos: every_sequence }}`"
        );
    }
}

/// The splits that are read, so that one without documents is known before a base is pretrained.
fn splits(plan: &Plan) -> impl Iterator<Item = (&CorpusRef, Split)> {
    let Evaluation { original, new, split, .. } = &plan.evaluation;
    let scored = original.iter().chain(new).map(|corpus| (corpus, scored(*split)));
    let base = match &plan.base {
        BaseSpec::Pretrain { corpora, .. } => &corpora[..],
        BaseSpec::Load { .. } => &[],
    };
    let mixed = plan.trials.iter().flat_map(|trial| trial.data.mixed());
    let trained = base.iter().chain(mixed.flat_map(MixedCorpus::corpora));
    scored.chain(trained.map(|corpus| (corpus, Split::Train)))
}

/// The split of a corpus that an evaluation names.
pub(crate) fn scored(split: EvaluationSplit) -> Split {
    match split {
        EvaluationSplit::Valid => Split::Valid,
        EvaluationSplit::Test => Split::Test,
    }
}

/// The manifests of the folders given, else of `data-manifests` in `start` or the nearest folder above.
pub(crate) fn manifests(given: &[PathBuf], start: &Path) -> anyhow::Result<Manifests> {
    match given {
        [] => Ok(Manifests::read(&[find_upwards(start, "data-manifests", "--manifests")?])?),
        folders => Ok(Manifests::read(folders)?),
    }
}

/// A folder of a name, here or above, which `flag` names too.
pub(crate) fn find_upwards(start: &Path, name: &str, flag: &str) -> anyhow::Result<PathBuf> {
    let start = if start.as_os_str().is_empty() { Path::new(".") } else { start };
    let start = start.canonicalize().with_context(|| format!("cannot find {}", start.display()))?;
    let found = start.ancestors().map(|folder| folder.join(name)).find(|f| f.is_dir());
    found.ok_or_else(|| {
        let message =
            format!("no folder `{name}` in {} or above it; name one with {flag}", start.display());
        BadInput(message).into()
    })
}
