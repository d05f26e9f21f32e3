//! Every fused function beside libtorch's own operations for the same work, at the tiny shape
//! (8 × 512 tokens): `cargo bench -p neutral-torch [-- FILTER]`.
//!
//! Names are `function/precision/fused` and `…/libtorch`. All but those that say `forward` run
//! forward and backward; inputs are tracked as they are over a frozen base.

use std::time::Duration;

use criterion::Criterion;
use neutral_torch::fused::{
    AdamWStep, Heads, NormRule, Scores, adamw, attention, join_rows, linear_cross_entropy,
    rms_norm, scale_rows, swiglu_packed,
};
use neutral_torch::{RandomStream, attach};
use tch::{Device, Kind, Reduction, Tensor};

const BATCH: i64 = 8;
const LENGTH: i64 = 512;
const WIDTH: i64 = 256;
const FFN: i64 = 704;
const VOCAB: i64 = 8192;
const HEADS: Heads = Heads { query: 4, key_value: 4, width: 64 };
const SCORES: Scores = Scores { scale: 0.125, softcap: None };
const EPSILON: f64 = 1e-5;
const RULE: NormRule = NormRule { epsilon: EPSILON, unit_offset: false };

fn main() {
    // Short: a stable figure of each pair in about a minute is worth more than digits.
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_millis(1500))
        .without_plots()
        .configure_from_args();
    for kind in [Kind::BFloat16, Kind::Float] {
        norm(&mut criterion, kind);
        glu(&mut criterion, kind);
        gate(&mut criterion, kind);
        join(&mut criterion, kind);
        heads(&mut criterion, kind);
        loss(&mut criterion, kind);
    }
    update(&mut criterion);
    criterion.final_summary();
}

fn normal(name: &str, shape: &[i64], kind: Kind) -> Tensor {
    RandomStream::new(0, name).normal(shape, 1.0, Device::Cpu).to_kind(kind)
}

fn tracked(name: &str, shape: &[i64], kind: Kind) -> Tensor {
    normal(name, shape, kind).set_requires_grad(true)
}

/// Times both forms of a function.
fn pair(
    criterion: &mut Criterion,
    name: &str,
    kind: Kind,
    fused: impl Fn() -> Vec<Tensor>,
    libtorch: impl Fn() -> Vec<Tensor>,
) {
    let precision = if kind == Kind::BFloat16 { "bf16" } else { "fp32" };
    let mut group = criterion.benchmark_group(format!("{name}/{precision}"));
    group.bench_function("fused", |b| b.iter(&fused));
    group.bench_function("libtorch", |b| b.iter(&libtorch));
    group.finish();
}

/// Gradients of `inputs`, where `seed` is that of `output`: handed over by a node of its own, since
/// a sum to differentiate would cost as much as what is timed.
fn backward(output: &Tensor, seed: &Tensor, inputs: &[&Tensor]) -> Vec<Tensor> {
    let end = Tensor::zeros([], (Kind::Float, Device::Cpu));
    let seed = seed.shallow_clone();
    attach("end", &[output], &[&end], move |_| vec![Some(seed)]);
    Tensor::run_backward(&[&end], inputs, false, false)
}

fn norm(criterion: &mut Criterion, kind: Kind) {
    let shape = [BATCH, LENGTH, WIDTH];
    let (x, added) = (tracked("x", &shape, kind), tracked("added", &shape, kind));
    let (weight, seed) = (normal("weight", &[WIDTH], kind), normal("seed", &shape, kind));
    pair(
        criterion,
        "rms_norm",
        kind,
        || backward(&rms_norm(&x, &[&added], &weight, RULE).1, &seed, &[&x, &added]),
        || {
            let sum = (&x + &added).to_kind(Kind::Float);
            let normalised = sum.rms_norm([WIDTH], None::<Tensor>, EPSILON);
            backward(&(normalised.to_kind(kind) * &weight), &seed, &[&x, &added])
        },
    );
}

fn glu(criterion: &mut Criterion, kind: Kind) {
    let gate_up = tracked("gate_up", &[BATCH, LENGTH, 2 * FFN], kind);
    let seed = normal("seed", &[BATCH, LENGTH, FFN], kind);
    pair(
        criterion,
        "swiglu_packed",
        kind,
        || backward(&swiglu_packed(&gate_up), &seed, &[&gate_up]),
        || {
            let halves = gate_up.chunk(2, -1);
            backward(&(halves[0].silu() * &halves[1]), &seed, &[&gate_up])
        },
    );
}

fn gate(criterion: &mut Criterion, kind: Kind) {
    let shape = [BATCH, LENGTH, WIDTH];
    let (g, x) = (tracked("g", &[BATCH, LENGTH, 1], kind), tracked("x", &shape, kind));
    let seed = normal("seed", &shape, kind);
    pair(
        criterion,
        "scale_rows",
        kind,
        || backward(&scale_rows(&g, &x)[0], &seed, &[&g, &x]),
        || backward(&(&g * &x), &seed, &[&g, &x]),
    );
}

