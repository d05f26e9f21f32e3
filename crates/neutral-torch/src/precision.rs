//! The kind of number that matrix products are computed in.

use neutral_spec::Precision;
use tch::Kind;

/// libtorch's name for a precision.
pub fn kind_of(precision: Precision) -> Kind {
    match precision {
        Precision::Bf16 => Kind::BFloat16,
        Precision::Fp32 => Kind::Float,
        Precision::Fp64 => Kind::Double,
    }
}
