//! What the processor's multiply-adds of vectors reach where nothing has to be loaded, and what libtorch's products
//! reach beside it, in TFLOP/s on all of libtorch's threads: `cargo bench -p neutral-torch --bench peak`.
//!
//! Without a matrix unit (AMX, which has no row here) nothing can multiply faster than the first of the two.
#![cfg_attr(target_arch = "x86_64", expect(unsafe_code, reason = "the instructions themselves"))]
#![expect(clippy::print_stdout, reason = "its table")]

#[cfg(target_arch = "x86_64")]
fn main() {
    println!("{:?}", neutral_torch::cpu_features());
    println!("precision  registers alone  2,048³ by libtorch");
    let bf16_is_there = is_x86_feature_detected!("avx512bf16");
    for (name, kind, is_there, body, terms) in [
        ("fp32", tch::Kind::Float, true, registers::fp32 as registers::Body, 1),
        ("bf16", tch::Kind::BFloat16, bf16_is_there, registers::bf16, 2),
    ] {
        if is_there && is_x86_feature_detected!("avx512f") {
            let peak = registers::tflops(body, terms);
            println!("{name:<9}  {peak:>15.3}  {:>18.3}", product_tflops(kind));
        } else {
            println!("{name:<9}  no such instruction");
        }
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn main() {
    println!("this bench knows the instructions of x86-64 alone");
}

/// The best of several, as whatever else runs only slows one down.
#[cfg(target_arch = "x86_64")]
fn best_seconds(mut work: impl FnMut()) -> f64 {
    let once = |_| {
        let start = std::time::Instant::now();
        work();
        start.elapsed().as_secs_f64()
    };
    (0..20).map(once).fold(f64::INFINITY, f64::min)
}

#[cfg(target_arch = "x86_64")]
fn product_tflops(kind: tch::Kind) -> f64 {
    let n = 2048;
    let square = || tch::Tensor::randn([n, n], (tch::Kind::Float, tch::Device::Cpu)).to_kind(kind);
    let (left, right) = (square(), square());
    let seconds = best_seconds(|| drop(std::hint::black_box(left.matmul(&right))));
    2.0 * (n as f64).powi(3) / seconds / 1e12
}

#[cfg(target_arch = "x86_64")]
mod registers {
    use std::arch::x86_64::{
        __m512, __m512bh, _mm512_add_ps, _mm512_dpbf16_ps, _mm512_fmadd_ps, _mm512_reduce_add_ps,
        _mm512_set1_ps,
    };
    use std::hint::black_box;

    /// So many rounds of a multiply-add to each of [`SUMS`] registers; what it returns keeps them from being left
    /// out.
    pub(crate) type Body = unsafe fn(usize) -> f32;

    /// More than a multiply-add's latency times those that can begin in a cycle.
    const SUMS: usize = 16;
    const LANES: usize = 16;
    const ROUNDS: usize = 4_000_000;

    /// `terms` is how many products a lane of an instruction adds.
    pub(crate) fn tflops(body: Body, terms: usize) -> f64 {
        let threads = neutral_torch::threads();
        let seconds = super::best_seconds(|| {
            std::thread::scope(|scope| {
                for _ in 0..threads {
                    // SAFETY: the caller has looked for the instructions.
                    scope.spawn(|| black_box(unsafe { body(ROUNDS) }));
                }
            });
        });
        (2 * threads * ROUNDS * SUMS * LANES * terms) as f64 / seconds / 1e12
    }

    macro_rules! body {
        ($name:ident, $features:literal, |$sum:ident, $factor:ident| $multiply_add:expr) => {
            #[target_feature(enable = $features)]
            pub(crate) fn $name(rounds: usize) -> f32 {
                // Each by itself, or they would be one.
                let mut sums: [__m512; SUMS] =
                    std::array::from_fn(|_| black_box(_mm512_set1_ps(0.5)));
                let $factor = black_box(_mm512_set1_ps(0.5));
                for _ in 0..rounds {
                    for place in &mut sums {
                        let $sum = *place;
                        *place = $multiply_add;
                    }
                }
                let mut all = sums[0];
                for sum in &sums[1..] {
                    all = _mm512_add_ps(all, *sum);
                }
                _mm512_reduce_add_ps(all)
            }
        };
    }

    body!(fp32, "avx512f", |sum, factor| _mm512_fmadd_ps(factor, factor, sum));
    body!(bf16, "avx512f,avx512bf16", |sum, factor| {
        // SAFETY: a register's bits, which are pairs of bf16 too.
        let pairs = unsafe { std::mem::transmute::<__m512, __m512bh>(factor) };
        _mm512_dpbf16_ps(sum, pairs, pairs)
    });
}
