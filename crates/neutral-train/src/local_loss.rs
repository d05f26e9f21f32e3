//! The paper's local loss, a pure function of a forward pass's residues and the rows' domains.
//!
//! `ℓ_l1 = mean over blocks and over original-domain tokens of ‖g(x)·A(x)‖₁ / d`; and, for the
//! ablation with a sigmoid gate, the cross-entropy of the gate as a domain classifier (original 0,
//! new 1), mean over blocks and over all tokens.
//!
//! Variants of ours are in [`crate::gate_losses`]; the KL to the base ([`crate::anchor::kl`]) is no function of
//! residues, and is computed where both models are.
//!
//! All are returned as *sums over tokens* (already means over blocks). The caller divides by the
//! number of tokens that count in the whole optimizer step ([`counted_tokens`]), so that
//! accumulation over micro batches is exact even where one of them has no original tokens.
//!
//! Deviation: the paper does not say over what its mean goes when several blocks have adapters of
//! different placement; here every residue counts the same.

use neutral_data::Domain;
use neutral_model::Residue;
use neutral_spec::LocalLossSpec;
use neutral_torch::sum_kind;
use tch::Tensor;

use crate::{TrainError, gate_losses};

/// The rows of one domain, `x[domains == domain]` along the first dimension; nothing if there are none.
///
/// Contiguous rows are a view.
pub fn rows_of(x: &Tensor, domains: &[Domain], domain: Domain) -> Option<Tensor> {
    let rows: Vec<i64> =
        (0..).zip(domains).filter(|&(_, d)| *d == domain).map(|(row, _)| row).collect();
    let (&first, &last) = (rows.first()?, rows.last()?);
    let count = rows.len() as i64;
    if last - first + 1 == count {
        return Some(x.narrow(0, first, count));
    }
    Some(x.index_select(0, &Tensor::from_slice(&rows).to_device(x.device())))
}

/// The tokens that a local loss is the mean over, among so many original and new ones.
pub fn counted_tokens(spec: &LocalLossSpec, original_tokens: u64, new_tokens: u64) -> u64 {
    match spec {
        LocalLossSpec::DomainClassifier { .. } => original_tokens + new_tokens,
        LocalLossSpec::None {} => 0,
        _ => original_tokens,
    }
}

/// The local loss's factor in the training loss at step `step` of `steps`, counted from 0; 0 for none.
///
/// It grows over the first `w = round(warmup_fraction · steps)` steps, `weight · (step + 1) / w`, and is the
/// weight from then on.
pub fn weight(spec: &LocalLossSpec, steps: u64, step: u64) -> f64 {
    let (weight, warmup_fraction) = spec.weight_and_warmup();
    let warmup = (warmup_fraction * steps as f64).round() as u64;
    if step < warmup { weight * (step + 1) as f64 / warmup as f64 } else { weight }
}

/// The local loss summed over the tokens that count; `None` where there is nothing to sum, and for the
/// KL, which is not of residues.
///
/// # Errors
/// [`TrainError::LocalLoss`] if the extension has no residues, or not every gate that the loss is of.
pub fn token_sum(
    spec: &LocalLossSpec,
    residues: &[Residue],
    domains: &[Domain],
) -> Result<Option<Tensor>, TrainError> {
    let of: fn(&[Residue], &[Domain]) -> Option<Tensor> = match spec {
        LocalLossSpec::None {} | LocalLossSpec::Kl { .. } => return Ok(None),
        LocalLossSpec::L1 { .. } => l1_token_sum,
        LocalLossSpec::GateL1 { .. } => gate_losses::l1_token_sum,
        LocalLossSpec::L0 { .. } => gate_losses::l0_token_sum,
        LocalLossSpec::DomainClassifier { .. } => classifier_token_sum,
    };
    let fail =
        |reason| Err(TrainError::LocalLoss { kind: spec.kind().unwrap_or_default(), reason });
    let of_gates = !matches!(spec, LocalLossSpec::L1 { .. });
    if residues.is_empty() {
        return fail("the extension has no residues");
    }
    if of_gates && residues.iter().any(|residue| residue.gate.is_none()) {
        return fail("the extension does not have a gate at every residue");
    }
    Ok(of(residues, domains))
}

/// `Σ_{original tokens} mean_{blocks} ‖residue‖₁ / d`; nothing if no row is original.
///
/// # Shapes
/// Residues `[B,T,d]`; the result is a scalar in fp32, or fp64 if they are.
pub fn l1_token_sum(residues: &[Residue], domains: &[Domain]) -> Option<Tensor> {
    original_sum(residues, domains, |residue| Some(&residue.output_btd), Tensor::abs)
}

