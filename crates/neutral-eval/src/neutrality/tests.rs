//! [`compare`] and [`trace`] against a plain loop: one context at a time, probabilities in f64.

use std::sync::atomic::AtomicBool;

use indicatif::ProgressBar;
use neutral_data::EvalDocument;
use neutral_model::{Before, Branch, BranchOutput, Extension, Gate, Transformer};
use neutral_spec::{Placement, Precision};
use neutral_torch::ParamStore;
use tch::{Device, Kind, Tensor};

use super::{Distribution, Divergence, NeutralPrefixes, compare, trace};
use crate::EvalError;
use crate::tests::{branches, close, context, documents, forward, last, model, options};

/// `x` behind a gate of the same value everywhere; what is added need not be what the gate says.
struct Constant {
    gate: f64,
    added: f64,
}

impl Branch for Constant {
    fn forward(&self, x_btd: &Tensor, _: &mut Before) -> BranchOutput {
        let value = x_btd.narrow(-1, 0, 1).full_like(self.gate);
        let gate = Gate { logit: value.shallow_clone(), unrounded: value.shallow_clone(), value };
        BranchOutput { output_btd: x_btd * self.added, watched_btd: None, gate: Some(gate) }
    }
}

fn constant(gate: f64, added: f64) -> Extension {
    let mut extension = Extension::new(ParamStore::new(Device::Cpu));
    for block in 0..2 {
        extension.add_branch(block, Placement::Ffn, Box::new(Constant { gate, added }));
    }
    extension
}

fn compared(model: &Transformer, extension: &Extension, tokens_per_batch: usize) -> Divergence {
    let options = options(tokens_per_batch);
    let bar = ProgressBar::hidden();
    let (base, stop) = ((model, &Extension::none()), AtomicBool::new(false));
    compare(base, (model, extension), &documents(), &options, &stop, &bar).unwrap()
}

const ALL_NEUTRAL: NeutralPrefixes = NeutralPrefixes { fraction: 1.0, tokens: 63, violations: 0 };

#[test]
fn a_shut_extension_is_its_base_bit_for_bit() {
    for precision in [Precision::Fp32, Precision::Bf16] {
        let model = model(precision);
        for tokens_per_batch in [1, 20, 10_000] {
            let found = compared(&model, &constant(0.0, 0.0), tokens_per_batch);
            assert_eq!(found.neutral_prefixes, Some(ALL_NEUTRAL));
            assert_eq!(found.kl_nats, Distribution::default());
            assert_eq!((found.tokens, found.top1_agreement), (63, 1.0));
            assert_eq!(found.same_bits_fraction, 1.0);
            let zeros: Vec<_> = found.gates.iter().map(|g| (g.block, g.zero_fraction)).collect();
            assert_eq!(zeros, [(0, 1.0), (1, 1.0)]);
        }
    }
}

#[test]
fn a_shut_extension_upon_another_is_that_one_bit_for_bit() {
    let model = model(Precision::Bf16);
    let below = || constant(1.0, 0.25);
    let shut = constant(0.0, 0.0).upon(below());
    let beside = |base: &Extension| {
        let bar = ProgressBar::hidden();
        let stop = AtomicBool::new(false);
        compare((&model, base), (&model, &shut), &documents(), &options(64), &stop, &bar).unwrap()
    };
    let found = beside(&below());
    assert_eq!(found.neutral_prefixes, Some(ALL_NEUTRAL));
    assert_eq!((found.kl_nats.max, found.same_bits_fraction), (0.0, 1.0));
    assert!(beside(&Extension::none()).kl_nats.p50 > 0.0);
}

#[test]
fn without_branches_there_are_no_prefixes_to_speak_of() {
    let found = compared(&model(Precision::Fp32), &Extension::none(), 64);
    assert_eq!((found.neutral_prefixes, found.gates), (None, vec![]));
    assert_eq!((found.kl_nats.max, found.same_bits_fraction), (0.0, 1.0));
}

#[test]
fn a_gate_that_says_shut_and_lets_something_through_is_a_violation() {
    let found = compared(&model(Precision::Fp32), &constant(0.0, 0.25), 64);
    let expected = NeutralPrefixes { violations: 63, ..ALL_NEUTRAL };
    assert_eq!(found.neutral_prefixes, Some(expected));
    assert!(found.kl_nats.p50 > 0.0 && found.same_bits_fraction < 1.0);
}

/// `ln p` of every token after a context.
fn log_p(model: &Transformer, extension: &Extension, context: &[i64]) -> Vec<f64> {
    let logits =
        last(&tch::no_grad(|| model.logits(&forward(model, extension, context).hidden_btd)));
    let normaliser = logits.iter().map(|logit| logit.exp()).sum::<f64>().ln();
    logits.iter().map(|logit| logit - normaliser).collect()
}

