//! The decoder: embeddings, blocks, final norm, head.

mod losses;

use std::cell::RefCell;
use std::collections::BTreeMap;

use neutral_spec::Precision;
use neutral_torch::fused::{KeyValues, PrefixTree};
use neutral_torch::{ParamStore, kind_of};
use tch::{Device, Kind, Tensor};

use crate::attention::{Context, document_starts, window_starts};
use crate::block::Block;
use crate::extension::BlockExtension;
use crate::linear::Joined;
use crate::rotary::RotaryTables;
use crate::stream::Stream;
use crate::weights;
use crate::{Before, Extension, ModelError, Residue, TransformerConfig};

pub use losses::Loss;

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

/// A decoder.
///
/// Weights are fp32 when made, and in the file's kind when loaded. Then either
/// [`Transformer::freeze`] rounds them to the compute kind, or [`Transformer::make_trainable`] makes
/// them fp32 and gives them gradients. Activations are in the compute kind either way.
#[derive(Debug)]
pub struct Transformer {
    config: TransformerConfig,
    compute_kind: Kind,
    params: ParamStore,
    embed_tokens_vd: Tensor,
    blocks: Vec<Block>,
    norm_d: Tensor,
    head_vd: Tensor,
    rotary: RefCell<RotaryTables>,
}

/// Keys and values of the tokens so far, for generating.
#[derive(Debug)]
pub struct Cache {
    blocks: Vec<KeyValues>,
    /// Of the blocks that the extension adds, by the block that each is above of.
    added: BTreeMap<usize, KeyValues>,
    /// Of the extension's branches that read more than a token.
    windows: Vec<Tensor>,
}

/// A place in the model where something attends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    /// A block of the model.
    Own(usize),
    /// The block that an extension puts above that one.
    Above(usize),
}

impl Place {
    /// The block of the model that it is, or is above of.
    fn block(self) -> usize {
        match self {
            Self::Own(block) | Self::Above(block) => block,
        }
    }
}

impl Cache {
    /// Number of positions.
    pub fn len(&self) -> i64 {
        self.blocks.first().map_or(0, KeyValues::len)
    }

