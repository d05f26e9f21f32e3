//! What may be added to a model: branches beside sub-layers, deltas on linear layers, blocks above blocks.
//!
//! The paper's section on architecture: `FFN'(x) = FFN(x) + g(x) · A(x)`. Here are only the three
//! points of attachment; what is attached lives in neutral-adapters.

use std::collections::BTreeMap;
use std::fmt;

use neutral_spec::{LinearSite, Placement};
use neutral_torch::{ParamStore, TorchError};
use tch::{Kind, Tensor};

use crate::block::Block;
use crate::{Before, TransformerConfig};

/// Something parallel to a sub-layer, which reads the same normalised input.
pub trait Branch: Send {
    /// What is added to the sub-layer's output; `before` is for what reads more than the token itself.
    ///
    /// # Shapes
    /// `x_btd`: `[b, t, d]` in the compute kind; so is the output.
    fn forward(&self, x_btd: &Tensor, before: &mut Before) -> BranchOutput;
}

/// What a branch adds, and the gate that let it through.
#[derive(Debug)]
pub struct BranchOutput {
    /// `g(x) · A(x)`.
    pub output_btd: Tensor,
    /// The same for what losses are of, where its gradient goes apart from the residual stream's.
    pub watched_btd: Option<Tensor>,
    /// The gate, if the branch has one.
    pub gate: Option<Gate>,
}

/// A gate's value and what it was computed from.
#[derive(Debug)]
pub struct Gate {
    /// `g`: `[b, t, 1]`, or `[b, t, d]` if there is a gate a channel.
    pub value: Tensor,
    /// The same before it was rounded to the residue's kind, for losses: their gradient and the residue's are summed in
    /// this kind.
    pub unrounded: Tensor,
    /// The same before the activation.
    pub logit: Tensor,
}

/// What one branch added in one forward pass.
#[derive(Debug)]
pub struct Residue {
    /// The block, from 0.
    pub block: usize,
    /// What the branch is parallel to.
    pub placement: Placement,
    /// `g(x) · A(x)`.
    pub output_btd: Tensor,
    /// The gate, if the branch has one.
    pub gate: Option<Gate>,
}

/// The mean over the gates of something about their values, for each token of a single sequence; a gate a channel counts
/// by the mean over its channels. None if there are no gates.
pub fn mean_over_gates(residues: &[Residue], of: impl Fn(&Tensor) -> Tensor) -> Option<Vec<f64>> {
    let gates = residues.iter().filter_map(|residue| residue.gate.as_ref());
    let means: Vec<Tensor> = gates
        .map(|gate| {
            let of_tc = of(&gate.value.select(0, 0)).to_kind(Kind::Double);
            of_tc.mean_dim(-1, false, Kind::Double)
        })
        .collect();
    if means.is_empty() {
        return None;
    }
    let mean_t = Tensor::stack(&means, 0).mean_dim(0, false, Kind::Double);
    Vec::try_from(mean_t.to_device(tch::Device::Cpu)).ok()
}

/// A change of a linear layer's output.
pub trait LinearDelta: Send {
    /// The new output, from the layer's input, its weight and bias in the compute kind, and
    /// `y = x Wᵀ + b`.
    ///
    /// # Shapes
    /// `x`: `[b, t, in]`, `weight`: `[out, in]`, `bias`: `[out]`, `y` and the result: `[b, t, out]`.
    fn apply(&self, x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, y: Tensor) -> Tensor;
}

/// Everything that is added to a model, with its weights.
///
/// Branches and deltas hold shallow clones of tensors in the store: see [`ParamStore`].
pub struct Extension {
    params: ParamStore,
    /// Weights of the extensions that it stands on.
    parameters_below: u64,
    blocks: BTreeMap<usize, BlockExtension>,
}

/// What is added to one block.
#[derive(Default)]
pub(crate) struct BlockExtension {
    attention: Option<Box<dyn Branch>>,
    ffn: Option<Box<dyn Branch>>,
    deltas: BTreeMap<LinearSite, Box<dyn LinearDelta>>,
    /// A whole block that comes after this one.
    added: Option<Block>,
    /// Branches of the extensions that this one stands on; they leave no residue.
    below: Vec<(Placement, Box<dyn Branch>)>,
}

/// The delta of an extension on top of that of the one below.
struct Upon {
    below: Box<dyn LinearDelta>,
    own: Box<dyn LinearDelta>,
}

impl LinearDelta for Upon {
    fn apply(&self, x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, y: Tensor) -> Tensor {
        self.own.apply(x, weight, bias, self.below.apply(x, weight, bias, y))
    }
}

impl Extension {
    /// Nothing at all: the pristine base.
    pub fn none() -> Self {
        Self::new(ParamStore::new(tch::Device::Cpu))
    }

    /// An extension with these weights, and nothing attached yet.
    pub fn new(params: ParamStore) -> Self {
        Self { params, parameters_below: 0, blocks: BTreeMap::new() }
    }

    /// Puts a branch beside a sub-layer of a block.
    ///
    /// # Panics
    /// If there is one already: a second one would silently replace it.
    pub fn add_branch(&mut self, block: usize, placement: Placement, branch: Box<dyn Branch>) {
        let extension = self.blocks.entry(block).or_default();
        let place = match placement {
            Placement::Ffn => &mut extension.ffn,
            Placement::Attention => &mut extension.attention,
        };
        assert!(place.is_none(), "block {block} has a branch beside {placement:?} already");
        *place = Some(branch);
    }

