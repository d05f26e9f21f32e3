//! Head and Kullback–Leibler divergence from another model's predictions, by chunks as the cross-entropy has them.

use neutral_spec::LOGITS_FROZEN;
use tch::{Kind, Tensor};

use super::cross_entropy::{Wants, cap_in_place, in_chunks, rows_trained};
use super::linear::linear;
use super::rows_and_width;
use crate::precision::sum_kind;

/// Of a chunk of the cross-entropy's: here three numbers of fp32 go with each logit.
const PART: usize = 4;

/// Hidden states and the head that makes logits of them, `hidden · headᵀ`; with a cap `c`, logits `z` become
/// `c · tanh(z / c)`.
#[derive(Clone, Copy, Debug)]
pub struct Predictions<'a> {
    /// `[…, d]`.
    pub hidden: &'a Tensor,
    /// `[v, d]`.
    pub head_vd: &'a Tensor,
    /// `c`.
    pub softcap: Option<f64>,
}

/// `Σ_rows KL(p ‖ q)` in nats, where `q` are the predictions of `ours` and `p` those of `base`, with a gradient to `ours`
/// alone. Log-probabilities are fp32 (fp64 if `ours` is).
///
/// # Shapes
/// Both of as many rows and the same vocabulary; the result is a scalar.
///
/// # Panics
/// If rows or vocabularies differ.
pub fn linear_divergence(ours: Predictions, base: Predictions) -> Tensor {
    let Predictions { hidden, head_vd, .. } = ours;
    let wants = Wants { hidden: hidden.requires_grad(), head: head_vd.requires_grad() };
    let ((rows, d), vocab) = (rows_and_width(hidden), head_vd.size()[0] as usize);
    let at_once =
        if wants.head { rows_trained(rows, vocab, d) } else { LOGITS_FROZEN / vocab } / PART;
    by_chunks(ours, base, wants, at_once.max(1))
}

fn by_chunks(ours: Predictions, base: Predictions, wants: Wants, rows: usize) -> Tensor {
    let (of_base, width) = rows_and_width(base.hidden);
    assert_eq!(rows_and_width(ours.hidden).0, of_base, "as many rows");
    assert_eq!(ours.head_vd.size()[0], base.head_vd.size()[0], "one vocabulary");
    let base_nd = base.hidden.detach().reshape([-1, width as i64]);
    let base_head_vd = base.head_vd.detach().to_kind(base_nd.kind());
    let losses_of = |logits: &mut Tensor, first: i64| {
        let kind = sum_kind(logits.kind());
        let log_softmax = |z: &Tensor| z.to_kind(kind).log_softmax(-1, None::<Kind>);
        let base_nd = base_nd.narrow(0, first, logits.size()[0]);
        let mut theirs = linear(&base_nd, &base_head_vd, None);
        if let Some(cap) = base.softcap {
            let _ = cap_in_place(&mut theirs, cap);
        }
        let (mut log_p, mut log_q) = (log_softmax(&theirs), log_softmax(logits));
        drop(theirs);
        // In place: each is as large as the logits, or twice.
        let mut apart = &log_p - &log_q;
        let p = log_p.exp_();
        let losses = apart.g_mul_(&p).sum_dim_intlist(-1, false, kind);
        if wants.hidden || wants.head {
            logits.copy_(&log_q.exp_().g_sub_(&p));
        }
        losses
    };
    in_chunks(ours.hidden, ours.head_vd, ours.softcap, wants, rows, losses_of).0
}

#[cfg(test)]
mod tests {
    use super::super::testing::{agrees, normal};
    use super::*;

    fn formula(t: &[Tensor], cap: Option<f64>) -> Vec<Tensor> {
        let log_softmax = |hidden: &Tensor, head: &Tensor| {
            let logits = hidden.linear(&head.to_kind(hidden.kind()), None::<&Tensor>);
            let logits = cap.map_or(logits.shallow_clone(), |cap| (&logits / cap).tanh() * cap);
            logits.to_kind(sum_kind(hidden.kind())).log_softmax(-1, None::<Kind>)
        };
        let log_q = log_softmax(&t[0], &t[1]);
        let log_p = log_softmax(&t[2], &t[3]);
        let sum_kind = log_p.kind();
        vec![(log_p.exp() * (log_p - log_q)).sum(sum_kind)]
    }

    #[test]
    fn it_is_the_formula_for_every_size_of_chunk() {
        for (vocab, rows) in [(2, 1), (13, 3), (40, 4), (40, 99)] {
            let tensor = |name, shape: &[i64], tracked| {
                normal(name, shape, Kind::Double).set_requires_grad(tracked)
            };
            for (hidden, head) in [(true, true), (true, false), (false, true)] {
                for cap in [None, Some(1.5)] {
                    let inputs = [
                        tensor("hidden", &[2, 5, 6], hidden),
                        tensor("head", &[vocab, 6], head),
                        tensor("hidden of the base", &[10, 8], false),
                        tensor("head of the base", &[vocab, 8], false),
                    ];
                    agrees(
                        &format!("{vocab} by {rows}, {cap:?}"),
                        &inputs,
                        |t| {
                            let of = |at: usize| Predictions {
                                hidden: &t[at],
                                head_vd: &t[at + 1],
                                softcap: cap,
                            };
                            vec![by_chunks(of(0), of(2), Wants { hidden, head }, rows)]
                        },
                        |t| {
                            let base = t[2].view([2, 5, 8]);
                            let t = [&t[0], &t[1], &base, &t[3]].map(Tensor::shallow_clone);
                            formula(&t, cap)
                        },
                    );
                }
            }
        }
    }
}
