//! Base and extended model on the same batch, position by position.

use neutral_model::{Attention, Extension, Input, Residue, Transformer};
use tch::{Device, Kind, Tensor};

use super::residues::{all_shut, at};

/// Logits of either model that exist at once.
const LOGITS_AT_ONCE: usize = 2 << 20;

/// What was extended beside what was made of it, each a model with what extends it.
#[derive(Clone, Copy)]
pub(super) struct Pair<'a> {
    pub(super) base: (&'a Transformer, &'a Extension),
    pub(super) after: (&'a Transformer, &'a Extension),
}

/// What both models made of some positions, and the gates of all.
pub(super) struct Positions {
    /// `KL(base ‖ extended)` of the next token's distribution, in nats.
    pub(super) kl_nats: Vec<f64>,
    /// Both hold the same token for the likeliest.
    pub(super) same_top: Vec<bool>,
    /// The hidden states after the final norm have the same bits.
    pub(super) same_bits: Vec<bool>,
    /// All branches are shut here and at every position before; nothing without branches.
    pub(super) neutral: Option<Vec<bool>>,
    pub(super) residues: Vec<Residue>,
}

impl Pair<'_> {
    /// Both models over one batch, the same kernels on the same shapes.
    ///
    /// # Shapes
    /// `tokens_bt`: `[b, t]`, `Int64`; `positions_n`: places in `b·t`.
    pub(super) fn run(self, tokens_bt: Tensor, positions_n: &Tensor) -> Positions {
        let input = Input { tokens_bt, attention: Attention::Causal };
        let run = |(model, extension): (&Transformer, _)| model.forward(&input, extension);
        let base_nd = at(&run(self.base).hidden_btd, positions_n);
        let output = run(self.after);
        let after_nd = at(&output.hidden_btd, positions_n);
        let neutral = (!output.residues.is_empty()).then(|| {
            // A product of zeros and ones is one as long as all were.
            let neutral_bt = all_shut(&output.residues).cumprod(1, Kind::Int64).ne(0);
            truths(&at(&neutral_bt.unsqueeze(-1), positions_n))
        });
        let same_bits = truths(&same_bits(&base_nd, &after_nd));
        let (kl_nats, same_top) = self.distributions(&base_nd, &after_nd);
        Positions { kl_nats, same_top, same_bits, neutral, residues: output.residues }
    }

    /// Logits exist for some rows at a time, in the compute kind; what follows is fp64.
    fn distributions(self, base_nd: &Tensor, after_nd: &Tensor) -> (Vec<f64>, Vec<bool>) {
        let rows = (LOGITS_AT_ONCE / self.base.0.config().vocab_size).max(1) as i64;
        let (mut kl_nats, mut same_top) = (Vec::new(), Vec::new());
        for (base_nd, after_nd) in base_nd.split(rows, 0).iter().zip(after_nd.split(rows, 0)) {
            let base_nv = self.base.0.logits(base_nd).to_kind(Kind::Double);
            let after_nv = self.after.0.logits(&after_nd).to_kind(Kind::Double);
            let top = base_nv.argmax(-1, false).eq_tensor(&after_nv.argmax(-1, false));
            same_top.extend(truths(&top));
            let (log_p, log_q) = (base_nv.log_softmax(-1, None), after_nv.log_softmax(-1, None));
            let kl_n = (log_p.exp() * (log_p - log_q)).sum_dim_intlist(-1, false, None);
            // Where two distributions are almost equal, rounding may leave less than nothing.
            kl_nats.extend(numbers(&kl_n.clamp_min(0.0)));
        }
        (kl_nats, same_top)
    }
}

/// Rows of `[n, d]` that have the same bits, `[n]`: two zeros of other signs differ, and what is no
/// number equals itself.
fn same_bits(x_nd: &Tensor, y_nd: &Tensor) -> Tensor {
    let bits = |x: &Tensor| match x.kind() {
        Kind::Double => x.view_dtype(Kind::Int64),
        Kind::Float => x.view_dtype(Kind::Int),
        _ => x.view_dtype(Kind::Int16),
    };
    bits(x_nd).eq_tensor(&bits(y_nd)).all_dim(-1, false)
}

fn truths(truths: &Tensor) -> Vec<bool> {
    Vec::try_from(truths.view(-1).to_device(Device::Cpu)).expect("a vector of truths")
}

fn numbers(numbers: &Tensor) -> Vec<f64> {
    Vec::try_from(numbers.to_device(Device::Cpu)).expect("a vector of numbers")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_tell_zeros_apart_and_know_what_is_no_number() {
        let x = Tensor::from_slice(&[1.0_f32, 0.0, f32::NAN, 2.0, 1.0, 1.0]).view([3, 2]);
        let y = Tensor::from_slice(&[1.0_f32, -0.0, f32::NAN, 2.0, 1.0, 1.000_000_1]).view([3, 2]);
        for kind in [Kind::Float, Kind::Double] {
            let same = truths(&same_bits(&x.to_kind(kind), &y.to_kind(kind)));
            assert_eq!(same, [false, true, false], "{kind:?}");
        }
        let rounded = same_bits(&x.to_kind(Kind::BFloat16), &y.to_kind(Kind::BFloat16));
        assert_eq!(truths(&rounded), [false, true, true]);
    }
}
