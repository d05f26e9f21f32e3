//! Named weights whose tensors keep their identity.

use std::collections::BTreeMap;
use std::path::Path;

use sha2::{Digest, Sha256};
use tch::{Device, Kind, Tensor};

use crate::TorchError;
use crate::tensors::{contents, load_tensors, save};

/// Weights by name, in the order of names.
///
/// A layer keeps `store.get(name)?.shallow_clone()`, which is the same tensor under a second handle.
/// Every method here changes tensors in place — values, kind and `requires_grad` — so that such
/// handles always see the present state. Code that updates weights must do the same: `copy_`,
/// `add_` and the like under [`tch::no_grad`], never a new tensor under the old name.
#[derive(Debug)]
pub struct ParamStore {
    device: Device,
    tensors: BTreeMap<String, Tensor>,
}

impl ParamStore {
    /// An empty store; every tensor that is inserted moves to the device.
    pub fn new(device: Device) -> Self {
        Self { device, tensors: BTreeMap::new() }
    }

    /// Where the tensors live.
    pub fn device(&self) -> Device {
        self.device
    }

    /// Adds a tensor under a new name: contiguous, a leaf of autograd, not yet trainable.
    ///
    /// # Errors
    /// [`TorchError::DuplicateName`] if the name is taken; nothing is renamed or replaced.
    pub fn insert(&mut self, name: impl Into<String>, tensor: Tensor) -> Result<(), TorchError> {
        let name = name.into();
        if self.tensors.contains_key(&name) {
            return Err(TorchError::DuplicateName { name });
        }
        // `detach` gives a handle of its own, so that a caller's view of the tensor cannot resize it.
        let leaf = tensor.detach().to_device(self.device).contiguous();
        self.tensors.insert(name, leaf);
        Ok(())
    }

    /// The tensor of a name.
    ///
    /// # Errors
    /// [`TorchError::UnknownName`] if there is none.
    pub fn get(&self, name: &str) -> Result<&Tensor, TorchError> {
        let unknown = || TorchError::UnknownName { name: name.to_owned(), len: self.len() };
        self.tensors.get(name).ok_or_else(unknown)
    }

