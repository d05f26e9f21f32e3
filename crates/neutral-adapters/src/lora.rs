//! LoRA: a low-rank product beside a linear layer, the paper's second competitor.
//!
//! Source: Hu et al., *LoRA: Low-Rank Adaptation of Large Language Models*, 2021, with the start that
//! PEFT has: `A` Kaiming uniform (`a = √5`), `B` zero. No dropout, no rank-stabilised scale.
//!
//! Shape suffixes: i input width, o output width, r rank.

use std::collections::BTreeSet;

use neutral_model::{LinearDelta, Transformer, linear_name};
use neutral_spec::{LinearSite, Method};
use neutral_torch::fused::add_linear;
use neutral_torch::{ParamStore, TorchError};
use tch::{Kind, Tensor};

use crate::AdapterError;
use crate::dora::{DoraDelta, factor, row_norms};
use crate::glu_adapter::linear;
use crate::start::Weights;

/// One linear layer with a low-rank product beside it, and the product's scale.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LoraLayer {
    /// The block, from 0.
    pub block: usize,
    /// The layer within the block.
    pub site: LinearSite,
    /// `r`.
    pub rank: usize,
    /// Scale before division by the rank.
    pub alpha: f64,
    /// The rows keep a trained length apart from their direction: `DoRA`.
    pub dora: bool,
}

impl LoraLayer {
    /// The layers of a LoRA or `DoRA` of the experiment file, in the order of blocks; `None` for
    /// other methods.
    pub fn of_method(method: &Method, rank: usize, n_layers: usize) -> Option<Vec<Self>> {
        let (targets, alpha, dora) = match method {
            Method::Lora { targets, lora_alpha, .. } => (targets, lora_alpha, false),
            Method::Dora { targets, lora_alpha, .. } => (targets, lora_alpha, true),
            _ => return None,
        };
        let alpha = alpha.unwrap_or(rank as f64);
        let of = |block| targets.iter().map(move |&site| Self { block, site, rank, alpha, dora });
        Some((0..n_layers).flat_map(of).collect())
    }

    /// `s = alpha / r`.
    pub fn scale(&self) -> f64 {
        self.alpha / self.rank as f64
    }

    /// The extension's names of `A` and `B`.
    pub fn names(&self) -> [String; 2] {
        let prefix = format!("layers.{}.{}", self.block, self.site.name());
        [format!("{prefix}.lora_a"), format!("{prefix}.lora_b")]
    }

    /// The extension's name of `DoRA`'s `m`.
    pub fn magnitude_name(&self) -> String {
        format!("layers.{}.{}.magnitude", self.block, self.site.name())
    }

    /// The layer's path in Hugging Face's model: `model.layers.0.self_attn.q_proj`.
    pub fn module(&self) -> String {
        format!("model.layers.{}.{}", self.block, linear_name(self.site))
    }

    /// Adds the layer's weights. If they are new, `B = 0`, and `m` is the length of the base's rows in the kind that
    /// it computes in.
    pub(crate) fn start(
        &self,
        weights: &mut Weights,
        [inputs, outputs]: [i64; 2],
    ) -> Result<(), AdapterError> {
        let r = self.rank as i64;
        let [a, b] = self.names();
        let _ = weights.kaiming_uniform(&a, [r, inputs])?;
        let _ = weights.constant(&b, &[outputs, r], 0.0)?;
        if self.dora {
            let _ = weights.of_base(&self.magnitude_name(), &[outputs], |base: &Transformer| {
                let weight_oi = base.params().get(&format!("{}.weight", self.module()))?;
                let weight_oi = weight_oi.to_kind(base.compute_kind());
                Ok(row_norms(&weight_oi.to_kind(Kind::Float)))
            })?;
        }
        Ok(())
    }

    /// What the layer's weights in a store compute.
    pub(crate) fn delta(&self, params: &ParamStore) -> Result<Box<dyn LinearDelta>, TorchError> {
        let get = |name: &str| params.get(name).map(Tensor::shallow_clone);
        let [a, b] = self.names();
        let (a_ri, b_or, scale) = (get(&a)?, get(&b)?, self.scale());
        Ok(if self.dora {
            Box::new(DoraDelta::new(a_ri, b_or, get(&self.magnitude_name())?, scale))
        } else {
            Box::new(LoraDelta::new(a_ri, b_or, scale))
        })
    }
}

