//! What may be added to a model: branches beside sub-layers, deltas on linear layers, blocks above blocks.
//!
//! The paper's section on architecture: `FFN'(x) = FFN(x) + g(x) · A(x)`. Here are only the three
//! points of attachment; what is attached lives in neutral-adapters.

use std::collections::BTreeMap;
use std::fmt;

use neutral_spec::{LinearSite, Placement};
use neutral_torch::{ParamStore, TorchError};
use tch::Tensor;

use crate::TransformerConfig;
use crate::block::Block;

/// Something parallel to a sub-layer, which reads the same normalised input.
pub trait Branch: Send {
    /// What is added to the sub-layer's output.
    ///
    /// # Shapes
    /// `x_btd`: `[b, t, d]` in the compute kind; so is the output.
    fn forward(&self, x_btd: &Tensor) -> BranchOutput;
}

/// What a branch adds, and the gate that let it through.
#[derive(Debug)]
pub struct BranchOutput {
    /// `g(x) · A(x)`.
    pub output_btd: Tensor,
    /// The gate, if the branch has one.
    pub gate: Option<Gate>,
}

/// A gate's value and what it was computed from.
#[derive(Debug)]
pub struct Gate {
    /// `g`: `[b, t, 1]`, or `[b, t, d]` if there is a gate a channel.
    pub value: Tensor,
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
        Self { params, blocks: BTreeMap::new() }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transformer::tests::{tiny_model, tokens};
    use crate::{Attention, Input, Transformer};
    use tch::{Device, Kind};

    /// Adds a number everywhere, and says what it read.
    struct Constant(f64);
    impl Branch for Constant {
        fn forward(&self, x_btd: &Tensor) -> BranchOutput {
            let value = x_btd.mean_dim(-1, true, Kind::Float);
            let gate = Gate { logit: value.shallow_clone(), value };
            BranchOutput { output_btd: x_btd.zeros_like() + self.0, gate: Some(gate) }
        }
    }

    struct Scale(f64);
    impl LinearDelta for Scale {
        fn apply(&self, x: &Tensor, weight: &Tensor, _: Option<&Tensor>, y: Tensor) -> Tensor {
            assert!(x.linear(weight, None::<Tensor>).allclose(&y, 1e-5, 1e-6, false));
            y * self.0
        }
    }

    fn run(model: &Transformer, extension: &Extension) -> crate::Output {
        let input = Input { tokens_bt: tokens(&[0, 5, 6, 7]), attention: Attention::Causal };
        model.forward(&input, extension)
    }

    fn with(attach: impl FnOnce(&mut Extension)) -> Extension {
        let mut extension = Extension::new(ParamStore::new(Device::Cpu));
        attach(&mut extension);
        extension
    }

    #[test]
    fn what_adds_zero_is_the_base_bit_for_bit() {
        let model = tiny_model(1);
        let base = run(&model, &Extension::none());
        assert!(Extension::none().is_none());
        assert!(base.residues.is_empty());
        let neutral = with(|e| {
            for block in 0..2 {
                e.add_branch(block, Placement::Ffn, Box::new(Constant(0.0)));
                e.add_branch(block, Placement::Attention, Box::new(Constant(0.0)));
                for site in LinearSite::ALL {
                    e.add_delta(block, site, Box::new(Scale(1.0)));
                }
            }
        });
        assert!(!neutral.is_none());
        assert_eq!(neutral.describe(), "4 branches, 14 deltas, 0 weights");
        let output = run(&model, &neutral);
        assert!(output.hidden_btd.equal(&base.hidden_btd));
        let order: Vec<_> = output.residues.iter().map(|r| (r.block, r.placement)).collect();
        let (attention, ffn) = (Placement::Attention, Placement::Ffn);
        assert_eq!(order, [(0, attention), (0, ffn), (1, attention), (1, ffn)]);
    }

    #[test]
    fn every_point_of_attachment_has_an_effect() {
        let model = tiny_model(1);
        let base = run(&model, &Extension::none()).hidden_btd;
        let differs = |extension: Extension| {
            !run(&model, &extension).hidden_btd.allclose(&base, 1e-4, 1e-4, false)
        };
        for block in 0..2 {
            for placement in [Placement::Ffn, Placement::Attention] {
                let branch = Box::new(Constant(0.5));
                assert!(differs(with(|e| e.add_branch(block, placement, branch))), "{placement:?}");
            }
            for site in LinearSite::ALL {
                let delta = Box::new(Scale(2.0));
                assert!(differs(with(|e| e.add_delta(block, site, delta))), "{site:?}");
            }
        }
    }

