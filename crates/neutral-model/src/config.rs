//! What a model is: its sizes, and the features in which families of models differ.
//!
//! One transformer serves all families; a family is a file in [`crate::family`] that turns a
//! `config.json` into this description.

use neutral_spec::{GluActivation, LinearSite, ModelSize, Shape};
use neutral_torch::fused::{NormRule, swiglu, swiglu_packed};
use serde::{Deserialize, Serialize};
use tch::Tensor;

use crate::ModelError;
use crate::rotary::Rotary;
use crate::weights::Weight;

/// All that a model's weights and its computation depend on, but for the weights' values.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TransformerConfig {
    /// Hugging Face's name of the family: `llama`.
    pub model_type: String,
    /// Number of tokens.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub d_model: usize,
    /// Query heads.
    pub n_heads: usize,
    /// Key and value heads, a divisor of the query heads.
    pub n_kv_heads: usize,
    /// Width of a head, an even number.
    pub head_dim: usize,
    /// Inner width of the feed-forward layer.
    pub d_ff: usize,
    /// The head is the transposed token embedding.
    pub tie_embeddings: bool,
    /// The blocks, from the first on.
    pub blocks: Vec<BlockConfig>,
    /// Added to the mean square in RMSNorm.
    pub norm_epsilon: f64,
    /// RMSNorm multiplies with `1 + w` instead of `w`.
    pub unit_offset: bool,
    /// The sub-layers' outputs are normalised too, before they join the residual stream.
    pub post_norms: bool,
    /// Queries and keys are normalised, a head at a time, before they are rotated.
    pub qk_norm: bool,
    /// Which linear layers add a bias.
    pub biases: Biases,
    /// The feed-forward layer's σ.
    pub activation: Activation,
    /// The embeddings are multiplied with `√d`.
    pub scale_embeddings: bool,
    /// What `q · k` is multiplied with; mostly `1 / √head_dim`.
    pub attention_scale: f64,
    /// `s ↦ c · tanh(s / c)` on attention's scores.
    pub attention_softcap: Option<f64>,
    /// The same on the logits.
    pub logit_softcap: Option<f64>,
}

/// What may differ from block to block.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct BlockConfig {
    /// A token attends to so many, itself included; to all before it, if absent.
    pub window: Option<usize>,
    /// How positions rotate queries and keys.
    pub rotary: Rotary,
}

/// Which linear layers add a bias.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Biases {
    /// `q_proj`, `k_proj`, `v_proj`.
    pub qkv: bool,
    /// `o_proj`.
    pub o: bool,
    /// `gate_proj`, `up_proj`, `down_proj`.
    pub mlp: bool,
}

/// The σ of a GLU, `σ(gate) ⊙ up`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// `z / (1 + e⁻ᶻ)`.
    Silu,
    /// GELU in its approximation by tanh.
    GeluTanh,
    /// `max(0, z)`.
    Relu,
}

impl From<GluActivation> for Activation {
    fn from(of_method: GluActivation) -> Self {
        match of_method {
            GluActivation::Silu => Self::Silu,
            GluActivation::GeluTanh => Self::GeluTanh,
            GluActivation::Relu => Self::Relu,
        }
    }
}

impl Activation {
    /// `σ(gate) ⊙ up`, the first rounded before the product.
    ///
    /// # Shapes
    /// Both `[…, f]`; so is the result.
    pub fn glu(self, gate: &Tensor, up: &Tensor) -> Tensor {
        match self {
            Self::Silu => swiglu(gate, up),
            Self::GeluTanh => gate.gelu("tanh") * up,
            Self::Relu => gate.relu() * up,
        }
    }

    /// The same of the two halves of one tensor.
    ///
    /// # Shapes
    /// `gate_up`: `[…, 2f]`, the gate first; result: `[…, f]`.
    pub fn glu_packed(self, gate_up: &Tensor) -> Tensor {
        match self {
            Self::Silu => swiglu_packed(gate_up),
            Self::GeluTanh | Self::Relu => {
                let halves = gate_up.chunk(2, -1);
                self.glu(&halves[0], &halves[1])
            }
        }
    }
}

impl TransformerConfig {
    /// A model of the Llama family without anything special.
    pub fn llama(shape: &Shape, vocab_size: usize) -> Self {
        let head_dim = shape.d_model / shape.n_heads.max(1);
        let block = BlockConfig { window: None, rotary: Rotary::plain(shape.rope_theta) };
        Self {
            model_type: "llama".to_owned(),
            vocab_size,
            d_model: shape.d_model,
            n_heads: shape.n_heads,
            n_kv_heads: shape.n_kv_heads,
            head_dim,
            d_ff: shape.d_ff,
            tie_embeddings: shape.tie_embeddings,
            blocks: vec![block; shape.n_layers],
            norm_epsilon: shape.norm_epsilon,
            unit_offset: false,
            post_norms: false,
            qk_norm: false,
            biases: Biases::default(),
            activation: Activation::Silu,
            scale_embeddings: false,
            attention_scale: 1.0 / (head_dim as f64).sqrt(),
            attention_softcap: None,
            logit_softcap: None,
        }
    }