/// Adds every product to the layer beside which it stands: `W + s · B A`, in the kind of `W`; of
/// `DoRA`, its rows brought to their lengths in fp32. The model then computes without the extension what it did with it, but for rounding.
///
/// # Errors
/// If a weight is missing, or one is there that is no layer's; no weight is changed then.
pub fn merge_lora(
    model: &mut Transformer,
    lora: &ParamStore,
    layers: &[LoraLayer],
) -> Result<(), AdapterError> {
    let weights_of = |layer: &LoraLayer| {
        let weight_oi = model.params().get(&format!("{}.weight", layer.module()))?;
        let [a_ri, b_or] = layer.names().map(|name| lora.get(&name));
        let magnitude_o = layer.dora.then(|| lora.get(&layer.magnitude_name())).transpose()?;
        Ok((weight_oi, a_ri?, b_or?, magnitude_o))
    };
    let weights: Vec<_> = layers.iter().map(weights_of).collect::<Result<_, AdapterError>>()?;
    check_all_written(lora, layers, "a model without extensions")?;
    for (layer, (weight_oi, a_ri, b_or, magnitude_o)) in layers.iter().zip(weights) {
        tch::no_grad(|| {
            let delta_oi = b_or.matmul(a_ri) * layer.scale();
            // In place: the layer and the store share the tensor.
            let mut weight_oi = weight_oi.shallow_clone();
            match magnitude_o {
                None => drop(weight_oi.g_add_(&delta_oi.to_kind(weight_oi.kind()))),
                Some(magnitude_o) => {
                    let merged_oi = weight_oi.to_kind(Kind::Float) + delta_oi;
                    let scale_o = factor(magnitude_o, &row_norms(&merged_oi));
                    weight_oi.copy_(&(merged_oi * scale_o.unsqueeze(-1)));
                }
            }
        });
    }
    Ok(())
}

/// Every weight is one of these layers'.
pub(crate) fn check_all_written(
    params: &ParamStore,
    layers: &[LoraLayer],
    target: &'static str,
) -> Result<(), AdapterError> {
    let names = |layer: &LoraLayer| {
        let magnitude = layer.dora.then(|| layer.magnitude_name());
        layer.names().into_iter().chain(magnitude)
    };
    let known: BTreeSet<String> = layers.iter().flat_map(names).collect();
    match params.iter().find(|(name, _)| !known.contains(*name)) {
        Some((name, _)) => Err(AdapterError::LeftOver { tensor: name.to_owned(), target }),
        None => Ok(()),
    }
}

/// `y = W x + s · B A x`, with `s = lora_alpha / r`.
///
/// `B = 0` at the start, so `y = W x` there and only `B` gets a gradient in the first step.
#[derive(Debug)]
pub struct LoraDelta {
    a_ri: Tensor,
    b_or: Tensor,
    scale: f64,
}

impl LoraDelta {
    /// A delta of given weights and scale `s`.
    ///
    /// # Shapes
    /// `a`: `[r, in]`; `b`: `[out, r]`.
    pub fn new(a_ri: Tensor, b_or: Tensor, scale: f64) -> Self {
        Self { a_ri, b_or, scale }
    }
}

impl LinearDelta for LoraDelta {
    /// # Shapes
    /// `x`: `[…, in]`; `y = x Wᵀ` and the result: `[…, out]`.
    fn apply(&self, x: &Tensor, _: &Tensor, _: Option<&Tensor>, y: Tensor) -> Tensor {
        // Scaled where it is narrowest.
        let low_rank = linear(x, &self.a_ri) * self.scale;
        add_linear(&y, &low_rank, &self.b_or.to_kind(x.kind()))
    }
}

#[cfg(test)]
mod tests {
    use neutral_spec::Budget;

    use super::*;

    #[test]
    fn the_scale_is_alpha_over_rank_and_one_without_alpha() {
        let scale = |lora_alpha| {
            let (budget, targets) = (Budget::from_percent(20.0).unwrap(), vec![LinearSite::QProj]);
            let lora = Method::Lora { budget, lora_alpha, targets: targets.clone() };
            let dora = Method::Dora { budget, lora_alpha, targets };
            [lora, dora].map(|method| {
                let layers = LoraLayer::of_method(&method, 4, 2).unwrap();
                layers.iter().map(LoraLayer::scale).collect::<Vec<_>>()
            })
        };
        assert_eq!(scale(Some(8.0)), [[2.0, 2.0], [2.0, 2.0]]);
        assert_eq!(scale(None), [[1.0, 1.0], [1.0, 1.0]]);
    }
}
