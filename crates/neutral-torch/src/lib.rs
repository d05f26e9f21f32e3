//! What `tch` leaves out, in one small room.
//!
//! - [`ParamStore`]: named weights whose tensors keep their identity. Layers hold shallow clones;
//!   loading, training and changing the kind all happen in place, so nobody holds a stale copy.
//!   Unlike `tch::nn::VarStore`, a name that is taken is an error, and order is by name.
//! - [`save_tensors`], [`load_tensors`], [`TensorFile`]: safetensors files, whole or not at all, exact
//!   to the bit; read a tensor at a time where memory matters.
//! - [`RandomStream`]: numbers named by a seed and a purpose, independent of libtorch's process-wide
//!   generator and of the device.
//! - [`device`]: the one place where a device is chosen.
//! - [`attach`]: a backward pass of one's own as a node of libtorch's graph, and [`parallel_for`]:
//!   loops on libtorch's threads. Behind both is a small C++ file, `csrc/bridge.cpp`.
//! - [`Group`]: several processes that sum and share tensors, and [`GradientHook`], which sees a gradient
//!   as soon as it is whole; behind both `csrc/c10d.cpp`.
//! - [`fused`]: what a training step is made of, each in one pass over memory, forward and backward.
//! - threads, memory, and what `doctor` reports of the machine.
//!
//! This is the only crate that holds C++, and the one whose business `unsafe` code is. It knows
//! nothing of models.

#![expect(
    clippy::inline_always,
    reason = "what is not inlined into a function for wide vectors is compiled without them"
)]

mod autograd;
mod device;
mod distributed;
mod element;
mod error;
pub mod fused;
mod parallel;
mod params;
mod precision;
mod random;
mod simd;
mod system;
mod tensors;

pub use autograd::{Gradients, attach};
pub use device::{DeviceChoice, device, devices};
pub use distributed::{GradientHook, Group, Pending, Rendezvous};
pub use error::TorchError;
pub use parallel::parallel_for;
pub use params::ParamStore;
pub use precision::{kind_of, sum_kind};
pub use random::RandomStream;
pub use system::{
    CpuFeatures, LIBTORCH_VERSION, bf16_works, cpu_features, cuda_available, cuda_linked,
    keep_freed_memory, peak_rss_bytes, set_threads, threads,
};
pub use tensors::{TensorFile, load_tensors, save_tensors};
