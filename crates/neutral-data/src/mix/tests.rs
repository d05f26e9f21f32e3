use super::*;
use crate::shards::tests::shard_of;
use std::collections::BTreeMap;

const T: usize = 4;

fn config(original_fraction: f64, seed: u64) -> MixConfig {
    MixConfig { original_fraction, sequence_length: T, seed }
}

/// Original tokens are 1000.., those of the new files 2000.., 2900.. and 3000..
fn stream(p: f64, seed: u64) -> MixedStream {
    static FILES: std::sync::LazyLock<[TokenShards; 4]> =
        std::sync::LazyLock::new(|| [1000..1029, 2000..2021, 2900..2902, 3000..3065].map(shard_of));
    let [original, new @ ..] = FILES.clone();
    MixedStream::new(vec![original], new.to_vec(), config(p, seed)).unwrap()
}

#[test]
fn the_share_is_exact_over_every_prefix() {
    let fractions = [0.0, 1e-9, 0.01, 0.1, 0.3, 1.0 / 3.0, 0.5, 0.7, 0.999, 1.0];
    for p in fractions {
        let stream = stream(p, 1);
        let batch = stream.batch(0, 1000);
        let mut original = 0;
        for (i, domain) in batch.domains.iter().enumerate() {
            original += u64::from(*domain == Domain::Original);
            let n = i as u64 + 1;
            // In integers: what p means is its nearest count of billionths.
            let expected = n * (p * 1e9).round() as u64 / 1_000_000_000;
            assert_eq!(original, expected, "p {p}, first {n} sequences");
            assert_eq!(stream.counts(n), (original, n - original));
        }
    }
    // Far out, where p·i as a float would have lost a sequence.
    assert_eq!(stream(0.1, 0).counts(10_u64.pow(18)).0, 10_u64.pow(17));
    assert_eq!(stream(0.1, 0).counts(10_u64.pow(18) - 1).0, 10_u64.pow(17) - 1);
}

#[test]
fn a_batch_depends_on_its_positions_alone() {
    let stream = stream(0.3, 5);
    let whole = stream.batch(0, 60);
    let mut pieces = Batch::with_capacity(60, T);
    for (first, n) in [(0, 7), (7, 1), (8, 30), (38, 22)] {
        let piece = stream.batch(first, n);
        pieces.sequences += piece.sequences;
        pieces.tokens.extend(piece.tokens);
        pieces.targets.extend(piece.targets);
        pieces.domains.extend(piece.domains);
    }
    assert_eq!(whole, pieces);
}

#[test]
fn a_token_may_begin_every_sequence_and_what_is_predicted_stays() {
    let plain = stream(0.3, 5).batch(7, 20);
    let begun = stream(0.3, 5).beginning_with(Some(77)).batch(7, 20);
    assert_eq!(begun.targets, plain.targets);
    let rows = begun.tokens.chunks(T).zip(plain.tokens.chunks(T));
    assert!(rows.into_iter().all(|(begun, plain)| begun[0] == 77 && begun[1..] == plain[1..]));
}

#[test]
fn an_epoch_holds_every_chunk_of_every_file_once() {
    let stream = stream(0.0, 9);
    // 5 chunks of the first file, none of the second, 16 of the third.
    let mut expected: Vec<u32> = (0..5).map(|c| 2000 + 4 * c).collect();
    expected.extend((0..16).map(|c| 3000 + 4 * c));
    let mut orders = Vec::new();
    for epoch in 0..3 {
        let batch = stream.batch(epoch * 21, 21);
        let starts: Vec<u32> = batch.tokens.iter().step_by(T).copied().collect();
        orders.push(starts.clone());
        let mut sorted = starts;
        sorted.sort_unstable();
        assert_eq!(sorted, expected, "epoch {epoch}");
        // Tokens of the fixture count up, so every target is its token plus one.
        assert!(batch.tokens.iter().zip(&batch.targets).all(|(a, b)| a + 1 == *b));
    }
    assert_ne!(orders[0], orders[1]);
    assert_ne!(orders[1], orders[2]);
}

