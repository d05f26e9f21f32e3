//! The gradient of a step is that of its loss as the formula has it, weights and denominators included.

use std::f64::consts::PI;

use neutral_data::Domain;
use neutral_model::{Attention, Extension, Gate, Input, Residue, Transformer};
use neutral_spec::{DocumentPolicy, LocalLossSpec, TrainingSpec};
use neutral_torch::ParamStore;
use tch::{Device, Kind, Tensor, no_grad};

use crate::step::{StepSettings, gradients};
use crate::test_support::{BATCH, Fixture, LENGTH, extension, model, stream, training_spec};
use crate::trainer::train_until;
use crate::{Anchor, TrainJob, Trained, train};

const WITHIN: Attention = Attention::WithinDocument { separator_id: 0 };

/// Rows of a mix with three original ones in ten, as tensors.
struct Text {
    tokens_bt: Tensor,
    targets_bt: Tensor,
    original_rows: Tensor,
}

fn text(rows: usize) -> Text {
    text_from(0, rows)
}

fn text_from(first: u64, rows: usize) -> Text {
    let batch = stream(0.3).batch(first, rows);
    let ids = |values: &[u32]| {
        let ids: Vec<i64> = values.iter().map(|&token| i64::from(token)).collect();
        Tensor::from_slice(&ids).view([rows as i64, LENGTH as i64])
    };
    let original = batch.domains.iter().enumerate().filter(|(_, d)| **d == Domain::Original);
    let original: Vec<i64> = original.map(|(row, _)| row as i64).collect();
    Text {
        tokens_bt: ids(&batch.tokens),
        targets_bt: ids(&batch.targets),
        original_rows: Tensor::from_slice(&original),
    }
}

/// Log-probabilities in fp64, `[b, t, v]`, and what branches added.
fn log_probs(
    model: &Transformer,
    extension: &Extension,
    text: &Text,
    attention: Attention,
) -> (Tensor, Vec<Residue>) {
    let input = Input { tokens_bt: text.tokens_bt.shallow_clone(), attention };
    let output = model.forward(&input, extension);
    let logits = model.logits(&output.hidden_btd).to_kind(Kind::Double);
    (logits.log_softmax(-1, Kind::Double), output.residues)
}

/// Mean nats a token.
fn nats(log_probs_btv: &Tensor, text: &Text) -> Tensor {
    -log_probs_btv.gather(-1, &text.targets_bt.unsqueeze(-1), false).mean(Kind::Double)
}

/// What `gradients` gives, some rows at a time, is the gradient of a loss made by hand.
fn assert_gradient(
    model: &Transformer,
    extension: &Extension,
    trained: &ParamStore,
    settings: StepSettings,
    by_hand: &Tensor,
) {
    let parameters: Vec<_> = trained.iter().collect();
    let leaves: Vec<&Tensor> = parameters.iter().map(|(_, leaf)| *leaf).collect();
    let expected = Tensor::run_backward(&[by_hand], &leaves, false, false);
    let batch = stream(0.3).batch(0, 10);
    let found = gradients(model, extension, &parameters, &batch, &settings, None).unwrap();
    for ((found, expected), (name, _)) in found.gradients.iter().zip(&expected).zip(&parameters) {
        let largest = expected.abs().max().double_value(&[]);
        let apart = (found - expected).abs().max().double_value(&[]);
        assert!(largest > 0.0 && apart < 1e-5 * largest, "{name}: {apart:e} of {largest:e}");
    }
}

/// The model with larger weights.
fn scaled(factor: f64) -> Transformer {
    let model = model();
    no_grad(|| {
        for (_, weight) in model.params().iter() {
            let _ = weight.shallow_clone().g_mul_scalar_(factor);
        }
    });
    model
}

