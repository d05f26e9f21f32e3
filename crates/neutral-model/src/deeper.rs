//! A model whose blocks are its own and those of an extension: a plain model, for other tools.

use std::path::Path;

use neutral_torch::ParamStore;
use serde_json::{Value, json};

use crate::weights::prefix;
use crate::{BlockConfig, Extension, ModelError, Transformer, TransformerConfig};

/// The model with the extension's blocks among its own, and its `config.json`. Alone it computes what the two
/// compute together, to the bit.
///
/// Weights keep the kind that they have, in memory of their own.
///
/// # Errors
/// If the family's `config.json` cannot say it.
pub fn deepened(
    model: &Transformer,
    extension: &Extension,
    config_json: &Value,
) -> Result<(Transformer, Value), ModelError> {
    let above: Vec<usize> = extension.added_blocks().collect();
    let mut config = model.config().clone();
    let mut json = config_json.clone();
    // From above, so that what lies below keeps its place.
    for &block in above.iter().rev() {
        config.blocks.insert(block + 1, config.blocks[block]);
        if let Some(types) = json.get_mut("layer_types").and_then(Value::as_array_mut)
            && let Some(of_block) = types.get(block).cloned()
        {
            types.insert(block + 1, of_block);
        }
    }
    json["num_hidden_layers"] = json!(config.n_layers());
    let says = |json: &Value| {
        let said = TransformerConfig::from_hugging_face(json, Path::new("config.json"));
        said.is_ok_and(|said| said == config)
    };
    if !says(&json) {
        // A rule by which blocks alternate would move them all; a list does not.
        let kind = |block: &BlockConfig| match block.window {
            Some(_) => "sliding_attention",
            None => "full_attention",
        };
        json["layer_types"] = config.blocks.iter().map(kind).collect();
    }
    if !says(&json) {
        return Err(ModelError::Config {
            field: "num_hidden_layers",
            value: config.n_layers().to_string(),
            expected: format!(
                "but a config.json of the family `{}` cannot say which block is a copy of which",
                config.model_type
            ),
        });
    }
    let mut params = ParamStore::new(model.device());
    let mut copy = |name: &str, from: &ParamStore, of: &str| -> Result<(), ModelError> {
        Ok(params.insert(name, from.get(of)?.detach().copy())?)
    };
    let within_blocks = config.block_weight_shapes();
    let mut at = 0;
    for block in 0..model.config().n_layers() {
        let own = (prefix(block), model.params());
        let added = above.contains(&block);
        let added = added.then(|| (Extension::added_prefix(block), extension.params()));
        for (of, store) in std::iter::once(own).chain(added) {
            for (name, _) in &within_blocks {
                copy(&format!("{}.{name}", prefix(at)), store, &format!("{of}.{name}"))?;
            }
            at += 1;
        }
    }
    for (name, _) in model.params().iter().filter(|(name, _)| !name.starts_with("model.layers.")) {
        copy(name, model.params(), name)?;
    }
    Ok((Transformer::with_params(config, params, model.compute_kind())?, json))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transformer::tests::{tiny_model, tokens};
    use crate::{Attention, Generation, Input, PrefixTree, Sampling};
    use neutral_torch::RandomStream;
    use tch::{Device, Tensor};

    /// Blocks above some of a model's, drawn anew.
    fn extension(config: &TransformerConfig, above: &[usize]) -> Extension {
        let mut params = ParamStore::new(Device::Cpu);
        for &block in above {
            for (name, shape) in config.block_weight_shapes() {
                let name = format!("{}.{name}", Extension::added_prefix(block));
                let shape: Vec<i64> = shape.iter().map(|&n| n as i64).collect();
                let tensor = RandomStream::new(4, &name).normal(&shape, 0.2, Device::Cpu);
                params.insert(name, tensor).unwrap();
            }
        }
        let mut extension = Extension::new(params);
        for &block in above {
            extension.add_block(config, block).unwrap();
        }
        extension
    }

    const IDS: [i64; 7] = [0, 5, 6, 0, 7, 8, 9];

    #[test]
    fn a_deeper_model_computes_what_model_and_added_blocks_compute_on_every_path() {
        let model = tiny_model(3);
        let json = model.config().to_hugging_face().unwrap();
        for above in [vec![0], vec![1], vec![0, 1]] {
            let added = extension(model.config(), &above);
            let (deeper, deeper_json) = deepened(&model, &added, &json).unwrap();
            assert_eq!(deeper_json["num_hidden_layers"], 2 + above.len());
            assert_eq!(
                deeper.params().parameter_count(),
                model.params().parameter_count() + added.params().parameter_count()
            );
            let none = Extension::none();
            let both = [(&model, &added), (&deeper, &none)];

            for attention in [Attention::Causal, Attention::WithinDocument { separator_id: 0 }] {
                let hidden = |(model, extension): (&Transformer, &Extension)| {
                    let input = Input { tokens_bt: tokens(&IDS), attention };
                    model.forward(&input, extension).hidden_btd
                };
                assert!(hidden(both[0]).equal(&hidden(both[1])), "{above:?} {attention:?}");
                let base = hidden((&model, &none));
                assert!(!hidden(both[0]).allclose(&base, 1e-2, 1e-2, false), "{above:?}");
            }

            let cached = |(model, extension): (&Transformer, &Extension)| {
                let mut cache = model.cache();
                let pieces = [&IDS[..3], &IDS[3..4], &IDS[4..]];
                let hidden = pieces.map(|piece| {
                    model.forward_cached(&tokens(piece), &mut cache, extension).hidden_btd
                });
                Tensor::cat(&hidden, 1)
            };
            assert!(cached(both[0]).equal(&cached(both[1])), "{above:?}");
            let input = Input { tokens_bt: tokens(&IDS), attention: Attention::Causal };
            let whole = model.forward(&input, &added).hidden_btd;
            assert!(cached(both[0]).allclose(&whole, 1e-4, 1e-5, false), "{above:?}");

            // 0 5 6, followed by 7 and by 8.
            let mut tree = PrefixTree::default();
            let root = tree.push(None, 3);
            tree.push(Some(root), 1);
            tree.push(Some(root), 1);
            let prefixes = |(model, extension): (&Transformer, &Extension)| {
                model.forward_prefixes(&tokens(&[0, 5, 6, 7, 8]), &tree, extension).hidden_btd
            };
            assert!(prefixes(both[0]).equal(&prefixes(both[1])), "{above:?}");

            let text = |(model, extension): (&Transformer, &Extension)| {
                let sampling = Sampling { temperature: 0.0, top_p: 1.0, seed: 0 };
                let (mut generation, _) = Generation::new(model, extension, &[0, 4, 9], sampling);
                (0..8).map(|_| generation.next_token().unwrap().id).collect::<Vec<_>>()
            };
            assert_eq!(text(both[0]), text(both[1]), "{above:?}");
        }
    }

    #[test]
    #[should_panic(expected = "begun with another extension")]
    fn a_cache_is_of_one_extension() {
        let model = tiny_model(3);
        let mut cache = model.cache();
        let _ = model.forward_cached(&tokens(&IDS), &mut cache, &Extension::none());
        let added = extension(model.config(), &[0]);
        let _ = model.forward_cached(&tokens(&IDS), &mut cache, &added);
    }
}
