//! Gradients in flat buckets, summed over all processes while the backward pass still runs.
//!
//! A bucket is reduced as soon as all of its gradients are whole, and always after the bucket before it, so
//! that every process begins the same reductions in the same order. Which gradient comes early is seen in the
//! first step: its order on rank 0 is everybody's from then on (that step is reduced after its backward pass,
//! in the same buckets, so that a resumed run sums as one that never stopped).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use neutral_torch::{GradientHook, Group, Pending, TorchError};
use tch::{Device, Kind, Tensor, no_grad};

use super::Exchange;
use crate::step::add_defined;

/// Numbers of a bucket for each process, 1 MiB in fp32: a ring passes a bucket on in so many pieces, and pieces
/// that are too small are all latency. A tensor that is larger than a bucket has one of its own.
const PIECE: i64 = 1 << 18;
/// Numbers of the first bucket, 256 KiB: the sooner it is full, the sooner the link has work.
const FIRST_BUCKET: i64 = 1 << 16;

/// Where each gradient lies.
#[derive(Debug, PartialEq, Eq)]
struct Layout {
    /// Bucket and offset in it, by leaf.
    places: Vec<(usize, i64)>,
    /// Numbers, by bucket.
    sizes: Vec<i64>,
}

impl Layout {
    /// Buckets for so many processes of leaves of these sizes, in this order of leaves.
    fn new(order: &[usize], numels: &[i64], processes: usize) -> Self {
        let mut layout = Self { places: vec![(0, 0); numels.len()], sizes: Vec::new() };
        for &leaf in order {
            let limit =
                if layout.sizes.len() < 2 { FIRST_BUCKET } else { PIECE * processes as i64 };
            if layout.sizes.last().is_none_or(|size| size + numels[leaf] > limit) {
                layout.sizes.push(0);
            }
            let bucket = layout.sizes.len() - 1;
            layout.places[leaf] = (bucket, layout.sizes[bucket]);
            layout.sizes[bucket] += numels[leaf];
        }
        layout
    }
}

/// The buckets of a training, and how far the present step has come.
#[derive(Debug)]
pub(super) struct Buckets {
    group: Group,
    /// Known from the end of the first step's backward pass.
    layout: Option<Layout>,
    flat: Vec<Tensor>,
    /// Numbers, by leaf.
    numels: Vec<i64>,
    /// Gradients of the step's earlier micro batches.
    so_far: Vec<Tensor>,
    /// Leaves in the order in which their gradients came.
    order: Vec<usize>,
    /// The leaf's gradient is in its bucket.
    filled: Vec<bool>,
    /// The loss reaches the leaf on this process.
    reached: Vec<bool>,
    /// Leaves that a bucket waits for.
    missing: Vec<usize>,
    pending: Vec<Pending>,
    failed: Option<TorchError>,
    /// What the hooks see is of the step's last micro batch.
    listening: bool,
}

impl Buckets {
    pub(super) fn new(group: Group, numels: Vec<i64>) -> Self {
        Self {
            group,
            layout: None,
            flat: Vec::new(),
            numels,
            so_far: Vec::new(),
            order: Vec::new(),
            filled: Vec::new(),
            reached: Vec::new(),
            missing: Vec::new(),
            pending: Vec::new(),
            failed: None,
            listening: false,
        }
    }

    /// Leaves that the step's loss reaches on this process.
    pub(super) fn reached(&self) -> &[bool] {
        &self.reached
    }

    fn begin(&mut self, so_far: Vec<Tensor>) {
        let leaves = self.numels.len();
        self.reached = so_far.iter().map(Tensor::defined).collect();
        self.reached.resize(leaves, false);
        self.so_far = so_far;
        self.order.clear();
        self.filled = vec![false; leaves];
        self.pending.clear();
        self.missing = vec![0; self.flat.len()];
        for (bucket, _) in self.layout.iter().flat_map(|layout| &layout.places) {
            self.missing[*bucket] += 1;
        }
    }

    /// Takes a leaf's gradient, once; mostly from a hook, in the middle of a backward pass.
    fn put(&mut self, leaf: usize, gradient: &Tensor) {
        if std::mem::replace(&mut self.filled[leaf], true) {
            return;
        }
        if gradient.defined() {
            self.order.push(leaf);
            self.reached[leaf] = true;
        }
        let Some(layout) = &self.layout else { return };
        let (bucket, offset) = layout.places[leaf];
        let sum = match self.so_far.get(leaf) {
            Some(before) => add_defined(before, gradient),
            None => gradient.shallow_clone(),
        };
        let mut place = self.flat[bucket].narrow(0, offset, self.numels[leaf]);
        no_grad(|| {
            if sum.defined() {
                place.view_as(&sum).copy_(&sum);
            } else {
                let _ = place.zero_();
            }
        });
        self.missing[bucket] -= 1;
        self.launch();
    }

    /// Begins the reduction of all buckets that are full and whose turn it is.
    fn launch(&mut self) {
        while self.failed.is_none() && self.missing.get(self.pending.len()) == Some(&0) {
            match self.group.start_all_reduce(&self.flat[self.pending.len()]) {
                Ok(pending) => self.pending.push(pending),
                Err(error) => self.failed = Some(error),
            }
        }
    }

