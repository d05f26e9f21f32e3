//! The adapters' tests: one contract for all methods, parity with PyTorch, finite differences.

mod contract;
mod gate_variants;
mod gradients;
mod parity;