    #[test]
    fn an_extension_upon_another_adds_to_it_and_leaves_its_own_residues_alone() {
        let model = tiny_model(1);
        let (ffn, attention) = (Placement::Ffn, Placement::Attention);
        let constant = |value| Box::new(Constant(value));
        let below = || {
            with(|e| {
                e.add_branch(0, ffn, constant(0.25));
                e.add_branch(1, attention, constant(0.5));
                e.add_delta(0, LinearSite::UpProj, Box::new(Scale(2.0)));
            })
        };
        let own = |e: &mut Extension| {
            e.add_branch(0, ffn, constant(0.5));
            e.add_delta(1, LinearSite::QProj, Box::new(Scale(3.0)));
        };
        let lower = run(&model, &below());
        let nothing_more = run(&model, &Extension::none().upon(below()));
        assert!(nothing_more.hidden_btd.equal(&lower.hidden_btd));
        assert!(nothing_more.residues.is_empty());

        let upper = run(&model, &with(own).upon(below()));
        let places: Vec<_> = upper.residues.iter().map(|r| (r.block, r.placement)).collect();
        assert_eq!(places, [(0, ffn)]);
        let together = with(|e| {
            e.add_branch(0, ffn, constant(0.75));
            e.add_branch(1, attention, constant(0.5));
            e.add_delta(0, LinearSite::UpProj, Box::new(Scale(2.0)));
            e.add_delta(1, LinearSite::QProj, Box::new(Scale(3.0)));
        });
        let expected = run(&model, &together).hidden_btd;
        assert!(upper.hidden_btd.allclose(&expected, 1e-5, 1e-6, false));
        assert!(!expected.allclose(&lower.hidden_btd, 1e-3, 1e-3, false));

        // Three in a row, and deltas on one layer in turn.
        struct Plus(f64);
        impl LinearDelta for Plus {
            fn apply(&self, _: &Tensor, _: &Tensor, _: Option<&Tensor>, y: Tensor) -> Tensor {
                y + self.0
            }
        }
        let plus = |value| with(|e| e.add_delta(0, LinearSite::VProj, Box::new(Plus(value))));
        let in_turn = plus(0.25).upon(plus(0.5).upon(below()));
        let at_once = plus(0.75).upon(below());
        let [in_turn, at_once] = [in_turn, at_once].map(|e| run(&model, &e).hidden_btd);
        assert!(in_turn.allclose(&at_once, 1e-5, 1e-6, false));
        assert!(!in_turn.allclose(&lower.hidden_btd, 1e-3, 1e-3, false));
    }

    #[test]
    fn a_branch_reads_the_normalised_input_of_its_sub_layer() {
        let model = tiny_model(1);
        let extension = with(|e| e.add_branch(0, Placement::Attention, Box::new(Constant(0.0))));
        let output = run(&model, &extension);
        let embeddings = model.params().get("model.embed_tokens.weight").unwrap();
        let x = Tensor::embedding(embeddings, &tokens(&[0, 5, 6, 7]), -1, false, false);
        let norm = model.params().get("model.layers.0.input_layernorm.weight").unwrap();
        let expected = neutral_torch::fused::rms_norm(&x, &[], norm, model.config().norm_rule())
            .1
            .mean_dim(-1, true, Kind::Float);
        let gate = output.residues[0].gate.as_ref().unwrap();
        assert!(gate.value.equal(&expected));
    }

    #[test]
    #[should_panic(expected = "block 0 has a branch beside Ffn already")]
    fn a_second_branch_at_one_place_is_refused() {
        with(|e| {
            e.add_branch(0, Placement::Ffn, Box::new(Constant(0.0)));
            e.add_branch(0, Placement::Ffn, Box::new(Constant(1.0)));
        });
    }

    #[test]
    #[should_panic(expected = "the extension has 3 blocks, the model 2")]
    fn a_branch_beyond_the_last_block_is_not_ignored() {
        let extension = with(|e| e.add_branch(2, Placement::Ffn, Box::new(Constant(0.0))));
        run(&tiny_model(1), &extension);
    }
}
