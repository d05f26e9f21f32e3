//! How fast this machine multiplies matrices, for estimates and `neutral doctor`.

use std::time::{Duration, Instant};

use neutral_torch::fused::linear;
use tch::{Device, Kind, Tensor};

/// Side of the square matrices: large enough to reach the device's rate, done in milliseconds.
fn side(device: Device) -> i64 {
    if device.is_cuda() { 8192 } else { 1024 }
}

/// Floating-point operations per second of a matrix product, best of what fits into 0.3 s.
pub(crate) fn matmul_flops_per_second(kind: Kind, device: Device) -> f64 {
    let side = side(device);
    let a = Tensor::ones([side, side], (kind, device));
    let begin = Instant::now();
    let mut best = f64::INFINITY;
    while begin.elapsed() < Duration::from_millis(300) {
        let start = Instant::now();
        // Reading a value back waits for the device.
        let _ = linear(&a, &a, None).double_value(&[0, 0]);
        best = best.min(start.elapsed().as_secs_f64());
    }
    2.0 * (side as f64).powi(3) / best
}
