//! Which tensor of the file becomes which weight of the folder.
//!
//! A Llama has exactly these tensors, whose shapes follow from its configuration. What is missing,
//! of another shape or left over (a bias, an expert) is an error that names it.

use std::collections::BTreeSet;

use crate::config::Config;
use crate::error::GgufError;
use crate::gguf::Gguf;
use crate::rope;
use crate::source::Source;
use crate::tensor::TensorInfo;

/// One weight of the folder.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Weight<'a> {
    /// Hugging Face's name.
    pub(crate) name: String,
    /// Where it comes from; the shape is the same.
    pub(crate) tensor: &'a TensorInfo,
    /// Rows of a head whose order is the file's, not ours: see [`source_row`].
    pub(crate) interleaved: Option<usize>,
}

/// The weights, sorted by name.
///
/// # Errors
/// [`GgufError::Unsupported`] names the tensor that a Llama of this configuration has or has not.
pub(crate) fn plan<'a, S: Source>(
    gguf: &'a Gguf<S>,
    config: &Config,
) -> Result<Vec<Weight<'a>>, GgufError> {
    let mut planner = Planner { gguf, seen: BTreeSet::new(), weights: Vec::new() };
    let (d, vocab) = (config.hidden_size, config.vocab_size);
    planner.add("token_embd.weight", "model.embed_tokens.weight", &[vocab, d], None)?;
    planner.add("output_norm.weight", "model.norm.weight", &[d], None)?;
    if !config.tie_word_embeddings {
        planner.add("output.weight", "lm_head.weight", &[vocab, d], None)?;
    }
    let (head, ff) = (config.head_dim, config.intermediate_size);
    let product = |heads: usize| {
        let found = || gguf.unsupported("llama.attention.key_length", format!("is {head}"));
        heads.checked_mul(head).ok_or_else(found)
    };
    let q = product(config.num_attention_heads)?;
    let kv = product(config.num_key_value_heads)?;
    // Ends at the first block whose tensors are missing, however many are declared.
    for block in 0..config.num_hidden_layers {
        let mut add = |theirs: &str, ours: &str, shape: &[usize], interleaved| {
            let theirs = format!("blk.{block}.{theirs}.weight");
            let ours = format!("model.layers.{block}.{ours}.weight");
            planner.add(&theirs, &ours, shape, interleaved)
        };
        add("attn_norm", "input_layernorm", &[d], None)?;
        add("attn_q", "self_attn.q_proj", &[q, d], Some(head))?;
        add("attn_k", "self_attn.k_proj", &[kv, d], Some(head))?;
        add("attn_v", "self_attn.v_proj", &[kv, d], None)?;
        add("attn_output", "self_attn.o_proj", &[d, q], None)?;
        add("ffn_norm", "post_attention_layernorm", &[d], None)?;
        add("ffn_gate", "mlp.gate_proj", &[ff, d], None)?;
        add("ffn_up", "mlp.up_proj", &[ff, d], None)?;
        add("ffn_down", "mlp.down_proj", &[d, ff], None)?;
    }
    planner.finish()
}

/// The row of the file's `attn_q` or `attn_k` that is row `row` of ours.
///
/// llama.cpp rotates neighbours, Hugging Face rotates a head's first half against its second. So the
/// conversion to GGUF interleaves the halves of each head's rows, as `w.reshape(heads, 2, head / 2,
/// columns).swapaxes(1, 2)`; this is the way back. Heads keep their places, so that keys, which have
/// fewer heads, are no special case.
pub(crate) fn source_row(row: u64, head: u64) -> u64 {
    let (start, within) = (row - row % head, row % head);
    let (half, place) = (within / (head / 2), within % (head / 2));
    start + 2 * place + half
}

struct Planner<'a, S> {
    gguf: &'a Gguf<S>,
    seen: BTreeSet<String>,
    weights: Vec<Weight<'a>>,
}

impl<'a, S: Source> Planner<'a, S> {
    fn add(
        &mut self,
        theirs: &str,
        ours: &str,
        shape: &[usize],
        interleaved: Option<usize>,
    ) -> Result<(), GgufError> {
        let Some(tensor) = self.gguf.tensors().get(theirs) else {
            return Err(self.gguf.unsupported(theirs, format!("is missing; it would be {ours}")));
        };
        let expected: Vec<_> = shape.iter().map(|n| *n as u64).collect();
        if tensor.shape != expected {
            let found = format!("has the shape {:?}; it would have {expected:?}", tensor.shape);
            return Err(self.gguf.unsupported(theirs, found));
        }
        if tensor.tensor_type.block().is_none() {
            let found = format!(
                "is {}; F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, Q5_K and Q6_K are read",
                tensor.tensor_type
            );
            return Err(self.gguf.unsupported(theirs, found));
        }
        self.seen.insert(theirs.to_owned());
        self.weights.push(Weight { name: ours.to_owned(), tensor, interleaved });
        Ok(())
    }

    fn finish(mut self) -> Result<Vec<Weight<'a>>, GgufError> {
        let known = |name: &String| self.seen.contains(name) || name == rope::FREQUENCIES;
        if let Some(name) = self.gguf.tensors().keys().find(|name| !known(name)) {
            return Err(self.gguf.unsupported(name, "is no tensor of a plain Llama"));
        }
        self.weights.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(self.weights)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_of_each_head_are_deinterleaved() {
        // Two heads of six rows: the file has 0 3 1 4 2 5 of each, so ours are at 0 2 4 1 3 5.
        let rows: Vec<_> = (0..12).map(|row| source_row(row, 6)).collect();
        assert_eq!(rows, [0, 2, 4, 1, 3, 5, 6, 8, 10, 7, 9, 11]);
    }
}
