//! Log-probabilities of some tokens, for scoring: of each row those that are asked for, and no logits
//! kept.

use neutral_spec::LOGITS_FROZEN;
use tch::{Device, Kind, Tensor, no_grad};

use super::cross_entropy::{cap_in_place, log_sum_exp};
use super::linear::linear;
use super::{by_kind, has_kernel};
use crate::element::{Element, Parts, numbers, numbers_mut};
use crate::parallel::parallel_for;
use crate::precision::sum_kind;

/// What a row says of a token.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TokenScore {
    /// `ln p(token)`, computed in fp32, or in fp64 if the rows are.
    pub log_prob: f64,
    /// It is the likeliest token, the first on a tie.
    pub is_likeliest: bool,
}

/// `ln p` of tokens under rows of logits `hidden · headᵀ`, capped as for
/// [`super::linear_cross_entropy`]. Without gradients.
///
/// # Shapes
/// `hidden_nd`: `[n, d]`, `head_vd`: `[v, d]`; `asked`: rows in ascending order and a token each; a
/// score for each.
///
/// # Panics
/// If a row is not below `n`, rows are not in order, or a token is not below `v`.
pub fn linear_log_probs(
    hidden_nd: &Tensor,
    head_vd: &Tensor,
    asked: &[(usize, u32)],
    softcap: Option<f64>,
) -> Vec<TokenScore> {
    let (n, v) = (hidden_nd.size()[0] as usize, head_vd.size()[0] as usize);
    assert!(asked.is_sorted_by_key(|(row, _)| *row), "rows are in order");
    let known = |(row, token): &(usize, u32)| *row < n && (*token as usize) < v;
    assert!(asked.iter().all(known), "a row is not below {n}, or a token not below {v}");
    no_grad(|| {
        let head = head_vd.to_kind(hidden_nd.kind());
        let mut scores = Vec::with_capacity(asked.len());
        // Rows that nobody asks about have no logits.
        let rows: Vec<&[(usize, u32)]> = asked.chunk_by(|a, b| a.0 == b.0).collect();
        for rows in rows.chunks((LOGITS_FROZEN / v).max(1)) {
            let places: Vec<i64> = rows.iter().map(|row| row[0].0 as i64).collect();
            let places = Tensor::from_slice(&places).to_device(hidden_nd.device());
            let mut logits = linear(&hidden_nd.index_select(0, &places), &head, None);
            if let Some(cap) = softcap {
                let _ = cap_in_place(&mut logits, cap);
            }
            if has_kernel(&logits) {
                scores.extend(by_kind!(logits, kernel(&logits, rows)));
            } else {
                scores.extend(formula(&logits, rows));
            }
        }
        scores
    })
}

fn formula(logits_nv: &Tensor, rows: &[&[(usize, u32)]]) -> Vec<TokenScore> {
    let device = logits_nv.device();
    let asked = rows.iter().enumerate().flat_map(|(i, row)| row.iter().map(move |(_, t)| (i, *t)));
    let (places, tokens): (Vec<i64>, Vec<i64>) =
        asked.map(|(row, token)| (row as i64, i64::from(token))).unzip();
    let [places, tokens] = [places, tokens].map(|x| Tensor::from_slice(&x).to_device(device));
    let log_p = logits_nv.to_kind(sum_kind(logits_nv.kind())).log_softmax(-1, None::<Kind>);
    let log_probs = log_p.index_select(0, &places).gather(-1, &tokens.unsqueeze(-1), false);
    let likeliest = logits_nv.argmax(-1, false).index_select(0, &places).eq_tensor(&tokens);
    let cpu = |x: &Tensor, kind| x.to_device(Device::Cpu).to_kind(kind).view(-1).contiguous();
    let (log_probs, likeliest) = (cpu(&log_probs, Kind::Double), cpu(&likeliest, Kind::Bool));
    let pairs = Vec::<f64>::try_from(log_probs)
        .expect("numbers")
        .into_iter()
        .zip(Vec::<bool>::try_from(likeliest).expect("bools"));
    pairs.map(|(log_prob, is_likeliest)| TokenScore { log_prob, is_likeliest }).collect()
}

