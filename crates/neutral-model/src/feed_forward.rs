//! The feed-forward layer: a GLU.

use neutral_spec::LinearSite;
use tch::Tensor;

use crate::Activation;
use crate::extension::BlockExtension;
use crate::linear::{Joined, Linear};

/// `W_down (σ(W_gate x) ⊙ (W_up x))`.
#[derive(Debug)]
pub(crate) struct FeedForward {
    /// `W_gate`, `W_up`.
    pub(crate) gate_up: Joined,
    pub(crate) down_proj: Linear,
    pub(crate) activation: Activation,
}

impl FeedForward {
    /// # Shapes
    /// `x_btd` and the result: `[b, t, d]`.
    pub(crate) fn forward(&self, x_btd: &Tensor, extension: Option<&BlockExtension>) -> Tensor {
        use LinearSite::{DownProj, GateProj, UpProj};
        let delta = |site| extension.and_then(|block| block.delta(site));
        let gated_btf = match &self.gate_up.forward(x_btd, &[delta(GateProj), delta(UpProj)])[..] {
            [gate, up] => self.activation.glu(gate, up),
            both => self.activation.glu_packed(&both[0]),
        };
        self.down_proj.forward(&gated_btf, delta(DownProj))
    }
}
