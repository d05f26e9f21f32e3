//! The neutral residue `g(x) · A(x)` (paper, section 3.2): an adapter behind a block gate.
//!
//! The local loss that makes it neutral on the original domain needs the batch's domains and is not
//! here; this file only hands out what it is computed from, residue and gate.

use neutral_model::{Before, Branch, BranchOutput};
use neutral_torch::fused::scale_rows;
use tch::Tensor;

use crate::{BlockGate, GluAdapter};

/// `R(x) = g(x) · A(x)`; without a gate, `g = 1`.
///
/// At the start `A(x) = 0`, whatever the gate. Where a `ReLU` gate is off, `R(x)` is exactly zero, and
/// so is every gradient that this token sends to `A` and `g`.
#[derive(Debug)]
pub struct NeutralResidue {
    adapter: GluAdapter,
    gate: Option<BlockGate>,
}

impl NeutralResidue {
    /// An adapter behind a gate, or without one (the ablation `activation: none`).
    pub fn new(adapter: GluAdapter, gate: Option<BlockGate>) -> Self {
        Self { adapter, gate }
    }
}

impl Branch for NeutralResidue {
    fn forward(&self, x_btd: &Tensor, before: &mut Before) -> BranchOutput {
        let adapted_btd = self.adapter.output(x_btd);
        let Some(gate) = &self.gate else {
            // In bf16 a loss's gradient below the last digit of the stream's is lost: nothing comes between their
            // sum and the product that it goes into.
            return BranchOutput { output_btd: adapted_btd, watched_btd: None, gate: None };
        };
        let gate = gate.forward(x_btd, before);
        let [output_btd, watched_btd] = scale_rows(&gate.value, &adapted_btd);
        BranchOutput { output_btd, watched_btd: Some(watched_btd), gate: Some(gate) }
    }
}
