//! How much each weight of the base matters to the original domain: the diagonal of its Fisher
//! information, a token.
//!
//! `F = E[(∂ ln p(token) / ∂w)²]`, by the text's own tokens (the *empirical* Fisher) and a sequence at a time:
//! scores of different tokens have mean zero at the base, so that of a sequence of `T` tokens has the
//! square `T · F` on average, and `F ≈ mean over sequences of (Σ_tokens ∂ ln p / ∂w)² / T`. With this
//! `F` and weight 1, EWC's penalty is the second-order estimate of the nats a token that the original
//! domain loses.
//!
//! Source: Kirkpatrick et al., *Overcoming catastrophic forgetting in neural networks*, PNAS 2017.
//! Deviation: they draw labels from the model's predictions.

use std::sync::atomic::{AtomicBool, Ordering};

use neutral_data::MixedStream;
use neutral_model::{Extension, Transformer};
use neutral_torch::ParamStore;
use tch::{Tensor, no_grad};

use crate::TrainError;
use crate::ranks::Ranks;
use crate::step::{StepSettings, gradients};

/// The text that the base is asked about: the original-domain sequences of a training's own mix.
#[derive(Clone, Copy, Debug)]
pub struct FisherText<'a> {
    /// The mix.
    pub stream: &'a MixedStream,
    /// How the training reads it.
    pub settings: StepSettings<'a>,
    /// Set to make it leave after the sequence that it is at; not looked at with others, which would wait.
    pub stop: &'a AtomicBool,
}

/// The diagonal of the Fisher information a token, in the order of `params`, which are `model`'s and
/// trainable; what the model is extended by is part of it. Of several processes each takes some of the sequences.
///
/// # Errors
/// [`TrainError::NoOriginalText`] if the mix has no original domain, [`TrainError::Stopped`] if asked to stop;
/// that of a collective that failed.
pub fn diagonal(
    model: &Transformer,
    extension: &Extension,
    params: &ParamStore,
    text: &FisherText,
    sequences: usize,
    ranks: Option<&Ranks>,
) -> Result<Vec<Tensor>, TrainError> {
    let FisherText { stream, settings, stop } = text;
    // More sequences than the mix can be asked for without one of the original domain.
    if stream.counts(u64::MAX).0 == 0 {
        return Err(TrainError::NoOriginalText { anchor: "ewc" });
    }
    let parameters: Vec<_> = params.iter().collect();
    let settings = StepSettings { micro_batch_size: 1, ..*settings };
    let mut sums: Vec<Tensor> = params.iter().map(|(_, t)| t.detach().zeros_like()).collect();
    let original = (0..).filter(|&at| stream.counts(at + 1).0 > stream.counts(at).0);
    let chosen: Vec<u64> = original.take(sequences).collect();
    for at in ranks.map_or_else(|| chosen.clone(), |ranks| ranks.deal(&chosen)) {
        if ranks.is_none() && stop.load(Ordering::Relaxed) {
            return Err(TrainError::Stopped);
        }
        let batch = stream.batch(at, 1);
        let output = gradients(model, extension, &parameters, &batch, &settings, None)?;
        no_grad(|| {
            for (sum, gradient) in sums.iter_mut().zip(&output.gradients) {
                let _ = sum.g_add_(&gradient.square());
            }
        });
    }
    if let Some(ranks) = ranks {
        ranks.all_reduce(&sums)?;
    }
    // Gradients are of the mean over a sequence's T tokens: (T g)² / T.
    let scale = stream.sequence_length() as f64 / sequences as f64;
    Ok(sums.into_iter().map(|sum| sum * scale).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::{LENGTH, host, model, stream};
    use neutral_data::Domain;
    use neutral_model::{Attention, Input};
    use neutral_spec::LocalLossSpec;
    use tch::Kind;

    #[test]
    fn it_is_the_mean_square_of_each_sequences_score_over_its_tokens() {
        let mut model = model();
        model.make_trainable();
        let stream = stream(0.3);
        let settings = StepSettings {
            local_loss: LocalLossSpec::None {},
            local_weight: 0.0,
            anchor: crate::Anchor::None,
            attention: Attention::Causal,
            micro_batch_size: 4,
            stop: false,
        };
        let stop = AtomicBool::new(false);
        let text = FisherText { stream: &stream, settings, stop: &stop };
        let none = Extension::none();
        let found = diagonal(&model, &none, model.params(), &text, 2, None).unwrap();

        // Of ten rows the fourth and the seventh are the first two of three in ten.
        let batch = stream.batch(0, 10);
        let rows: Vec<usize> = (0..10).filter(|&i| batch.domains[i] == Domain::Original).collect();
        let ids = |values: &[u32], row: usize| {
            let ids: Vec<i64> =
                values[row * LENGTH..(row + 1) * LENGTH].iter().map(|&t| i64::from(t)).collect();
            Tensor::from_slice(&ids).view([1, LENGTH as i64])
        };
        let leaves: Vec<_> = model.params().iter().map(|(_, t)| t).collect();
        let score = |row: usize| {
            let tokens_bt = ids(&batch.tokens, row);
            let input = Input { tokens_bt, attention: Attention::Causal };
            let hidden = model.forward(&input, &Extension::none()).hidden_btd;
            let log_p = model.logits(&hidden).to_kind(Kind::Double).log_softmax(-1, Kind::Double);
            let targets = ids(&batch.targets, row).unsqueeze(-1);
            let sum = log_p.gather(-1, &targets, false).sum(Kind::Double);
            Tensor::run_backward(&[sum], &leaves, false, false)
        };
        let scores = [score(rows[0]), score(rows[1])];
        for (i, found) in found.iter().enumerate() {
            let squares = scores.each_ref().map(|s| s[i].to_kind(Kind::Double).square());
            let expected = (&squares[0] + &squares[1]) / (2.0 * LENGTH as f64);
            let largest = expected.max().double_value(&[]);
            assert!(largest > 0.0);
            for (a, b) in host(found).into_iter().zip(host(&expected)) {
                assert!((a - b).abs() < 1e-4 * largest, "{i}: {a} is not {b}");
            }
        }
        // Of a model that stands on an extension it is that model's.
        let below = crate::test_support::extension(0.5);
        let extended = diagonal(&model, &below, model.params(), &text, 2, None).unwrap();
        assert!(found.iter().zip(&extended).any(|(one, other)| !one.equal(other)));

        let no_text = crate::test_support::stream(0.0);
        let no_text = FisherText { stream: &no_text, settings, stop: &stop };
        assert!(diagonal(&model, &none, model.params(), &no_text, 2, None).is_err());

        stop.store(true, Ordering::Relaxed);
        let stopped = diagonal(&model, &none, model.params(), &text, 2, None);
        assert!(matches!(stopped, Err(TrainError::Stopped)));
    }
}
