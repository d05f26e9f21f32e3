//! Text a token at a time: sampling from the logits of the last position, keys and values kept.

use neutral_torch::RandomStream;
use tch::{Kind, Tensor};

use crate::{Cache, Extension, ModelError, Transformer, mean_over_gates};

/// How a token is chosen from the logits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// Logits are divided by it; 0 takes the likeliest token, the first on a tie.
    pub temperature: f64,
    /// Only the likeliest tokens that have this probability together may be chosen; 1 is all.
    pub top_p: f64,
    /// Of the stream that chance is drawn from.
    pub seed: u64,
}

/// One token that was read, or chosen and then read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ReadToken {
    /// Its id.
    pub id: i64,
    /// Share of the blocks whose gate let something through, if the extension has gates.
    pub open_gates: Option<f64>,
}

/// A text that goes on for as long as it is asked.
pub struct Generation<'a> {
    model: &'a Transformer,
    extension: &'a Extension,
    cache: Cache,
    sampling: Sampling,
    chance: RandomStream,
    logits_v: Tensor,
}

impl<'a> Generation<'a> {
    /// Reads a prompt; also what was read, token by token.
    ///
    /// # Panics
    /// If the prompt is empty, an id is not below the vocabulary's size, or the extension was made for
    /// a deeper model.
    pub fn new(
        model: &'a Transformer,
        extension: &'a Extension,
        prompt: &[i64],
        sampling: Sampling,
    ) -> (Self, Vec<ReadToken>) {
        assert!(!prompt.is_empty(), "a prompt has at least one token");
        let mut generation = Self {
            model,
            extension,
            cache: model.cache(),
            sampling,
            chance: RandomStream::new(sampling.seed, "generate"),
            logits_v: Tensor::new(),
        };
        let read = generation.read(prompt);
        (generation, read)
    }

    /// Chooses the next token and reads it.
    ///
    /// # Errors
    /// [`ModelError::NotFinite`] if the model's logits are no numbers.
    pub fn next_token(&mut self) -> Result<ReadToken, ModelError> {
        let id = tch::no_grad(|| choose(&self.logits_v, self.sampling, &mut self.chance));
        Ok(self.read(&[id.ok_or(ModelError::NotFinite)?])[0])
    }

    fn read(&mut self, ids: &[i64]) -> Vec<ReadToken> {
        let tokens_bt = Tensor::from_slice(ids).unsqueeze(0).to_device(self.model.device());
        let output = self.model.forward_cached(&tokens_bt, &mut self.cache, self.extension);
        let last = output.hidden_btd.select(0, 0).select(0, ids.len() as i64 - 1);
        self.logits_v = tch::no_grad(|| self.model.logits(&last).to_kind(Kind::Float));
        let open = mean_over_gates(&output.residues, |value| value.ne(0.0));
        let token = |(i, &id): (usize, &i64)| ReadToken {
            id,
            open_gates: open.as_ref().map(|open| open[i]),
        };
        ids.iter().enumerate().map(token).collect()
    }
}

