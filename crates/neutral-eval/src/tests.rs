//! [`score`] against a plain loop: one token at a time, without batch, padding or windows' code.

use std::sync::atomic::AtomicBool;

use indicatif::ProgressBar;
use neutral_data::EvalDocument;
use neutral_model::{
    Attention, Before, Branch, BranchOutput, Extension, Gate, Input, Transformer, TransformerConfig,
};
use neutral_spec::{Placement, Precision, Shape};
use neutral_torch::ParamStore;
use tch::{Device, Kind, Tensor};

use crate::{
    BatchSize, Continuation, CorpusScore, EvalError, ScoreOptions, score, score_continuations,
};

const VOCABULARY: usize = 31;
const SEPARATOR: u32 = 30;
const WINDOW: usize = 8;

pub(crate) fn model(precision: Precision) -> Transformer {
    let shape = Shape {
        d_model: 16,
        n_layers: 2,
        n_heads: 4,
        n_kv_heads: 2,
        d_ff: 24,
        tie_embeddings: false,
        rope_theta: 10_000.0,
        norm_epsilon: 1e-5,
    };
    let config = TransformerConfig::llama(&shape, VOCABULARY);
    let mut model = Transformer::new(config, 7, Device::Cpu, precision).unwrap();
    // At its start a model predicts all tokens alike, and a wrong target would go unnoticed.
    tch::no_grad(|| {
        for (_, weight) in model.params().iter().filter(|(_, weight)| weight.dim() == 2) {
            let _ = weight.shallow_clone().g_mul_scalar_(15.0);
        }
    });
    model.freeze();
    model
}

pub(crate) fn document(id: &str, length: usize) -> EvalDocument {
    let token = |at: usize| ((at * at * 7 + at * 5 + length) % 30) as u32;
    let tokens: Vec<u32> = (0..length).map(token).collect();
    EvalDocument { id: id.to_owned(), tokens, bytes: 3 * length as u64 }
}

/// Shorter than the window, as long, longer, much longer, of one token, and empty.
pub(crate) fn documents() -> Vec<EvalDocument> {
    [3, 8, 9, 1, 0, 21, 16, 5]
        .iter()
        .map(|&length| document(&format!("page-{length}"), length))
        .collect()
}

pub(crate) fn options(tokens_per_batch: usize) -> ScoreOptions {
    let in_every_window = false;
    ScoreOptions { window: WINDOW, separator_id: SEPARATOR, in_every_window, tokens_per_batch }
}

fn scored(
    model: &Transformer,
    extension: &Extension,
    documents: &[EvalDocument],
    tokens_per_batch: usize,
) -> Result<CorpusScore, EvalError> {
    let (options, bar) = (options(tokens_per_batch), ProgressBar::hidden());
    score(model, extension, documents, &options, &AtomicBool::new(false), &bar)
}

pub(crate) fn close(a: f64, b: f64, relative: f64) -> bool {
    (a - b).abs() <= relative * a.abs().max(b.abs())
}

/// What the model reads before it predicts token `at`.
pub(crate) fn context(tokens: &[u32], at: usize) -> Vec<i64> {
    let piece = at / WINDOW;
    let mut context = vec![];
    if piece == 0 {
        context.push(i64::from(SEPARATOR));
        context.extend(tokens[..at].iter().map(|t| i64::from(*t)));
    } else {
        let end = tokens.len().min((piece + 1) * WINDOW);
        context.extend(tokens[end - WINDOW - 1..at].iter().map(|t| i64::from(*t)));
    }
    context
}

pub(crate) fn forward(
    model: &Transformer,
    extension: &Extension,
    context: &[i64],
) -> neutral_model::Output {
    let tokens_bt = Tensor::from_slice(context).unsqueeze(0);
    tch::no_grad(|| model.forward(&Input { tokens_bt, attention: Attention::Causal }, extension))
}

/// Numbers of the last position of `[1, t, c]`.
pub(crate) fn last(x_1tc: &Tensor) -> Vec<f64> {
    let last_c = x_1tc.select(1, -1).view(-1).to_kind(Kind::Double);
    Vec::<f64>::try_from(last_c).unwrap()
}

