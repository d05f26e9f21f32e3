//! The feed-forward layer: SwiGLU.

use neutral_spec::LinearSite;
use neutral_torch::fused::{swiglu, swiglu_packed};
use tch::Tensor;

use crate::extension::BlockExtension;
use crate::linear::{Joined, linear};

/// `W_down (silu(W_gate x) ⊙ (W_up x))`.
#[derive(Debug)]
pub(crate) struct FeedForward {
    /// `W_gate`, `W_up`.
    pub(crate) gate_up: Joined,
    pub(crate) down_proj_df: Tensor,
}

impl FeedForward {
    /// # Shapes
    /// `x_btd` and the result: `[b, t, d]`.
    pub(crate) fn forward(&self, x_btd: &Tensor, extension: Option<&BlockExtension>) -> Tensor {
        use LinearSite::{DownProj, GateProj, UpProj};
        let delta = |site| extension.and_then(|block| block.delta(site));
        let gated_btf = match &self.gate_up.forward(x_btd, &[delta(GateProj), delta(UpProj)])[..] {
            [gate, up] => swiglu(gate, up),
            both => swiglu_packed(&both[0]),
        };
        linear(&gated_btf, &self.down_proj_df, delta(DownProj))
    }
}