    /// There is no position yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
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
        let params = weights::draw(&config, seed, device)?;
        Self::with_params(config, params, kind_of(precision))
    }

    /// A model of given weights, as many and of such shapes as its configuration says.
    pub(crate) fn with_params(
        config: TransformerConfig,
        params: ParamStore,
        compute_kind: Kind,
    ) -> Result<Self, ModelError> {
        let get = |name: &str| params.get(name).map(Tensor::shallow_clone);
        let embed_tokens_vd = get("model.embed_tokens.weight")?;
        let head_vd = if config.tie_embeddings {
            embed_tokens_vd.shallow_clone()
        } else {
            get(weights::HEAD)?
        };
        let blocks =
            (0..config.n_layers()).map(|i| Block::new(&config, i, &params, &weights::prefix(i)));
        let blocks: Result<_, _> = blocks.collect();
        Ok(Self {
            compute_kind,
            embed_tokens_vd,
            blocks: blocks?,
            norm_d: get("model.norm.weight")?,
            head_vd,
            rotary: RefCell::default(),
            config,
            params,
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
        self.joined().for_each(Joined::part);
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
        let tokens_bt = &input.tokens_bt;
        let starts_bt = match input.attention {
            Attention::Causal => None,
            Attention::WithinDocument { separator_id } => {
                Some(document_starts(tokens_bt, separator_id))
            }
        };
        // For each width of window once, not for each block.
        let mut windows: BTreeMap<usize, Tensor> = BTreeMap::new();
        let t = tokens_bt.size()[1];
        // One as wide as the sequence hides nothing.
        let window_of = |window: Option<usize>| window.filter(|&window| (window as i64) < t);
        for window in self.config.blocks.iter().filter_map(|block| window_of(block.window)) {
            let starts = || window_starts(tokens_bt, starts_bt.as_ref(), window);
            windows.entry(window).or_insert_with(starts);
        }
        let before = Before::sequence(starts_bt.as_ref().map(Tensor::shallow_clone));
        self.run(tokens_bt, [0, t], extension, before, |place| Context::Sequence {
            starts_bt: match window_of(self.config.blocks[place.block()].window) {
                Some(window) => windows.get(&window),
                None => starts_bt.as_ref(),
            },
        })
    }

    /// The hidden states of tokens that follow those of earlier calls with the same cache, which
    /// keeps them in turn. Without gradients.
    ///
    /// # Shapes
    /// `tokens_bt`: `[b, t]`, `Int64`, with the same `b` in every call; see [`Output`].
    ///
    /// # Panics
    /// As [`Transformer::forward`]; or if the cache was made for another model, or begun with another extension
    /// that adds blocks.
    pub fn forward_cached(
        &self,
        tokens_bt: &Tensor,
        cache: &mut Cache,
        extension: &Extension,
    ) -> Output {
        assert_eq!(cache.blocks.len(), self.blocks.len(), "the cache is another model's");
        let before = cache.len();
        if cache.is_empty() {
            cache.added = extension.added_blocks().map(|at| (at, KeyValues::default())).collect();
        }
        let same = cache.added.keys().copied().eq(extension.added_blocks());
        assert!(same, "the cache was begun with another extension");
        tch::no_grad(|| {
            // A slot is handed out once, as the blocks ask in order.
            let own = cache.blocks.iter_mut().enumerate().map(|(i, slot)| (Place::Own(i), slot));
            let added = cache.added.iter_mut().map(|(&i, slot)| (Place::Above(i), slot));
            let mut slots: BTreeMap<Place, &mut KeyValues> = own.chain(added).collect();
            let positions = [before, tokens_bt.size()[1]];
            let before = Before::cached(&mut cache.windows);
            self.run(tokens_bt, positions, extension, before, |place| match slots.remove(&place) {
                Some(slot) => Context::Cached(slot),
                None => unreachable!("a block attends once"),
            })
        })
    }

    /// An empty cache for [`Transformer::forward_cached`].
    pub fn cache(&self) -> Cache {
        let blocks = self.blocks.iter().map(|_| KeyValues::default()).collect();
        Cache { blocks, added: BTreeMap::new(), windows: Vec::new() }
    }

    /// The hidden states of sequences that share beginnings, each token once. Without gradients.
    ///
    /// # Shapes
    /// `tokens_bt`: `[1, n]`, `Int64`, the tree's rows; see [`Output`].
    ///
    /// # Panics
    /// As [`Transformer::forward`]; or if there are not as many tokens as rows.
    pub fn forward_prefixes(
        &self,
        tokens_bt: &Tensor,
        tree: &PrefixTree,
        extension: &Extension,
    ) -> Output {
        let positions = [0, tree.depth() as i64];
        let before = Before::prefixes(tree);
        tch::no_grad(|| {
            self.run(tokens_bt, positions, extension, before, |_| Context::Prefixes(tree))
        })
    }

    /// All blocks over tokens, with the rotations of so many positions from one on.
    fn run<'a>(
        &self,
        tokens_bt: &Tensor,
        positions: [i64; 2],
        extension: &Extension,
        before: Before,
        mut context: impl FnMut(Place) -> Context<'a>,
    ) -> Output {
        let depth = extension.depth();
        assert!(
            depth <= self.blocks.len(),
            "the extension has {depth} blocks, the model {}",
            self.blocks.len()
        );
        let mut stream = Stream::new(self.embed(tokens_bt), before, self.config.norm_rule());
        for (index, block) in self.blocks.iter().enumerate() {
            let extension = extension.block(index);
            let rotary = self.rotary.borrow_mut().get(
                &self.config.blocks[index].rotary,
                self.config.head_dim,
                positions,
                (self.compute_kind, self.device()),
            );
            block.forward(&mut stream, index, &rotary, context(Place::Own(index)), extension);
            if let Some(added) = extension.and_then(BlockExtension::added) {
                added.forward(&mut stream, index, &rotary, context(Place::Above(index)), None);
            }
        }
        Output { hidden_btd: stream.normed(&self.norm_d), residues: stream.residues }
    }

    fn embed(&self, tokens_bt: &Tensor) -> Tensor {
        let embedded = Tensor::embedding(&self.embed_tokens_vd, tokens_bt, -1, false, false);
        let embedded = embedded.to_kind(self.compute_kind);
        if !self.config.scale_embeddings {
            return embedded;
        }
        // √d is rounded to the compute kind first: Gemma was trained so.
        let root = Tensor::from((self.config.d_model as f64).sqrt()).to_kind(self.compute_kind);
        embedded * root.to_device(self.device())
    }
}

#[cfg(test)]
pub(crate) mod tests;
