//! One training over several processes: N of them are one.
//!
//! Every rank makes the whole step's batch, which is a function of (seed, position), and takes its share of the
//! rows; all denominators stay those of the whole batch, so gradients and losses of the whole are sums over
//! ranks, and nothing else is. What is summed is the same to the bit on all ranks, so all of them clip, diverge
//! and stop alike.
//!
//! | what travels | when | file |
//! |---|---|---|
//! | gradients, fp32 | during the backward pass | `buckets` |
//! | sums of losses and gates, who is reached, who asks to stop | once a step | here |
//! | new weights of a base that trains, from the one rank that keeps a tensor's moments (ZeRO-1) | once a step | `shards` |
//! | the checkpoint's weights, moments and counters | at start, and moments before rank 0 writes | here |
//!
//! Extensions are small: every rank keeps all of their moments and makes the same update.
//!
//! Source: Rajbhandari et al., *`ZeRO`: Memory Optimizations Toward Training Trillion Parameter Models*, SC 2020.

mod buckets;
mod shards;

use std::cell::{Cell, OnceCell};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use neutral_store::Fingerprint;
use neutral_torch::{GradientHook, Group, ParamStore};
use serde::{Deserialize, Serialize};
use tch::{Device, Tensor};

use crate::checkpoint::{self, TrainState};
use crate::optimizer::{AdamW, Moments};
use crate::{TrainError, Trained};
use buckets::{Buckets, backward, hooks, lock};
use shards::{Slot, broadcast, owners};

/// What a step exchanged with the other processes. Bytes are those of the tensors, however often the
/// transport moves them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Exchange {
    /// Of gradients that are summed.
    pub gradient_bytes: u64,
    /// Of these, those whose reduction began within the backward pass.
    pub early_bytes: u64,
    /// Of new weights, sent by those who made them.
    pub weight_bytes: u64,
    /// Time between the end of the backward pass and the last summed gradient, on the rank where that is shortest:
    /// what the link costs.
    pub gradient_wait_seconds: f64,
    /// By how much it is longer on the rank where it is longest: what waiting for the slowest costs.
    pub straggler_seconds: f64,
    /// Time in which new weights went round.
    pub weight_seconds: f64,
}

/// This process among those that share a training.
#[derive(Debug)]
pub struct Ranks<'a> {
    group: &'a Group,
    buckets: Arc<Mutex<Buckets>>,
    /// From the first step on.
    hooks: OnceCell<Vec<GradientHook>>,
    device: Device,
    /// Who keeps each tensor's moments; none if all keep all.
    owners: Option<Vec<usize>>,
    exchange: Cell<Exchange>,
}

impl<'a> Ranks<'a> {
    /// Joins a training of these weights; none for a group of one.
    pub(crate) fn new(group: &'a Group, trained: Trained, params: &ParamStore) -> Option<Self> {
        if group.size() == 1 {
            return None;
        }
        let numels: Vec<i64> = params.iter().map(|(_, tensor)| tensor.numel() as i64).collect();
        let sharded = trained == Trained::Base;
        Some(Self {
            group,
            buckets: Arc::new(Mutex::new(Buckets::new(group.clone(), numels.clone()))),
            hooks: OnceCell::new(),
            owners: sharded.then(|| owners(&numels, group.size())),
            device: params.device(),
            exchange: Cell::default(),
        })
    }

    /// This process writes files and speaks to the user.
    pub(crate) fn leads(&self) -> bool {
        self.group.rank() == 0
    }

