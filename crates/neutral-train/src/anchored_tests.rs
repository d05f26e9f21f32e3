//! Whole trainings of a tiny base that an anchor holds: resumption to the bit, and that it holds.

use std::path::Path;

use neutral_data::Domain;
use neutral_model::{Attention, Extension, Input, Transformer};
use neutral_torch::ParamStore;
use tch::{Kind, Tensor, no_grad};

use crate::test_support::{Fixture, LENGTH, extension, model, stream};
use crate::trainer::train_until;
use crate::{Anchor, TrainError, Trained, train};

fn anchors(base: &Transformer) -> [Anchor<'_>; 3] {
    [
        Anchor::Kl { weight: 30.0, base },
        Anchor::L2Sp { weight: 30.0 },
        Anchor::Ewc { weight: 1e4, fisher_sequences: 4 },
    ]
}

/// Twelve steps, stopped after the fourth if in pieces.
fn trained(anchor: Anchor, folder: &Path, in_pieces: bool) -> Transformer {
    if in_pieces {
        let mut fixture = Fixture::new(Trained::Base);
        let job = crate::TrainJob { anchor, ..fixture.job(folder) };
        train_until(job, |step| step == 4).unwrap();
    }
    let mut fixture = Fixture::new(Trained::Base);
    train(crate::TrainJob { anchor, ..fixture.job(folder) }).unwrap();
    fixture.model
}

/// `‖w − w₀‖²`.
fn away(model: &ParamStore, base: &ParamStore) -> f64 {
    let squares = model.iter().zip(base.iter()).map(|((_, a), (_, b))| (a - b).square());
    squares.map(|square| square.sum(Kind::Double).double_value(&[])).sum()
}

/// `Σ KL(p_base ‖ p)` over some original-domain text.
fn divergence(model: &Transformer, base: &Transformer) -> f64 {
    let batch = stream(1.0).batch(0, 8);
    assert!(batch.domains.iter().all(|d| *d == Domain::Original));
    let ids: Vec<i64> = batch.tokens.iter().map(|&t| i64::from(t)).collect();
    let ids = Tensor::from_slice(&ids).view([8, LENGTH as i64]);
    let hidden = |model: &Transformer| {
        let input = Input { tokens_bt: ids.shallow_clone(), attention: Attention::Causal };
        model.forward(&input, &Extension::none()).hidden_btd
    };
    no_grad(|| model.divergence(&hidden(model), base, &hidden(base)).double_value(&[]))
}

#[test]
fn an_anchored_base_is_held_and_its_training_in_pieces_is_the_same_to_the_bit() {
    let base = model();
    let folder = || tempfile::tempdir().unwrap();
    let free = trained(Anchor::None, folder().path(), false);
    for anchor in anchors(&base) {
        let (straight, pieces) = (folder(), folder());
        let held = trained(anchor, straight.path(), false);
        let again = trained(anchor, pieces.path(), true);
        assert_eq!(held.params().digest(), again.params().digest(), "{anchor:?}");
        let (held_by, free_by) = (divergence(&held, &base), divergence(&free, &base));
        assert!(held_by < 0.7 * free_by, "{anchor:?}: {held_by} of {free_by}");
        if let Anchor::L2Sp { .. } = anchor {
            let (held, free) =
                (away(held.params(), base.params()), away(free.params(), base.params()));
            assert!(held < 0.5 * free, "{held} of {free}");
        }
        let log = std::fs::read_to_string(straight.path().join("metrics.jsonl")).unwrap();
        assert!(log.lines().last().unwrap().contains("\"anchor_loss\":"), "{log}");
    }
}

#[test]
fn an_extension_has_no_anchor() {
    let folder = tempfile::tempdir().unwrap();
    let mut fixture = Fixture::new(Trained::Extension);
    fixture.extension = extension(0.0);
    let job =
        crate::TrainJob { anchor: Anchor::L2Sp { weight: 1.0 }, ..fixture.job(folder.path()) };
    assert!(matches!(train(job), Err(TrainError::AnchoredExtension)));
}
