//! The feed-forward layer: SwiGLU.

use neutral_spec::LinearSite;
use tch::Tensor;

use crate::extension::BlockExtension;
use crate::linear::linear;

/// `W_down (silu(W_gate x) ⊙ (W_up x))`.
#[derive(Debug)]
pub(crate) struct FeedForward {
    pub(crate) gate_proj_fd: Tensor,
    pub(crate) up_proj_fd: Tensor,
    pub(crate) down_proj_df: Tensor,
}

impl FeedForward {
    /// # Shapes
    /// `x_btd` and the result: `[b, t, d]`.
    pub(crate) fn forward(&self, x_btd: &Tensor, extension: Option<&BlockExtension>) -> Tensor {
        let delta = |site| extension.and_then(|block| block.delta(site));
        let gate_btf = linear(x_btd, &self.gate_proj_fd, delta(LinearSite::GateProj));
        let up_btf = linear(x_btd, &self.up_proj_fd, delta(LinearSite::UpProj));
        linear(&(gate_btf.silu() * up_btf), &self.down_proj_df, delta(LinearSite::DownProj))
    }
}
