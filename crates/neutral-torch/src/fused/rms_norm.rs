//! RMSNorm of a sum, as Llama has it and as Gemma has it.

use tch::{Kind, Tensor, no_grad};

use super::{ROWS_A_PARTIAL_SUM, ROWS_AT_ONCE, by_kind, has_kernel, rows_and_width};
use crate::autograd::{Gradients, attach};
use crate::element::{Element, Parts, numbers, numbers_mut};
use crate::parallel::parallel_for;
use crate::simd::{dot, vectorised};

/// The constants of an RMSNorm.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NormRule {
    /// ε, added to the mean square.
    pub epsilon: f64,
    /// What is normalised in fp32 is multiplied with `1 + w` and then rounded, as in Gemma; if not,
    /// it is rounded first and then multiplied with `w`, as in Llama.
    pub unit_offset: bool,
}

/// `s = x + Σ added` and `y = s / √(mean(s²) + ε) ⊙ w` over the last dimension, `w` or `1 + w` as the
/// rule says. Without anything added, `s` is `x` itself.
///
/// # Shapes
/// `x` and each added: `[…, d]` of one kind, `weight`: `[d]`, results `(s, y)`: as `x`.
///
/// # Panics
/// If the widths differ.
///
/// Source: `LlamaRMSNorm` and `GemmaRMSNorm` of Hugging Face transformers.
pub fn rms_norm(
    x: &Tensor,
    added: &[&Tensor],
    weight: &Tensor,
    rule: NormRule,
) -> (Tensor, Tensor) {
    assert_eq!(x.size().last(), weight.size().last(), "a weight for each of a row's numbers");
    if has_kernel(x) {
        by_kind!(x, kernel(x, added, weight, rule))
    } else {
        formula(x, added, weight, rule)
    }
}

fn formula(x: &Tensor, added: &[&Tensor], weight: &Tensor, rule: NormRule) -> (Tensor, Tensor) {
    let s = added.iter().fold(x.shallow_clone(), |sum, next| sum + *next);
    let (kind, exact) = (s.kind(), s.kind() == Kind::Double);
    let wide = if exact { s.shallow_clone() } else { s.to_kind(Kind::Float) };
    let normalised = wide.rms_norm(weight.size(), None::<Tensor>, rule.epsilon);
    let rounded = weight.to_kind(kind);
    let y = if rule.unit_offset {
        (&normalised * (rounded.to_kind(normalised.kind()) + 1.0)).to_kind(kind)
    } else {
        normalised.to_kind(kind) * rounded
    };
    (s, y)
}

/// What rows are multiplied with, in fp32.
fn factors<T: Element>(weight: &Tensor, rule: NormRule) -> Vec<f32> {
    let rounded = weight.to_kind(T::KIND);
    let offset = if rule.unit_offset { 1.0 } else { 0.0 };
    numbers::<T>(&rounded).iter().map(|w| w.to_f32() + offset).collect()
}

fn kernel<T: Element>(
    x: &Tensor,
    added: &[&Tensor],
    weight: &Tensor,
    rule: NormRule,
) -> (Tensor, Tensor) {
    assert!(added.iter().all(|term| term.size() == x.size()), "the kernel does not broadcast");
    let (s, y, inverse_n) = no_grad(|| {
        let x = x.contiguous();
        let added: Vec<Tensor> = added.iter().map(|t| t.contiguous()).collect();
        // Of one term the sum is that term, in the same memory.
        let mut sum = (!added.is_empty()).then(|| x.empty_like());
        let mut y = x.empty_like();
        let (rows, _) = rows_and_width(&x);
        let mut inverse_n = Tensor::empty([rows as i64], (Kind::Float, x.device()));
        forward::<T>(&x, &added, weight, rule, sum.as_mut(), &mut y, &mut inverse_n);
        (sum.unwrap_or_else(|| x.detach()), y, inverse_n)
    });
    let saved = (s.detach(), weight.shallow_clone(), inverse_n);
    let sources: Vec<&Tensor> =
        [x].into_iter().chain(added.iter().copied()).chain([weight]).collect();
    let terms = sources.len() - 1;
    let summed = !added.is_empty();
    let backward = move |gradients: Gradients| {
        let (s, weight, inverse_n) = saved;
        let (of_s, of_y) = match (summed, gradients.outputs.as_slice()) {
            (true, [s, y]) => (s.as_ref(), y.as_ref()),
            (_, outputs) => (None, outputs[0].as_ref()),
        };
        let Some(of_y) = of_y else {
            let mut all: Vec<_> = (0..terms).map(|_| of_s.map(Tensor::shallow_clone)).collect();
            all.push(None);
            return all;
        };
        let weight_wanted = gradients.wanted[terms];
        let (of_x, of_weight) =
            backward::<T>(&s, (&weight, rule), &inverse_n, of_s, &of_y.contiguous(), weight_wanted);
        let mut all: Vec<_> = (0..terms).map(|_| Some(of_x.shallow_clone())).collect();
        all.push(of_weight);
        all
    };
    if summed {
        attach("rms_norm of a sum", &sources, &[&s, &y], backward);
        (s, y)
    } else {
        attach("rms_norm", &sources, &[&y], backward);
        (x.shallow_clone(), y)
    }
}

