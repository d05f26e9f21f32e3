//! The two kinds of number that kernels read and write; all arithmetic is fp32.

use tch::{Kind, Tensor};

/// A number in memory.
pub(crate) trait Element: Copy + Send + Sync + 'static {
    /// What libtorch calls it.
    const KIND: Kind;
    /// How many of them are multiplied at once by a product instruction: one fp32, a pair of bf16.
    const GROUP: usize;
    /// Widened, exactly.
    fn to_f32(self) -> f32;
    /// Rounded to the nearest, to even on a tie.
    fn from_f32(x: f32) -> Self;
    /// A group of numbers, of which the two are the first and the last, as one word of 32 bits.
    fn join(first: Self, last: Self) -> u32;
}

impl Element for f32 {
    const KIND: Kind = Kind::Float;
    const GROUP: usize = 1;
    #[inline(always)]
    fn to_f32(self) -> f32 {
        self
    }
    #[inline(always)]
    fn from_f32(x: f32) -> Self {
        x
    }
    #[inline(always)]
    fn join(first: Self, _: Self) -> u32 {
        first.to_bits()
    }
}

/// bfloat16: the upper half of an fp32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub(crate) struct Bf16(pub(crate) u16);

impl Element for Bf16 {
    const KIND: Kind = Kind::BFloat16;
    const GROUP: usize = 2;
    #[inline(always)]
    fn to_f32(self) -> f32 {
        f32::from_bits(u32::from(self.0) << 16)
    }
    #[inline(always)]
    fn from_f32(x: f32) -> Self {
        // A NaN that arithmetic makes stays one: it is quiet, and its payload not full.
        let bits = x.to_bits();
        Self((bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16) as u16)
    }
    #[inline(always)]
    fn join(first: Self, last: Self) -> u32 {
        u32::from(first.0) | u32::from(last.0) << 16
    }
}

/// The numbers of a contiguous CPU tensor.
///
/// # Panics
/// If it is of another kind, lives elsewhere or is not contiguous.
pub(crate) fn numbers<T: Element>(tensor: &Tensor) -> &[T] {
    check::<T>(tensor);
    if tensor.numel() == 0 {
        return &[];
    }
    #[expect(unsafe_code, reason = "libtorch's memory as a slice")]
    // SAFETY: checked; the slice lives no longer than the handle, which keeps the memory.
    unsafe {
        std::slice::from_raw_parts(tensor.data_ptr().cast_const().cast(), tensor.numel())
    }
}

/// The numbers of a contiguous CPU tensor, to write; for tensors that a kernel has just made.
///
/// # Panics
/// As [`numbers`].
pub(crate) fn numbers_mut<T: Element>(tensor: &mut Tensor) -> &mut [T] {
    check::<T>(tensor);
    if tensor.numel() == 0 {
        return &mut [];
    }
    #[expect(unsafe_code, reason = "libtorch's memory as a slice")]
    // SAFETY: checked; the caller has the only handle in use.
    unsafe {
        std::slice::from_raw_parts_mut(tensor.data_ptr().cast(), tensor.numel())
    }
}

/// The memory of a contiguous CPU tensor that has just been made, to fill.
///
/// # Panics
/// If it lives elsewhere or is not contiguous.
pub(crate) fn bytes_mut(tensor: &mut Tensor) -> &mut [u8] {
    assert_eq!(tensor.device(), tch::Device::Cpu);
    assert!(tensor.is_contiguous());
    let len = tensor.numel() * tensor.kind().elt_size_in_bytes();
    if len == 0 {
        return &mut [];
    }
    #[expect(unsafe_code, reason = "libtorch's memory as a slice")]
    // SAFETY: checked; the caller has the only handle in use, and any byte is a valid number, if not a truth.
    unsafe {
        std::slice::from_raw_parts_mut(tensor.data_ptr().cast(), len)
    }
}

fn check<T: Element>(tensor: &Tensor) {
    assert_eq!(tensor.kind(), T::KIND);
    assert_eq!(tensor.device(), tch::Device::Cpu);
    assert!(tensor.is_contiguous());
}

/// Memory that several threads write, each its own part.
#[derive(Clone, Copy)]
pub(crate) struct Parts<T>(*mut T, usize);

#[expect(unsafe_code, reason = "threads write disjoint parts")]
// SAFETY: `Parts::get` makes the caller promise that parts are disjoint.
unsafe impl<T: Send> Send for Parts<T> {}
#[expect(unsafe_code, reason = "threads write disjoint parts")]
// SAFETY: as above.
unsafe impl<T: Send> Sync for Parts<T> {}

impl<T> Parts<T> {
    pub(crate) fn new(all: &mut [T]) -> Self {
        Self(all.as_mut_ptr(), all.len())
    }

    /// A part, to write.
    ///
    /// # Safety
    /// No two parts that are in use at a time overlap, and all lie within the life of the slice.
    #[expect(unsafe_code, reason = "threads write disjoint parts")]
    #[expect(clippy::mut_from_ref, reason = "the point of the type")]
    #[inline(always)]
    pub(crate) unsafe fn get(&self, start: usize, len: usize) -> &mut [T] {
        assert!(start + len <= self.1);
        // SAFETY: within the slice; disjoint, as the caller promises.
        unsafe { std::slice::from_raw_parts_mut(self.0.add(start), len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bf16_rounds_as_libtorch_does() {
        let x: Vec<f32> = (0..100_000)
            .map(|i: u32| f32::from_bits(i.wrapping_mul(2_654_435_761)))
            .chain([0.0, -0.0, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, f32::MIN_POSITIVE])
            .collect();
        let theirs = Tensor::from_slice(&x).to_kind(Kind::BFloat16);
        for (&x, &theirs) in x.iter().zip(numbers::<Bf16>(&theirs)) {
            let ours = Bf16::from_f32(x);
            // Arithmetic makes quiet NaNs, and none with a full payload.
            let (quiet, full) = (0x40_0000, 0x7fff_0000);
            let made = x.to_bits() & quiet != 0 && x.to_bits() & full != full;
            assert!(ours == theirs || (x.is_nan() && (ours.to_f32().is_nan() || !made)), "{x}");
        }
    }
}
