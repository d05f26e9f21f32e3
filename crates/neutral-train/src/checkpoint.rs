//! A checkpoint is one file: trained weights, moments, counters, and a hash over all of them.
//!
//! `<folder>/checkpoint/state.safetensors` holds `weights/<name>`, `first/<name>`, `second/<name>`
//! and, in its metadata, the training's fingerprint and the counters. One file that is renamed into
//! place is either the old one or the new one, so weights, moments and step always belong together.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use neutral_store::{Fingerprint, StoreError, remove_unfinished, sha256_bytes};
use neutral_torch::{ParamStore, TorchError, load_tensors};
use serde::{Deserialize, Serialize};
use tch::{Device, Tensor, no_grad};

use crate::TrainError;
use crate::optimizer::Moments;
use crate::watch::{GradientWatch, LossWatch};

/// The counters of a training: all of its state that is not a tensor.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TrainState {
    /// Steps done.
    pub step: u64,
    /// Time spent in steps.
    pub elapsed_seconds: f64,
    /// The loss so far.
    pub loss: LossWatch,
    /// Tensors without a gradient so far.
    pub gradients: GradientWatch,
}

/// Where the checkpoint of a training's folder is.
pub fn path(folder: &Path) -> PathBuf {
    folder.join("checkpoint").join("state.safetensors")
}

/// Writes the checkpoint, atomically.
///
/// # Errors
/// Any error of the file system.
pub fn save(
    path: &Path,
    fingerprint: &Fingerprint,
    params: &ParamStore,
    moments: &BTreeMap<String, Moments>,
    state: &TrainState,
) -> Result<(), TrainError> {
    let mut all = ParamStore::new(params.device());
    for (name, tensor) in handles(params, moments) {
        all.insert(name, tensor)?;
    }
    let state = Fields::to_json(state);
    let metadata = BTreeMap::from([
        ("kind".to_owned(), KIND.to_owned()),
        ("fingerprint".to_owned(), fingerprint.to_string()),
        ("sha256".to_owned(), digest(&all, fingerprint.as_str(), &state)),
        ("state".to_owned(), state),
    ]);
    all.save(path, &metadata)?;
    Ok(())
}

/// Puts a checkpoint's weights and moments into place and returns its counters; `None` if there is
/// no checkpoint.
///
/// Nothing is changed unless the whole file is as it should be. What a killed process had half-written beside it is
/// removed, for its folder belongs to one training.
///
/// # Errors
/// [`TrainError::OtherTraining`] for another fingerprint; [`TrainError::Checkpoint`] if the file is
/// cut short, does not match its hash, or holds other tensors; [`TrainError::Torch`] if it cannot be read.
pub fn restore(
    path: &Path,
    fingerprint: &Fingerprint,
    params: &ParamStore,
    moments: &BTreeMap<String, Moments>,
) -> Result<Option<TrainState>, TrainError> {
    if let Some(folder) = path.parent() {
        remove_unfinished(folder);
    }
    // One that cannot be looked at is not one that is not there.
    if !path.try_exists().map_err(|e| StoreError::io("look at", path, e))? {
        return Ok(None);
    }
    let bad = |problem: String| TrainError::Checkpoint { path: path.to_path_buf(), problem };
    let (tensors, metadata) = load_tensors(path, Device::Cpu).map_err(|e| match e {
        TorchError::CorruptFile { reason, .. } => bad(reason),
        // It may be whole: nobody is told to delete it.
        e @ TorchError::Store(_) => e.into(),
        e => bad(e.to_string()),
    })?;
    let fields = Fields::of(&metadata).ok_or_else(|| bad("it is not a checkpoint".to_owned()))?;
    if fields.fingerprint != fingerprint.as_str() {
        return Err(TrainError::OtherTraining {
            path: path.to_path_buf(),
            found: fields.fingerprint.to_owned(),
            expected: fingerprint.to_string(),
        });
    }
    let mut loaded = ParamStore::new(Device::Cpu);
    for (name, tensor) in tensors {
        loaded.insert(name, tensor)?;
    }
    if digest(&loaded, fields.fingerprint, fields.state) != fields.sha256 {
        return Err(bad("its content does not match its hash, so it is damaged".to_owned()));
    }
    let state: TrainState =
        serde_json::from_str(fields.state).map_err(|e| bad(format!("its counters: {e}")))?;
    let places = handles(params, moments);
    if loaded.len() != places.len() {
        let (found, expected) = (loaded.len(), places.len());
        return Err(bad(format!("it holds {found} tensors, and this training has {expected}")));
    }
    for (name, place) in &places {
        let found = loaded.get(name).map_err(|_| bad(format!("tensor `{name}` is missing")))?;
        if found.size() != place.size() || found.kind() != place.kind() {
            let problem = format!(
                "tensor `{name}` is {:?} {:?}, and this training's is {:?} {:?}",
                found.kind(),
                found.size(),
                place.kind(),
                place.size()
            );
            return Err(bad(problem));
        }
    }
    no_grad(|| {
        for (name, mut place) in places {
            place.copy_(loaded.get(&name)?);
        }
        Ok::<_, TorchError>(())
    })?;
    Ok(Some(state))
}