fn settings(local_loss: LocalLossSpec, anchor: Anchor<'_>) -> StepSettings<'_> {
    StepSettings {
        local_loss,
        local_weight: local_loss.weight_and_warmup().0,
        anchor,
        attention: WITHIN,
        micro_batch_size: 4,
        stop: false,
    }
}

#[test]
fn the_l1_is_a_mean_over_original_tokens_channels_and_blocks_times_its_weight() {
    let (model, mut extension, text) = (model(), extension(0.3), text(10));
    extension.params_mut().set_trainable(true);
    let (log_probs_btv, residues) = log_probs(&model, &extension, &text, WITHIN);
    let l1 = residues.iter().map(|residue| {
        residue.output_btd.index_select(0, &text.original_rows).abs().mean(Kind::Double)
    });
    let l1 = l1.reduce(|a, b| a + b).unwrap() / residues.len() as f64;
    let by_hand = nats(&log_probs_btv, &text) + 30.0 * l1;
    let settings = settings(LocalLossSpec::l1(30.0), Anchor::None);
    assert_gradient(&model, &extension, extension.params(), settings, &by_hand);
}

/// Those of the gate alone, and the KL where the extension is trained. Their definitions are repeated here.
#[test]
fn other_local_losses_are_means_over_the_tokens_that_they_count() {
    let (model, mut extension, text) = (model(), extension(0.3), text(10));
    extension.params_mut().set_trainable(true);
    let of_base_btv = no_grad(|| log_probs(&model, &Extension::none(), &text, WITHIN).0);
    let is_new = Tensor::ones([10, 1, 1], (Kind::Double, Device::Cpu));
    let is_new = is_new.index_fill(0, &text.original_rows, 0.0);
    // The hard sigmoid's γ and ζ, and β of the noise: σ(z − β ln(−γ/ζ)).
    let l0_shift = 2.0 / 3.0 * 11.0_f64.ln();
    type ByHand<'a> = Box<dyn Fn(&Tensor, &[Residue]) -> Tensor + 'a>;
    let over_gates = |residues: &[Residue], f: &dyn Fn(&Gate) -> Tensor| {
        let gates = residues.iter().map(|residue| f(residue.gate.as_ref().unwrap()));
        gates.reduce(|a, b| a + b).unwrap() / residues.len() as f64
    };
    let original = |x: &Tensor| x.index_select(0, &text.original_rows).to_kind(Kind::Double);
    let (weight, warmup_fraction) = (30.0, None);
    let cases: [(LocalLossSpec, ByHand<'_>); 4] = [
        (
            LocalLossSpec::GateL1 { weight, warmup_fraction },
            Box::new(|_, residues| {
                over_gates(residues, &|gate| original(&gate.unrounded).abs().mean(Kind::Double))
            }),
        ),
        (
            LocalLossSpec::L0 { weight, warmup_fraction },
            Box::new(|_, residues| {
                let open = |gate: &Gate| (original(&gate.logit) + l0_shift).sigmoid();
                over_gates(residues, &|gate| open(gate).mean(Kind::Double))
            }),
        ),
        (
            LocalLossSpec::DomainClassifier { weight, warmup_fraction },
            Box::new(|_, residues| {
                // BCE(z, y) = softplus(z) − y z, over the tokens of both domains.
                let bce = |z: Tensor| z.softplus() - &is_new * z;
                over_gates(residues, &|gate| {
                    bce(gate.logit.to_kind(Kind::Double)).mean(Kind::Double)
                })
            }),
        ),
        (
            LocalLossSpec::Kl { weight, warmup_fraction },
            Box::new(|log_probs_btv, _| {
                let kl_btv = of_base_btv.exp() * (&of_base_btv - log_probs_btv);
                original(&kl_btv).sum(Kind::Double) / (text.original_rows.numel() * LENGTH) as f64
            }),
        ),
    ];
    for (local_loss, of) in &cases {
        let (log_probs_btv, residues) = log_probs(&model, &extension, &text, WITHIN);
        let by_hand = nats(&log_probs_btv, &text) + weight * of(&log_probs_btv, &residues);
        let settings = settings(*local_loss, Anchor::None);
        assert_gradient(&model, &extension, extension.params(), settings, &by_hand);
    }
}

#[test]
fn the_kl_to_the_base_is_a_mean_over_original_tokens_times_its_weight() {
    let (base, mut model, text) = (model(), scaled(1.3), text(10));
    model.make_trainable();
    let none = Extension::none();
    let (log_probs_btv, _) = log_probs(&model, &none, &text, WITHIN);
    let of_base_btv = no_grad(|| log_probs(&base, &none, &text, WITHIN).0);
    let kl_btv = of_base_btv.exp() * (&of_base_btv - &log_probs_btv);
    let kl = kl_btv.index_select(0, &text.original_rows).sum(Kind::Double)
        / (text.original_rows.numel() * LENGTH) as f64;
    let by_hand = nats(&log_probs_btv, &text) + 5.0 * kl;
    let settings = settings(LocalLossSpec::None {}, Anchor::Kl { weight: 5.0, base: &base });
    assert_gradient(&model, &none, model.params(), settings, &by_hand);
}

/// All that a step does and in which order: the rows, the penalty before the clipping, the rate's course, decay
/// and moments. In fp64 by hand, but for the model's own gradient.
#[test]
fn the_steps_of_a_training_are_those_by_hand() {
    let spec = TrainingSpec {
        gradient_clip: 0.05,
        weight_decay: 0.3,
        // So large that a gradient's rounding does not decide the sign of an update.
        epsilon: 1e-3,
        ..training_spec()
    };
    let weight = 2.0;
    let folder = tempfile::tempdir().unwrap();
    let mut fixture = Fixture { spec: spec.clone(), ..Fixture::new(Trained::Base) };
    let job = TrainJob { anchor: Anchor::L2Sp { weight }, ..fixture.job(folder.path()) };
    train_until(job, |step| step == 4).unwrap();

    let mut model = model();
    model.make_trainable();
    let wide = |tensor: &Tensor| tensor.detach().copy().to_kind(Kind::Double);
    let start: Vec<Tensor> = model.params().iter().map(|(_, leaf)| wide(leaf)).collect();
    let mut moments: Vec<_> = start.iter().map(|w| (w.zeros_like(), w.zeros_like())).collect();
    // Warm-up over a quarter of twelve steps, then a cosine down to a tenth.
    let after_warmup = 0.1 + 0.45 * (1.0 + (PI / 9.0).cos());
    let course = [1.0 / 3.0, 2.0 / 3.0, 1.0, after_warmup];
    for (step, share) in (0..).zip(course) {
        let text = text_from(step * BATCH as u64, BATCH);
        let (log_probs_btv, _) = log_probs(&model, &Extension::none(), &text, WITHIN);
        let leaves: Vec<&Tensor> = model.params().iter().map(|(_, leaf)| leaf).collect();
        let of_text = Tensor::run_backward(&[nats(&log_probs_btv, &text)], &leaves, false, false);
        let gradients: Vec<Tensor> = (leaves.iter().zip(&start).zip(&of_text))
            .map(|((leaf, start), gradient)| wide(gradient) + weight * (wide(leaf) - start))
            .collect();
        let squares = gradients.iter().map(|g| g.square().sum(Kind::Double).double_value(&[]));
        let norm = squares.sum::<f64>().sqrt();
        assert!(norm > 0.05, "{norm}: nothing is clipped");
        let (rate, count) = (spec.learning_rate * share, step as i32 + 1);
        for ((leaf, gradient), (m, v)) in leaves.iter().zip(gradients).zip(&mut moments) {
            let g = gradient * (0.05 / norm);
            *m = &*m * spec.beta1 + &g * (1.0 - spec.beta1);
            *v = &*v * spec.beta2 + g.square() * (1.0 - spec.beta2);
            let corrected = (&*v / (1.0 - spec.beta2.powi(count))).sqrt() + spec.epsilon;
            let update = &*m / (1.0 - spec.beta1.powi(count)) / corrected;
            // Norms' gains do not decay.
            let decay = if leaf.dim() > 1 { spec.weight_decay } else { 0.0 };
            let w = wide(leaf);
            no_grad(|| leaf.shallow_clone().copy_(&(&w - (&w * decay + update) * rate)));
        }
    }
    let (found, by_hand) = (fixture.model.params().iter(), model.params().iter());
    for (((name, found), (_, by_hand)), start) in found.zip(by_hand).zip(&start) {
        let largest = |difference: Tensor| difference.abs().max().double_value(&[]);
        let (apart, moved) = (largest(wide(found) - wide(by_hand)), largest(wide(found) - start));
        // And a rounding of a gain near 1.
        assert!(moved > 1e-5 && apart < 1e-4 * moved + 1.2e-7, "{name}: {apart:e} of {moved:e}");
    }
}

#[test]
fn a_training_attends_across_documents_or_within_as_it_is_told() {
    let first_loss = |documents| {
        let folder = tempfile::tempdir().unwrap();
        // So large that attention shows in the loss.
        let mut fixture = Fixture { model: scaled(4.0), ..Fixture::new(Trained::Base) };
        train(TrainJob { documents, ..fixture.job(folder.path()) }).unwrap();
        let log = std::fs::read_to_string(folder.path().join("metrics.jsonl")).unwrap();
        let line: serde_json::Value = serde_json::from_str(log.lines().next().unwrap()).unwrap();
        line["loss_nats_per_token"].as_f64().unwrap()
    };
    let by_hand = |attention| {
        let text = text(BATCH);
        let (log_probs_btv, _) = log_probs(&scaled(4.0), &Extension::none(), &text, attention);
        nats(&log_probs_btv, &text).double_value(&[])
    };
    let (within, across) = (by_hand(WITHIN), by_hand(Attention::Causal));
    assert!((within - across).abs() > 1e-2, "{within} and {across}: the text shows nothing");
    for (policy, expected) in
        [(DocumentPolicy::AttendWithin, within), (DocumentPolicy::AttendAcross, across)]
    {
        let found = first_loss(policy);
        assert!((found - expected).abs() < 1e-4, "{policy:?}: {found} for {expected}");
    }
}
