//! The weights of a model: their names, shapes and starts.
//!
//! Names and shapes are Hugging Face's, so that a checkpoint needs no translation.

use neutral_spec::LinearSite;
use neutral_torch::{ParamStore, RandomStream};
use tch::{Device, Kind, Tensor};

use crate::{ModelError, TransformerConfig};

/// Standard deviation of embeddings and of most matrices at the start.
const STD: f64 = 0.02;

/// The head's name; a tied one is not among the weights.
pub(crate) const HEAD: &str = "lm_head.weight";

/// One weight.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Weight {
    pub(crate) name: String,
    pub(crate) shape: Vec<usize>,
    start: Start,
}

/// How a weight of a new model is filled.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Start {
    Normal { std: f64 },
    Constant(f64),
}

impl TransformerConfig {
    /// Every weight of such a model.
    pub(crate) fn weights(&self) -> Vec<Weight> {
        let (d, v) = (self.d_model, self.vocab_size);
        let matrix = |name: &str| Weight {
            name: name.to_owned(),
            shape: vec![v, d],
            start: Start::Normal { std: STD },
        };
        let mut all = vec![matrix("model.embed_tokens.weight")];
        all.extend((0..self.n_layers()).flat_map(|i| self.block_weights(&prefix(i))));
        all.push(self.norm("model.norm.weight".to_owned(), d));
        if !self.tie_embeddings {
            all.push(matrix(HEAD));
        }
        all
    }

    /// Names and shapes of every weight of such a model, as Hugging Face has them.
    pub fn weight_shapes(&self) -> Vec<(String, Vec<usize>)> {
        self.weights().into_iter().map(|weight| (weight.name, weight.shape)).collect()
    }

    /// Names within a block, such as `self_attn.q_proj.weight`, and shapes of every weight of one block.
    pub fn block_weight_shapes(&self) -> Vec<(String, Vec<usize>)> {
        let within = |name: String| name.strip_prefix("block.").unwrap_or(&name).to_owned();
        let weights = self.block_weights("block").into_iter();
        weights.map(|weight| (within(weight.name), weight.shape)).collect()
    }

    fn block_weights(&self, prefix: &str) -> Vec<Weight> {
        let residual_std = STD / (2.0 * self.n_layers() as f64).sqrt();
        let mut all = Vec::new();
        for site in LinearSite::ALL {
            let (inputs, outputs) = self.linear_shape(site);
            let name = format!("{prefix}.{}", linear_name(site));
            let writes = matches!(site, LinearSite::OProj | LinearSite::DownProj);
            let std = if writes { residual_std } else { STD };
            all.push(Weight {
                name: format!("{name}.weight"),
                shape: vec![outputs, inputs],
                start: Start::Normal { std },
            });
            if self.has_bias(site) {
                all.push(Weight {
                    name: format!("{name}.bias"),
                    shape: vec![outputs],
                    start: Start::Constant(0.0),
                });
            }
        }
        let of_heads =
            if self.qk_norm { &["self_attn.q_norm", "self_attn.k_norm"][..] } else { &[] };
        all.extend(
            of_heads.iter().map(|n| self.norm(format!("{prefix}.{n}.weight"), self.head_dim)),
        );
        let post: &[&str] = if self.post_norms {
            &["pre_feedforward_layernorm", "post_feedforward_layernorm"]
        } else {
            &[]
        };
        let norms = ["input_layernorm", "post_attention_layernorm"].iter().chain(post);
        all.extend(norms.map(|n| self.norm(format!("{prefix}.{n}.weight"), self.d_model)));
        all
    }

    /// A linear layer of a block adds a bias.
    pub(crate) fn has_bias(&self, site: LinearSite) -> bool {
        use LinearSite::{DownProj, GateProj, KProj, OProj, QProj, UpProj, VProj};
        match site {
            QProj | KProj | VProj => self.biases.qkv,
            OProj => self.biases.o,
            GateProj | UpProj | DownProj => self.biases.mlp,
        }
    }

    fn norm(&self, name: String, width: usize) -> Weight {
        let neutral = if self.unit_offset { 0.0 } else { 1.0 };
        Weight { name, shape: vec![width], start: Start::Constant(neutral) }
    }
}

/// What the weights of a block are called by.
pub(crate) fn prefix(block: usize) -> String {
    format!("model.layers.{block}")
}

/// A linear layer's path within its block: `self_attn.q_proj`.
pub fn linear_name(site: LinearSite) -> String {
    use LinearSite::{KProj, OProj, QProj, VProj};
    let layer = if matches!(site, QProj | KProj | VProj | OProj) { "self_attn" } else { "mlp" };
    format!("{layer}.{}", site.name())
}

/// Draws all weights, each from a stream of its own, keyed by the seed and its name.
pub(crate) fn draw(
    config: &TransformerConfig,
    seed: u64,
    device: Device,
) -> Result<ParamStore, ModelError> {
    let mut params = ParamStore::new(device);
    for Weight { name, shape, start } in config.weights() {
        let shape: Vec<i64> = shape.into_iter().map(|n| n as i64).collect();
        let tensor = match start {
            Start::Normal { std } => RandomStream::new(seed, &name).normal(&shape, std, device),
            Start::Constant(value) => Tensor::full(&shape, value, (Kind::Float, device)),
        };
        params.insert(name, tensor)?;
    }
    Ok(params)
}
