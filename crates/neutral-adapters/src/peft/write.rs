//! From a LoRA extension to a folder that PEFT reads.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use neutral_model::TransformerConfig;
use neutral_store::write_json;
use neutral_torch::{ParamStore, save_tensors};
use serde_json::{Map, Value, json};
use tch::Tensor;

use super::{CONFIG, WEIGHTS};
use crate::lora::check_all_written;
use crate::{AdapterError, LoraLayer};

/// Writes LoRA or `DoRA` as PEFT has it, the weights in fp32; `base` names the model that it belongs to, and
/// `revision` its version on the hub.
///
/// Rank and alpha are the first layer's; those of others, where they differ, are patterns.
///
/// # Errors
/// If there are no layers, a weight is missing or no layer's, or a file cannot be written.
///
/// # Panics
/// If a layer stands in a block that the model does not have.
pub fn write_peft(
    folder: &Path,
    params: &ParamStore,
    layers: &[LoraLayer],
    model: &TransformerConfig,
    base: &str,
    revision: Option<&str>,
) -> Result<(), AdapterError> {
    let first = layers.first().ok_or(AdapterError::NoTargets)?;
    let mut tensors: BTreeMap<String, Tensor> = BTreeMap::new();
    for layer in layers {
        let shape = model.linear_shape(layer.site).into();
        for (theirs, ours, _) in super::tensors(layer, shape) {
            tensors.insert(theirs, params.get(&ours)?.detach());
        }
    }
    check_all_written(params, layers, "PEFT's folder of these layers")?;
    let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
    save_tensors(&folder.join(WEIGHTS), &tensors, &metadata)?;
    let pattern = |differs: &dyn Fn(&LoraLayer) -> bool, value: &dyn Fn(&LoraLayer) -> Value| {
        let entries = layers.iter().filter(|layer| differs(layer));
        entries.map(|l| (regex::escape(&l.module()), value(l))).collect::<Map<_, _>>()
    };
    // Keys come out sorted, as PEFT writes them.
    let config = json!({
        "alpha_pattern": pattern(&|l| l.alpha != first.alpha, &|l| number(l.alpha)),
        "auto_mapping": null,
        "base_model_name_or_path": base,
        "bias": "none",
        "fan_in_fan_out": false,
        "inference_mode": true,
        "init_lora_weights": true,
        "layers_pattern": null,
        "layers_to_transform": null,
        "lora_alpha": number(first.alpha),
        "lora_dropout": 0.0,
        "modules_to_save": null,
        "peft_type": "LORA",
        "r": first.rank,
        "rank_pattern": pattern(&|l| l.rank != first.rank, &|l| l.rank.into()),
        "revision": revision,
        "target_modules": targets(layers, model.n_layers()),
        "task_type": "CAUSAL_LM",
        "use_dora": first.dora,
        "use_rslora": false,
    });
    Ok(write_json(&folder.join(CONFIG), &config)?)
}

/// PEFT's alpha is an integer where it can be one.
fn number(alpha: f64) -> Value {
    let whole = alpha.fract() == 0.0 && alpha.abs() < 1e15;
    if whole { json!(alpha as i64) } else { json!(alpha) }
}

/// The layers' names if every block has the same, as people write it; else their whole paths.
fn targets(layers: &[LoraLayer], n_layers: usize) -> Vec<String> {
    let mut blocks = vec![BTreeSet::new(); n_layers];
    for layer in layers {
        blocks[layer.block].insert(layer.site);
    }
    let same = blocks.iter().all(|sites| Some(sites) == blocks.first());
    let mut names: Vec<_> = match blocks.first() {
        Some(sites) if same => sites.iter().map(|site| site.name().to_owned()).collect(),
        _ => layers.iter().map(LoraLayer::module).collect(),
    };
    names.sort();
    names
}