/// None where a logit is NaN, or the largest is infinite.
fn choose(logits_v: &Tensor, sampling: Sampling, chance: &mut RandomStream) -> Option<i64> {
    let (most, likeliest) = logits_v.max_dim(-1, false);
    if !most.double_value(&[]).is_finite() {
        return None;
    }
    if sampling.temperature <= 0.0 {
        return Some(likeliest.int64_value(&[]));
    }
    // Less the largest first: however cold it is, that one stays a number.
    let scaled = (logits_v - most).to_kind(Kind::Double) / sampling.temperature;
    let (p, ids) = scaled.softmax(-1, Kind::Double).sort(-1, true);
    let sums = p.cumsum(-1, Kind::Double);
    // A token is kept if those before it fall short of the share: the first one always is.
    let kept = (&sums - &p).lt(sampling.top_p).to_kind(Kind::Double);
    let sums = (p * &kept).cumsum(-1, Kind::Double);
    let total = sums.double_value(&[-1]);
    let drawn = chance.uniform(&[1], 0.0, 1.0, tch::Device::Cpu).double_value(&[0]) * total;
    let at = sums.le(drawn).sum(Kind::Int64).int64_value(&[]);
    // A number as near to 1 as fp32 has leads past the last that is kept.
    let last = kept.sum(Kind::Int64).int64_value(&[]) - 1;
    Some(ids.int64_value(&[at.min(last)]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transformer::tests::{tiny_model, tokens};
    use crate::{Attention, Input};

    const GREEDY: Sampling = Sampling { temperature: 0.0, top_p: 1.0, seed: 0 };

    #[test]
    fn greedy_text_is_the_argmax_of_the_whole_forward_pass() {
        let model = tiny_model(3);
        let none = Extension::none();
        let mut ids = vec![0, 4, 9];
        let (mut generation, read) = Generation::new(&model, &none, &ids, GREEDY);
        assert_eq!(read.iter().map(|t| t.id).collect::<Vec<_>>(), ids);
        assert!(read.iter().all(|t| t.open_gates.is_none()));
        for _ in 0..12 {
            let input = Input { tokens_bt: tokens(&ids), attention: Attention::Causal };
            let logits = model.logits(&model.forward(&input, &none).hidden_btd);
            let last = logits.select(0, 0).select(0, ids.len() as i64 - 1);
            let expected = last.argmax(-1, false).int64_value(&[]);
            assert_eq!(generation.next_token().unwrap().id, expected);
            ids.push(expected);
        }
    }

    #[test]
    fn nothing_is_chosen_from_what_is_no_number() {
        let mut chance = RandomStream::new(0, "test");
        for wrong in [f32::NAN, f32::INFINITY] {
            let logits = Tensor::from_slice(&[1.0, wrong, 2.0]);
            for temperature in [0.0, 1.0] {
                let sampling = Sampling { temperature, ..GREEDY };
                assert_eq!(choose(&logits, sampling, &mut chance), None);
            }
        }
        let banned = Tensor::from_slice(&[1.0, f32::NEG_INFINITY, 2.0]);
        assert_eq!(choose(&banned, GREEDY, &mut chance), Some(2));
    }

    #[test]
    fn chance_follows_the_probabilities_and_the_seed() {
        let logits = Tensor::from_slice(&[0.5_f32.ln(), 0.3_f32.ln(), 0.2_f32.ln()]);
        let counts = |top_p: f64, temperature: f64, seed: u64| {
            let sampling = Sampling { temperature, top_p, seed };
            let mut chance = RandomStream::new(seed, "test");
            let mut counts = [0_u32; 3];
            let mut draw = || choose(&logits, sampling, &mut chance).unwrap() as usize;
            (0..4000).for_each(|_| counts[draw()] += 1);
            counts
        };
        // Four standard errors of a share are at most 0.032.
        for (count, p) in counts(1.0, 1.0, 1).into_iter().zip([0.5, 0.3, 0.2]) {
            assert!((f64::from(count) / 4000.0 - p).abs() < 0.032, "{count} for {p}");
        }
        // 0.5 falls short of 0.6, so the second is in, and the third is not.
        let [first, second, third] = counts(0.6, 1.0, 1);
        assert!(third == 0 && (f64::from(first) / 4000.0 - 0.625).abs() < 0.032 && second > 0);
        assert_eq!(counts(0.4, 1.0, 1), [4000, 0, 0]);
        for cold in [0.01, 1e-310] {
            assert_eq!(counts(1.0, cold, 1), [4000, 0, 0], "cold is greedy");
        }
        assert_eq!(counts(1.0, 1.0, 2), counts(1.0, 1.0, 2));
        assert_ne!(counts(1.0, 1.0, 2), counts(1.0, 1.0, 3));
    }
}
