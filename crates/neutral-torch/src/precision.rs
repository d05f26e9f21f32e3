//! The kind of number that matrix products are computed in.

use neutral_spec::Precision;
use tch::Kind;

/// The kind that sums over numbers of another are taken in: fp32 for bf16; fp64 stays, which models are scored and
/// gradients checked in.
pub fn sum_kind(kind: Kind) -> Kind {
    if kind == Kind::Double { Kind::Double } else { Kind::Float }
}

/// libtorch's name for a precision.
pub fn kind_of(precision: Precision) -> Kind {
    match precision {
        Precision::Bf16 => Kind::BFloat16,
        Precision::Fp32 => Kind::Float,
        Precision::Fp64 => Kind::Double,
    }
}
