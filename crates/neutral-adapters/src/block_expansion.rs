//! Block expansion: whole new blocks among the base's, which alone are trained.
//!
//! Source: Wu et al., *`LLaMA Pro`: Progressive `LLaMA` with Block Expansion*, ACL 2024, section 3. The base's
//! `L` blocks are parted into `N` groups; on top of each comes one copy of its last block whose
//! output projections are zero, so that it hands on what it reads.
//!
//! Deviation: `N` need not divide `L`: group `k` of `N` ends with block `⌈k·L/N⌉`. And where a model
//! normalises what joins the residual stream (Gemma 2 and 3), the gains of those norms are zero in place
//! of the projections, of which a norm would keep the direction however small they are. And on top of a LoRA or DoRA
//! (`after`) the copy is of the base's block, without what they put on its layers.

use neutral_model::{Extension, TransformerConfig};
use tch::Kind;

use crate::AdapterError;
use crate::start::Weights;

/// The blocks of the base that a new one comes on top of, from 0: the last of each of `groups` groups.
///
/// `groups` is at most `n_layers`, so that each is named once.
pub(crate) fn tops(groups: usize, n_layers: usize) -> impl Iterator<Item = usize> {
    (1..=groups).map(move |k| (k * n_layers).div_ceil(groups) - 1)
}

/// A copy of a block, all of whose weights are made here, and which adds exactly zero.
pub(crate) fn start(
    weights: &mut Weights,
    config: &TransformerConfig,
    above: usize,
) -> Result<(), AdapterError> {
    let prefix = Extension::added_prefix(above);
    for (name, shape) in config.block_weight_shapes() {
        let shape: Vec<i64> = shape.into_iter().map(|n| n as i64).collect();
        let added = format!("{prefix}.{name}");
        // The block takes them from the store.
        drop(match silent(config, &name) {
            Some(value) => weights.constant(&added, &shape, value)?,
            None => weights.of_base(&added, &shape, |base| {
                let below = base.params().get(&format!("model.layers.{above}.{name}"))?;
                Ok(below.detach().to_kind(Kind::Float).copy())
            })?,
        });
    }
    Ok(())
}

/// What a weight is filled with so that the block adds nothing; the copied one keeps its values.
fn silent(config: &TransformerConfig, name: &str) -> Option<f64> {
    let (layer, _) = name.rsplit_once('.')?;
    if config.post_norms {
        let last = ["post_attention_layernorm", "post_feedforward_layernorm"].contains(&layer);
        // A norm multiplies with `1 + w` or with `w`.
        return last.then_some(if config.unit_offset { -1.0 } else { 0.0 });
    }
    ["self_attn.o_proj", "mlp.down_proj"].contains(&layer).then_some(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_blocks_end_groups_of_equal_length_or_one_apart() {
        let all = |groups, layers| tops(groups, layers).collect::<Vec<_>>();
        // LLaMA Pro: 32 blocks, 8 new ones.
        assert_eq!(all(8, 32), [3, 7, 11, 15, 19, 23, 27, 31]);
        assert_eq!(all(2, 8), [3, 7]);
        assert_eq!(all(3, 8), [2, 5, 7]);
        for layers in 1..20 {
            for groups in 1..=layers {
                let ends = all(groups, layers);
                let starts = std::iter::once(0).chain(ends.iter().map(|end| end + 1));
                let lengths: Vec<_> =
                    ends.iter().zip(starts).map(|(end, from)| end + 1 - from).collect();
                let (shortest, longest) =
                    (lengths.iter().min().unwrap(), lengths.iter().max().unwrap());
                assert!(*shortest > 0 && longest - shortest <= 1, "{groups} of {layers}: {ends:?}");
                assert_eq!(ends.last(), Some(&(layers - 1)));
            }
        }
    }
}
