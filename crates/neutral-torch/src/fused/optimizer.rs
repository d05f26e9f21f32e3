//! One `AdamW` update of one tensor, in one pass over memory.

use tch::{Kind, Tensor, no_grad};

use crate::element::{Parts, numbers, numbers_mut};
use crate::parallel::parallel_for;
use crate::simd::vectorised;

/// Numbers that a thread takes at once.
const AT_ONCE: usize = 1 << 14;

/// The numbers of one update, the same for every tensor of a step.
#[derive(Clone, Copy, Debug)]
pub struct AdamWStep {
    /// Multiplies the gradient first.
    pub gradient_scale: f64,
    /// Decay of the mean of gradients.
    pub beta1: f64,
    /// Decay of the mean of squared gradients.
    pub beta2: f64,
    /// `η √(1 − β₂ᵗ) / (1 − β₁ᵗ)`.
    pub step_size: f64,
    /// `ε √(1 − β₂ᵗ)`.
    pub epsilon: f64,
    /// What the weights are multiplied by first: `1 − η λ`, or 1.
    pub keep: f64,
}

/// `m ← m + (1 − β₁)(g − m)`, `v ← v + (1 − β₂)(g² − v)`, `w ← keep · w − step m / (√v + ε)`, all in
/// place.
///
/// # Shapes
/// All four alike, in fp32.
pub fn adamw(
    weight: &mut Tensor,
    first: &mut Tensor,
    second: &mut Tensor,
    gradient: &Tensor,
    step: &AdamWStep,
) {
    no_grad(|| {
        let gradient = gradient.contiguous();
        let on_cpu = weight.device() == tch::Device::Cpu && weight.kind() == Kind::Float;
        if on_cpu && gradient.kind() == Kind::Float {
            kernel([weight, first, second], &gradient, step);
        } else {
            formula([weight, first, second], &gradient, step);
        }
    });
}

fn formula([weight, first, second]: [&mut Tensor; 3], gradient: &Tensor, step: &AdamWStep) {
    let gradient = gradient * step.gradient_scale;
    let _ = first.lerp_(&gradient, 1.0 - step.beta1);
    let _ = second.lerp_(&gradient.square(), 1.0 - step.beta2);
    let _ = weight.g_mul_scalar_(step.keep);
    let denominator = second.sqrt().g_add_scalar_(step.epsilon);
    let _ = weight.addcdiv_(&(&*first * -step.step_size), &denominator);
}

fn kernel([weight, first, second]: [&mut Tensor; 3], gradient: &Tensor, step: &AdamWStep) {
    let n = weight.numel();
    let gradient = numbers::<f32>(gradient);
    assert!(gradient.len() == n && first.numel() == n && second.numel() == n);
    let [weight, first, second] =
        [weight, first, second].map(|tensor| Parts::new(numbers_mut::<f32>(tensor)));
    parallel_for(n.div_ceil(AT_ONCE), 1, |begin, end| {
        let (from, to) = (begin * AT_ONCE, (end * AT_ONCE).min(n));
        #[expect(unsafe_code, reason = "threads write their own numbers")]
        // SAFETY: every number belongs to one range.
        let (w, m, v) = unsafe {
            (weight.get(from, to - from), first.get(from, to - from), second.get(from, to - from))
        };
        update(w, m, v, &gradient[from..to], step);
    });
}

vectorised! {
    fn update(w: &mut [f32], m: &mut [f32], v: &mut [f32], g: &[f32], step: &AdamWStep) {
        let scale = step.gradient_scale as f32;
        let [part1, part2] = [step.beta1, step.beta2].map(|beta| (1.0 - beta) as f32);
        let (size, epsilon) = (step.step_size as f32, step.epsilon as f32);
        let keep = step.keep as f32;
        for (((w, m), v), g) in w.iter_mut().zip(m).zip(v).zip(g) {
            let g = g * scale;
            *m += part1 * (g - *m);
            *v += part2 * (g * g - *v);
            *w = *w * keep - size * *m / (v.sqrt() + epsilon);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RandomStream;
    use crate::simd::at_every_width;
    use tch::Device;

    #[test]
    fn the_kernel_is_the_formula() {
        at_every_width(|width| {
            for n in [1, 17, (1 << 14) + 3] {
                assert!(is_the_formula(n), "{n} numbers, {width:?}");
            }
        });
    }

    /// Three steps of random numbers, in fp32 by the kernel and in fp64 without it.
    fn is_the_formula(n: i64) -> bool {
        let tensor = |name: &str| RandomStream::new(1, name).normal(&[n], 1.0, Device::Cpu);
        let start = || [tensor("w"), tensor("m"), tensor("v").square()];
        let wide = |t: [Tensor; 3]| t.map(|t| t.to_kind(Kind::Double));
        let step = AdamWStep {
            gradient_scale: 0.5,
            beta1: 0.9,
            beta2: 0.95,
            step_size: 0.01,
            epsilon: 1e-8,
            keep: 0.99,
        };
        let (mut ours, mut exact) = (start(), wide(start()));
        for i in 0..3 {
            let gradient = tensor(&format!("g{i}"));
            let [w, m, v] = &mut ours;
            adamw(w, m, v, &gradient, &step);
            let [w, m, v] = &mut exact;
            adamw(w, m, v, &gradient.to_kind(Kind::Double), &step);
        }
        let apart = |(ours, exact): (&Tensor, &Tensor)| {
            ours.to_kind(Kind::Double).allclose(exact, 1e-5, 1e-6, false)
        };
        ours.iter().zip(&exact).all(apart)
    }
}