/// `ln Σ exp − logit`, in f64.
fn reference_nats(model: &Transformer, tokens: &[u32]) -> Vec<f64> {
    let nats = |at| {
        let output = forward(model, &Extension::none(), &context(tokens, at));
        let logits = last(&tch::no_grad(|| model.logits(&output.hidden_btd)));
        let normaliser = logits.iter().map(|logit| logit.exp()).sum::<f64>().ln();
        normaliser - logits[tokens[at] as usize]
    };
    (0..tokens.len()).map(nats).collect()
}

#[test]
fn scores_are_those_of_a_plain_loop() {
    let model = model(Precision::Fp32);
    let (found, mut all) = (scored(&model, &Extension::none(), &documents(), 64).unwrap(), vec![]);
    for (document, score) in documents().iter().zip(&found.per_document) {
        let nats = reference_nats(&model, &document.tokens);
        let sum = nats.iter().sum::<f64>();
        assert!(close(score.nats, sum, 1e-5), "{}: {} but {sum}", document.id, score.nats);
        assert_eq!((&score.id, score.bytes), (&document.id, document.bytes));
        assert_eq!(score.tokens as usize, document.tokens.len());
        all.extend(nats);
    }
    let (least, most) = all.iter().fold((f64::MAX, 0_f64), |(a, b), x| (a.min(*x), b.max(*x)));
    assert!(most > least + 2.0, "the model must tell tokens apart, or this test sees nothing");
    let nats = all.iter().sum::<f64>();
    let metrics = found.metrics;
    assert_eq!((metrics.tokens, metrics.bytes), (63, 189));
    assert!(close(metrics.bits_per_byte, nats / 189.0 / 2_f64.ln(), 1e-5));
    assert!(close(metrics.nats_per_token, nats / 63.0, 1e-5));
    assert!(close(metrics.perplexity, (nats / 63.0).exp(), 1e-4));
    assert_eq!(found.neutrality, None);
}

/// The largest relative difference of a document's score between two scorings.
fn largest_difference(a: &CorpusScore, b: &CorpusScore) -> f64 {
    let pairs = a.per_document.iter().zip(&b.per_document).filter(|(a, _)| a.tokens > 0);
    let difference = pairs.map(|(a, b)| (a.nats / b.nats - 1.0).abs());
    difference.inspect(|d| assert!(d.is_finite())).fold(0.0, f64::max)
}

#[test]
fn the_batch_moves_scores_by_rounding_alone() {
    for (precision, most) in [(Precision::Fp32, 1e-5), (Precision::Bf16, 1e-2)] {
        let model = model(precision);
        let one_by_one = scored(&model, &Extension::none(), &documents(), 1).unwrap();
        for tokens_per_batch in [8, 20, 64, 10_000] {
            let batched =
                scored(&model, &Extension::none(), &documents(), tokens_per_batch).unwrap();
            let difference = largest_difference(&one_by_one, &batched);
            assert!(difference < most, "{precision:?}, {tokens_per_batch}: {difference:e}");
        }
    }
}

#[test]
fn a_document_does_not_depend_on_the_others() {
    let model = model(Precision::Fp32);
    let together = scored(&model, &Extension::none(), &documents(), 10_000).unwrap();
    for (document, score) in documents().into_iter().zip(together.per_document) {
        if document.tokens.is_empty() {
            continue;
        }
        let alone = scored(&model, &Extension::none(), &[document], 10_000).unwrap();
        assert!(close(alone.per_document[0].nats, score.nats, 1e-5), "{}", score.id);
    }
}

/// `relu(x₀) · x`, with a gate or without.
struct FirstChannel {
    gated: bool,
}

impl Branch for FirstChannel {
    fn forward(&self, x_btd: &Tensor, _: &mut Before) -> BranchOutput {
        let logit = x_btd.narrow(-1, 0, 1);
        let value = logit.relu();
        let output_btd = &value * x_btd;
        BranchOutput {
            output_btd,
            watched_btd: None,
            gate: self.gated.then_some(Gate { unrounded: value.shallow_clone(), value, logit }),
        }
    }
}

pub(crate) fn branches(gated: bool) -> Extension {
    let mut extension = Extension::new(ParamStore::new(Device::Cpu));
    for block in 0..2 {
        extension.add_branch(block, Placement::Ffn, Box::new(FirstChannel { gated }));
    }
    extension
}

