//! The decoder: embeddings, blocks, final norm, head.

use std::cell::RefCell;

use neutral_spec::{Placement, Precision};
use neutral_torch::fused::{linear_cross_entropy, linear_token_losses, rms_norm};
use neutral_torch::{ParamStore, kind_of};
use tch::{Device, Kind, Tensor};

use crate::attention::{SelfAttention, document_starts};
use crate::extension::BlockExtension;
use crate::feed_forward::FeedForward;
use crate::linear::{Joined, linear};
use crate::rotary::RotaryTable;
use crate::start;
use crate::{BranchOutput, Extension, ModelError, Residue, TransformerConfig};

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

/// What a batch's targets cost.
#[derive(Debug)]
pub struct Loss {
    /// Sum over positions of the cross-entropy in nats, fp32 scalar: carries the gradient.
    pub sum: Tensor,
    /// The cross-entropy of every position, `[b, t]`, fp32: carries none.
    pub tokens_bt: Tensor,
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
        self.joined().for_each(Joined::part);
        self.params.to_kind(self.compute_kind);
        self.joined().for_each(Joined::join);
    }

    /// Makes the weights fp32 and trainable.
    ///
    /// What [`Transformer::freeze`] rounded away does not come back.
    pub fn make_trainable(&mut self) {
        self.joined().for_each(Joined::part);
        self.params.set_trainable(true);
    }

    fn joined(&mut self) -> impl Iterator<Item = &mut Joined> {
        self.blocks
            .iter_mut()
            .flat_map(|block| [&mut block.attention.qkv, &mut block.feed_forward.gate_up])
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
        let starts_bt = match input.attention {
            Attention::Causal => None,
            Attention::WithinDocument { separator_id } => {
                Some(document_starts(&input.tokens_bt, separator_id))
            }
        };
        let rotary = self.rotary_table(input.tokens_bt.size()[1]);
        let embedded = Tensor::embedding(&self.embed_tokens_vd, &input.tokens_bt, -1, false, false);
        let mut stream = Stream {
            x_btd: embedded.to_kind(self.compute_kind),
            added: Vec::new(),
            residues: Vec::new(),
            epsilon: self.config.shape.norm_epsilon,
        };
        for (index, block) in self.blocks.iter().enumerate() {
            let extension = extension.block(index);
            let normed = stream.normed(&block.input_norm_d);
            stream.add(block.attention.forward(&normed, &rotary, starts_bt.as_ref(), extension));
            stream.add_branch(&normed, extension, index, Placement::Attention);
            let normed = stream.normed(&block.post_attention_norm_d);
            stream.add(block.feed_forward.forward(&normed, extension));
            stream.add_branch(&normed, extension, index, Placement::Ffn);
        }
        Output { hidden_btd: stream.normed(&self.norm_d), residues: stream.residues }
    }

    /// Logits in the compute kind: `[…, d]` to `[…, v]`. For few rows; see the losses for many.
    pub fn logits(&self, hidden: &Tensor) -> Tensor {
        linear(hidden, &self.head_vd, None)
    }

    /// Cross-entropy of every position in nats, without gradients; a target of −100 counts as 0.
    ///
    /// # Shapes
    /// `hidden_btd`: `[b, t, d]`, `targets_bt`: `[b, t]`, `Int64`; result: `[b, t]`, fp32.
    ///
    /// # Panics
    /// If a target is neither −100 nor below the vocabulary's size.
    pub fn token_losses(&self, hidden_btd: &Tensor, targets_bt: &Tensor) -> Tensor {
        linear_token_losses(hidden_btd, &self.head_vd, targets_bt)
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
        let (sum, tokens_bt) = linear_cross_entropy(hidden_btd, &self.head_vd, targets_bt);
        Loss { sum, tokens_bt }
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

/// The residual stream of one forward pass. What a sub-layer adds waits until the next norm, which
/// adds and normalises in one pass.
struct Stream {
    x_btd: Tensor,
    added: Vec<Tensor>,
    residues: Vec<Residue>,
    epsilon: f64,
}

impl Stream {
    fn add(&mut self, output_btd: Tensor) {
        self.added.push(output_btd);
    }

    /// Adds what the block's branch at a placement gives, if there is one, and keeps it as a residue.
    fn add_branch(
        &mut self,
        normed_btd: &Tensor,
        extension: Option<&BlockExtension>,
        block: usize,
        placement: Placement,
    ) {
        let Some(branch) = extension.and_then(|extension| extension.branch(placement)) else {
            return;
        };
        let BranchOutput { output_btd, gate } = branch.forward(normed_btd);
        self.added.push(output_btd.shallow_clone());
        self.residues.push(Residue { block, placement, output_btd, gate });
    }

    fn normed(&mut self, weight_d: &Tensor) -> Tensor {
        let added: Vec<&Tensor> = self.added.iter().collect();
        let (x_btd, normed_btd) = rms_norm(&self.x_btd, &added, weight_d, self.epsilon);
        self.x_btd = x_btd;
        self.added.clear();
        normed_btd
    }
}

#[cfg(test)]
pub(crate) mod tests;
