//! The base's predictions as an anchor: `Σ KL(p_base ‖ p)` over tokens.
//!
//! Source: the distillation of Li and Hoiem, *Learning without Forgetting*, ECCV 2016, without a
//! temperature. Deviation: theirs is on the new task's data; here it is on the original domain's stand-in, of
//! which the mix has a share anyway.

use neutral_model::Transformer;
use tch::{Kind, Tensor, no_grad};

/// Tokens whose logits are computed at a time.
const ROWS: i64 = 512;

/// `Σ_tokens Σ_v p_base(v) (ln p_base(v) − ln p(v))` in nats, with a gradient to `model` alone.
///
/// Log-probabilities are fp32. The backward pass keeps those of the model and the base's probabilities,
/// `tokens · V · 8` bytes; that is a micro batch's original-domain tokens, so `training.micro_batch_size` bounds it.
///
/// # Shapes
/// Hidden states of the same tokens in both models, `[b, t, d]`; the result is a scalar.
pub fn token_sum(
    model: &Transformer,
    hidden_btd: &Tensor,
    base: &Transformer,
    base_hidden_btd: &Tensor,
) -> Tensor {
    let rows = |hidden: &Tensor| {
        let width = hidden.size().last().copied().unwrap_or(1);
        hidden.reshape([-1, width]).split(ROWS, 0)
    };
    let sums = rows(hidden_btd).into_iter().zip(rows(base_hidden_btd)).map(|(ours, theirs)| {
        let log_q = model.logits(&ours).log_softmax(-1, Kind::Float);
        let log_p = no_grad(|| base.logits(&theirs).log_softmax(-1, Kind::Float));
        (log_p.exp() * (log_p - log_q)).sum(Kind::Float)
    });
    sums.reduce(|a, b| a + b).unwrap_or_else(|| hidden_btd.sum(Kind::Float) * 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::{VOCAB, host, model, token_ids};
    use neutral_model::{Attention, Extension, Input};

    fn hidden(model: &Transformer) -> Tensor {
        let input = Input { tokens_bt: token_ids(3, 5), attention: Attention::Causal };
        model.forward(&input, &Extension::none()).hidden_btd
    }

    /// The same model with weights that are some per cent larger.
    fn moved() -> Transformer {
        let mut moved = model();
        moved.make_trainable();
        no_grad(|| {
            for (_, tensor) in moved.params().iter() {
                let _ = tensor.shallow_clone().g_mul_scalar_(1.3);
            }
        });
        moved
    }

    fn log_softmax(logits: &[f64]) -> Vec<f64> {
        let sum: f64 = logits.iter().map(|z| z.exp()).sum();
        logits.iter().map(|z| z - sum.ln()).collect()
    }

    #[test]
    fn it_is_the_formula_in_double_precision_and_zero_for_the_base_itself() {
        let (base, moved) = (model(), moved());
        let rows = |model: &Transformer| host(&no_grad(|| model.logits(&hidden(model))));
        let by_hand: f64 = rows(&base)
            .chunks(VOCAB as usize)
            .zip(rows(&moved).chunks(VOCAB as usize))
            .flat_map(|(p, q)| log_softmax(p).into_iter().zip(log_softmax(q)))
            .map(|(log_p, log_q)| log_p.exp() * (log_p - log_q))
            .sum();
        let ours = token_sum(&moved, &hidden(&moved), &base, &hidden(&base)).double_value(&[]);
        assert!(by_hand > 1e-2 && (ours / by_hand - 1.0).abs() < 1e-4, "{ours} is not {by_hand}");
        let own = token_sum(&base, &hidden(&base), &base, &hidden(&base));
        assert_eq!(own.double_value(&[]), 0.0);
    }

    #[test]
    fn following_its_gradient_brings_the_base_back() {
        let (base, moved) = (model(), moved());
        let value = || token_sum(&moved, &hidden(&moved), &base, &hidden(&base));
        let before = value();
        let leaves: Vec<_> = moved.params().iter().map(|(_, tensor)| tensor).collect();
        let gradients = Tensor::run_backward(&[&before], &leaves, false, false);
        let square: f64 =
            gradients.iter().map(|g| g.square().sum(Kind::Double).double_value(&[])).sum();
        let step = 1e-3 / square.sqrt();
        no_grad(|| {
            for (leaf, gradient) in leaves.iter().zip(&gradients) {
                let _ = leaf.shallow_clone().g_sub_(&(gradient * step));
            }
        });
        // To first order the loss falls by step · ‖g‖².
        let fall = before.double_value(&[]) - value().double_value(&[]);
        assert!((fall / (step * square) - 1.0).abs() < 0.1, "{fall} of {}", step * square);
    }
}
