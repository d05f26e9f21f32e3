//! The loss and the gradient of one optimizer step, over micro batches.
//!
//! `ℓ = Σ nats / tokens + weight · Σ local / counted + weight · Σ KL / original`, where all denominators
//! are those of the whole step, so cutting it into micro batches changes nothing but rounding. Rows are put in order
//! of their domain first: each domain's loss is then a sum over a view, and costs nothing extra.
//!
//! Of several processes each takes a share of the rows; what is returned is the whole step's on all ([`crate::ranks`]).
//!
//! Gradients are returned, not left in `.grad`: the first micro batch of a resumed run is then
//! added up exactly as that of a run that never stopped.

use neutral_data::{Batch, Domain};
use neutral_model::{Attention, Extension, Input, Residue, Transformer};
use neutral_spec::LocalLossSpec;
use tch::{Device, Kind, Tensor, no_grad};

use crate::TrainError;
use crate::anchor::{Anchor, kl};
use crate::local_loss::{counted_tokens, rows_of, token_sum};
use crate::ranks::Ranks;

const DOMAINS: [Domain; 2] = [Domain::Original, Domain::New];

/// What every step of a training has in common.
#[derive(Clone, Copy, Debug)]
pub struct StepSettings<'a> {
    /// The local loss.
    pub local_loss: LocalLossSpec,
    /// Its factor at this step, in place of the one after warm-up that the spec has.
    pub local_weight: f64,
    /// What holds the base that trains; of it the KL is a part of the step's loss.
    pub anchor: Anchor<'a>,
    /// What attention does at document boundaries.
    pub attention: Attention,
    /// Sequences a forward pass.
    pub micro_batch_size: usize,
    /// Asks all processes to stop after this step.
    pub stop: bool,
}

/// The gradients and the losses of one step.
#[derive(Debug)]
pub struct StepOutput {
    /// `∂ℓ/∂w` for each parameter given; an undefined tensor where the loss does not reach it.
    pub gradients: Vec<Tensor>,
    /// What was seen on the way.
    pub losses: StepLosses,
    /// Some process asked to stop after this step.
    pub stop: bool,
}

/// Losses and gates of one step.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StepLosses {
    /// Language model loss, nats a token, over all tokens.
    pub total: f64,
    /// The same over original-domain tokens; absent if there were none.
    pub original: Option<f64>,
    /// The same over new-domain tokens.
    pub new: Option<f64>,
    /// The local loss before its weight; absent without one.
    pub local: Option<f64>,
    /// The anchor's loss before its weight; absent without one.
    pub anchor: Option<f64>,
    /// Share of gate values above 0 on original-domain tokens; absent without gates or such tokens.
    pub gate_open_original: Option<f64>,
    /// The same on new-domain tokens.
    pub gate_open_new: Option<f64>,
    /// Blocks whose residue has a gate.
    pub gated_blocks: Vec<usize>,
}

/// Runs the step's micro batches forward and backward, in order of domain; all of them, or with `ranks` this
/// process's share.
///
/// # Errors
/// [`TrainError::LocalLoss`] if the extension has nothing that the local loss is about;
/// [`TrainError::NoGradient`] if the loss does not depend on any parameter at all; of `ranks`, that of a
/// collective that failed.
///
/// # Panics
/// If `parameters` is empty or one of them is not trainable.
pub fn gradients(
    model: &Transformer,
    extension: &Extension,
    parameters: &[(&str, &Tensor)],
    batch: &Batch,
    settings: &StepSettings,
    ranks: Option<&Ranks>,
) -> Result<StepOutput, TrainError> {
    let mut rows: Vec<usize> = (0..batch.sequences).collect();
    rows.sort_by_key(|&row| batch.domains[row]);
    let tokens = DOMAINS.map(|domain| {
        let sequences = batch.domains.iter().filter(|d| **d == domain).count();
        (sequences * batch.sequence_length) as u64
    });
    let counted = counted_tokens(&settings.local_loss, tokens[0], tokens[1]);
    let leaves: Vec<&Tensor> = parameters.iter().map(|(_, tensor)| *tensor).collect();

    let device = model.device();
    let mut sums = Sums::new(device);
    let mut gradients: Vec<Tensor> = Vec::new();
    let share = ranks.map_or(rows.as_slice(), |ranks| ranks.share(&rows));
    let mut micro_batches = share.chunks(settings.micro_batch_size).peekable();
    while let Some(rows) = micro_batches.next() {
        let domains: Vec<Domain> = rows.iter().map(|&row| batch.domains[row]).collect();
        let length = batch.sequence_length;
        let input = Input {
            tokens_bt: to_device(&batch.tokens, rows, length, device),
            attention: settings.attention,
        };
        let targets_bt = to_device(&batch.targets, rows, length, device);
        let output = model.forward(&input, extension);
        let lm = model.loss(&output.hidden_btd, &targets_bt);
        let kl_to = |base| kl::token_sum(model, &output.hidden_btd, &input, &domains, base);
        let local = match settings.local_loss {
            // Without its extension, the model is its base.
            LocalLossSpec::Kl { .. } => kl_to(model),
            of_residues => token_sum(&of_residues, &output.residues, &domains)?,
        };
        let kl = match settings.anchor {
            Anchor::Kl { base, .. } => kl_to(base),
            _ => None,
        };
        sums.add(&lm.tokens_bt, [local.as_ref(), kl.as_ref()], &output.residues, &domains);

        let all_tokens = (tokens[0] + tokens[1]) as f64;
        let local = local.map(|sum| sum * (settings.local_weight / counted as f64));
        let nats = lm.sum / all_tokens;
        let kl = kl.map(|sum| sum * (kl_weight(settings.anchor) / tokens[0] as f64));
        let loss = [local, kl].into_iter().flatten().fold(nats, |loss, term| loss + term);
        if !loss.requires_grad() {
            let tensor = parameters.first().map_or("", |p| p.0).to_owned();
            return Err(TrainError::NoGradient { tensor, step: 1 });
        }
        gradients = match ranks {
            Some(ranks) if micro_batches.peek().is_none() => {
                ranks.backward(&loss, &leaves, gradients)?
            }
            _ => {
                let new = Tensor::run_backward(&[&loss], &leaves, false, false);
                if gradients.is_empty() {
                    new
                } else {
                    gradients.iter().zip(&new).map(|(a, b)| add_defined(a, b)).collect()
                }
            }
        };
    }
    let mut totals = sums.totals();
    let stop = match ranks {
        Some(ranks) => ranks.sum(&mut totals, &mut gradients, settings.stop)?,
        None => settings.stop,
    };
    let losses = losses(&totals, sums.gated_blocks, tokens, counted, settings);
    Ok(StepOutput { gradients, losses, stop })
}

