//! Who owns which tensor's moments, and flat broadcasts of many tensors.

use neutral_torch::{Group, TorchError};
use tch::{Device, Kind, Tensor, no_grad};

/// Numbers of one broadcast, 16 MiB in fp32; a tensor that is larger goes alone.
const AT_ONCE: i64 = 1 << 22;

/// The owner of each tensor: from the largest on, each goes to the rank that has the least so far.
pub(super) fn owners(numels: &[i64], ranks: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..numels.len()).collect();
    order.sort_by_key(|&tensor| std::cmp::Reverse(numels[tensor]));
    let mut loads = vec![0; ranks];
    let mut owners = vec![0; numels.len()];
    for tensor in order {
        let lightest = (0..ranks).min_by_key(|&rank| loads[rank]).unwrap_or_default();
        owners[tensor] = lightest;
        loads[lightest] += numels[tensor];
    }
    owners
}

/// A tensor of a broadcast: its numbers, and where they are or go on this process, if anywhere.
pub(super) struct Slot {
    pub(super) numel: i64,
    pub(super) place: Option<Tensor>,
}

impl Slot {
    /// A tensor that this process has.
    pub(super) fn at(tensor: &Tensor) -> Self {
        Self { numel: tensor.numel() as i64, place: Some(tensor.detach()) }
    }
}

/// Copies the slots of rank `from`, all of which have places in fp32, to everybody's places; returns the bytes.
///
/// # Errors
/// That of the collective that failed.
pub(super) fn broadcast(
    group: &Group,
    from: usize,
    slots: &[Slot],
    device: Device,
) -> Result<u64, TorchError> {
    let mut rest = slots;
    let mut bytes = 0;
    while !rest.is_empty() {
        let mut size = 0;
        let fits = |slot: &Slot| {
            size += slot.numel;
            size <= AT_ONCE
        };
        let count = rest.iter().map(fits).take_while(|fits| *fits).count().max(1);
        let (now, later) = rest.split_at(count);
        rest = later;
        bytes += no_grad(|| one(group, from, now, device))?;
    }
    Ok(bytes)
}

fn one(group: &Group, from: usize, slots: &[Slot], device: Device) -> Result<u64, TorchError> {
    let numels: Vec<i64> = slots.iter().map(|slot| slot.numel).collect();
    let total: i64 = numels.iter().sum();
    let flat = Tensor::empty([total], (Kind::Float, device));
    let parts = flat.split_with_sizes(numels.as_slice(), 0);
    let places =
        || slots.iter().zip(&parts).filter_map(|(s, part)| Some((s.place.as_ref()?, part)));
    if group.rank() == from {
        for (place, part) in places() {
            part.view_as(place).copy_(place);
        }
    }
    group.broadcast(&flat, from)?;
    if group.rank() != from {
        for (place, part) in places() {
            place.shallow_clone().copy_(&part.view_as(place));
        }
    }
    Ok(4 * total as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensors_are_dealt_out_evenly_by_size() {
        let numels = [1, 50, 20, 20, 10, 30, 9];
        let owners = owners(&numels, 3);
        let load = |rank| {
            numels.iter().zip(&owners).filter(|(_, o)| **o == rank).map(|(n, _)| n).sum::<i64>()
        };
        assert_eq!([load(0), load(1), load(2)], [50, 49, 41]);
        assert_eq!(super::owners(&numels, 1), [0; 7]);
    }
}
