//! `neutral data`: what the manifests offer, and what comes out of a corpus.

use std::io::Write;
use std::path::Path;

use indicatif::MultiProgress;
use neutral_data::{Control, Split, prepare};
use neutral_spec::CorpusRef;
use neutral_store::Cache;

use crate::cli::DataArgs;
use crate::exit::BadInput;
use crate::{inputs, signals};

/// Lists all corpora, or prepares the named ones and prints their sizes and checksums.
pub(crate) fn run(args: &DataArgs, bars: &MultiProgress) -> anyhow::Result<()> {
    let manifests = inputs::manifests(&args.manifests, Path::new("."))?;
    let mut out = std::io::stdout().lock();
    if args.corpora.is_empty() {
        for name in manifests.names() {
            let reference = CorpusRef::try_from(name).map_err(BadInput)?;
            let (licence, description) = manifests.about(&reference)?;
            writeln!(out, "{:24} {licence:24} {description}", reference.to_string())?;
        }
        return Ok(());
    }
    let cache = Cache::from_env()?;
    let control = Control::new(bars.clone(), signals::stop_flag()?);
    writeln!(out, "{:28} {:>11} {:>11} {:>11}  sha256", "corpus", "train bytes", "valid", "test")?;
    for name in &args.corpora {
        let reference = CorpusRef::try_from(name.clone()).map_err(BadInput)?;
        let corpus = prepare(&reference, &manifests, &cache, &control)?;
        let bytes = Split::ALL.map(|split| corpus.bytes(split));
        let [train, valid, test] = bytes;
        writeln!(
            out,
            "{:28} {train:>11} {valid:>11} {test:>11}  {}",
            reference.to_string(),
            corpus.sha256()
        )?;
    }
    Ok(())
}
