//! One block: two pre-normed sub-layers, each added to the residual stream. It is the model's own, or one that
//! an extension adds.

use neutral_spec::{LinearSite, Placement};
use neutral_torch::fused::{Heads, Scores};
use neutral_torch::{ParamStore, TorchError};
use tch::Tensor;

use crate::TransformerConfig;
use crate::attention::{Context, SelfAttention};
use crate::extension::BlockExtension;
use crate::feed_forward::FeedForward;
use crate::linear::{Joined, Linear};
use crate::rotary::RotaryTable;
use crate::stream::Stream;
use crate::weights::linear_name;

/// The layers of a block, and the weights of its norms, `[d]` each.
#[derive(Debug)]
pub(crate) struct Block {
    pub(crate) input_norm_d: Tensor,
    pub(crate) attention: SelfAttention,
    /// Of attention's output, in models that normalise what joins the residual stream.
    pub(crate) after_attention_norm_d: Option<Tensor>,
    pub(crate) feed_forward_norm_d: Tensor,
    pub(crate) feed_forward: FeedForward,
    /// Of the feed-forward layer's output, in the same models.
    pub(crate) after_feed_forward_norm_d: Option<Tensor>,
}

impl Block {
    /// A block of the store's weights below a prefix, that computes as the model's block of that index.
    pub(crate) fn new(
        config: &TransformerConfig,
        index: usize,
        params: &ParamStore,
        prefix: &str,
    ) -> Result<Self, TorchError> {
        use LinearSite::{DownProj, GateProj, KProj, OProj, QProj, UpProj, VProj};
        let get = |name: &str| params.get(&format!("{prefix}.{name}")).map(Tensor::shallow_clone);
        let norm = |name: &str| get(&format!("{name}.weight"));
        let linear = |site| -> Result<Linear, TorchError> {
            let name = linear_name(site);
            let bias = config.has_bias(site).then(|| get(&format!("{name}.bias")));
            Ok(Linear { weight: get(&format!("{name}.weight"))?, bias: bias.transpose()? })
        };
        let qk_norm = if config.qk_norm {
            let weights = [norm("self_attn.q_norm")?, norm("self_attn.k_norm")?];
            Some((weights, config.norm_rule()))
        } else {
            None
        };
        // Llama calls the norm before its feed-forward layer by what it follows; where attention's
        // output is normalised too, that name is taken.
        let (feed_forward_norm_d, after) = if config.post_norms {
            let after = [norm("post_attention_layernorm")?, norm("post_feedforward_layernorm")?];
            (norm("pre_feedforward_layernorm")?, after.map(Some))
        } else {
            (norm("post_attention_layernorm")?, [None, None])
        };
        let [after_attention_norm_d, after_feed_forward_norm_d] = after;
        Ok(Self {
            input_norm_d: norm("input_layernorm")?,
            attention: SelfAttention {
                qkv: Joined::new(vec![linear(QProj)?, linear(KProj)?, linear(VProj)?]),
                o_proj: linear(OProj)?,
                qk_norm,
                heads: Heads {
                    query: config.n_heads,
                    key_value: config.n_kv_heads,
                    width: config.head_dim,
                },
                scores: Scores { scale: config.attention_scale, softcap: config.attention_softcap },
                window: config.blocks[index].window,
            },
            after_attention_norm_d,
            feed_forward_norm_d,
            feed_forward: FeedForward {
                gate_up: Joined::new(vec![linear(GateProj)?, linear(UpProj)?]),
                down_proj: linear(DownProj)?,
                activation: config.activation,
            },
            after_feed_forward_norm_d,
        })
    }

    /// Both sub-layers, with what extends them; `index` names the residues of branches.
    pub(crate) fn forward(
        &self,
        stream: &mut Stream,
        index: usize,
        rotary: &RotaryTable,
        context: Context,
        extension: Option<&BlockExtension>,
    ) {
        let normed = stream.normed(&self.input_norm_d);
        let output = self.attention.forward(&normed, rotary, context, extension);
        let branches = stream.branches(&normed, extension, index, Placement::Attention);
        stream.add(output, branches, self.after_attention_norm_d.as_ref());
        let normed = stream.normed(&self.feed_forward_norm_d);
        let output = self.feed_forward.forward(&normed, extension);
        let branches = stream.branches(&normed, extension, index, Placement::Ffn);
        stream.add(output, branches, self.after_feed_forward_norm_d.as_ref());
    }
}
