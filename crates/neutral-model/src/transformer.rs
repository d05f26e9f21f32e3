//! The decoder: embeddings, blocks, final norm, head.

use std::cell::RefCell;

use neutral_spec::{Placement, Precision};
use neutral_torch::{ParamStore, kind_of};
use tch::{Device, Kind, Tensor};

use crate::attention::{SelfAttention, document_mask};
use crate::extension::BlockExtension;
use crate::feed_forward::FeedForward;
use crate::linear::linear;
use crate::loss;
use crate::norm::rms_norm;
use crate::rotary::RotaryTable;
use crate::start;
use crate::{Extension, ModelError, Residue, TransformerConfig};

/// Token ids and the attention that they are read with.
#[derive(Debug)]
pub struct Input {
    /// Token ids, `[b, t]`, `Int64`, on the model's device.
    pub tokens_bt: Tensor,
    /// What a token may attend to.
    pub attention: Attention,
}

/// What a token may attend to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attention {
    /// Itself and everything before it.
    Causal,
    /// Itself and what is before it in its own document; a separator is its document's first token.
    WithinDocument {
        /// The token that begins a document.
        separator_id: i64,
    },
}

/// What a forward pass gives.
#[derive(Debug)]
pub struct Output {
    /// The hidden state after the final norm, `[b, t, d]`, in the compute kind.
    pub hidden_btd: Tensor,
    /// What each branch of the extension added, in the order of computation.
    pub residues: Vec<Residue>,
}

/// A Llama-shaped decoder.
///
/// Weights are fp32 when made. Then either [`Transformer::freeze`] rounds them to the compute kind,
/// or [`Transformer::make_trainable`] gives them gradients; load them before. Activations are in
/// the compute kind either way.
#[derive(Debug)]
pub struct Transformer {
    config: TransformerConfig,
    compute_kind: Kind,
    params: ParamStore,
    embed_tokens_vd: Tensor,
    blocks: Vec<Block>,
    norm_d: Tensor,
    head_vd: Tensor,
    /// Made for the longest sequence so far.
    rotary: RefCell<Option<RotaryTable>>,
}

/// One block: two pre-normed sub-layers, each added to the residual stream.
#[derive(Debug)]
pub(crate) struct Block {
    pub(crate) input_norm_d: Tensor,
    pub(crate) attention: SelfAttention,
    pub(crate) post_attention_norm_d: Tensor,
    pub(crate) feed_forward: FeedForward,
}

impl Transformer {
    /// A model at its start: matrices and embeddings `N(0, 0.02²)`, but `o_proj` and `down_proj`,
    /// which write to the residual stream 2L times, `N(0, 0.02² / 2L)`; norms 1. Every tensor is
    /// drawn from a stream of its own, keyed by the seed and its name.
    ///
    /// # Errors
    /// If the sizes do not fit each other.
    pub fn new(
        config: TransformerConfig,
        seed: u64,
        device: Device,
        precision: Precision,
    ) -> Result<Self, ModelError> {
        config.validate()?;
        let weights = start::draw(&config, seed, device)?;
        Ok(Self {
            config,
            compute_kind: kind_of(precision),
            params: weights.params,
            embed_tokens_vd: weights.embed_tokens_vd,
            blocks: weights.blocks,
            norm_d: weights.norm_d,
            head_vd: weights.head_vd,
            rotary: RefCell::new(None),
        })
    }

    /// The model's sizes.
    pub fn config(&self) -> &TransformerConfig {
        &self.config
    }

    /// The kind of number that activations are computed in.
    pub fn compute_kind(&self) -> Kind {
        self.compute_kind
    }

    /// Where the model lives.
    pub fn device(&self) -> Device {
        self.params.device()
    }

    /// The weights, under Hugging Face's names.
    pub fn params(&self) -> &ParamStore {
        &self.params
    }

    /// The weights, to train or load them in place.
    pub fn params_mut(&mut self) -> &mut ParamStore {
        &mut self.params
    }

    /// Rounds the weights to the compute kind and stops gradients to them.
    pub fn freeze(&mut self) {
        self.params.to_kind(self.compute_kind);
    }

    /// Makes the weights fp32 and trainable.
    ///
    /// What [`Transformer::freeze`] rounded away does not come back.
    pub fn make_trainable(&mut self) {
        self.params.set_trainable(true);
    }