    /// Puts a delta on a linear layer of a block.
    ///
    /// # Panics
    /// If there is one already.
    pub fn add_delta(&mut self, block: usize, site: LinearSite, delta: Box<dyn LinearDelta>) {
        let deltas = &mut self.blocks.entry(block).or_default().deltas;
        let earlier = deltas.insert(site, delta);
        assert!(earlier.is_none(), "block {block} has a delta on {} already", site.name());
    }

    /// Puts a whole block above a block of the model: it reads what that one leaves on the residual stream, and
    /// computes as that one does, window and rotation included, with keys and values of its own. Its weights
    /// are the extension's, named [`Extension::added_prefix`] and then as
    /// [`TransformerConfig::block_weight_shapes`] says.
    ///
    /// # Errors
    /// If a weight is missing.
    ///
    /// # Panics
    /// If there is one already, or the model has no such block.
    pub fn add_block(
        &mut self,
        config: &TransformerConfig,
        above: usize,
    ) -> Result<(), TorchError> {
        let block = Block::new(config, above, &self.params, &Self::added_prefix(above))?;
        let earlier = self.blocks.entry(above).or_default().added.replace(block);
        assert!(earlier.is_none(), "there is a block above block {above} already");
        Ok(())
    }

    /// This extension on top of another one, which is from now on a part of the model that is extended: its
    /// branches leave no residues, and its weights are none of this one's. What both add to a sub-layer's
    /// output is added; deltas are applied in turn, so that one which replaces its layer's output (`DoRA`)
    /// must be the lowest.
    ///
    /// # Panics
    /// If both put a block above the same one.
    #[must_use]
    pub fn upon(mut self, below: Self) -> Self {
        self.parameters_below += below.parameter_count();
        for (index, lower) in below.blocks {
            let upper = self.blocks.entry(index).or_default();
            let attention = lower.attention.map(|branch| (Placement::Attention, branch));
            let ffn = lower.ffn.map(|branch| (Placement::Ffn, branch));
            upper.below.extend(lower.below.into_iter().chain(attention).chain(ffn));
            for (site, below) in lower.deltas {
                let both: Box<dyn LinearDelta> = match upper.deltas.remove(&site) {
                    Some(own) => Box::new(Upon { below, own }),
                    None => below,
                };
                upper.deltas.insert(site, both);
            }
            if let Some(block) = lower.added {
                let own = upper.added.replace(block);
                assert!(own.is_none(), "both extensions put a block above block {index}");
            }
        }
        self
    }

    /// What the weights of a block above one of the model's are called by.
    pub fn added_prefix(above: usize) -> String {
        format!("layers.{above}.added")
    }

    /// The blocks of the model that another one is above of, from the first on.
    pub fn added_blocks(&self) -> impl Iterator<Item = usize> {
        self.blocks.iter().filter(|(_, block)| block.added.is_some()).map(|(&above, _)| above)
    }

    /// How many weights it has together with those that it stands on.
    pub fn parameter_count(&self) -> u64 {
        self.params.parameter_count() + self.parameters_below
    }

    /// The extension's weights.
    pub fn params(&self) -> &ParamStore {
        &self.params
    }

    /// The extension's weights, to train or load them in place.
    pub fn params_mut(&mut self) -> &mut ParamStore {
        &mut self.params
    }

    /// Nothing is attached.
    pub fn is_none(&self) -> bool {
        self.blocks.is_empty()
    }

    /// One line about it: `4 branches, 28 deltas, 123456 weights`; or with `2 blocks`, if there are some.
    pub fn describe(&self) -> String {
        if self.is_none() {
            return "nothing".to_owned();
        }
        let count = |of: fn(&BlockExtension) -> usize| self.blocks.values().map(of).sum::<usize>();
        let branches = count(|b| usize::from(b.ffn.is_some()) + usize::from(b.attention.is_some()));
        let deltas = count(|b| b.deltas.len());
        let weights = self.params.parameter_count();
        let blocks = match self.added_blocks().count() {
            0 => String::new(),
            blocks => format!("{blocks} blocks, "),
        };
        format!("{branches} branches, {deltas} deltas, {blocks}{weights} weights")
    }

    /// Blocks that the model must have at least: one more than the last block that is extended.
    pub(crate) fn depth(&self) -> usize {
        self.blocks.last_key_value().map_or(0, |(block, _)| block + 1)
    }

    pub(crate) fn block(&self, block: usize) -> Option<&BlockExtension> {
        self.blocks.get(&block)
    }
}

impl fmt::Debug for Extension {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Extension({})", self.describe())
    }
}

impl BlockExtension {
    pub(crate) fn branch(&self, placement: Placement) -> Option<&dyn Branch> {
        match placement {
            Placement::Ffn => self.ffn.as_deref(),
            Placement::Attention => self.attention.as_deref(),
        }
    }

    /// Branches of the extensions below this one.
    pub(crate) fn branches_below(&self, placement: Placement) -> impl Iterator<Item = &dyn Branch> {
        let here = self.below.iter().filter(move |(at, _)| *at == placement);
        here.map(|(_, branch)| branch.as_ref())
    }

    pub(crate) fn added(&self) -> Option<&Block> {
        self.added.as_ref()
    }

    pub(crate) fn delta(&self, site: LinearSite) -> Option<&dyn LinearDelta> {
        self.deltas.get(&site).map(AsRef::as_ref)
    }
}
