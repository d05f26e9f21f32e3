//! LoRA and `DoRA` in the folders of Hugging Face's PEFT: `adapter_config.json` and `adapter_model.safetensors`.
//!
//! | PEFT | here |
//! |---|---|
//! | `base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight` `[r, in]` | `layers.0.q_proj.lora_a` |
//! | `….lora_B.weight` `[out, r]` | `layers.0.q_proj.lora_b` |
//! | `….lora_magnitude_vector` `[out]`, with `use_dora` | `layers.0.q_proj.magnitude` |
//! | `lora_alpha / r`, or `lora_alpha / √r` with `use_rslora` | the scale |
//!
//! Source: PEFT 0.21, `tuners/lora`, `tuners/tuners_utils.py` (which modules), `utils/other.py`
//! (`get_pattern_key`: which rank and alpha). Whatever else a configuration asks for is refused by
//! name, as the model would compute something else without it.

mod config;
mod read;
mod target;
mod write;

use crate::LoraLayer;

pub use read::{PeftLora, read_peft};
pub use write::write_peft;

pub(crate) const CONFIG: &str = "adapter_config.json";
pub(crate) const WEIGHTS: &str = "adapter_model.safetensors";

/// A layer's tensors: PEFT's name, ours, and the shape beside a linear layer of so many inputs and outputs.
fn tensors(layer: &LoraLayer, [inputs, outputs]: [usize; 2]) -> Vec<(String, String, Vec<i64>)> {
    let (r, inputs, outputs) = (layer.rank as i64, inputs as i64, outputs as i64);
    let theirs = |last: &str| format!("base_model.model.{}.lora_{last}", layer.module());
    let [a, b] = layer.names();
    let mut all =
        vec![(theirs("A.weight"), a, vec![r, inputs]), (theirs("B.weight"), b, vec![outputs, r])];
    if layer.dora {
        all.push((theirs("magnitude_vector"), layer.magnitude_name(), vec![outputs]));
    }
    all
}
