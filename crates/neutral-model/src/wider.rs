//! A model whose feed-forward layers hold further units beside their own: a plain model, for other tools.

use neutral_torch::ParamStore;
use serde_json::{Value, json};
use tch::{Kind, Tensor};

use crate::{ModelError, Transformer};

/// Widths of feed-forward layers are made multiples of it, as quantised formats and the kernels of GPUs want them.
const MULTIPLE: usize = 64;

/// Units of a block's feed-forward layer: `W_o (σ(W_g x) ⊙ (W_i x))`, with the σ of the layer's own.
#[derive(Debug)]
pub struct Units<'a> {
    /// `W_g`: `[h, d]`.
    pub gate_hd: &'a Tensor,
    /// `W_i`: `[h, d]`.
    pub up_hd: &'a Tensor,
    /// `W_o`: `[d, h]`.
    pub down_dh: &'a Tensor,
}

/// The model with so many more units in every feed-forward layer, and its `config.json`. Units of zeros, which add
/// nothing, make the width a multiple of 64. A sum over the units of a layer does not ask where they came from: alone it
/// computes what layer and units compute side by side, but for the order of the sum.
///
/// Weights keep the kind that the model's have, in memory of their own.
///
/// # Errors
/// If a block's weights are missing.
///
/// # Panics
/// If there are not as many units for every block, of the model's width.
pub fn widened(
    model: &Transformer,
    units: &[Units],
    config_json: &Value,
) -> Result<(Transformer, Value), ModelError> {
    assert_eq!(units.len(), model.config().n_layers(), "units for every block");
    let mut config = model.config().clone();
    let added = units.first().map_or(0, |units| units.gate_hd.size()[0]);
    let own = config.d_ff;
    config.d_ff = (own + added as usize).next_multiple_of(MULTIPLE);
    let zeros = (config.d_ff - own) as i64 - added;
    let mut json = config_json.clone();
    json["intermediate_size"] = json!(config.d_ff);
    let mut params = ParamStore::new(model.device());
    let no_bias_h = Tensor::zeros([added], (Kind::Float, model.device()));
    for (name, own) in model.params().iter() {
        let own = own.detach();
        let wider = match within_block(name) {
            Some((at, "mlp.gate_proj.weight")) => join(&own, units[at].gate_hd, zeros, 0),
            Some((at, "mlp.up_proj.weight")) => join(&own, units[at].up_hd, zeros, 0),
            Some((at, "mlp.down_proj.weight")) => join(&own, units[at].down_dh, zeros, 1),
            Some((_, "mlp.gate_proj.bias" | "mlp.up_proj.bias")) => {
                join(&own, &no_bias_h, zeros, 0)
            }
            _ => own.copy(),
        };
        params.insert(name, wider)?;
    }
    Ok((Transformer::with_params(config, params, model.compute_kind())?, json))
}

/// A block's number, and the name of a weight within it.
fn within_block(name: &str) -> Option<(usize, &str)> {
    let (block, within) = name.strip_prefix("model.layers.")?.split_once('.')?;
    Some((block.parse().ok()?, within))
}

/// `own`, `added` and zeros in a row along a dimension, in the kind of `own`.
fn join(own: &Tensor, added: &Tensor, zeros: i64, dim: i64) -> Tensor {
    let mut size = own.size();
    size[dim as usize] = zeros;
    let zeros = Tensor::zeros(size, (own.kind(), own.device()));
    Tensor::cat(&[own, &added.detach().to_kind(own.kind()), &zeros], dim)
}
