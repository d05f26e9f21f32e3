//! The weights of a new model: their names, shapes and starts.
//!
//! Names and shapes are Hugging Face's for Llama, so that a checkpoint needs no translation.

use neutral_spec::LinearSite;
use neutral_torch::fused::Heads;
use neutral_torch::{ParamStore, RandomStream};
use tch::{Device, Kind, Tensor};

use crate::attention::SelfAttention;
use crate::feed_forward::FeedForward;
use crate::linear::Joined;
use crate::transformer::Block;
use crate::{ModelError, TransformerConfig};

/// Standard deviation of embeddings and of most matrices.
const STD: f64 = 0.02;

/// A store of weights, and handles of its tensors where the layers want them.
pub(crate) struct Weights {
    pub(crate) params: ParamStore,
    pub(crate) embed_tokens_vd: Tensor,
    pub(crate) blocks: Vec<Block>,
    pub(crate) norm_d: Tensor,
    pub(crate) head_vd: Tensor,
}

/// Draws all weights; a tied head is a second handle of the embeddings.
pub(crate) fn draw(
    config: &TransformerConfig,
    seed: u64,
    device: Device,
) -> Result<Weights, ModelError> {
    let shape = config.shape;
    let (d, v) = (shape.d_model as i64, config.vocab_size as i64);
    let mut maker = Maker { params: ParamStore::new(device), seed };
    let embed_tokens_vd = maker.matrix("model.embed_tokens.weight", &[v, d], STD)?;
    let blocks: Result<_, _> = (0..shape.n_layers).map(|i| maker.block(config, i)).collect();
    let norm_d = maker.ones("model.norm.weight", d)?;
    let head_vd = if shape.tie_embeddings {
        embed_tokens_vd.shallow_clone()
    } else {
        maker.matrix("lm_head.weight", &[v, d], STD)?
    };
    Ok(Weights { params: maker.params, embed_tokens_vd, blocks: blocks?, norm_d, head_vd })
}

/// Makes weights, each from a stream of its own, and registers them.
struct Maker {
    params: ParamStore,
    seed: u64,
}

impl Maker {
    fn matrix(&mut self, name: &str, size: &[i64], std: f64) -> Result<Tensor, ModelError> {
        let mut stream = RandomStream::new(self.seed, name);
        let tensor = stream.normal(size, std, self.params.device());
        self.register(name, tensor)
    }

    fn ones(&mut self, name: &str, size: i64) -> Result<Tensor, ModelError> {
        let tensor = Tensor::ones([size], (Kind::Float, self.params.device()));
        self.register(name, tensor)
    }

    fn register(&mut self, name: &str, tensor: Tensor) -> Result<Tensor, ModelError> {
        self.params.insert(name, tensor)?;
        Ok(self.params.get(name)?.shallow_clone())
    }

    fn block(&mut self, config: &TransformerConfig, index: usize) -> Result<Block, ModelError> {
        let shape = config.shape;
        let prefix = format!("model.layers.{index}");
        let residual_std = STD / (2.0 * shape.n_layers as f64).sqrt();
        let d = shape.d_model as i64;
        let mut proj = |site: LinearSite| {
            use LinearSite::{DownProj, KProj, OProj, QProj, VProj};
            let (inputs, outputs) = config.linear_shape(site);
            let layer =
                if matches!(site, QProj | KProj | VProj | OProj) { "self_attn" } else { "mlp" };
            let std = if matches!(site, OProj | DownProj) { residual_std } else { STD };
            let name = format!("{prefix}.{layer}.{}.weight", site.name());
            self.matrix(&name, &[outputs as i64, inputs as i64], std)
        };
        let attention = SelfAttention {
            qkv: Joined::new(vec![
                proj(LinearSite::QProj)?,
                proj(LinearSite::KProj)?,
                proj(LinearSite::VProj)?,
            ]),
            o_proj: proj(LinearSite::OProj)?,
            heads: Heads {
                query: shape.n_heads,
                key_value: shape.n_kv_heads,
                width: config.head_dim(),
            },
        };
        let feed_forward = FeedForward {
            gate_up: Joined::new(vec![proj(LinearSite::GateProj)?, proj(LinearSite::UpProj)?]),
            down_proj_df: proj(LinearSite::DownProj)?,
        };
        Ok(Block {
            input_norm_d: self.ones(&format!("{prefix}.input_layernorm.weight"), d)?,
            attention,
            post_attention_norm_d: self
                .ones(&format!("{prefix}.post_attention_layernorm.weight"), d)?,
            feed_forward,
        })
    }
}
