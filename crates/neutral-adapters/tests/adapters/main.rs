//! The adapters' tests: one contract for all methods, parity with PyTorch, finite differences.

#![expect(clippy::unwrap_used, reason = "in tests a panic is the report")]

mod block_expansion;
mod contract;
mod fp64;
mod gate_variants;
mod gradients;
mod methods;
mod parity;
mod peft;
mod saved;
mod windowed;
