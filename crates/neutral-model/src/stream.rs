//! The residual stream: what a sub-layer adds waits until the next norm, which adds and normalises in one
//! pass.

use neutral_spec::Placement;
use neutral_torch::fused::{NormRule, rms_norm};
use tch::Tensor;

use crate::extension::BlockExtension;
use crate::{BranchOutput, Residue};

/// The residual stream of one forward pass.
pub(crate) struct Stream {
    x_btd: Tensor,
    added: Vec<Tensor>,
    /// What branches added so far.
    pub(crate) residues: Vec<Residue>,
    rule: NormRule,
}

impl Stream {
    pub(crate) fn new(x_btd: Tensor, rule: NormRule) -> Self {
        Self { x_btd, added: Vec::new(), residues: Vec::new(), rule }
    }

    /// Adds a sub-layer's output and its branch's: normalised together, if there is a norm for it.
    pub(crate) fn add(
        &mut self,
        output_btd: Tensor,
        branch_btd: Option<Tensor>,
        norm_d: Option<&Tensor>,
    ) {
        match norm_d {
            None => self.added.extend([Some(output_btd), branch_btd].into_iter().flatten()),
            Some(weight_d) => {
                let branch: Vec<&Tensor> = branch_btd.iter().collect();
                self.added.push(rms_norm(&output_btd, &branch, weight_d, self.rule).1);
            }
        }
    }

    /// What the block's branch at a placement gives, if there is one; kept as a residue.
    pub(crate) fn branch(
        &mut self,
        normed_btd: &Tensor,
        extension: Option<&BlockExtension>,
        block: usize,
        placement: Placement,
    ) -> Option<Tensor> {
        let branch = extension.and_then(|extension| extension.branch(placement))?;
        let BranchOutput { output_btd, gate } = branch.forward(normed_btd);
        let added = output_btd.shallow_clone();
        self.residues.push(Residue { block, placement, output_btd, gate });
        Some(added)
    }

    pub(crate) fn normed(&mut self, weight_d: &Tensor) -> Tensor {
        let added: Vec<&Tensor> = self.added.iter().collect();
        let (x_btd, normed_btd) = rms_norm(&self.x_btd, &added, weight_d, self.rule);
        self.x_btd = x_btd;
        self.added.clear();
        normed_btd
    }
}
