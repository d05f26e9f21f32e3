//! What a training will cost, before it starts: operations and memory, for `--dry-run`.
//!
//! An estimate: norms, activations and the optimizer's own arithmetic are left out of the
//! operations, and the memory of activations is a count of what autograd keeps, not a measurement.

use crate::experiment::{Precision, TrainingSpec};
use crate::local_loss::LocalLossSpec;
use crate::method::Method;
use crate::plan::ExtensionSize;
use crate::size::ModelSize;

/// Logits that exist at once if the head is frozen: few, for the cache's sake, and not fewer, as every chunk packs the
/// head's weights again.
pub const LOGITS_FROZEN: usize = 12 << 20;
/// And if it trains: more, as every chunk adds a gradient of the head's size; at least twice as many as the head has
/// weights, so that making a chunk's logits costs more than adding its gradient.
pub const LOGITS_TRAINED: usize = 32 << 20;

/// The cost of one training.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CostEstimate {
    /// Floating-point operations of all forward and backward passes.
    pub flops: f64,
    /// Memory at its highest, in bytes.
    pub memory_bytes: u64,
    /// Tokens trained on: those asked for, rounded up to whole steps.
    pub tokens: u64,
}

/// The cost of training an extension of some size, or of the base itself (`None`, whose `size` is
/// that of fine-tuning).
///
/// With `T` tokens in sequences of `S`, `q` the width of all query heads, `N` weights of the base that are multiplied with (linear
/// layers and head; looking a token up costs nothing), `E` weights of the extension:
///
/// | | base trains | base is frozen |
/// |---|---|---|
/// | the base's products | `6·N·T` | `4·N·T`: no gradients of its weights |
/// | the extension's | – | `6·E·T` |
/// | attention, `QKᵀ` and `AV` over all S positions | `12·L·q·S·T` | `12·L·q·S·T` |
/// | of a share p of the tokens, with a KL to the base: the base's forward pass | `(2·N + 4·L·q·S)·p·T` | the same |
/// | and the head of `H` weights once more | `6·H·p·T` | `4·H·p·T` |
/// | EWC's Fisher information, of `F` tokens | `6·N·F + 12·L·q·S·F` | – |
///
/// With new blocks, `L` counts them in what trains. `original_fraction` is the share p of original-domain text.
///
/// Extensions that another one stands on are not counted. Otherwise it is an upper bound: causal kernels skip up to half of attention, and what is before the first
/// extended layer needs no gradients.
///
/// Memory: a weight that trains takes 16 bytes (fp32 master, gradient, `AdamW`'s two moments), and 2
/// more for its copy in bf16; a frozen one 2 in bf16, 4 in fp32; an anchor of weights 4 for where each was and EWC 4
/// for how much it counts; activations of one micro batch; a chunk of logits, over which their gradients are
/// written; and of a KL, both models' probabilities of the micro batch's original-domain tokens.
pub fn training_cost(
    model: &ModelSize,
    method: Option<&Method>,
    size: ExtensionSize,
    training: &TrainingSpec,
    original_fraction: f64,
    precision: Precision,
) -> CostEstimate {
    let (d, layers) = (model.d_model as u64, model.n_layers as u64);
    let tokens = training.steps() * training.tokens_per_step();
    let trains_base = method.is_none_or(Method::trains_base);
    let head = model.vocab_size as u64 * d;
    let multiplied = layers * model.linear_parameters() + head;
    let each = if trains_base { 6 } else { 4 } * multiplied + 6 * size.extension_parameters;
    let deep = model.n_layers + added_blocks(method, size);
    // Of one pass over a token and block, forwards.
    let attention = 4.0 * (model.n_heads * model.head_dim) as f64 * training.sequence_length as f64;
    let mut each = each as f64 + 3.0 * attention * deep as f64;
    let fisher = match method {
        Some(Method::Ewc { fisher_sequences, .. }) => {
            (fisher_sequences * training.sequence_length) as f64 * each
        }
        _ => 0.0,
    };
    let kl = method.and_then(kl_to_the_base);
    if kl.is_some() {
        let again = 2 * multiplied + if trains_base { 6 } else { 4 } * head;
        each += original_fraction * (again as f64 + attention * layers as f64);
    }
    let flops = each * tokens as f64 + fisher;

    let number = precision.bytes();
    let copy = if precision == Precision::Bf16 { 2 } else { 0 };
    let base = model.parameters;
    let anchor = method.map_or(0, bytes_of_anchor);
    let weights = if trains_base {
        base * (16 + copy + anchor)
    } else {
        base * number + size.extension_parameters * (16 + copy)
    };
    // A base that trains is not there any more to be asked.
    let second = if kl == Some(Asked::Another) { base * number } else { 0 };
    let sequences = training.micro_batch_size.unwrap_or(training.batch_size) as u64;
    let rows = sequences * training.sequence_length as u64;
    let activations = rows * deep as u64 * activation_bytes(model, method, size, number);
    let head = if trains_base { 2 * (model.vocab_size * model.d_model) as u64 } else { 0 };
    let at_once = if trains_base { LOGITS_TRAINED } else { LOGITS_FROZEN } as u64;
    let at_once = at_once.max(head);
    let logits = (rows * model.vocab_size as u64).min(at_once) * number;
    // A batch's original sequences come first, in micro batches of their own.
    let original = (original_fraction * training.batch_size as f64).ceil() as u64;
    let original = (original * training.sequence_length as u64).min(rows);
    let numbers = (original * model.vocab_size as u64).min(at_once / 4);
    let divergence = if kl.is_some() { numbers * (12 + number) } else { 0 };
    let memory_bytes = weights + second + activations + logits + divergence;
    CostEstimate { flops, memory_bytes, tokens }
}