fn forward<T: Element>(
    x: &Tensor,
    added: &[Tensor],
    weight: &Tensor,
    rule: NormRule,
    sum: Option<&mut Tensor>,
    y: &mut Tensor,
    inverse_n: &mut Tensor,
) {
    let (rows, d) = rows_and_width(x);
    let (x, weight) = (numbers::<T>(x), factors::<T>(weight, rule));
    let added: Vec<&[T]> = added.iter().map(numbers::<T>).collect();
    let sum = sum.map(|sum| Parts::new(numbers_mut::<T>(sum)));
    let y = Parts::new(numbers_mut::<T>(y));
    let inverse_n = Parts::new(numbers_mut::<f32>(inverse_n));
    parallel_for(rows, ROWS_AT_ONCE, |begin, end| {
        let mut row = vec![0.0_f32; d];
        for n in begin..end {
            let here = n * d..(n + 1) * d;
            #[expect(unsafe_code, reason = "threads write their own rows")]
            // SAFETY: every row belongs to one range.
            let (sum, y, inverse) = unsafe {
                let sum = sum.as_ref().map(|sum| sum.get(n * d, d));
                (sum, y.get(n * d, d), inverse_n.get(n, 1))
            };
            widen(&x[here.clone()], &mut row);
            for added in &added {
                add_rounded(&added[here.clone()], &mut row);
            }
            if let Some(sum) = sum {
                narrow(&row, sum);
            }
            inverse[0] = 1.0 / (dot(&row, &row) / d as f32 + rule.epsilon as f32).sqrt();
            if rule.unit_offset {
                scale_and_round(&row, inverse[0], &weight, y);
            } else {
                round_and_scale(&row, inverse[0], &weight, y);
            }
        }
    });
}

/// With `x̂ = s · r` and `h = w ⊙ ∂y`: `∂s + r (h − x̂ mean(h ⊙ x̂))`, and `Σₙ ∂y ⊙ x̂` for `w`.
fn backward<T: Element>(
    s: &Tensor,
    (weight, rule): (&Tensor, NormRule),
    inverse_n: &Tensor,
    of_s: Option<&Tensor>,
    of_y: &Tensor,
    weight_wanted: bool,
) -> (Tensor, Option<Tensor>) {
    let (rows, d) = rows_and_width(s);
    let of_s = of_s.map(Tensor::contiguous);
    let mut of_x = s.empty_like();
    let blocks = rows.div_ceil(ROWS_A_PARTIAL_SUM);
    let partial_rows = if weight_wanted { blocks } else { 0 };
    let mut partial = Tensor::zeros([partial_rows as i64, d as i64], (Kind::Float, s.device()));
    {
        let (s, factors) = (numbers::<T>(s), factors::<T>(weight, rule));
        let (inverse_n, of_y) = (numbers::<f32>(inverse_n), numbers::<T>(of_y));
        let of_s = of_s.as_ref().map(numbers::<T>);
        let of_x = Parts::new(numbers_mut::<T>(&mut of_x));
        let partial = Parts::new(numbers_mut::<f32>(&mut partial));
        parallel_for(blocks, 1, |begin, end| {
            let (mut scaled, mut unit) = (vec![0.0_f32; d], vec![0.0_f32; d]);
            for block in begin..end {
                let first = block * ROWS_A_PARTIAL_SUM;
                let last = (first + ROWS_A_PARTIAL_SUM).min(rows);
                #[expect(unsafe_code, reason = "threads write their own rows")]
                // SAFETY: every block of rows belongs to one range.
                let (out, of_weight) = unsafe {
                    let width = if weight_wanted { d } else { 0 };
                    (of_x.get(first * d, (last - first) * d), partial.get(block * width, width))
                };
                for n in first..last {
                    let here = n * d..(n + 1) * d;
                    let (s, of_y, inverse) = (&s[here.clone()], &of_y[here.clone()], inverse_n[n]);
                    unit_and_scaled(s, inverse, &factors, of_y, &mut unit, &mut scaled);
                    if weight_wanted {
                        add_products(of_y, &unit, of_weight);
                    }
                    let mean = dot(&scaled, &unit) / d as f32;
                    let out = &mut out[(n - first) * d..][..d];
                    project(&scaled, &unit, mean, inverse, out);
                    if let Some(of_s) = of_s {
                        add(&of_s[here], out);
                    }
                }
            }
        });
    }
    let of_weight = weight_wanted.then(|| {
        partial.sum_dim_intlist([0_i64].as_slice(), false, Kind::Float).to_kind(weight.kind())
    });
    (of_x, of_weight)
}