const KIND: &str = "neutral training checkpoint 1";

/// Second handles to every tensor of the state, by its name in the file.
fn handles(params: &ParamStore, moments: &BTreeMap<String, Moments>) -> Vec<(String, Tensor)> {
    let mut all = Vec::with_capacity(3 * params.len());
    for (name, tensor) in params.iter() {
        all.push((format!("weights/{name}"), tensor.detach()));
    }
    for (name, moments) in moments {
        all.push((format!("first/{name}"), moments.first.shallow_clone()));
        all.push((format!("second/{name}"), moments.second.shallow_clone()));
    }
    all
}

fn digest(tensors: &ParamStore, fingerprint: &str, state: &str) -> String {
    sha256_bytes(format!("{}\n{fingerprint}\n{state}", tensors.digest()).as_bytes())
}

/// The metadata of a checkpoint file.
struct Fields<'a> {
    fingerprint: &'a str,
    sha256: &'a str,
    state: &'a str,
}

impl<'a> Fields<'a> {
    fn of(metadata: &'a BTreeMap<String, String>) -> Option<Self> {
        let field = |name: &str| metadata.get(name).map(String::as_str);
        (field("kind")? == KIND).then_some(())?;
        Some(Self {
            fingerprint: field("fingerprint")?,
            sha256: field("sha256")?,
            state: field("state")?,
        })
    }

    fn to_json(state: &TrainState) -> String {
        serde_json::json!(state).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::optimizer::AdamW;
    use crate::test_support::{host, training_spec};

    fn made(fill: f64) -> (ParamStore, AdamW) {
        let mut params = ParamStore::new(Device::Cpu);
        for (name, rows) in [("b", 2), ("a", 3)] {
            let tensor = Tensor::full([rows, 2], fill, (tch::Kind::Float, Device::Cpu));
            params.insert(name, tensor).unwrap();
        }
        params.set_trainable(true);
        let optimizer = AdamW::new(&params, &training_spec());
        (params, optimizer)
    }

    fn saved(folder: &Path) -> (PathBuf, Fingerprint, TrainState) {
        let (params, mut optimizer) = made(1.0 / 3.0);
        let gradients: Vec<_> = params.iter().map(|(_, t)| t.detach() * 0.7).collect();
        optimizer.step(&params, &gradients, 1.0, 0.01);
        let state = TrainState { step: 1, elapsed_seconds: 0.1 + 0.2, ..TrainState::default() };
        let (path, fingerprint) = (path(folder), Fingerprint::of(&"this"));
        save(&path, &fingerprint, &params, optimizer.moments(), &state).unwrap();
        (path, fingerprint, state)
    }

    #[test]
    fn what_was_saved_is_restored_in_place_to_the_bit() {
        let folder = tempfile::tempdir().unwrap();
        let (path, fingerprint, state) = saved(folder.path());
        let half_written = path.with_file_name(".neutral-of-a-killed-process");
        std::fs::write(&half_written, "half").unwrap();
        let (params, optimizer) = made(0.0);
        let held = params.get("a").unwrap().shallow_clone();
        let restored = restore(&path, &fingerprint, &params, optimizer.moments()).unwrap();
        assert_eq!(restored, Some(state.clone()));
        assert!(!half_written.exists());
        assert!(host(&held)[0] > 0.3, "a second handle sees the restored weights");
        let again = folder.path().join("again");
        save(&again, &fingerprint, &params, optimizer.moments(), &state).unwrap();
        assert!(std::fs::read(&path).unwrap() == std::fs::read(&again).unwrap());
        let nothing = folder.path().join("nothing");
        assert_eq!(restore(&nothing, &fingerprint, &params, optimizer.moments()).unwrap(), None);
    }

    #[test]
    fn a_damaged_or_foreign_file_is_refused_and_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let (path, fingerprint, _) = saved(folder.path());
        let bytes = std::fs::read(&path).unwrap();
        let refused = |bytes: &[u8], fingerprint: &Fingerprint| {
            std::fs::write(&path, bytes).unwrap();
            let (params, optimizer) = made(5.0);
            let error = restore(&path, fingerprint, &params, optimizer.moments()).unwrap_err();
            assert!(
                params
                    .iter()
                    .all(|(_, t)| host(t).iter().all(|&x| x.to_bits() == 5.0_f64.to_bits()))
            );
            let message = error.to_string();
            assert!(message.contains("state.safetensors") && message.contains("delete it"));
            message
        };
        refused(&bytes[..bytes.len() - 5], &fingerprint);
        refused(&bytes[..4], &fingerprint);
        refused(b"", &fingerprint);
        let mut flipped = bytes.clone();
        *flipped.last_mut().unwrap() ^= 1;
        assert!(refused(&flipped, &fingerprint).contains("does not match its hash"));
        let counters = String::from_utf8_lossy(&bytes).find("elapsed_seconds").unwrap();
        let mut flipped = bytes.clone();
        flipped[counters] ^= 1;
        assert!(refused(&flipped, &fingerprint).contains("does not match its hash"));
        let other = refused(&bytes, &Fingerprint::of(&"other"));
        assert!(other.contains(fingerprint.as_str()), "{other}");
    }
}
