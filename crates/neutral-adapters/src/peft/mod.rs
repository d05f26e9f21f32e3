//! LoRA in the folders of Hugging Face's PEFT: `adapter_config.json` and `adapter_model.safetensors`.
//!
//! | PEFT | here |
//! |---|---|
//! | `base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight` `[r, in]` | `layers.0.q_proj.lora_a` |
//! | `….lora_B.weight` `[out, r]` | `layers.0.q_proj.lora_b` |
//! | `lora_alpha / r`, or `lora_alpha / √r` with `use_rslora` | the scale |
//!
//! Source: PEFT 0.21, `tuners/lora`, `tuners/tuners_utils.py` (which modules), `utils/other.py`
//! (`get_pattern_key`: which rank and alpha). Whatever else a configuration asks for is refused by
//! name, as the model would compute something else without it.

mod config;
mod read;
mod target;
mod write;

pub use read::{PeftLora, read_peft};
pub use write::write_peft;

pub(crate) const CONFIG: &str = "adapter_config.json";
pub(crate) const WEIGHTS: &str = "adapter_model.safetensors";

/// The names of `A` and `B` in the file, of a module as the model calls it.
fn tensor_names(module: &str) -> [String; 2] {
    ["A", "B"].map(|half| format!("base_model.model.{module}.lora_{half}.weight"))
}