    /// Number of blocks.
    pub fn n_layers(&self) -> usize {
        self.blocks.len()
    }

    /// The sizes that budgets and costs depend on.
    pub fn size(&self) -> ModelSize {
        let numel = |shape: &[usize]| shape.iter().product::<usize>() as u64;
        let parameters = self.weights().iter().map(|Weight { shape, .. }| numel(shape)).sum();
        let block_parameters = self.block_weight_shapes().iter().map(|(_, s)| numel(s)).sum();
        ModelSize { parameters, block_parameters, ..self.widths() }
    }

    /// Inputs and outputs of a linear layer of a block, as `(in, out)`; its weight is `[out, in]`.
    pub fn linear_shape(&self, site: LinearSite) -> (usize, usize) {
        self.widths().linear_shape(site)
    }

    /// How the model's norms are computed.
    pub(crate) fn norm_rule(&self) -> NormRule {
        NormRule { epsilon: self.norm_epsilon, unit_offset: self.unit_offset }
    }

    /// The sizes but for the number of weights, which follows from them.
    fn widths(&self) -> ModelSize {
        ModelSize {
            d_model: self.d_model,
            n_layers: self.n_layers(),
            n_heads: self.n_heads,
            n_kv_heads: self.n_kv_heads,
            head_dim: self.head_dim,
            d_ff: self.d_ff,
            vocab_size: self.vocab_size,
            parameters: 0,
            block_parameters: 0,
        }
    }

    /// Checks that such a model can be built.
    ///
    /// # Errors
    /// [`ModelError::Config`] names the first field that does not fit the others.
    pub fn validate(&self) -> Result<(), ModelError> {
        let sizes = [
            ("vocab_size", self.vocab_size),
            ("d_model", self.d_model),
            ("n_heads", self.n_heads),
            ("n_kv_heads", self.n_kv_heads),
            ("head_dim", self.head_dim),
            ("d_ff", self.d_ff),
        ];
        for (field, size) in sizes {
            require(field, size, size > 0 && size <= 1 << 24, "expected 1 to 16777216")?;
        }
        let layers = self.n_layers();
        require("n_layers", layers, (1..=1 << 16).contains(&layers), "expected 1 to 65536")?;
        require(
            "head_dim",
            self.head_dim,
            self.head_dim.is_multiple_of(2),
            "expected an even number",
        )?;
        let heads = self.n_heads;
        let expected = format!("expected a divisor of n_heads = {heads}");
        require("n_kv_heads", self.n_kv_heads, heads.is_multiple_of(self.n_kv_heads), &expected)?;
        let positive = |field, x: f64| {
            require(field, x, x.is_finite() && x > 0.0, "expected a positive number")
        };
        positive("norm_epsilon", self.norm_epsilon)?;
        positive("attention_scale", self.attention_scale)?;
        for cap in [self.attention_softcap, self.logit_softcap].into_iter().flatten() {
            positive("softcap", cap)?;
        }
        for block in &self.blocks {
            let window = block.window.unwrap_or(1);
            require("window", window, window > 0, "expected 1 or more")?;
            block.rotary.validate()?;
        }
        Ok(())
    }
}

fn require(
    field: &'static str,
    value: impl ToString,
    holds: bool,
    expected: &str,
) -> Result<(), ModelError> {
    if holds {
        return Ok(());
    }
    Err(ModelError::Config { field, value: value.to_string(), expected: expected.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transformer::tests::tiny_config;

    #[test]
    fn linear_layers_have_llamas_shapes() {
        let config = tiny_config(true);
        let shapes = LinearSite::ALL.map(|site| config.linear_shape(site));
        assert_eq!(shapes, [(16, 16), (16, 8), (16, 8), (16, 16), (16, 24), (16, 24), (24, 16)]);
    }

    #[test]
    fn a_new_models_size_is_what_its_shape_announces() {
        let shape = Shape {
            d_model: 16,
            n_layers: 3,
            n_heads: 4,
            n_kv_heads: 2,
            d_ff: 24,
            tie_embeddings: false,
            rope_theta: 1e4,
            norm_epsilon: 1e-5,
        };
        assert_eq!(TransformerConfig::llama(&shape, 29).size(), shape.size(29));
    }

    #[test]
    fn a_wrong_size_is_named_with_its_value_and_what_would_be_right() {
        let broken = |change: fn(&mut TransformerConfig)| {
            let mut config = tiny_config(true);
            change(&mut config);
            config.validate().unwrap_err().to_string()
        };
        tiny_config(true).validate().unwrap();
        assert_eq!(
            broken(|c| c.n_kv_heads = 3),
            "n_kv_heads is 3, expected a divisor of n_heads = 4"
        );
        assert_eq!(broken(|c| c.head_dim = 3), "head_dim is 3, expected an even number");
        assert!(broken(|c| c.n_heads = 0).starts_with("n_heads is 0"));
        assert!(broken(|c| c.norm_epsilon = f64::NAN).starts_with("norm_epsilon is NaN"));
        assert!(broken(|c| c.blocks.clear()).starts_with("n_layers is 0"));
        assert!(broken(|c| c.blocks[0].window = Some(0)).starts_with("window is 0"));
    }
}