fn top(log_p: &[f64]) -> usize {
    (0..log_p.len()).max_by(|&a, &b| log_p[a].total_cmp(&log_p[b])).unwrap()
}

/// KL, agreement, and whether all gates have been shut, of the token after a context.
fn reference(model: &Transformer, extension: &Extension, context: &[i64]) -> (f64, bool, bool) {
    let [p, q] = [&Extension::none(), extension].map(|e| log_p(model, e, context));
    let kl = p.iter().zip(&q).map(|(p, q)| p.exp() * (p - q)).sum();
    let residues = forward(model, extension, context).residues;
    let gates = residues.into_iter().filter_map(|residue| residue.gate);
    let open: i64 = gates.map(|gate| gate.value.ne(0.0).sum(Kind::Int64).int64_value(&[])).sum();
    (kl, top(&p) == top(&q), open == 0)
}

#[test]
fn divergence_is_that_of_a_plain_loop() {
    let (model, extension) = (model(Precision::Fp32), branches(true));
    let (mut kl, mut same, mut neutral) = (vec![], 0, 0);
    for EvalDocument { tokens, .. } in documents() {
        for at in 0..tokens.len() {
            let (nats, agrees, shut) = reference(&model, &extension, &context(&tokens, at));
            kl.push(nats);
            same += u64::from(agrees);
            neutral += u64::from(shut);
        }
    }
    assert!(neutral > 0 && neutral < 63 && same < 63, "{neutral} {same}: the test sees nothing");
    let expected = Distribution::of(kl);
    for tokens_per_batch in [1, 64] {
        let found = compared(&model, &extension, tokens_per_batch);
        for (found, expected) in [
            (found.kl_nats.mean, expected.mean),
            (found.kl_nats.p50, expected.p50),
            (found.kl_nats.p90, expected.p90),
            (found.kl_nats.p99, expected.p99),
            (found.kl_nats.max, expected.max),
        ] {
            assert!(expected > 0.0 && close(found, expected, 1e-4), "{found} {expected}");
        }
        assert!(close(found.top1_agreement, same as f64 / 63.0, 1e-12));
        let prefixes = found.neutral_prefixes.unwrap();
        assert_eq!((prefixes.tokens, prefixes.violations), (neutral, 0));
        assert!(found.same_bits_fraction >= prefixes.fraction);
        for gates in &found.gates {
            assert_eq!(gates.histogram.total(), 63);
            assert!(close(gates.zero_fraction, gates.histogram.zero as f64 / 63.0, 1e-12));
        }
    }
}

#[test]
fn a_trace_says_what_happens_where_each_token_is_read() {
    let (model, extension) = (model(Precision::Fp32), branches(true));
    let document = &documents()[5];
    let traced = |extension: &Extension, most| {
        trace((&model, &Extension::none()), (&model, extension), document, &options(64), most)
            .unwrap()
    };
    // A window reads 8 tokens, the separator first.
    assert_eq!(traced(&extension, 300).len(), 7);
    let found = traced(&extension, 5);
    assert_eq!(found.len(), 5);
    for (i, token) in found.iter().enumerate() {
        let context = context(&document.tokens, i + 1);
        assert_eq!(i64::from(token.token), *context.last().unwrap());
        let (kl, ..) = reference(&model, &extension, &context);
        assert!((token.kl_nats - kl).abs() <= 1e-4 * kl + 1e-9, "{i}: {} {kl}", token.kl_nats);
        let residues = forward(&model, &extension, &context).residues;
        let gates: Vec<f64> =
            residues.iter().map(|r| last(&r.gate.as_ref().unwrap().value)[0]).collect();
        let open = gates.iter().filter(|gate| **gate != 0.0).count() as f64 / 2.0;
        assert_eq!(token.open_gates, Some(open));
        assert!(close(token.mean_gate.unwrap(), gates.iter().sum::<f64>() / 2.0, 1e-5));
    }
    assert!(
        traced(&branches(false), 5).iter().all(|t| (t.open_gates, t.mean_gate) == (None, None))
    );
}

#[test]
fn what_cannot_be_compared_is_an_error_that_names_the_document() {
    let model = model(Precision::Fp32);
    let run = |extension: &Extension, documents: &[EvalDocument]| {
        let bar = ProgressBar::hidden();
        let (base, stop) = ((&model, &Extension::none()), AtomicBool::new(documents.len() == 1));
        compare(base, (&model, extension), documents, &options(64), &stop, &bar).unwrap_err()
    };
    let error = run(&constant(1.0, 0.0), &documents()[..1]);
    assert!(matches!(error, EvalError::Interrupted), "{error}");
    let error = run(&constant(1.0, f64::INFINITY), &documents());
    assert!(
        matches!(&error, EvalError::NonFinite { id, .. } if id.starts_with("page-")),
        "{error}"
    );
    let error = run(&Extension::none(), &[]);
    assert!(matches!(error, EvalError::NothingToScore { documents: 0 }), "{error}");
}