/// Each domain counts its own sequences: at a quarter, 7 chunks of original text and 21 of new text
/// take 28 positions an epoch.
#[test]
fn in_a_mix_each_domain_has_its_own_epochs() {
    let stream = stream(0.25, 9);
    for epoch in 0..3 {
        let batch = stream.batch(epoch * 28, 28);
        let mut starts: Vec<u32> = batch.tokens.iter().step_by(T).copied().collect();
        starts.sort_unstable();
        let ranges = [(1000, 7), (2000, 5), (3000, 16)];
        let expected = ranges.iter().flat_map(|&(first, n)| (0..n).map(move |c| first + 4 * c));
        assert!(starts.iter().copied().eq(expected), "epoch {epoch}: {starts:?}");
    }
    assert_eq!(stream.passes(3 * 28), (vec![3.0], vec![3.0]));
    assert_eq!(stream.passes(8), (vec![2.0 / 7.0], vec![6.0 / 21.0]));
}

/// Which file each sequence of the new domain is from, by the thousands of its first token.
fn files(stream: &MixedStream, n: usize) -> Vec<u32> {
    stream.batch(0, n).tokens.iter().step_by(T).map(|first| first / 1000).collect()
}

#[test]
fn weights_are_met_over_every_prefix_whatever_the_lengths() {
    let text = [1000..1029, 2000..2021, 3000..3065, 4000..4005].map(shard_of);
    let weights = [0.5, 3.0, 1.0, 1.5];
    for p in [0.0, 0.3] {
        let original = vec![shard_of(9000..9050)];
        let stream = MixedStream::new(original, text.to_vec(), config(p, 7)).unwrap();
        let stream = stream.weighted(Domain::New, &weights).unwrap();
        let files = files(&stream, 3000);
        let mut read = [0.0; 4];
        for (n, file) in files.into_iter().filter(|file| *file != 9).enumerate() {
            read[file as usize - 1] += 1.0;
            for (read, weight) in read.iter().zip(weights) {
                let share = (n + 1) as f64 * weight / 6.0;
                assert!((read - share).abs() < 1.5, "p {p}, {n}: {read} of {share}");
            }
        }
        assert_eq!(stream.counts(3000).0, (3000.0 * p) as u64, "the mix of domains stays");
        let chunks = [7.0, 5.0, 16.0, 1.0];
        let passes: Vec<_> = read.iter().zip(chunks).map(|(read, of)| read / of).collect();
        assert_eq!(stream.passes(3000).1, passes);
    }
}

#[test]
fn weights_of_the_original_domain_hold_within_it() {
    let text = [1000..1029, 2000..2021].map(shard_of).to_vec();
    let stream = MixedStream::new(text, vec![shard_of(9000..9050)], config(0.5, 7)).unwrap();
    let stream = stream.weighted(Domain::Original, &[3.0, 1.0]).unwrap();
    let files = files(&stream, 1600);
    let read = |file| files.iter().filter(|found| **found == file).count() as f64;
    assert!((read(1) - 600.0).abs() < 1.5 && (read(2) - 200.0).abs() < 1.5, "{}", read(1));
    assert_eq!(read(9), 800.0, "the mix of domains stays");
}

#[test]
fn a_weighted_corpus_is_read_once_before_any_of_it_is_read_again() {
    let text = vec![shard_of(1000..1029), shard_of(2000..2021)];
    let stream = MixedStream::new(vec![], text, config(0.0, 1)).unwrap();
    let stream = stream.weighted(Domain::New, &[1.0, 3.0]).unwrap();
    let starts: Vec<u32> = stream.batch(0, 28).tokens.iter().step_by(T).copied().collect();
    let of = |range: std::ops::Range<u32>| -> Vec<u32> {
        starts.iter().copied().filter(|start| range.contains(start)).collect()
    };
    let mut first = of(1000..2000);
    first.sort_unstable();
    assert_eq!(first, (0..7).map(|c| 1000 + 4 * c).collect::<Vec<_>>());
    let mut orders = std::collections::BTreeSet::new();
    for epoch in of(2000..3000).chunks(5).take(4) {
        orders.insert(epoch.to_vec());
        let mut epoch = epoch.to_vec();
        epoch.sort_unstable();
        assert_eq!(epoch, (0..5).map(|c| 2000 + 4 * c).collect::<Vec<_>>());
    }
    assert!(orders.len() > 1, "each epoch has an order of its own");
}

