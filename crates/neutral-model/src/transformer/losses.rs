//! From hidden states to logits and losses: the head.

use neutral_torch::fused::{
    Predictions, TokenScore, linear_cross_entropy, linear_divergence, linear_log_probs,
    linear_token_losses,
};
use tch::Tensor;

use super::Transformer;
use crate::linear::linear;

/// What a batch's targets cost.
#[derive(Debug)]
pub struct Loss {
    /// Sum over positions of the cross-entropy in nats, fp32 scalar: carries the gradient.
    pub sum: Tensor,
    /// The cross-entropy of every position, `[b, t]`, fp32: carries none.
    pub tokens_bt: Tensor,
}

impl Transformer {
    /// Logits in the compute kind: `[…, d]` to `[…, v]`. For few rows; see the losses for many.
    pub fn logits(&self, hidden: &Tensor) -> Tensor {
        let logits = linear(hidden, &self.head_vd, None, None);
        match self.config.logit_softcap {
            Some(cap) => (logits / cap).tanh() * cap,
            None => logits,
        }
    }

    /// Cross-entropy of every position in nats, without gradients; a target of −100 counts as 0.
    ///
    /// # Shapes
    /// `hidden_btd`: `[b, t, d]`, `targets_bt`: `[b, t]`, `Int64`; result: `[b, t]`, fp32, or fp64 of an fp64 model.
    ///
    /// # Panics
    /// If a target is neither −100 nor below the vocabulary's size.
    pub fn token_losses(&self, hidden_btd: &Tensor, targets_bt: &Tensor) -> Tensor {
        linear_token_losses(hidden_btd, &self.head_vd, targets_bt, self.config.logit_softcap)
    }

    /// `ln p` of some tokens at some rows, which are in ascending order: `(row, token)`.
    ///
    /// # Shapes
    /// `hidden_nd`: `[n, d]`.
    ///
    /// # Panics
    /// If a row is not below `n` or not in order, or a token not below the vocabulary's size.
    pub fn log_probs(&self, hidden_nd: &Tensor, asked: &[(usize, u32)]) -> Vec<TokenScore> {
        linear_log_probs(hidden_nd, &self.head_vd, asked, self.config.logit_softcap)
    }

    /// Cross-entropy of all positions in nats; a target of −100 counts as 0.
    ///
    /// The logits never exist whole, in the backward pass neither.
    ///
    /// # Shapes
    /// As [`Transformer::token_losses`].
    ///
    /// # Panics
    /// As [`Transformer::token_losses`].
    pub fn loss(&self, hidden_btd: &Tensor, targets_bt: &Tensor) -> Loss {
        let cap = self.config.logit_softcap;
        let (sum, tokens_bt) = linear_cross_entropy(hidden_btd, &self.head_vd, targets_bt, cap);
        Loss { sum, tokens_bt }
    }

    /// `Σ KL(base ‖ this)` of the predictions at the same tokens in nats, a scalar, with a gradient to this model alone;
    /// `base` may be this model's own, before an extension.
    ///
    /// No logits exist whole here either.
    ///
    /// # Shapes
    /// Hidden states of the same tokens in both models, `[…, d]`.
    ///
    /// # Panics
    /// If the numbers of tokens or the vocabularies differ.
    pub fn divergence(&self, hidden: &Tensor, base: &Self, base_hidden: &Tensor) -> Tensor {
        linear_divergence(self.predictions(hidden), base.predictions(base_hidden))
    }

    fn predictions<'a>(&'a self, hidden: &'a Tensor) -> Predictions<'a> {
        Predictions { hidden, head_vd: &self.head_vd, softcap: self.config.logit_softcap }
    }
}
