//! Grouped-query attention with rotary positions.

use neutral_spec::LinearSite;
use neutral_torch::fused::{Heads, attention};
use tch::{Kind, Tensor};

use crate::extension::BlockExtension;
use crate::linear::{Joined, linear};
use crate::rotary::RotaryTable;

/// `W_o · softmax(q kᵀ / √e) v`, query head `h` reading key-value head `⌊h · n_kv_heads / n_heads⌋`.
#[derive(Debug)]
pub(crate) struct SelfAttention {
    /// `W_q`, `W_k`, `W_v`.
    pub(crate) qkv: Joined,
    pub(crate) o_proj: Tensor,
    pub(crate) heads: Heads,
}

impl SelfAttention {
    /// Attention of every position to those from its start on, up to itself; to all before it, if
    /// there are no starts.
    ///
    /// # Shapes
    /// `x_btd` and the result: `[b, t, d]`; `starts_bt`: `[b, t]`, `Int64`.
    pub(crate) fn forward(
        &self,
        x_btd: &Tensor,
        rotary: &RotaryTable,
        starts_bt: Option<&Tensor>,
        extension: Option<&BlockExtension>,
    ) -> Tensor {
        use LinearSite::{KProj, OProj, QProj, VProj};
        let delta = |site| extension.and_then(|block| block.delta(site));
        let projected = self.qkv.forward(x_btd, &[delta(QProj), delta(KProj), delta(VProj)]);
        let projected: Vec<&Tensor> = projected.iter().collect();
        let mixed_btd = attention(&projected, self.heads, rotary.halves(), starts_bt);
        linear(&mixed_btd, &self.o_proj, delta(OProj))
    }
}

/// The position at which each token's document begins; a separator begins one, and the tokens
/// before the first separator are one of their own.
///
/// # Shapes
/// `tokens_bt`: `[b, t]`; result: the same, `Int64`.
pub(crate) fn document_starts(tokens_bt: &Tensor, separator_id: i64) -> Tensor {
    let t = tokens_bt.size()[1];
    let positions = Tensor::arange(t, (Kind::Int64, tokens_bt.device()));
    (tokens_bt.eq(separator_id).to_kind(Kind::Int64) * positions).cummax(1).0
}
