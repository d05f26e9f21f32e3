//! Loads an export from its files and compares its logits with the trial's own.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use neutral_adapters::{merges_adapters, open_extension};
use neutral_model::{Attention, Extension, Input, ModelFolder, Transformer};
use neutral_spec::{Method, Precision};
use neutral_store::write_folder;
use neutral_torch::save_tensors;
use tch::{Device, Kind, Tensor};

use super::write::copy_model;
use super::{Export, Format};
use crate::trial_file::Loading;

/// The same operations on the same numbers.
const SAME: (f64, &str) = (1e-5, "the same weights, computed in fp32");
/// Fused and unfused sums differ in their order: some thousand roundings of 6e-8.
const MERGED: (f64, &str) = (1e-4, "merged in fp32, which takes sums in another order");
const ROUNDED: &str = "weights are rounded once; twice what computing the trial in bf16 moves its logits, which rounds more often";

/// How far an export is from its trial.
#[derive(Debug)]
pub(crate) struct Check {
    /// `max |export − trial| / max |trial|` of logits on fixed tokens, computed in fp32.
    pub error: f64,
    /// What it may be at most.
    pub bound: f64,
    /// Why so much.
    pub reason: &'static str,
    /// The export's logits, `[b, t, v]`, and their tokens, `[b, t]`.
    pub logits: Tensor,
    pub tokens_bt: Tensor,
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { error, bound, reason, .. } = self;
        write!(
            f,
            "loaded again: logits differ from the trial's by at most {error:.1e} of the largest; bound {bound:.1e} ({reason})"
        )
    }
}

impl Check {
    /// NaN passes no comparison.
    fn passed(self) -> anyhow::Result<Self> {
        if self.error <= self.bound {
            return Ok(self);
        }
        anyhow::bail!("the export is not what the trial is, and was not kept: {self}")
    }
}

/// Compares an export with its trial.
///
/// # Errors
/// If it cannot be loaded, or is farther away than it may be.
pub(super) fn check(export: &Export, folder: &Path) -> anyhow::Result<Check> {
    let Export { trial, base, format, kind } = export;
    let tokens_bt = tokens(base.config().vocab_size);
    let of_trial = |precision| -> anyhow::Result<Tensor> {
        let (model, extension) = trial.model(Loading { base, device: Device::Cpu, precision })?;
        Ok(logits(&model, &extension, &tokens_bt))
    };
    let expected = of_trial(Precision::Fp32)?;
    let logits = exported(base, *format, folder, &tokens_bt)?;
    let method = &trial.file.trial.method;
    let merged = matches!(method, Method::Lora { .. } | Method::Dora { .. })
        || merges_adapters(method, base.config());
    let (bound, reason) = match (format, kind) {
        (Format::Hf, Kind::Float | Kind::Double) if merged => MERGED,
        (Format::Hf, Kind::BFloat16 | Kind::Half) => {
            (2.0 * distance(&of_trial(Precision::Bf16)?, &expected), ROUNDED)
        }
        _ => SAME,
    };
    compare(logits, &expected, (bound, reason), tokens_bt)
}

/// Logits of an export beside its trial's.
fn compare(
    logits: Tensor,
    of_trial: &Tensor,
    (bound, reason): (f64, &'static str),
    tokens_bt: Tensor,
) -> anyhow::Result<Check> {
    let error = distance(&logits, of_trial);
    Check { error, bound, reason, logits, tokens_bt }.passed()
}

/// Logits of what the files hold.
fn exported(
    base: &ModelFolder,
    format: Format,
    folder: &Path,
    tokens_bt: &Tensor,
) -> anyhow::Result<Tensor> {
    let whole = matches!(format, Format::Hf).then(|| ModelFolder::open(folder)).transpose()?;
    let mut model = whole.as_ref().unwrap_or(base).load(Device::Cpu, Precision::Fp32)?;
    model.freeze();
    let extension = match whole {
        Some(_) => Extension::none(),
        None => open_extension(folder, base.config(), Device::Cpu)?,
    };
    Ok(logits(&model, &extension, tokens_bt))
}

/// Fixed tokens from all over the vocabulary, `[2, 32]`.
fn tokens(vocab_size: usize) -> Tensor {
    let ids: Vec<i64> =
        (0..64).map(|i| (i * i * 7919 + i * 104_729 + 3) % vocab_size as i64).collect();
    Tensor::from_slice(&ids).view([2, 32])
}

fn logits(model: &Transformer, extension: &Extension, tokens_bt: &Tensor) -> Tensor {
    tch::no_grad(|| {
        let input = Input { tokens_bt: tokens_bt.shallow_clone(), attention: Attention::Causal };
        model.logits(&model.forward(&input, extension).hidden_btd).to_kind(Kind::Float)
    })
}

fn distance(ours: &Tensor, theirs: &Tensor) -> f64 {
    let theirs = theirs.to_kind(Kind::Double);
    let apart = (ours.to_kind(Kind::Double) - &theirs).abs().max();
    (apart / theirs.abs().max()).double_value(&[])
}

/// A case of `scripts/verify-exports`: base, export, and the export's logits.
pub(super) fn write_case(
    export: &Export,
    check: &Check,
    out: &Path,
    place: &Path,
) -> anyhow::Result<()> {
    write_folder(place, |folder| {
        copy_model(export.base.path(), &folder.join("base"))?;
        super::write::copy_all(out, &folder.join("export"))?;
        let tensors = BTreeMap::from([
            ("tokens".to_owned(), check.tokens_bt.shallow_clone()),
            ("logits".to_owned(), check.logits.shallow_clone()),
        ]);
        let metadata = BTreeMap::from([("dtype".to_owned(), "fp32".to_owned())]);
        Ok(save_tensors(&folder.join("expected.safetensors"), &tensors, &metadata)?)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_farther_away_than_it_may_be_is_not_kept() {
        let trial = Tensor::from_slice(&[1.0, -4.0]).view([1, 1, 2]);
        let check = |apart: f64| {
            let logits = &trial + Tensor::from_slice(&[0.0, apart]);
            compare(logits, &trial, SAME, Tensor::from(0))
        };
        assert!(check(0.0).is_ok() && check(3e-5).is_ok());
        for wrong in [5e-5, f64::NAN] {
            let message = check(wrong).unwrap_err().to_string();
            assert!(message.contains("was not kept"), "{message}");
        }
    }
}