    /// All tensors, in the order of names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Tensor)> + Clone {
        self.tensors.iter().map(|(name, tensor)| (name.as_str(), tensor))
    }

    /// Number of tensors.
    pub fn len(&self) -> usize {
        self.tensors.len()
    }

    /// There is no tensor.
    pub fn is_empty(&self) -> bool {
        self.tensors.is_empty()
    }

    /// Number of weights in all tensors.
    pub fn parameter_count(&self) -> u64 {
        self.tensors.values().map(|tensor| tensor.numel() as u64).sum()
    }

    /// Makes all weights trainable (fp32, with gradients) or freezes them (no gradients).
    ///
    /// Weights of another kind become fp32 first; what they lost when they were rounded stays lost.
    pub fn set_trainable(&mut self, trainable: bool) {
        if trainable {
            self.to_kind(Kind::Float);
        }
        for tensor in self.tensors.values() {
            // Sets the flag of the one tensor behind all handles; the returned handle is not needed.
            let _ = tensor.set_requires_grad(trainable);
        }
    }

    /// Rounds or widens all weights to a kind, in place; they are not trainable afterwards.
    pub fn to_kind(&mut self, kind: Kind) {
        tch::no_grad(|| {
            for tensor in self.tensors.values_mut() {
                let _ = tensor.set_requires_grad(false);
                if tensor.kind() != kind {
                    let converted = tensor.to_kind(kind);
                    tensor.set_data(&converted);
                }
            }
        });
    }

    /// Every weight's gradient; `None` if it never had one.
    pub fn gradients(&self) -> Vec<(&str, Option<Tensor>)> {
        let gradient = |tensor: &Tensor| {
            let gradient = tensor.grad();
            gradient.defined().then_some(gradient)
        };
        self.iter().map(|(name, tensor)| (name, gradient(tensor))).collect()
    }

    /// Sets the gradients that there are to zero, in place.
    pub fn zero_gradients(&mut self) {
        for tensor in self.tensors.values_mut() {
            tensor.zero_grad();
        }
    }

    /// Writes all weights and some text about them to a safetensors file, atomically.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn save(&self, path: &Path, metadata: &BTreeMap<String, String>) -> Result<(), TorchError> {
        save(path, self.iter(), metadata)
    }

    /// Replaces the values of all weights, in place, by those of a file; returns its metadata.
    ///
    /// # Errors
    /// If the file is not a whole one, or a name, shape or kind differs; no weight is changed then.
    pub fn load(&mut self, path: &Path) -> Result<BTreeMap<String, String>, TorchError> {
        let (mut loaded, metadata) = load_tensors(path, self.device)?;
        for (name, tensor) in &self.tensors {
            let found = loaded.get(name).ok_or_else(|| TorchError::MissingTensor {
                path: path.to_path_buf(),
                name: name.clone(),
            })?;
            check(path, name, found, tensor)?;
        }
        if let Some(name) = loaded.keys().find(|name| !self.tensors.contains_key(*name)) {
            return Err(TorchError::UnexpectedTensor {
                path: path.to_path_buf(),
                name: name.clone(),
            });
        }
        tch::no_grad(|| {
            for (name, tensor) in &mut self.tensors {
                // Each loaded tensor is dropped once copied, so that memory falls as it is used.
                if let Some(found) = loaded.remove(name) {
                    tensor.f_copy_(&found).map_err(|e| TorchError::torch("load", name, e))?;
                }
            }
            Ok(metadata)
        })
    }

    /// SHA-256, in hexadecimal, of all names, kinds, shapes and values.
    ///
    /// # Panics
    /// If a tensor cannot be copied from its device.
    pub fn digest(&self) -> String {
        let mut hasher = Sha256::new();
        for (name, tensor) in self.iter() {
            // A line that no other tensor can have, as names hold no line breaks.
            hasher.update(format!("{name} {:?} {:?}\n", tensor.kind(), tensor.size()));
            hasher.update(contents(tensor).expect("a tensor of the store can be read"));
        }
        format!("{:x}", hasher.finalize())
    }
}

