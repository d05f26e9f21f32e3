//! The adapters' tests: one contract for all methods, parity with PyTorch, finite differences.

#![expect(clippy::unwrap_used, reason = "in tests a panic is the report")]

mod bf16;
mod block_expansion;
mod contract;
mod families;
mod fp64;
mod gate_variants;
mod gradients;
mod methods;
mod parity;
mod peft;
mod saved;
mod transformers;
mod windowed;