#[test]
fn residues_are_counted_at_scored_tokens_alone() {
    let (model, extension, documents) = (model(Precision::Fp32), branches(true), documents());
    let (mut shut, mut l1) = ([0.0; 2], [0.0; 2]);
    for EvalDocument { tokens, .. } in &documents {
        for at in 0..tokens.len() {
            for residue in forward(&model, &extension, &context(tokens, at)).residues {
                let residue_d = last(&residue.output_btd);
                let all_zero = residue_d.iter().all(|x| *x == 0.0);
                shut[residue.block] += f64::from(u8::from(all_zero)) / 63.0;
                l1[residue.block] += residue_d.iter().map(|x| x.abs()).sum::<f64>() / 16.0 / 63.0;
            }
        }
    }
    assert!(shut.iter().all(|share| (0.2..0.8).contains(share)), "{shut:?}");
    for (gated, tokens_per_batch) in [(true, 1), (true, 64), (false, 64)] {
        let found = scored(&model, &branches(gated), &documents, tokens_per_batch).unwrap();
        let found = found.neutrality.unwrap();
        assert_eq!(found.tokens, 63);
        for block in 0..2 {
            assert!(close(found.gate_zero_fraction_per_block[block], shut[block], 1e-9));
            assert!(close(found.residue_l1_per_block[block], l1[block], 1e-5));
        }
    }
}

#[test]
fn what_cannot_be_scored_is_an_error_that_names_the_document() {
    let model = model(Precision::Fp32);
    let refusal = |change: fn(&mut EvalDocument)| {
        let mut documents = documents();
        change(&mut documents[2]);
        scored(&model, &Extension::none(), &documents, 64).unwrap_err().to_string()
    };
    for message in [
        refusal(|document| document.tokens.clear()),
        refusal(|document| document.bytes = 0),
        refusal(|document| document.tokens[4] = 31),
    ] {
        assert!(message.contains("`page-9`"), "{message}");
    }
    for nothing in [vec![], vec![document("empty", 0)]] {
        let error = scored(&model, &Extension::none(), &nothing, 64).unwrap_err();
        assert!(matches!(error, EvalError::NothingToScore { .. }), "{error}");
    }
}

#[test]
fn a_score_that_is_no_number_is_an_error_that_names_the_document() {
    let model = model(Precision::Fp32);
    // Token 29 stands in one document only, and the head is not tied to the embedding.
    let embedding = model.params().get("model.embed_tokens.weight").unwrap();
    let _ = embedding.get(29).fill_(f64::NAN);
    let mut documents = vec![document("whole", 5), document("broken", 4)];
    documents[1].tokens = vec![1, 29, 2, 3];
    let error = scored(&model, &Extension::none(), &documents, 64).unwrap_err();
    assert!(matches!(&error, EvalError::NonFinite { id, .. } if id == "broken"), "{error}");
}

#[test]
fn options_that_do_not_fit_the_model_are_named() {
    let model = model(Precision::Fp32);
    let refusal = |change: fn(&mut ScoreOptions)| {
        let mut options = options(64);
        change(&mut options);
        score_with(&model, &documents(), &options, false).unwrap_err().to_string()
    };
    assert_eq!(refusal(|o| o.window = 0), "window is 0, expected at least 1");
    assert_eq!(refusal(|o| o.tokens_per_batch = 0), "tokens_per_batch is 0, expected at least 1");
    assert!(refusal(|o| o.separator_id = 31).starts_with("separator_id is 31, expected a token"));
}

#[test]
fn a_stop_is_obeyed_before_the_next_batch() {
    let stopped = score_with(&model(Precision::Fp32), &documents(), &options(64), true);
    assert!(matches!(stopped, Err(EvalError::Interrupted)), "{stopped:?}");
}

/// Scores under the pristine model.
fn score_with(
    model: &Transformer,
    documents: &[EvalDocument],
    options: &ScoreOptions,
    stop: bool,
) -> Result<CorpusScore, EvalError> {
    let (stop, bar) = (AtomicBool::new(stop), ProgressBar::hidden());
    score(model, &Extension::none(), documents, options, &stop, &bar)
}