fn kl_weight(anchor: Anchor) -> f64 {
    if let Anchor::Kl { weight, .. } = anchor { weight } else { 0.0 }
}

/// `a + b`, where either may be undefined. Never in place: autograd may hand out one tensor twice.
pub(crate) fn add_defined(a: &Tensor, b: &Tensor) -> Tensor {
    match (a.defined(), b.defined()) {
        (true, true) => a + b,
        (true, false) => a.shallow_clone(),
        _ => b.shallow_clone(),
    }
}

fn to_device(values: &[u32], rows: &[usize], length: usize, device: Device) -> Tensor {
    let picked: Vec<i64> = rows
        .iter()
        .flat_map(|&row| &values[row * length..(row + 1) * length])
        .map(|&token| i64::from(token))
        .collect();
    Tensor::from_slice(&picked).view([rows.len() as i64, length as i64]).to_device(device)
}

/// Sums over micro batches, kept on the device in f64 so that it is waited for once a step.
struct Sums {
    /// Nats of the original and the new domain, the local loss, the KL, open gates of both domains.
    totals: Tensor,
    /// Gate values of both domains.
    gates: [f64; 2],
    gated_blocks: Vec<usize>,
}

impl Sums {
    fn new(device: Device) -> Self {
        let totals = Tensor::zeros([6], (Kind::Double, device));
        Self { totals, gates: [0.0; 2], gated_blocks: Vec::new() }
    }

    fn add(
        &mut self,
        losses_bt: &Tensor,
        [local, kl]: [Option<&Tensor>; 2],
        residues: &[Residue],
        domains: &[Domain],
    ) {
        no_grad(|| {
            let zero = || Tensor::zeros([], (Kind::Double, self.totals.device()));
            let mut open = [zero(), zero()];
            self.gated_blocks.clear();
            for residue in residues {
                let Some(gate) = &residue.gate else { continue };
                self.gated_blocks.push(residue.block);
                for (i, &domain) in DOMAINS.iter().enumerate() {
                    if let Some(values) = rows_of(&gate.value, domains, domain) {
                        open[i] += values.gt(0.0).sum(Kind::Int64).to_kind(Kind::Double);
                        self.gates[i] += values.numel() as f64;
                    }
                }
            }
            let [original, new] = DOMAINS.map(|domain| {
                rows_of(losses_bt, domains, domain).map_or_else(zero, |rows| rows.sum(Kind::Double))
            });
            let [open_original, open_new] = open;
            let seen = [
                original,
                new,
                local.map_or_else(zero, |sum| sum.to_kind(Kind::Double)),
                kl.map_or_else(zero, |sum| sum.to_kind(Kind::Double)),
                open_original,
                open_new,
            ];
            self.totals += Tensor::stack(&seen, 0);
        });
    }

    /// All sums, `[8]`: those of `totals`, then gate values of both domains.
    fn totals(&self) -> Tensor {
        let gates = Tensor::from_slice(&self.gates).to_device(self.totals.device());
        Tensor::cat(&[&self.totals, &gates], 0)
    }
}

fn losses(
    totals: &Tensor,
    gated_blocks: Vec<usize>,
    tokens: [u64; 2],
    counted: u64,
    settings: &StepSettings,
) -> StepLosses {
    let mut sums = [0.0; 8];
    totals.to_device(Device::Cpu).copy_data(&mut sums, 8);
    let [original, new, local, kl, open_original, open_new, gates_original, gates_new] = sums;
    let over = |sum: f64, count: f64| (count > 0.0).then(|| sum / count);
    let anchored = matches!(settings.anchor, Anchor::Kl { .. });
    let local = match settings.local_loss {
        LocalLossSpec::None {} => None,
        // No token counts, so there is nothing to pull: the loss is 0, not 0 / 0.
        _ => Some(over(local, counted as f64).unwrap_or(0.0)),
    };
    StepLosses {
        total: (original + new) / (tokens[0] + tokens[1]) as f64,
        original: over(original, tokens[0] as f64),
        new: over(new, tokens[1] as f64),
        local,
        anchor: anchored.then(|| over(kl, tokens[0] as f64).unwrap_or(0.0)),
        gate_open_original: over(open_original, gates_original),
        gate_open_new: over(open_new, gates_new),
        gated_blocks,
    }
}