    /// Makes the buckets, in the order of gradients that rank 0 has seen.
    fn agree(&mut self, device: Device) -> Result<(), TorchError> {
        let leaves = self.numels.len();
        let mut order = std::mem::take(&mut self.order);
        order.extend((0..leaves).filter(|leaf| !self.filled[*leaf]));
        let order: Vec<i64> = order.into_iter().map(|leaf| leaf as i64).collect();
        let order = Tensor::from_slice(&order).to_device(device);
        self.group.broadcast(&order, 0)?;
        let mut host = vec![0_i64; leaves];
        order.to_device(Device::Cpu).copy_data(&mut host, leaves);
        let order: Vec<usize> = host.into_iter().map(|leaf| leaf as usize).collect();
        let layout = Layout::new(&order, &self.numels, self.group.size());
        let zeros = |&size: &i64| Tensor::zeros([size], (Kind::Float, device));
        self.flat = layout.sizes.iter().map(zeros).collect();
        self.layout = Some(layout);
        let so_far = std::mem::take(&mut self.so_far);
        self.begin(so_far);
        Ok(())
    }

    /// Waits for all reductions.
    fn finish(&mut self) -> Result<(), TorchError> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        self.pending.drain(..).try_for_each(Pending::wait)
    }

    /// A leaf's gradient, which is a view of its bucket, in the leaf's shape.
    fn gradient(&self, leaf: usize, like: &Tensor) -> Option<Tensor> {
        let (bucket, offset) = self.layout.as_ref()?.places[leaf];
        Some(self.flat[bucket].narrow(0, offset, self.numels[leaf]).view_as(like))
    }
}

/// Hooks that take the leaves' gradients within [`backward`], for as long as they live. A training has one a
/// leaf: libtorch keeps the place of each that ever was.
pub(super) fn hooks(shared: &Arc<Mutex<Buckets>>, leaves: &[&Tensor]) -> Vec<GradientHook> {
    let hook = |(leaf, tensor): (usize, &&Tensor)| {
        let shared = Arc::clone(shared);
        GradientHook::on(tensor, move |gradient| {
            let mut buckets = lock(&shared);
            if buckets.listening {
                buckets.put(leaf, gradient);
            }
        })
    };
    leaves.iter().enumerate().map(hook).collect()
}

/// The gradients of a step's last micro batch on this process, `so_far` and those of all other processes,
/// summed; and what that cost. They are views, which the next call overwrites. Some of it happens within the
/// backward pass where the leaves have [`hooks`].
///
/// # Errors
/// That of the collective that failed.
pub(super) fn backward(
    shared: &Mutex<Buckets>,
    loss: &Tensor,
    leaves: &[&Tensor],
    so_far: Vec<Tensor>,
) -> Result<(Vec<Tensor>, Exchange), TorchError> {
    {
        let mut buckets = lock(shared);
        buckets.begin(so_far);
        buckets.listening = true;
    }
    let new = Tensor::run_backward(&[loss], leaves, false, false);
    let mut buckets = lock(shared);
    buckets.listening = false;
    let early: i64 = buckets.flat.iter().take(buckets.pending.len()).map(numel).sum();
    if buckets.layout.is_none() {
        buckets.agree(leaves[0].device())?;
    }
    for (leaf, gradient) in new.iter().enumerate() {
        buckets.put(leaf, gradient);
    }
    drop(new);
    // They are in the buckets now.
    buckets.so_far.clear();
    let started = Instant::now();
    buckets.finish()?;
    let all: i64 = buckets.flat.iter().map(numel).sum();
    let exchange = Exchange {
        gradient_bytes: 4 * all as u64,
        early_bytes: 4 * early as u64,
        gradient_wait_seconds: started.elapsed().as_secs_f64(),
        ..Exchange::default()
    };
    let gradients = leaves.iter().enumerate().map(|(i, leaf)| buckets.gradient(i, leaf));
    Ok((gradients.collect::<Option<_>>().unwrap_or_default(), exchange))
}

fn numel(tensor: &Tensor) -> i64 {
    tensor.numel() as i64
}

/// What a hook that panicked has left is whole but for the panic, which ends the training anyway.
pub(super) fn lock(shared: &Mutex<Buckets>) -> MutexGuard<'_, Buckets> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_hold_whole_gradients_in_the_order_in_which_they_come() {
        let bucket = 3 * PIECE;
        let numels = [10, FIRST_BUCKET - 10, 3 * bucket, bucket - 1, 1, 1];
        let layout = Layout::new(&[1, 0, 4, 2, 3, 5], &numels, 3);
        // The first is full to the brim, the third larger than any.
        assert_eq!(layout.sizes, [FIRST_BUCKET, 1, 3 * bucket, bucket]);
        let places = [(0, FIRST_BUCKET - 10), (0, 0), (2, 0), (3, 0), (1, 0), (3, bucket - 1)];
        assert_eq!(layout.places, places);
    }
}