    /// This process's part of the step's rows.
    pub(crate) fn share<'r>(&self, rows: &'r [usize]) -> &'r [usize] {
        let (rank, size) = (self.group.rank(), self.group.size());
        &rows[rank * rows.len() / size..(rank + 1) * rows.len() / size]
    }

    /// This process's part of equal pieces of work, dealt out in turn.
    pub(crate) fn deal<T: Copy>(&self, pieces: &[T]) -> Vec<T> {
        pieces.iter().copied().skip(self.group.rank()).step_by(self.group.size()).collect()
    }

    /// Checks that all ranks begin with the same, each a name and a value of at most 64 bytes.
    ///
    /// # Errors
    /// [`TrainError::RanksDiffer`] on all ranks, with the first that differs from rank 0.
    pub(crate) fn agree(&self, claims: &[(&'static str, String)]) -> Result<(), TrainError> {
        const ROOM: usize = 64;
        let (rank, size) = (self.group.rank(), self.group.size());
        let row = claims.len() * ROOM;
        let mut table = vec![0_i64; size * row];
        for (i, (_, claim)) in claims.iter().enumerate() {
            for (place, byte) in
                table[rank * row + i * ROOM..].iter_mut().zip(claim.bytes().take(ROOM))
            {
                *place = i64::from(byte);
            }
        }
        let sum = Tensor::from_slice(&table).to_device(self.device);
        self.group.all_reduce(&sum)?;
        sum.to_device(Device::Cpu).copy_data(&mut table, size * row);
        let claim = |rank: usize, i: usize| {
            let bytes = &table[rank * row + i * ROOM..][..ROOM];
            let bytes = bytes.iter().take_while(|byte| **byte != 0).map(|byte| *byte as u8);
            String::from_utf8_lossy(&bytes.collect::<Vec<_>>()).into_owned()
        };
        for rank in 1..size {
            for (i, (what, _)) in claims.iter().enumerate() {
                let (found, expected) = (claim(rank, i), claim(0, i));
                if found != expected {
                    return Err(TrainError::RanksDiffer { rank, what, found, expected });
                }
            }
        }
        Ok(())
    }

    /// The backward pass of a step's last micro batch: `so_far` and all processes' gradients, summed.
    pub(crate) fn backward(
        &self,
        loss: &Tensor,
        leaves: &[&Tensor],
        so_far: Vec<Tensor>,
    ) -> Result<Vec<Tensor>, TrainError> {
        self.hooks.get_or_init(|| hooks(&self.buckets, leaves));
        let (gradients, exchange) = backward(&self.buckets, loss, leaves, so_far)?;
        self.exchange.set(exchange);
        Ok(gradients)
    }

    /// Sums the step's sums in place; a gradient that no process's loss reaches becomes undefined. Returns
    /// whether any process asks to stop.
    pub(crate) fn sum(
        &self,
        sums: &mut Tensor,
        gradients: &mut [Tensor],
        stop: bool,
    ) -> Result<bool, TrainError> {
        let (rank, leaves) = (self.group.rank(), gradients.len());
        let mut exchange = self.exchange.get();
        let mut waits = vec![0.0; self.group.size()];
        waits[rank] = exchange.gradient_wait_seconds;
        let flags: Vec<f64> = {
            let buckets = lock(&self.buckets);
            let flags = std::iter::once(&stop).chain(buckets.reached());
            flags.map(|flag| f64::from(u8::from(*flag))).chain(waits).collect()
        };
        let flags = Tensor::from_slice(&flags).to_device(sums.device());
        let all = Tensor::cat(&[&*sums, &flags], 0);
        self.group.all_reduce(&all)?;
        let count = sums.numel() as i64;
        *sums = all.narrow(0, 0, count);
        let length = flags.numel();
        let mut host = vec![0.0_f64; length];
        all.narrow(0, count, length as i64).to_device(Device::Cpu).copy_data(&mut host, length);
        let (flags, waits) = host.split_at(1 + leaves);
        for (gradient, _) in gradients.iter_mut().zip(&flags[1..]).filter(|(_, n)| **n == 0.0) {
            *gradient = Tensor::new();
        }
        let longest = waits.iter().copied().fold(0.0, f64::max);
        exchange.gradient_wait_seconds = waits.iter().copied().fold(longest, f64::min);
        exchange.straggler_seconds = longest - exchange.gradient_wait_seconds;
        self.exchange.set(exchange);
        Ok(flags[0] > 0.0)
    }

    /// Sums tensors in place, one by one.
    pub(crate) fn all_reduce(&self, tensors: &[Tensor]) -> Result<(), TrainError> {
        Ok(tensors.iter().try_for_each(|tensor| self.group.all_reduce(tensor))?)
    }

    /// Whether this process keeps the moments of a tensor, by its place in the store.
    pub(crate) fn keeps(&self, tensor: usize) -> bool {
        self.owners.as_ref().is_none_or(|owners| owners[tensor] == self.group.rank())
    }

    /// After an update, brings every tensor from the rank that made it to all others.
    pub(crate) fn share_weights(&self, params: &ParamStore) -> Result<(), TrainError> {
        let Some(owners) = &self.owners else { return Ok(()) };
        let started = Instant::now();
        let mut exchange = self.exchange.get();
        for owner in 0..self.group.size() {
            let owned = params.iter().zip(owners).filter(|(_, o)| **o == owner);
            let slots: Vec<Slot> = owned.map(|((_, tensor), _)| Slot::at(tensor)).collect();
            exchange.weight_bytes += self.broadcast(owner, &slots)?;
        }
        exchange.weight_seconds = started.elapsed().as_secs_f64();
        self.exchange.set(exchange);
        Ok(())
    }

    /// What the step exchanged.
    pub(crate) fn exchange(&self) -> Exchange {
        self.exchange.get()
    }

    /// As [`checkpoint::save`], by rank 0 with everybody's moments.
    pub(crate) fn save(
        &self,
        path: &Path,
        fingerprint: &Fingerprint,
        params: &ParamStore,
        optimizer: &AdamW,
        state: &TrainState,
    ) -> Result<(), TrainError> {
        let whole = self.leads().then(|| optimizer.all_moments(params));
        let held = whole.as_ref().unwrap_or(optimizer.moments());
        if let Some(owners) = &self.owners {
            for owner in 1..self.group.size() {
                let owned = params.iter().zip(owners).filter(|(_, o)| **o == owner);
                self.broadcast(owner, &moments(owned.map(|(param, _)| param), held))?;
            }
        }
        if self.leads() { checkpoint::save(path, fingerprint, params, held, state) } else { Ok(()) }
    }

    /// As [`checkpoint::restore`], by rank 0 for all; each rank gets the moments that it keeps.
    pub(crate) fn restore(
        &self,
        path: &Path,
        fingerprint: &Fingerprint,
        params: &ParamStore,
        optimizer: &AdamW,
    ) -> Result<Option<TrainState>, TrainError> {
        let whole = self.leads().then(|| optimizer.all_moments(params));
        let held = whole.as_ref().unwrap_or(optimizer.moments());
        let state = if self.leads() {
            let found = checkpoint::restore(path, fingerprint, params, held);
            let said = found.as_ref().map_err(ToString::to_string);
            self.group.say(&serde_json::json!(said).to_string())?;
            found?
        } else {
            let said: Result<Option<TrainState>, String> =
                serde_json::from_str(&self.group.listen()?)
                    .map_err(|e| TrainError::Leader { reason: e.to_string() })?;
            said.map_err(|reason| TrainError::Leader { reason })?
        };
        if state.is_some() {
            let weights: Vec<Slot> = params.iter().map(|(_, tensor)| Slot::at(tensor)).collect();
            self.broadcast(0, &weights)?;
            self.broadcast(0, &moments(params.iter(), held))?;
        }
        Ok(state)
    }

    fn broadcast(&self, from: usize, slots: &[Slot]) -> Result<u64, TrainError> {
        Ok(broadcast(self.group, from, slots, self.device)?)
    }
}

/// Both moments of some tensors, with places where they are held.
fn moments<'p>(
    params: impl Iterator<Item = (&'p str, &'p Tensor)>,
    held: &BTreeMap<String, Moments>,
) -> Vec<Slot> {
    let both = |(name, tensor): (&str, &Tensor)| {
        let held = held.get(name);
        [held.map(|m| &m.first), held.map(|m| &m.second)]
            .map(|place| Slot { place: place.map(Tensor::shallow_clone), ..Slot::at(tensor) })
    };
    params.flat_map(both).collect()
}
