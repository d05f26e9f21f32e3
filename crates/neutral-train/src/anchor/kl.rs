//! The base's predictions as an anchor: `Σ KL(p_base ‖ p)` over tokens.
//!
//! Source: the distillation of Li and Hoiem, *Learning without Forgetting*, ECCV 2016, without a
//! temperature. Deviation: theirs is on the new task's data; here it is on the original domain's stand-in, of
//! which the mix has a share anyway.

use neutral_data::Domain;
use neutral_model::{Extension, Input, Transformer};
use tch::{Tensor, no_grad};

use crate::local_loss::rows_of;

/// `Σ_tokens Σ_v p_base(v) (ln p_base(v) − ln p(v))` in nats over the tokens of the original domain, a scalar with a
/// gradient to `model` alone; nothing without such tokens.
///
/// Log-probabilities are fp32. No more logits exist at a time than of the cross-entropy
/// ([`Transformer::divergence`]).
///
/// # Shapes
/// `hidden_btd`: `[b, t, d]`, what `model` makes of `input`; a domain for each of the `b` sequences.
pub fn token_sum(
    model: &Transformer,
    hidden_btd: &Tensor,
    input: &Input,
    domains: &[Domain],
    base: &Transformer,
) -> Option<Tensor> {
    let tokens_bt = rows_of(&input.tokens_bt, domains, Domain::Original)?;
    let hidden_btd = rows_of(hidden_btd, domains, Domain::Original)?;
    let input = Input { tokens_bt, attention: input.attention };
    let base_hidden_btd = no_grad(|| base.forward(&input, &Extension::none()).hidden_btd);
    Some(model.divergence(&hidden_btd, base, &base_hidden_btd))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::{VOCAB, host, model, token_ids};
    use neutral_model::Attention;
    use tch::Kind;

    fn input() -> Input {
        Input { tokens_bt: token_ids(3, 5), attention: Attention::Causal }
    }

    fn hidden(model: &Transformer) -> Tensor {
        model.forward(&input(), &Extension::none()).hidden_btd
    }

    fn sum(model: &Transformer, base: &Transformer) -> Tensor {
        let domains = [Domain::Original; 3];
        token_sum(model, &hidden(model), &input(), &domains, base).unwrap()
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
        let ours = sum(&moved, &base).double_value(&[]);
        assert!(by_hand > 1e-2 && (ours / by_hand - 1.0).abs() < 1e-4, "{ours} is not {by_hand}");
        assert_eq!(sum(&base, &base).double_value(&[]), 0.0);
        let none = token_sum(&moved, &hidden(&moved), &input(), &[Domain::New; 3], &base);
        assert!(none.is_none());
    }

    #[test]
    fn following_its_gradient_brings_the_base_back() {
        let (base, moved) = (model(), moved());
        let value = || sum(&moved, &base);
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