/// `Σ_{original tokens} mean f(x)` over blocks and over the last dimension of what is taken of each residue.
pub(crate) fn original_sum(
    residues: &[Residue],
    domains: &[Domain],
    of: impl Fn(&Residue) -> Option<&Tensor>,
    f: impl Fn(&Tensor) -> Tensor,
) -> Option<Tensor> {
    let sums: Option<Vec<_>> = residues
        .iter()
        .map(|residue| {
            let x = of(residue)?;
            let original = rows_of(x, domains, Domain::Original)?;
            Some(f(&original).sum(sum_kind(x.kind())) / last_size(x))
        })
        .collect();
    mean(&sums?)
}

/// `Σ_{tokens} mean_{gates} BCE(logit, domain is new)`; nothing if a residue has no gate.
///
/// `BCE(z, 1) = −log σ(z)` and `BCE(z, 0) = −log σ(−z)`, which no logit makes overflow. A gate a
/// channel counts as the mean of its channels.
pub fn classifier_token_sum(residues: &[Residue], domains: &[Domain]) -> Option<Tensor> {
    let sums: Option<Vec<_>> = residues
        .iter()
        .map(|residue| {
            let logit = &residue.gate.as_ref()?.logit;
            let kind = sum_kind(logit.kind());
            let one_domain = |domain, sign: f64| {
                let z = rows_of(logit, domains, domain)?.to_kind(kind) * sign;
                Some(-z.log_sigmoid().sum(kind) / last_size(logit))
            };
            match (one_domain(Domain::Original, -1.0), one_domain(Domain::New, 1.0)) {
                (Some(original), Some(new)) => Some(original + new),
                (one, other) => one.or(other),
            }
        })
        .collect();
    mean(&sums?)
}

fn mean(sums: &[Tensor]) -> Option<Tensor> {
    let blocks = sums.len() as f64;
    let total = sums.iter().map(Tensor::shallow_clone).reduce(|a, b| a + b)?;
    Some(total / blocks)
}

