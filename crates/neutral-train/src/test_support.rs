//! Tiny models, texts and extensions for the tests of this crate.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use indicatif::ProgressBar;
use neutral_data::{MixConfig, MixedStream, TokenShards};
use neutral_model::{
    Before, Branch, BranchOutput, Extension, Gate, Transformer, TransformerConfig,
};
use neutral_spec::{
    DocumentPolicy, LocalLossSpec, Placement, Precision, Schedule, Shape, TrainingSpec,
};
use neutral_store::Fingerprint;
use neutral_torch::{ParamStore, RandomStream};
use tch::{Device, Kind, Tensor};

use crate::{Anchor, TrainJob, Trained};

pub(crate) const VOCAB: u32 = 29;
pub(crate) const LENGTH: usize = 8;
pub(crate) const BATCH: usize = 6;

/// 12 steps of 6 sequences of 8 tokens, 4 and 2 at a time.
pub(crate) fn training_spec() -> TrainingSpec {
    TrainingSpec {
        tokens: (12 * BATCH * LENGTH) as u64,
        sequence_length: LENGTH,
        batch_size: BATCH,
        micro_batch_size: Some(4),
        learning_rate: 0.02,
        schedule: Schedule::Cosine { warmup_fraction: 0.25, final_fraction: 0.1 },
        weight_decay: 0.1,
        beta1: 0.9,
        beta2: 0.95,
        epsilon: 1e-8,
        gradient_clip: 1.0,
    }
}

/// All numbers of a tensor, as f64.
pub(crate) fn host(tensor: &Tensor) -> Vec<f64> {
    let flat = tensor.detach().to_kind(Kind::Double).contiguous().view([-1]);
    Vec::try_from(flat).unwrap()
}

/// Token ids `[b, t]`, none the same in a row.
pub(crate) fn token_ids(b: i64, t: i64) -> Tensor {
    (Tensor::arange(b * t, (Kind::Int64, Device::Cpu)) * 7).remainder(i64::from(VOCAB)).view([b, t])
}

/// A token file of these tokens; the mapping outlives the file's name.
fn shard(tokens: &[u32]) -> TokenShards {
    let file = tempfile::NamedTempFile::new().unwrap();
    TokenShards::from_tokens(file.path(), tokens, 0, u64::from(VOCAB)).unwrap()
}

/// Two domains with different tokens: 1 to 13 and 14 to 28, with a separator here and there.
pub(crate) fn stream(original_fraction: f64) -> MixedStream {
    let text = |first: u32, count: u32, step: u32| {
        let token = |i: u32| if i.is_multiple_of(11) { 0 } else { first + i * i * step % count };
        shard(&(0..401).map(token).collect::<Vec<_>>())
    };
    let config = MixConfig { original_fraction, sequence_length: LENGTH, seed: 3 };
    MixedStream::new(vec![text(1, 13, 2)], vec![text(14, 15, 1)], config).unwrap()
}

pub(crate) fn model() -> Transformer {
    model_in(Precision::Fp32)
}

pub(crate) fn model_in(precision: Precision) -> Transformer {
    let shape = Shape {
        d_model: 16,
        n_layers: 2,
        n_heads: 2,
        n_kv_heads: 1,
        d_ff: 24,
        tie_embeddings: true,
        rope_theta: 10_000.0,
        norm_epsilon: 1e-5,
    };
    let config = TransformerConfig::llama(&shape, VOCAB as usize);
    Transformer::new(config, 7, Device::Cpu, precision).unwrap()
}

/// `ReLU(w x) · W_o silu(W_i x)`: a neutral residue without its GLU.
struct ToyBranch {
    w_i: Tensor,
    w_o: Tensor,
    gate: Tensor,
}

impl Branch for ToyBranch {
    fn forward(&self, x_btd: &Tensor, _: &mut Before) -> BranchOutput {
        let linear = |x: &Tensor, w: &Tensor| x.linear::<&Tensor>(&w.to_kind(x.kind()), None);
        let logit = linear(x_btd, &self.gate);
        let value = logit.relu();
        let adapted = linear(&linear(x_btd, &self.w_i).silu(), &self.w_o);
        BranchOutput {
            output_btd: &value * adapted,
            watched_btd: None,
            gate: Some(Gate { unrounded: value.shallow_clone(), value, logit }),
        }
    }
}

/// A toy branch beside every FFN; `W_o` starts at `w_o_std`.
pub(crate) fn extension(w_o_std: f64) -> Extension {
    let mut params = ParamStore::new(Device::Cpu);
    for block in 0..2 {
        for (tensor, shape, std) in
            [("w_i", [5, 16], 0.3), ("w_o", [16, 5], w_o_std), ("gate.weight", [1, 16], 0.3)]
        {
            let name = format!("layers.{block}.mlp.adapter.{tensor}");
            let start = RandomStream::new(1, &name).normal(&shape, std, Device::Cpu);
            params.insert(name, start).unwrap();
        }
    }
    let mut extension = Extension::new(params);
    for block in 0..2 {
        let get = |tensor: &str| {
            let name = format!("layers.{block}.mlp.adapter.{tensor}");
            extension.params().get(&name).unwrap().shallow_clone()
        };
        let branch = ToyBranch { w_i: get("w_i"), w_o: get("w_o"), gate: get("gate.weight") };
        extension.add_branch(block, Placement::Ffn, Box::new(branch));
    }
    extension
}

/// What a job borrows, in one place; made anew for every piece of a run.
pub(crate) struct Fixture {
    pub(crate) model: Transformer,
    pub(crate) extension: Extension,
    pub(crate) stream: MixedStream,
    pub(crate) spec: TrainingSpec,
    pub(crate) trained: Trained,
    pub(crate) local_loss: LocalLossSpec,
    pub(crate) fingerprint: Fingerprint,
    pub(crate) stop: AtomicBool,
    pub(crate) progress: ProgressBar,
}

impl Fixture {
    pub(crate) fn new(trained: Trained) -> Self {
        let (extension, local_loss) = match trained {
            Trained::Base => (Extension::none(), LocalLossSpec::None {}),
            Trained::Extension => (extension(0.0), LocalLossSpec::l1(1.0)),
        };
        Self {
            model: model(),
            extension,
            stream: stream(0.3),
            spec: training_spec(),
            trained,
            local_loss,
            fingerprint: Fingerprint::of(&"this training"),
            stop: AtomicBool::new(false),
            progress: ProgressBar::hidden(),
        }
    }

    pub(crate) fn job<'a>(&'a mut self, folder: &'a Path) -> TrainJob<'a> {
        TrainJob {
            model: &mut self.model,
            extension: &mut self.extension,
            trained: self.trained,
            stream: &self.stream,
            spec: &self.spec,
            documents: DocumentPolicy::AttendWithin,
            local_loss: self.local_loss,
            anchor: Anchor::None,
            fingerprint: self.fingerprint.clone(),
            folder,
            checkpoint_every_steps: Some(3),
            stop: &self.stop,
            progress: &self.progress,
            group: None,
        }
    }

    pub(crate) fn trained_params(&self) -> &ParamStore {
        match self.trained {
            Trained::Base => self.model.params(),
            Trained::Extension => self.extension.params(),
        }
    }
}