/// Which model a KL to the base asks.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Asked {
    /// The one that is extended, without its extension.
    Same,
    /// Another copy of it.
    Another,
}

pub(crate) fn kl_to_the_base(method: &Method) -> Option<Asked> {
    match method {
        Method::KlToBase { .. } => Some(Asked::Another),
        Method::NeutralResidues { local_loss: LocalLossSpec::Kl { .. }, .. } => Some(Asked::Same),
        _ => None,
    }
}

/// Bytes that the method keeps for each weight of a base that trains.
fn bytes_of_anchor(method: &Method) -> u64 {
    match method {
        Method::L2Sp { .. } => 4,
        Method::Ewc { .. } => 8,
        Method::Finetune {}
        | Method::KlToBase { .. }
        | Method::WiseFt { .. }
        | Method::Lora { .. }
        | Method::Dora { .. }
        | Method::Adapter { .. }
        | Method::NeutralResidues { .. }
        | Method::BlockExpansion { .. } => 0,
    }
}

/// Blocks that the method puts among those of the base.
fn added_blocks(method: Option<&Method>, size: ExtensionSize) -> usize {
    if let Some(Method::BlockExpansion { .. }) = method { size.units } else { 0 }
}

/// Bytes a token and block that the backward pass reads again.
fn activation_bytes(
    model: &ModelSize,
    method: Option<&Method>,
    size: ExtensionSize,
    number: u64,
) -> u64 {
    let d = model.d_model as u64;
    let (q, kv) = (model.n_heads, model.n_kv_heads);
    let (q, kv) = ((q * model.head_dim) as u64, (kv * model.head_dim) as u64);
    let units = size.units as u64;
    // Residual stream and normalised input twice each; queries, keys and values, attention's output;
    // the feed-forward layer's two halves and their product.
    let block = 4 * d + (q + 2 * kv) + q + 3 * model.d_ff as u64;
    let extension = match method {
        Some(Method::Lora { targets, .. }) => targets.len() as u64 * units,
        // And each layer's output before it is scaled.
        Some(Method::Dora { targets, .. }) => {
            targets.iter().map(|site| units + model.linear_shape(*site).1 as u64).sum()
        }
        // The same three of the adapter's GLU, its output and the gated one.
        Some(Method::Adapter { placement, .. } | Method::NeutralResidues { placement, .. }) => {
            placement.sites().len() as u64 * (3 * units + 2 * d)
        }
        None | Some(_) => 0,
    };
    (block + extension) * number
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Shape;
    use crate::budget::Budget;
    use crate::experiment::Schedule;
    use crate::gate::GateSpec;
    use crate::method::{BranchPlacement, Start};
    use crate::size::extension_size;

    const SHAPE: Shape = Shape {
        d_model: 8,
        n_layers: 2,
        n_heads: 4,
        n_kv_heads: 2,
        d_ff: 20,
        tie_embeddings: true,
        rope_theta: 1e4,
        norm_epsilon: 1e-5,
    };

    fn training(tokens: u64) -> TrainingSpec {
        TrainingSpec {
            tokens,
            sequence_length: 16,
            batch_size: 4,
            micro_batch_size: None,
            learning_rate: 1e-3,
            schedule: Schedule::Cosine { warmup_fraction: 0.0, final_fraction: 0.0 },
            weight_decay: 0.1,
            beta1: 0.9,
            beta2: 0.95,
            epsilon: 1e-8,
            gradient_clip: 1.0,
        }
    }

    fn cost(method: &Method, precision: Precision) -> CostEstimate {
        let size = extension_size(method, &SHAPE.size(300)).unwrap();
        training_cost(&SHAPE.size(300), Some(method), size, &training(64), 0.25, precision)
    }

    fn adapter() -> Method {
        let budget = Budget::from_percent(20.0).unwrap();
        Method::Adapter {
            budget,
            placement: BranchPlacement::Ffn,
            start: Start::He,
            activation: None,
        }
    }

    #[test]
    fn fine_tuning_is_six_operations_a_weight_and_token_and_attention() {
        // Tied: every weight but the 5 norms of 8 is multiplied with.
        let n = SHAPE.size(300).parameters - 5 * 8;
        let attention = 12 * 2 * 8 * 16 * 64;
        let cost = cost(&Method::Finetune {}, Precision::Fp32);
        assert_eq!(cost.flops as u64, 6 * n * 64 + attention);
        assert_eq!(cost.tokens, 64);
    }

    #[test]
    fn a_frozen_base_costs_two_thirds_and_the_extension_all_of_its_own() {
        let n = SHAPE.size(300).parameters - 5 * 8;
        let attention = 12 * 2 * 8 * 16 * 64;
        let expected = (4 * n + 6 * 16 * 48) * 64 + attention;
        assert_eq!(cost(&adapter(), Precision::Fp32).flops as u64, expected);
    }

    #[test]
    fn a_new_block_costs_what_it_holds_and_its_attention() {
        let n = SHAPE.size(300).parameters - 5 * 8;
        let attention = 12 * 3 * 8 * 16 * 64;
        let expected = (4 * n + 6 * 688) * 64 + attention;
        let budget = Budget::from_percent(20.0).unwrap();
        let blocks = cost(&Method::BlockExpansion { budget }, Precision::Fp32);
        assert_eq!(blocks.flops as u64, expected);
        let frozen = cost(&adapter(), Precision::Fp32).memory_bytes;
        // In place of the adapter's weights and activations, a block's.
        let adapters = 768 * 16 + 64 * 2 * (3 * 16 + 2 * 8) * 4;
        let block = 688 * 16 + 64 * (4 * 8 + (8 + 2 * 4) + 8 + 3 * 20) * 4;
        assert_eq!(blocks.memory_bytes, frozen - adapters + block);
    }

    #[test]
    fn a_kl_to_the_base_costs_a_forward_pass_of_original_text_and_maybe_another_base() {
        let n = SHAPE.size(300).parameters - 5 * 8;
        let (attention, head) = (4 * 2 * 8 * 16, 8 * 300);
        let free = cost(&Method::Finetune {}, Precision::Fp32);
        let held = cost(&Method::KlToBase { weight: 1.0 }, Precision::Fp32);
        let more = (2 * n + attention + 6 * head) * 16;
        assert_eq!((held.flops - free.flops) as u64, more);
        let probabilities = 16 * 300 * (12 + 4);
        let base = 4 * SHAPE.size(300).parameters;
        assert_eq!(held.memory_bytes - free.memory_bytes, base + probabilities);

        let residues = |local_loss| Method::NeutralResidues {
            budget: Budget::from_percent(20.0).unwrap(),
            gate: GateSpec::default(),
            local_loss,
            placement: BranchPlacement::Ffn,
            activation: None,
            start: Start::LowVariance,
            input_norm: false,
        };
        let kl = LocalLossSpec::Kl { weight: 1.0, warmup_fraction: None };
        let [l1, kl] = [LocalLossSpec::default(), kl].map(|l| cost(&residues(l), Precision::Fp32));
        assert_eq!((kl.flops - l1.flops) as u64, (2 * n + attention + 4 * head) * 16);
        assert_eq!(kl.memory_bytes, l1.memory_bytes + probabilities);
    }

    #[test]
    fn an_anchor_of_weights_keeps_where_they_were_and_ewc_how_much_they_count() {
        let free = cost(&Method::Finetune {}, Precision::Fp32);
        let l2 = cost(&Method::L2Sp { weight: 1.0 }, Precision::Fp32);
        let ewc = cost(&Method::Ewc { weight: 1.0, fisher_sequences: 4 }, Precision::Fp32);
        let base = SHAPE.size(300).parameters;
        let more = |cost: CostEstimate| cost.memory_bytes - free.memory_bytes;
        assert_eq!((more(l2), more(ewc)), (4 * base, 8 * base));
        // Four sequences of 16 tokens are as many as are trained on.
        assert_eq!((l2.flops, ewc.flops), (free.flops, 2.0 * free.flops));
    }

    #[test]
    fn tokens_are_those_of_whole_steps() {
        let size = extension_size(&Method::Finetune {}, &SHAPE.size(300)).unwrap();
        let of = |tokens| {
            training_cost(&SHAPE.size(300), None, size, &training(tokens), 0.0, Precision::Fp32)
        };
        assert_eq!(of(65).tokens, 128);
        assert_eq!(of(65).flops as u64, 2 * of(64).flops as u64);
    }

    #[test]
    fn freezing_bf16_and_small_micro_batches_save_memory() {
        let memory = |method: &Method, p| cost(method, p).memory_bytes;
        let all = memory(&Method::Finetune {}, Precision::Fp32);
        let base = SHAPE.size(300).parameters;
        let frozen = memory(&adapter(), Precision::Fp32);
        // What is frozen gives up 12 bytes a weight; the adapter's 768 take 16, its activations more.
        let activations = 64 * 2 * (3 * 16 + 2 * 8) * 4;
        assert_eq!(all - 12 * base + 768 * 16 + activations, frozen);
        assert!(memory(&adapter(), Precision::Bf16) < frozen);
        let size = extension_size(&Method::Finetune {}, &SHAPE.size(300)).unwrap();
        let micro = TrainingSpec { micro_batch_size: Some(1), ..training(64) };
        let micro = training_cost(&SHAPE.size(300), None, size, &micro, 0.0, Precision::Fp32);
        assert!(micro.memory_bytes < all);
    }
}