vectorised! {
    fn widen<T>(x: &[T], row: &mut [f32]) {
        row.iter_mut().zip(x).for_each(|(row, x)| *row = x.to_f32());
    }

    fn narrow<T>(row: &[f32], out: &mut [T]) {
        out.iter_mut().zip(row).for_each(|(out, row)| *out = T::from_f32(*row));
    }

    fn add_rounded<T>(added: &[T], row: &mut [f32]) {
        for (row, a) in row.iter_mut().zip(added) {
            *row = T::from_f32(*row + a.to_f32()).to_f32();
        }
    }

    fn add<T>(added: &[T], out: &mut [T]) {
        for (out, a) in out.iter_mut().zip(added) {
            *out = T::from_f32(out.to_f32() + a.to_f32());
        }
    }

    fn round_and_scale<T>(row: &[f32], inverse: f32, factors: &[f32], y: &mut [T]) {
        for ((y, row), w) in y.iter_mut().zip(row).zip(factors) {
            *y = T::from_f32(T::from_f32(row * inverse).to_f32() * w);
        }
    }

    fn scale_and_round<T>(row: &[f32], inverse: f32, factors: &[f32], y: &mut [T]) {
        for ((y, row), w) in y.iter_mut().zip(row).zip(factors) {
            *y = T::from_f32(row * inverse * w);
        }
    }

    fn unit_and_scaled<T>(
        s: &[T],
        inverse: f32,
        factors: &[f32],
        of_y: &[T],
        unit: &mut [f32],
        scaled: &mut [f32],
    ) {
        for (unit, s) in unit.iter_mut().zip(s) {
            *unit = s.to_f32() * inverse;
        }
        for ((scaled, w), g) in scaled.iter_mut().zip(factors).zip(of_y) {
            *scaled = w * g.to_f32();
        }
    }

    fn add_products<T>(of_y: &[T], unit: &[f32], of_weight: &mut [f32]) {
        for ((sum, g), unit) in of_weight.iter_mut().zip(of_y).zip(unit) {
            *sum += g.to_f32() * T::from_f32(*unit).to_f32();
        }
    }

    fn project<T>(scaled: &[f32], unit: &[f32], mean: f32, inverse: f32, out: &mut [T]) {
        for ((out, scaled), unit) in out.iter_mut().zip(scaled).zip(unit) {
            *out = T::from_f32((scaled - unit * mean) * inverse);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{agrees, normal};
    use super::*;

    #[test]
    fn the_kernel_is_the_formula() {
        for shape in [[1, 1, 1], [2, 3, 17], [1, 200, 96], [3, 43, 64]] {
            let tensor = |name| normal(name, &shape, Kind::Double);
            let inputs =
                [tensor("x"), tensor("a"), tensor("b"), normal("w", &shape[2..], Kind::Double)];
            for (added, unit_offset) in [(0, false), (1, true), (2, false), (2, true)] {
                let rule = NormRule { epsilon: 1e-5, unit_offset };
                let split = |t: &[Tensor],
                             run: fn(
                    &Tensor,
                    &[&Tensor],
                    &Tensor,
                    NormRule,
                ) -> (Tensor, Tensor)| {
                    let terms: Vec<&Tensor> = t[1..=added].iter().collect();
                    let (s, y) = run(&t[0], &terms, &t[t.len() - 1], rule);
                    vec![s, y]
                };
                let used: Vec<Tensor> = inputs[..=added]
                    .iter()
                    .chain([&inputs[3]])
                    .map(Tensor::shallow_clone)
                    .collect();
                agrees(
                    &format!("{shape:?} + {added}, {rule:?}"),
                    &used,
                    |t| split(t, rms_norm),
                    |t| split(t, formula),
                );
            }
        }
    }
}