fn last_size(x: &Tensor) -> f64 {
    x.size().last().copied().unwrap_or(1) as f64
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use Domain::{New, Original};
    use neutral_model::Gate;
    use neutral_spec::Placement;
    use tch::{Device, Kind, no_grad};

    type Loss = fn(&[Residue], &[Domain]) -> Option<Tensor>;

    pub(crate) const DOMAINS: [Domain; 3] = [New, Original, New];

    pub(crate) fn numbers(shape: [i64; 3], shift: f64) -> Tensor {
        let n: i64 = shape.iter().product();
        (Tensor::arange(n, (Kind::Double, Device::Cpu)) * 1.7 + shift).sin().view(shape)
    }

    pub(crate) fn residues(outputs: &[Tensor], logits: &[Tensor]) -> Vec<Residue> {
        (0..)
            .zip(outputs.iter().zip(logits))
            .map(|(block, (output, logit))| Residue {
                block,
                placement: Placement::Ffn,
                output_btd: output.shallow_clone(),
                gate: Some(Gate {
                    value: logit.sigmoid(),
                    unrounded: logit.sigmoid(),
                    logit: logit.shallow_clone(),
                }),
            })
            .collect()
    }

    fn inputs() -> (Vec<Tensor>, Vec<Tensor>) {
        (
            vec![numbers([3, 2, 4], 0.1), numbers([3, 2, 4], 0.7)],
            vec![numbers([3, 2, 1], 0.3), numbers([3, 2, 1], 2.0)],
        )
    }

    #[test]
    fn l1_is_the_formula_and_only_original_rows_enter() {
        let (outputs, logits) = inputs();
        let by_hand: f64 =
            outputs.iter().map(|o| o.get(1).abs().sum(Kind::Double).double_value(&[])).sum::<f64>()
                / (2.0 * 4.0);
        let before = l1_token_sum(&residues(&outputs, &logits), &DOMAINS).unwrap();
        assert!((before.double_value(&[]) - by_hand).abs() < 1e-12);
        let _ = outputs[0].get(0).fill_(1e9);
        let _ = outputs[1].get(2).fill_(f64::NAN);
        let after = l1_token_sum(&residues(&outputs, &logits), &DOMAINS).unwrap();
        assert_eq!(before, after);
        assert!(l1_token_sum(&residues(&outputs, &logits), &[New; 3]).is_none());
    }

    #[test]
    fn the_classifier_is_binary_cross_entropy_with_the_domain_as_target() {
        let (outputs, logits) = inputs();
        let ours = classifier_token_sum(&residues(&outputs, &logits), &DOMAINS).unwrap();
        let target = Tensor::from_slice(&[1.0, 0.0, 1.0]).view([3, 1, 1]).expand([3, 2, 1], false);
        let theirs: f64 = logits
            .iter()
            .map(|z| {
                z.binary_cross_entropy_with_logits::<Tensor>(
                    &target,
                    None,
                    None,
                    tch::Reduction::Sum,
                )
                .double_value(&[])
            })
            .sum::<f64>()
            / 2.0;
        assert!((ours.double_value(&[]) - theirs).abs() < 1e-12);
        let ungated = Residue { gate: None, ..residues(&outputs, &logits).remove(0) };
        let spec = LocalLossSpec::DomainClassifier { weight: 1.0, warmup_fraction: None };
        assert!(token_sum(&spec, &[ungated], &DOMAINS).unwrap_err().to_string().contains("gate"));
        assert!(token_sum(&spec, &[], &DOMAINS).is_err());
    }

    #[test]
    fn gradients_agree_with_finite_differences() {
        let (outputs, logits) = inputs();
        let losses: [Loss; 2] = [l1_token_sum, classifier_token_sum];
        for (loss, inputs) in losses.into_iter().zip([&outputs, &logits]) {
            difference_quotients(&inputs[1], || {
                loss(&residues(&outputs, &logits), &DOMAINS).unwrap()
            });
        }
    }

    /// Autograd's gradient of a value in `x` is the central difference in every entry.
    pub(crate) fn difference_quotients(x: &Tensor, value: impl Fn() -> Tensor) {
        let x = x.set_requires_grad(true);
        let gradient = Tensor::run_backward(&[value()], &[&x], false, false).remove(0);
        let _ = x.set_requires_grad(false);
        for i in 0..x.numel() as i64 {
            let mut entry = x.view([-1]).get(i);
            let h = 1e-6;
            let difference = no_grad(|| {
                let _ = entry.g_add_scalar_(h);
                let above = value().double_value(&[]);
                let _ = entry.g_sub_scalar_(2.0 * h);
                let below = value().double_value(&[]);
                let _ = entry.g_add_scalar_(h);
                (above - below) / (2.0 * h)
            });
            let analytic = gradient.view([-1]).double_value(&[i]);
            assert!((difference - analytic).abs() < 1e-8, "{i}: {difference} {analytic}");
        }
    }

    #[test]
    fn a_weight_warms_up_in_a_straight_line_or_not_at_all() {
        let all = |spec: LocalLossSpec| (0..5).map(|i| weight(&spec, 5, i)).collect::<Vec<_>>();
        let warm = |f| LocalLossSpec::Kl { weight: 6.0, warmup_fraction: Some(f) };
        assert_eq!(all(warm(0.6)), [2.0, 4.0, 6.0, 6.0, 6.0]);
        assert_eq!(all(warm(0.0)), [6.0; 5]);
        assert_eq!(all(warm(1.0))[4], 6.0);
        assert_eq!(all(LocalLossSpec::l1(3.0)), [3.0; 5]);
        assert_eq!(all(LocalLossSpec::None {}), [0.0; 5]);
    }

    #[test]
    fn a_loss_of_gates_needs_a_gate_at_every_residue() {
        let (outputs, logits) = inputs();
        let mut all = residues(&outputs, &logits);
        let gate_l1 = LocalLossSpec::GateL1 { weight: 1.0, warmup_fraction: None };
        assert!(token_sum(&gate_l1, &all, &DOMAINS).unwrap().is_some());
        assert!(token_sum(&gate_l1, &all, &[New; 3]).unwrap().is_none());
        all[1].gate = None;
        let message = token_sum(&gate_l1, &all, &DOMAINS).unwrap_err().to_string();
        assert!(message.contains("`gate_l1`") && message.contains("a gate"), "{message}");
        assert!(token_sum(&LocalLossSpec::l1(1.0), &all, &DOMAINS).unwrap().is_some());
        assert!(token_sum(&LocalLossSpec::l1(1.0), &[], &DOMAINS).is_err());
    }

    #[test]
    fn rows_are_found_in_any_order() {
        let x = Tensor::arange(4, (Kind::Int64, Device::Cpu)).view([4, 1]);
        let domains = [Original, New, Original, New];
        let rows = rows_of(&x, &domains, Original).unwrap();
        assert_eq!(rows, Tensor::from_slice(&[0_i64, 2]).view([2, 1]));
        assert_eq!(rows_of(&x, &[New, New, New, Original], New).unwrap().size(), [3, 1]);
    }
}