fn kernel<T: Element>(logits_nv: &Tensor, rows: &[&[(usize, u32)]]) -> Vec<TokenScore> {
    let v = logits_nv.size()[1] as usize;
    let logits = numbers::<T>(logits_nv);
    let mut sums = Tensor::empty([2 * rows.len() as i64], (Kind::Float, Device::Cpu));
    let out = Parts::new(numbers_mut::<f32>(&mut sums));
    parallel_for(rows.len(), 1, |begin, end| {
        for row in begin..end {
            let (max, log_sum) = log_sum_exp(&logits[row * v..][..v]);
            #[expect(unsafe_code, reason = "threads write their own rows")]
            // SAFETY: every row belongs to one range.
            unsafe { out.get(2 * row, 2) }.copy_from_slice(&[max, log_sum]);
        }
    });
    let sums = numbers::<f32>(&sums).as_chunks::<2>().0;
    let rows = rows.iter().zip(sums).zip(logits.chunks_exact(v));
    rows.flat_map(|((asked, [max, log_sum]), logits)| {
        asked.iter().map(move |(_, token)| {
            let token = *token as usize;
            let logit = logits[token].to_f32();
            let earlier = || logits[..token].iter().any(|x| x.to_f32() >= *max);
            TokenScore {
                log_prob: f64::from(logit - log_sum),
                is_likeliest: logit >= *max && !earlier(),
            }
        })
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::super::testing::normal;
    use super::*;
    use crate::simd::at_every_width;

    const ASKED: [(usize, u32); 6] = [(0, 3), (0, 4), (2, 0), (5, 12), (5, 12), (6, 7)];

    #[test]
    fn log_probs_are_those_of_a_softmax_in_double_precision() {
        for (cap, kind) in [(None, Kind::Float), (Some(1.5), Kind::Float), (None, Kind::BFloat16)] {
            let [hidden, head] = [("hidden", [7, 6]), ("head", [13, 6])]
                .map(|(name, shape)| normal(name, &shape, Kind::Double).detach().to_kind(kind));
            let (h, w) = (hidden.to_kind(Kind::Double), head.to_kind(Kind::Double));
            let exact = linear_log_probs(&h, &w, &ASKED, cap);
            let logits = h.linear(&w, None::<&Tensor>);
            let logits = cap.map_or(logits.shallow_clone(), |cap| (&logits / cap).tanh() * cap);
            let log_p = logits.log_softmax(-1, Kind::Double);
            let bound = if kind == Kind::Float { 1e-5 } else { 0.03 };
            at_every_width(|_| {
                let found = linear_log_probs(&hidden, &head, &ASKED, cap);
                for ((found, exact), (row, token)) in found.iter().zip(&exact).zip(ASKED) {
                    let (row, token) = (row as i64, i64::from(token));
                    let expected = log_p.double_value(&[row, token]);
                    assert!((exact.log_prob - expected).abs() < 1e-14, "{exact:?}, {expected}");
                    assert!((found.log_prob - expected).abs() < bound, "{found:?}");
                    let likeliest = log_p.get(row).argmax(-1, false).int64_value(&[]) == token;
                    assert_eq!((found.is_likeliest, exact.is_likeliest), (likeliest, likeliest));
                }
            });
        }
    }

    #[test]
    fn of_equal_tokens_the_first_is_the_likeliest() {
        let head = Tensor::from_slice(&[0.0_f32, 1.0, 1.0]).view([3, 1]);
        let hidden = Tensor::from_slice(&[2.0_f32]).view([1, 1]);
        let scores = linear_log_probs(&hidden, &head, &[(0, 0), (0, 1), (0, 2)], None);
        let likeliest: Vec<bool> = scores.iter().map(|score| score.is_likeliest).collect();
        assert_eq!(likeliest, [false, true, false]);
    }

    #[test]
    #[should_panic(expected = "a token not below 3")]
    fn a_token_beyond_the_vocabulary_is_refused() {
        let zeros = |shape: [i64; 2]| Tensor::zeros(shape, (Kind::Float, Device::Cpu));
        linear_log_probs(&zeros([1, 2]), &zeros([3, 2]), &[(0, 3)], None);
    }
}
