//! The residual stream: what a sub-layer adds waits until the next norm, which adds and normalises in one
//! pass.

use neutral_spec::Placement;
use neutral_torch::fused::{NormRule, rms_norm};
use tch::Tensor;

use crate::extension::BlockExtension;
use crate::{Before, BranchOutput, Residue};

/// The residual stream of one forward pass.
pub(crate) struct Stream<'a> {
    x_btd: Tensor,
    added: Vec<Tensor>,
    /// What branches added so far.
    pub(crate) residues: Vec<Residue>,
    /// What branches read of the tokens before.
    before: Before<'a>,
    rule: NormRule,
}

impl<'a> Stream<'a> {
    pub(crate) fn new(x_btd: Tensor, before: Before<'a>, rule: NormRule) -> Self {
        Self { x_btd, added: Vec::new(), residues: Vec::new(), before, rule }
    }

    /// Adds a sub-layer's output and its branches': normalised together, if there is a norm for it.
    pub(crate) fn add(
        &mut self,
        output_btd: Tensor,
        branches_btd: Vec<Tensor>,
        norm_d: Option<&Tensor>,
    ) {
        match norm_d {
            None => {
                self.added.push(output_btd);
                self.added.extend(branches_btd);
            }
            Some(weight_d) => {
                let branches: Vec<&Tensor> = branches_btd.iter().collect();
                self.added.push(rms_norm(&output_btd, &branches, weight_d, self.rule).1);
            }
        }
    }

    /// What the block's branches at a placement give; that of the extension itself, which is not below another, is
    /// kept as a residue.
    pub(crate) fn branches(
        &mut self,
        normed_btd: &Tensor,
        extension: Option<&BlockExtension>,
        block: usize,
        placement: Placement,
    ) -> Vec<Tensor> {
        let Some(extension) = extension else { return Vec::new() };
        let below = extension.branches_below(placement);
        let before = &mut self.before;
        let mut added: Vec<Tensor> =
            below.map(|branch| branch.forward(normed_btd, before).output_btd).collect();
        if let Some(branch) = extension.branch(placement) {
            let BranchOutput { output_btd, watched_btd, gate } = branch.forward(normed_btd, before);
            added.push(output_btd.shallow_clone());
            let output_btd = watched_btd.unwrap_or(output_btd);
            self.residues.push(Residue { block, placement, output_btd, gate });
        }
        added
    }

    pub(crate) fn normed(&mut self, weight_d: &Tensor) -> Tensor {
        let added: Vec<&Tensor> = self.added.iter().collect();
        let (x_btd, normed_btd) = rms_norm(&self.x_btd, &added, weight_d, self.rule);
        self.x_btd = x_btd;
        self.added.clear();
        normed_btd
    }
}