    /// The hidden states of some tokens, with an extension.
    ///
    /// # Shapes
    /// See [`Input`] and [`Output`].
    ///
    /// # Panics
    /// If tokens are not `[b, t]` ids below the vocabulary's size, or the extension was made for a
    /// deeper model.
    pub fn forward(&self, input: &Input, extension: &Extension) -> Output {
        let depth = extension.depth();
        assert!(
            depth <= self.blocks.len(),
            "the extension has {depth} blocks, the model {}",
            self.blocks.len()
        );
        let mask_b1tt = match input.attention {
            Attention::Causal => None,
            Attention::WithinDocument { separator_id } => {
                Some(document_mask(&input.tokens_bt, separator_id))
            }
        };
        let rotary = self.rotary_table(input.tokens_bt.size()[1]);
        let epsilon = self.config.shape.norm_epsilon;
        let mut residues = Vec::new();
        let embedded = Tensor::embedding(&self.embed_tokens_vd, &input.tokens_bt, -1, false, false);
        let mut x_btd = embedded.to_kind(self.compute_kind);
        for (index, block) in self.blocks.iter().enumerate() {
            let extension = extension.block(index);
            let normed = rms_norm(&x_btd, &block.input_norm_d, epsilon);
            x_btd =
                x_btd + block.attention.forward(&normed, &rotary, mask_b1tt.as_ref(), extension);
            x_btd =
                add_branch(x_btd, &normed, extension, index, Placement::Attention, &mut residues);
            let normed = rms_norm(&x_btd, &block.post_attention_norm_d, epsilon);
            x_btd = x_btd + block.feed_forward.forward(&normed, extension);
            x_btd = add_branch(x_btd, &normed, extension, index, Placement::Ffn, &mut residues);
        }
        Output { hidden_btd: rms_norm(&x_btd, &self.norm_d, epsilon), residues }
    }

    /// Logits in the compute kind: `[…, d]` to `[…, v]`. For few rows; see the losses for many.
    pub fn logits(&self, hidden: &Tensor) -> Tensor {
        linear(hidden, &self.head_vd, None)
    }

    /// Cross-entropy of every position in nats; a target of −100 counts as 0.
    ///
    /// Meant for scoring, within [`tch::no_grad`]: with gradients it keeps all logits.
    ///
    /// # Shapes
    /// `hidden_btd`: `[b, t, d]`, `targets_bt`: `[b, t]`, `Int64`; result: `[b, t]`, fp32.
    pub fn token_losses(&self, hidden_btd: &Tensor, targets_bt: &Tensor) -> Tensor {
        let rows = loss::rows_at_once(self.config.vocab_size);
        loss::token_losses(hidden_btd, &self.head_vd, targets_bt, rows)
    }

    /// Sum over positions of the cross-entropy in nats; a target of −100 counts as 0.
    ///
    /// At most 64 MiB of logits exist at any time, in the backward pass too.
    ///
    /// # Shapes
    /// As [`Transformer::token_losses`]; result: fp32 scalar.
    pub fn loss_sum(&self, hidden_btd: &Tensor, targets_bt: &Tensor) -> Tensor {
        let rows = loss::rows_at_once(self.config.vocab_size);
        loss::loss_sum(hidden_btd, &self.head_vd, targets_bt, rows)
    }

    fn rotary_table(&self, len: i64) -> RotaryTable {
        let mut cached = self.rotary.borrow_mut();
        let table = cached.take().filter(|table| table.len() >= len);
        let table = table.unwrap_or_else(|| {
            let head_dim = self.config.head_dim() as i64;
            RotaryTable::new(len, head_dim, self.config.shape.rope_theta, self.device())
        });
        cached.insert(table).first(len)
    }
}

/// Adds what the block's branch at a placement gives, if there is one, and keeps it as a residue.
fn add_branch(
    x_btd: Tensor,
    normed_btd: &Tensor,
    extension: Option<&BlockExtension>,
    block: usize,
    placement: Placement,
    residues: &mut Vec<Residue>,
) -> Tensor {
    let Some(branch) = extension.and_then(|extension| extension.branch(placement)) else {
        return x_btd;
    };
    let output = branch.forward(normed_btd);
    let sum = x_btd + &output.output_btd;
    residues.push(Residue { block, placement, output_btd: output.output_btd, gate: output.gate });
    sum
}

#[cfg(test)]
pub(crate) mod tests;