/// Continuations of texts that share beginnings, of all lengths; two differ in the last token alone.
fn continuations() -> Vec<Continuation> {
    let text = document("text", 40).tokens;
    let request = |from: usize, to: usize, targets: usize, last: u32| {
        let mut targets = text[to + 1 - targets..=to].to_vec();
        *targets.last_mut().unwrap() = last;
        Continuation { input: text[from..to].to_vec(), targets }
    };
    vec![
        request(0, 9, 3, 4),
        request(0, 9, 1, 4),
        request(0, 9, 1, 5),
        request(0, 30, 30, 7),
        request(3, 4, 1, 0),
        request(5, 30, 2, 9),
        request(0, 9, 3, 4),
    ]
}

#[test]
fn a_continuation_scores_what_the_softmax_of_a_plain_pass_says() {
    for (precision, bound) in [(Precision::Fp32, 1e-5), (Precision::Bf16, 0.05)] {
        let model = model(precision);
        for extension in [Extension::none(), branches(true)] {
            let score_of = |requests: &[Continuation], batch_size| {
                let (bar, stop) = (ProgressBar::hidden(), AtomicBool::new(false));
                score_continuations(&model, &extension, requests, batch_size, &stop, &bar).unwrap()
            };
            let score = |batch_size| score_of(&continuations(), batch_size);
            for batch_size in [BatchSize::Auto, BatchSize::Requests(1), BatchSize::Requests(3)] {
                let (scores, work) = score(batch_size);
                for (request, found) in continuations().iter().zip(&scores) {
                    let ids: Vec<i64> = request.input.iter().map(|t| i64::from(*t)).collect();
                    let tokens_bt = Tensor::from_slice(&ids).unsqueeze(0);
                    let input = Input { tokens_bt, attention: Attention::Causal };
                    let hidden = model.forward(&input, &extension).hidden_btd;
                    let log_p = model.logits(&hidden).log_softmax(-1, Kind::Double);
                    let first = ids.len() - request.targets.len();
                    let (mut sum, mut greedy) = (0.0, true);
                    for (at, target) in (first..).zip(&request.targets) {
                        let log_p = log_p.get(0).get(at as i64);
                        sum += log_p.double_value(&[i64::from(*target)]);
                        greedy &= log_p.argmax(-1, false).int64_value(&[]) == i64::from(*target);
                    }
                    let apart = (found.log_likelihood - sum).abs() / sum.abs();
                    assert!(apart < bound, "{precision:?} {batch_size:?}: {apart:.1e}");
                    assert_eq!(found.is_greedy, greedy);
                }
                assert_eq!(work.tokens, 3 * 9 + 30 + 1 + 25 + 9);
                match batch_size {
                    BatchSize::Auto => assert_eq!((work.passes, work.rows), (1, 30 + 1 + 25)),
                    BatchSize::Requests(1) => {
                        assert_eq!((work.passes, work.rows), (7, work.tokens));
                    }
                    BatchSize::Requests(_) => assert_eq!(work.passes, 3),
                }
            }
            // Alone, a request's score is its own to the last bit, whatever else is asked.
            let alone = score(BatchSize::Requests(1)).0;
            for (request, found) in continuations().into_iter().zip(alone) {
                assert_eq!(score_of(&[request], BatchSize::Auto).0, [found]);
            }
        }
    }
}

#[test]
fn requests_that_cannot_be_scored_are_named() {
    let fails = |request: Continuation, stop: bool| {
        let (bar, stop) = (ProgressBar::hidden(), AtomicBool::new(stop));
        let requests = [continuations()[0].clone(), request];
        let model = model(Precision::Fp32);
        score_continuations(&model, &Extension::none(), &requests, BatchSize::Auto, &stop, &bar)
            .unwrap_err()
            .to_string()
    };
    let request = |input: &[u32], targets: &[u32]| Continuation {
        input: input.to_vec(),
        targets: targets.to_vec(),
    };
    let empty = fails(request(&[1, 2], &[]), false);
    assert_eq!(empty, "request 1 has an empty continuation; there is nothing to score");
    let long = fails(request(&[1], &[2, 3]), false);
    assert!(long.contains("request 1 reads 1 tokens and scores 2"), "{long}");
    let unknown = fails(request(&[1, 31], &[2]), false);
    assert!(unknown.contains("request 1 has token 31, but the model knows 31"), "{unknown}");
    assert_eq!(fails(request(&[1], &[2]), true), "interrupted");
}