fn check(path: &Path, name: &str, found: &Tensor, expected: &Tensor) -> Result<(), TorchError> {
    if found.size() != expected.size() {
        return Err(TorchError::ShapeMismatch {
            path: path.to_path_buf(),
            name: name.to_owned(),
            found: found.size(),
            expected: expected.size(),
        });
    }
    if found.kind() != expected.kind() {
        return Err(TorchError::KindMismatch {
            path: path.to_path_buf(),
            name: name.to_owned(),
            found: found.kind(),
            expected: expected.kind(),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> ParamStore {
        let mut store = ParamStore::new(Device::Cpu);
        store.insert("b", Tensor::from_slice(&[1.0f32, 0.1, -3.0])).unwrap();
        store.insert("a", Tensor::from_slice(&[0.5f32, 2.0]).view([1, 2])).unwrap();
        store
    }

    fn saved(store: &ParamStore) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        store.save(file.path(), &BTreeMap::new()).unwrap();
        file
    }

    fn values(tensor: &Tensor) -> Vec<f32> {
        Vec::try_from(tensor.detach().to_kind(Kind::Float).reshape([-1])).unwrap()
    }

    #[test]
    fn names_are_sorted_and_unique() {
        let mut store = store();
        assert_eq!(store.iter().map(|(name, _)| name).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!((store.len(), store.parameter_count(), store.is_empty()), (2, 5, false));
        let again = store.insert("a", Tensor::from(1f32)).unwrap_err().to_string();
        assert!(again.contains("`a` is in the store already"), "{again}");
        assert!(store.get("c").unwrap_err().to_string().contains("no tensor `c`"));
    }

    #[test]
    fn handles_see_every_change() {
        let mut store = store();
        let handle = store.get("b").unwrap().shallow_clone();
        store.set_trainable(true);
        assert!(handle.requires_grad() && handle.is_leaf());
        (&handle * 2.0).sum(Kind::Float).backward();
        let gradients = store.gradients();
        assert!(gradients[0].1.is_none(), "a had none");
        assert_eq!(values(gradients[1].1.as_ref().unwrap()), [2.0; 3]);
        store.zero_gradients();
        assert_eq!(values(&handle.grad()), [0.0; 3]);

        let file = saved(&store);
        let _ = tch::no_grad(|| handle.shallow_clone().fill_(9.0));
        assert_eq!(values(store.get("b").unwrap()), [9.0; 3]);
        store.load(file.path()).unwrap();
        assert_eq!(values(&handle), [1.0, 0.1, -3.0]);
        assert!(handle.requires_grad(), "loading keeps it trainable");

        store.to_kind(Kind::BFloat16);
        assert_eq!(handle.kind(), Kind::BFloat16);
        assert!(!handle.requires_grad());
        store.set_trainable(true);
        assert_eq!(handle.kind(), Kind::Float);
        // 0.1 was rounded to bf16 on the way.
        assert_eq!(values(&handle), [1.0, 0.100_097_656, -3.0]);
        (&handle * 2.0).sum(Kind::Float).backward();
        assert_eq!(values(&handle.grad()), [2.0; 3], "gradients still arrive");
        store.set_trainable(false);
        assert!(!handle.requires_grad());
    }

    #[test]
    fn the_digest_is_of_names_kinds_shapes_and_values() {
        let digest = store().digest();
        let mut other = store();
        assert_eq!(other.digest(), digest);
        other.load(saved(&store()).path()).unwrap();
        assert_eq!(other.digest(), digest);
        let with = |tensor: Tensor| {
            let mut store = ParamStore::new(Device::Cpu);
            store.insert("x", tensor).unwrap();
            store.digest()
        };
        let x = Tensor::from_slice(&[1.0f32, 2.0]);
        assert_ne!(with(x.shallow_clone()), with(x.view([1, 2])));
        assert_ne!(with(x.zeros_like()), with(x.zeros_like().to_kind(Kind::Int)));
        assert_ne!(with(x.shallow_clone()), with(x + 1e-6));
    }

    #[test]
    fn a_file_of_something_else_is_refused_and_changes_nothing() {
        let message = |change: fn(&mut ParamStore)| {
            let (mut target, mut other) = (store(), ParamStore::new(Device::Cpu));
            change(&mut other);
            let file = saved(&other);
            let message = target.load(file.path()).unwrap_err().to_string();
            assert_eq!(target.digest(), store().digest());
            assert!(message.contains(&file.path().display().to_string()), "{message}");
            message
        };
        let missing = message(|other| {
            other.insert("a", Tensor::ones([1, 2], (Kind::Float, Device::Cpu))).unwrap();
        });
        assert!(missing.contains("`b` is missing"), "{missing}");
        let unexpected = message(|other| {
            *other = store();
            other.insert("c", Tensor::from(1f32)).unwrap();
        });
        assert!(unexpected.contains("`c` has no place"), "{unexpected}");
        let shape = message(|other| {
            other.insert("a", Tensor::ones([2], (Kind::Float, Device::Cpu))).unwrap();
            other.insert("b", Tensor::ones([3], (Kind::Float, Device::Cpu))).unwrap();
        });
        assert!(shape.contains("`a` has shape [2], expected [1, 2]"), "{shape}");
        let kind = message(|other| {
            *other = store();
            other.to_kind(Kind::BFloat16);
        });
        assert!(kind.contains("`a` holds BFloat16, expected Float"), "{kind}");
    }
}