#[test]
fn weights_that_leave_a_corpus_out_are_refused() {
    let weighted = |text: Vec<TokenShards>, weights: &[f64]| {
        let stream = MixedStream::new(vec![], text, config(0.0, 1)).unwrap();
        stream.weighted(Domain::New, weights).map(|_| ()).map_err(|e| e.to_string())
    };
    let text = || vec![shard_of(1000..1029), shard_of(2000..2021)];
    assert_eq!(weighted(text(), &[]), Ok(()));
    assert_eq!(weighted(text(), &[1.0, 2.0]), Ok(()));
    for weights in [[1e-10, 1.0], [1.0, 1e-10]] {
        let told = weighted(text(), &weights).unwrap_err();
        assert!(told.contains("the weight of"), "{told}");
    }
    for weights in [&[1.0][..], &[1.0, 1.0, 1.0]] {
        assert!(weighted(text(), weights).unwrap_err().contains("each of 2 corpora"));
    }
    for bad in [0.0, -0.5, f64::NAN, f64::INFINITY] {
        assert!(weighted(text(), &[1.0, bad]).unwrap_err().contains("above 0"), "{bad}");
    }
    let short = weighted(vec![shard_of(1000..1029), shard_of(2000..2004)], &[1.0, 1.0]);
    let told = short.unwrap_err();
    assert!(told.contains("4 tokens long") && told.contains("new domain"), "{told}");
}

#[test]
fn domains_are_labelled_by_where_the_tokens_are_from() {
    let batch = stream(0.4, 2).batch(0, 200);
    for (row, domain) in batch.tokens.chunks(T).zip(&batch.domains) {
        assert_eq!(row[0] < 2000, *domain == Domain::Original, "{row:?}");
    }
}

#[test]
fn seeds_give_different_orders_of_the_same_text() {
    let orders: std::collections::BTreeSet<_> =
        (0..100).map(|seed| stream(0.0, seed).batch(0, 21).tokens).collect();
    assert_eq!(orders.len(), 100);
    let mut counts = BTreeMap::new();
    for seed in 0..420 {
        *counts.entry(stream(0.0, seed).batch(0, 1).tokens[0]).or_insert(0) += 1;
    }
    // 21 chunks, 20 expected each: no chunk may be first too often or never.
    assert_eq!(counts.len(), 21);
    assert!(counts.values().all(|c| (4..=45).contains(c)), "{counts:?}");
}

#[test]
fn only_needed_domains_must_have_text() {
    let text = || vec![shard_of(0..50)];
    let make = |original, new, p| MixedStream::new(original, new, config(p, 0));
    assert!(make(vec![], text(), 0.0).is_ok());
    assert!(make(text(), vec![], 1.0).is_ok());
    let missing = make(vec![], text(), 0.1).unwrap_err().to_string();
    assert!(missing.contains("original") && missing.contains("5 tokens"), "{missing}");
    let short = make(vec![shard_of(0..4)], text(), 0.1).unwrap_err().to_string();
    assert!(short.contains("is 4 tokens long") && short.contains("5 tokens"), "{short}");
    assert!(make(vec![shard_of(0..5)], text(), 0.1).is_ok(), "T + 1 tokens are enough");
}

#[test]
fn bad_values_are_named() {
    let make = |p, sequence_length| {
        let config = MixConfig { original_fraction: p, sequence_length, seed: 0 };
        MixedStream::new(vec![shard_of(0..50)], vec![shard_of(0..50)], config)
            .map(|_| ())
            .map_err(|e| e.to_string())
    };
    for p in [-0.1, 1.1, f64::NAN, 1e-10, 1.0 - 1e-10] {
        assert!(make(p, 4).unwrap_err().contains("original_fraction"), "{p}");
    }
    assert!(make(0.1, 0).unwrap_err().contains("sequence_length"));
    assert!(make(0.1, 4).is_ok());
    let none = MixedStream::new(vec![], vec![], config(0.1, 0)).unwrap_err().to_string();
    assert!(none.contains("corpus"), "{none}");
    let file = tempfile::NamedTempFile::new().unwrap();
    let other = TokenShards::from_tokens(file.path(), &[1; 50], 0, 300).unwrap();
    let mixed = MixedStream::new(vec![other], vec![shard_of(0..50)], config(0.1, 0));
    assert!(mixed.unwrap_err().to_string().contains("one tokenizer"));
}