fn join(criterion: &mut Criterion, kind: Kind) {
    let [gate, up] = ["gate", "up"].map(|name| tracked(name, &[FFN, WIDTH], Kind::Float));
    let seed = normal("seed", &[2 * FFN, WIDTH], kind);
    pair(
        criterion,
        "join_rows",
        kind,
        || backward(&join_rows(&[&gate, &up], kind), &seed, &[&gate, &up]),
        || {
            let both = Tensor::cat(&[gate.to_kind(kind), up.to_kind(kind)], 0);
            backward(&both, &seed, &[&gate, &up])
        },
    );
}

fn heads(criterion: &mut Criterion, kind: Kind) {
    let qkv = tracked("qkv", &[BATCH, LENGTH, 3 * WIDTH], kind);
    let seed = normal("seed", &[BATCH, LENGTH, WIDTH], kind);
    let half = HEADS.width as i64 / 2;
    let frequencies =
        (Tensor::arange(half, (Kind::Float, Device::Cpu)) * (-10_000_f64.ln() / half as f64)).exp();
    let angles = Tensor::arange(LENGTH, (Kind::Float, Device::Cpu)).outer(&frequencies);
    let (cos, sin) = (angles.cos(), angles.sin());
    let fused = || attention(&[&qkv], HEADS, SCORES, [&cos, &sin], None);
    let libtorch = || rotated_attention(&qkv, [&cos, &sin]);
    pair(criterion, "attention forward", kind, || vec![fused()], || vec![libtorch()]);
    pair(
        criterion,
        "attention",
        kind,
        || backward(&fused(), &seed, &[&qkv]),
        || backward(&libtorch(), &seed, &[&qkv]),
    );
}

fn rotated_attention(qkv: &Tensor, [cos, sin]: [&Tensor; 2]) -> Tensor {
    let kind = qkv.kind();
    let head = |x: &Tensor| x.view([BATCH, LENGTH, -1, HEADS.width as i64]);
    let rotated = |x: &Tensor| {
        let halves = head(x).to_kind(Kind::Float).chunk(2, -1);
        let (cos, sin) = (cos.unsqueeze(1), sin.unsqueeze(1));
        let first = &halves[0] * &cos - &halves[1] * &sin;
        let second = &halves[1] * &cos + &halves[0] * &sin;
        Tensor::cat(&[first, second], -1).to_kind(kind).transpose(1, 2)
    };
    let parts = qkv.split(WIDTH, -1);
    let (q, k, v) = (rotated(&parts[0]), rotated(&parts[1]), head(&parts[2]).transpose(1, 2));
    Tensor::scaled_dot_product_attention(&q, &k, &v, None::<&Tensor>, 0.0, true, None, false)
        .transpose(1, 2)
        .reshape([BATCH, LENGTH, WIDTH])
}

fn loss(criterion: &mut Criterion, kind: Kind) {
    let hidden = tracked("hidden", &[BATCH * LENGTH, WIDTH], kind);
    let head = normal("head", &[VOCAB, WIDTH], kind);
    let targets = (Tensor::arange(BATCH * LENGTH, (Kind::Int64, Device::Cpu)) * 5).remainder(VOCAB);
    pair(
        criterion,
        "linear_cross_entropy, frozen head",
        kind,
        || {
            Tensor::run_backward(
                &[linear_cross_entropy(&hidden, &head, &targets, None).0],
                &[&hidden],
                false,
                false,
            )
        },
        || {
            let logits = hidden.linear(&head, None::<&Tensor>).to_kind(Kind::Float);
            let sum =
                logits.cross_entropy_loss(&targets, None::<Tensor>, Reduction::Sum, -100, 0.0);
            Tensor::run_backward(&[sum], &[&hidden], false, false)
        },
    );
}

/// Masters are fp32 whatever a model computes in. tch does not reach libtorch's fused optimizer, so
/// that beside ours are the operations of the formula.
fn update(criterion: &mut Criterion) {
    let tensor = |name: &str| normal(name, &[2 * FFN, WIDTH], Kind::Float);
    let start = || [tensor("weight"), tensor("first"), tensor("second").square()];
    let gradient = tensor("gradient");
    let step = AdamWStep {
        gradient_scale: 0.5,
        beta1: 0.9,
        beta2: 0.95,
        step_size: 1e-4,
        epsilon: 1e-8,
        keep: 0.999,
    };
    let (ours, theirs) = (start(), start());
    pair(
        criterion,
        "adamw",
        Kind::Float,
        || {
            let [mut weight, mut first, mut second] = ours.each_ref().map(Tensor::shallow_clone);
            adamw(&mut weight, &mut first, &mut second, &gradient, &step);
            Vec::new()
        },
        || {
            let [mut weight, mut first, mut second] = theirs.each_ref().map(Tensor::shallow_clone);
            let gradient = &gradient * step.gradient_scale;
            let _ = first.lerp_(&gradient, 1.0 - step.beta1);
            let _ = second.lerp_(&gradient.square(), 1.0 - step.beta2);
            let _ = weight.g_mul_scalar_(step.keep);
            let denominator = second.sqrt().g_add_scalar_(step.epsilon);
            let _ = weight.addcdiv_(&(&first * -step.step_size), &denominator);
            Vec::new()
        },
    );
}
