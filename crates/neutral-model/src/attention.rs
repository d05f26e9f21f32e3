//! Grouped-query attention with rotary positions.

use neutral_spec::LinearSite;
use tch::{Kind, Tensor};

use crate::extension::BlockExtension;
use crate::linear::linear;
use crate::rotary::RotaryTable;

/// `W_o · softmax(q kᵀ / √e) v`, query head `h` reading key-value head `⌊h · n_kv_heads / n_heads⌋`.
#[derive(Debug)]
pub(crate) struct SelfAttention {
    pub(crate) q_proj: Tensor,
    pub(crate) k_proj: Tensor,
    pub(crate) v_proj: Tensor,
    pub(crate) o_proj: Tensor,
    pub(crate) n_heads: i64,
    pub(crate) n_kv_heads: i64,
}

impl SelfAttention {
    /// Attention to the positions that `mask` allows; to all up to a token's own, if there is none.
    ///
    /// # Shapes
    /// `x_btd` and the result: `[b, t, d]`; `mask_b1tt`: `[b, 1, t, t]`, true = may attend.
    pub(crate) fn forward(
        &self,
        x_btd: &Tensor,
        rotary: &RotaryTable,
        mask_b1tt: Option<&Tensor>,
        extension: Option<&BlockExtension>,
    ) -> Tensor {
        let delta = |site| extension.and_then(|block| block.delta(site));
        let size = x_btd.size();
        let (b, t, d) = (size[0], size[1], size[2]);
        let heads = |weight: &Tensor, site, n: i64| {
            linear(x_btd, weight, delta(site)).view([b, t, n, d / self.n_heads])
        };
        let q_bthe = heads(&self.q_proj, LinearSite::QProj, self.n_heads);
        let k_btke = heads(&self.k_proj, LinearSite::KProj, self.n_kv_heads);
        let v_btke = heads(&self.v_proj, LinearSite::VProj, self.n_kv_heads);
        let q_bhte = rotary.rotate(&q_bthe).transpose(1, 2);
        let k_bkte = rotary.rotate(&k_btke).transpose(1, 2);
        let v_bkte = v_btke.transpose(1, 2);
        let mixed_bhte = Tensor::scaled_dot_product_attention(
            &q_bhte,
            &k_bkte,
            &v_bkte,
            mask_b1tt,
            0.0,
            mask_b1tt.is_none(),
            None,
            self.n_kv_heads != self.n_heads,
        );
        let mixed_btd = mixed_bhte.transpose(1, 2).reshape([b, t, d]);
        linear(&mixed_btd, &self.o_proj, delta(LinearSite::OProj))
    }
}

/// Causal attention within documents: a separator begins a document, and `(i, j)` is allowed if
/// `j ≤ i` and no separator stands after `j` up to and including `i`.
///
/// # Shapes
/// `tokens_bt`: `[b, t]`; result: `[b, 1, t, t]`, bool.
pub(crate) fn document_mask(tokens_bt: &Tensor, separator_id: i64) -> Tensor {
    let documents_bt = tokens_bt.eq(separator_id).cumsum(-1, Kind::Int64);
    let same_btt = documents_bt.unsqueeze(2).eq_tensor(&documents_bt.unsqueeze(1));
    same_btt.tril(0).unsqueeze(1)
}
