//! Weights below each other: one product in place of several.

use tch::{Kind, Tensor, no_grad};

use crate::autograd::{Gradients, attach};

/// Matrices below each other, in some kind: each number is read once, rounded, and written once into its place.
///
/// # Shapes
/// `parts`: `[n₁, d]`, `[n₂, d]`, …, or vectors; result: `[Σ n, d]`. Gradients have the parts' kinds.
///
/// # Panics
/// If there are no parts, or their widths differ.
pub fn join_rows(parts: &[&Tensor], kind: Kind) -> Tensor {
    let width = |part: &Tensor| part.size()[1..].to_vec();
    assert!(parts.iter().all(|part| width(part) == width(parts[0])), "rows of one width");
    let out = no_grad(|| {
        let mut size = parts[0].size();
        size[0] = parts.iter().map(|part| part.size()[0]).sum();
        let out = Tensor::empty(&size, (kind, parts[0].device()));
        let mut at = 0;
        for part in parts {
            let rows = part.size()[0];
            out.narrow(0, at, rows).copy_(part);
            at += rows;
        }
        out
    });
    let shares: Vec<_> = parts.iter().map(|part| (part.size()[0], part.kind())).collect();
    attach("join_rows", parts, &[&out], move |Gradients { outputs, wanted }| {
        let mut at = 0;
        let share = |((rows, kind), wanted): (&(i64, Kind), bool)| {
            let begin = at;
            at += rows;
            let gradient = outputs[0].as_ref().filter(|_| wanted)?;
            Some(gradient.narrow(0, begin, *rows).to_kind(*kind))
        };
        shares.iter().zip(wanted).map(share).collect()
    });
    out
}

#[cfg(test)]
mod tests {
    use super::super::testing::{normal, run};
    use super::*;

    #[test]
    fn it_is_libtorchs_cat_of_rounded_parts_to_the_bit() {
        for kind in [Kind::Float, Kind::BFloat16, Kind::Double] {
            for (of, trained) in [(Kind::Float, [true, true]), (Kind::BFloat16, [false, true])] {
                let mut parts = [normal("a", &[5, 7], of), normal("b", &[3, 7], of)];
                for (part, trained) in parts.iter_mut().zip(trained) {
                    *part = part.detach().set_requires_grad(trained);
                }
                let ours = run(&parts, |t| vec![join_rows(&[&t[0], &t[1]], kind)]);
                let theirs = run(&parts, |t| {
                    vec![Tensor::cat(&[t[0].to_kind(kind), t[1].to_kind(kind)], 0)]
                });
                assert_eq!(ours.len(), theirs.len());
                for (ours, theirs) in ours.iter().zip(&theirs) {
                    assert!(ours.kind() == theirs.kind() && ours.equal(theirs), "{of:?} {kind:?}");
                }
            }
        }
    }
}
