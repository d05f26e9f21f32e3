//! Grouped-query attention with rotary positions.

use neutral_spec::LinearSite;
use neutral_torch::fused::{
    Heads, KeyValues, NormRule, PrefixTree, Scores, attention, cached_attention, prefix_attention,
    rms_norm,
};
use tch::{Kind, Tensor};

use crate::extension::BlockExtension;
use crate::linear::{Joined, Linear};
use crate::rotary::RotaryTable;

/// `W_o · softmax(scores(q kᵀ)) v`, query head `h` reading key-value head `⌊h · n_kv_heads / n_heads⌋`.
#[derive(Debug)]
pub(crate) struct SelfAttention {
    /// `W_q`, `W_k`, `W_v`.
    pub(crate) qkv: Joined,
    pub(crate) o_proj: Linear,
    /// Weights of the norms of queries and keys, `[e]` each, in models that have them.
    pub(crate) qk_norm: Option<([Tensor; 2], NormRule)>,
    pub(crate) heads: Heads,
    pub(crate) scores: Scores,
    /// A token attends to so many, itself included; to all before it, if absent.
    pub(crate) window: Option<usize>,
}

/// What tokens attend to besides themselves.
pub(crate) enum Context<'a> {
    /// The tokens before them in the same call, from the block's starts on.
    Sequence {
        /// `[b, t]`, `Int64`; all tokens, if absent.
        starts_bt: Option<&'a Tensor>,
    },
    /// Those of earlier calls too.
    Cached(&'a mut KeyValues),
    /// Those before them on their path.
    Prefixes(&'a PrefixTree),
}

impl SelfAttention {
    /// # Shapes
    /// `x_btd` and the result: `[b, t, d]`.
    pub(crate) fn forward(
        &self,
        x_btd: &Tensor,
        rotary: &RotaryTable,
        context: Context,
        extension: Option<&BlockExtension>,
    ) -> Tensor {
        use LinearSite::{KProj, OProj, QProj, VProj};
        let delta = |site| extension.and_then(|block| block.delta(site));
        let projected = self.qkv.forward(x_btd, &[delta(QProj), delta(KProj), delta(VProj)]);
        let projected = self.normed(projected);
        let qkv: Vec<&Tensor> = projected.iter().collect();
        let (heads, scores) = (self.heads, self.scores);
        let mixed = match context {
            Context::Sequence { starts_bt } => {
                attention(&qkv, heads, scores, rotary.halves(), starts_bt)
            }
            Context::Cached(kept) => {
                cached_attention(&qkv, heads, scores, rotary.halves(), kept, self.window)
            }
            Context::Prefixes(tree) => {
                prefix_attention(&qkv, heads, scores, rotary.halves(), tree, self.window)
            }
        };
        self.o_proj.forward(&mixed, delta(OProj))
    }

    /// Queries and keys normalised a head at a time, if the model does.
    fn normed(&self, qkv: Vec<Tensor>) -> Vec<Tensor> {
        let Some((weights, rule)) = &self.qk_norm else { return qkv };
        let Heads { query, key_value, width } = self.heads;
        let widths = [query, key_value, key_value].map(|n| (n * width) as i64);
        let mut parts = match &qkv[..] {
            [packed] => packed.split_with_sizes(widths.as_slice(), -1),
            _ => qkv,
        };
        for (part, weight) in parts.iter_mut().zip(weights) {
            let size = part.size();
            let heads = part.reshape([size[0], size[1], -1, width as i64]);
            *part = rms_norm(&heads, &[], weight, *rule).1.reshape(&size);
        }
        parts
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

/// The first position of each token's window, no earlier than the start of its document.
///
/// # Shapes
/// `tokens_bt`, `starts_bt` and the result: `[b, t]`.
pub(crate) fn window_starts(
    tokens_bt: &Tensor,
    starts_bt: Option<&Tensor>,
    window: usize,
) -> Tensor {
    let size = tokens_bt.size();
    let positions = Tensor::arange(size[1], (Kind::Int64, tokens_bt.device()));
    let first = (positions - (window as i64 - 1)).clamp_min(0).expand(&size, false);
    starts_bt.map_or_else(|| first.contiguous(), |starts| first.maximum(starts))
}
