//! From a method of the experiment file and its solved size to an extension of the model.
//!
//! Names of the weights, with `{i}` the block and `{module}` `mlp` or `self_attn`:
//!
//! ```text
//! layers.{i}.{module}.adapter.{w_i, w_g, w_o}      adapter, neutral_residues
//! layers.{i}.{module}.adapter.gate.{weight, bias}  neutral_residues
//! {module}.adapter.gate.{weight, bias}             neutral_residues whose gate all blocks share
//! layers.{i}.{module}.adapter.input_norm.weight    neutral_residues with a norm of the adapter's input
//! layers.{i}.{q_proj … down_proj}.{lora_a, lora_b} lora, dora
//! layers.{i}.{q_proj … down_proj}.magnitude        dora
//! layers.{i}.added.{…}                             block_expansion, as Hugging Face has them in a block
//! ```

use neutral_model::{Activation, Branch, Extension, Transformer, TransformerConfig};
use neutral_spec::{BranchPlacement, ExtensionSize, Method, Placement, Start};
use neutral_torch::{ParamStore, TensorFile, TorchError};
use tch::Device;

use crate::block_expansion;
use crate::start::{Source, Weights};
use crate::{AdapterError, BlockGate, GluAdapter, LoraLayer, NeutralResidue, start_variance};

/// Builds a method's extension: trainable fp32 weights at their start, in every block.
///
/// Methods that train the base add nothing and give [`Extension::none`]. The start is a function of the
/// seed and, for `DoRA`'s lengths and new blocks, of the base's weights, the same on every device; the
/// extended model computes exactly what the base does.
///
/// # Errors
/// If the size has no units (or has some where nothing is added), if the weights are not as many as the size
/// announces, if LoRA has no targets or one twice, if a gate has options but no activation, or if
/// more blocks are new than the base has.
pub fn build(
    method: &Method,
    size: &ExtensionSize,
    base: &Transformer,
    seed: u64,
) -> Result<Extension, AdapterError> {
    let source = Source::Start { seed, base };
    let mut extension = assemble(method, size.units, base.config(), source, base.device())?;
    let found = extension.params().parameter_count();
    if found != size.extension_parameters {
        return Err(AdapterError::ParameterCount {
            method: method.kind(),
            found,
            expected: size.extension_parameters,
        });
    }
    extension.params_mut().set_trainable(true);
    Ok(extension)
}

/// The extension of a method and its units whose weights stand in a file, frozen.
///
/// The file is not trusted: each tensor's shape is compared with what method, units and model ask
/// for before it is read, so that no more memory is taken than the file is long.
///
/// # Errors
/// If the method adds nothing or its options contradict each other, or the file has not exactly the
/// weights of such an extension, in fp32.
pub fn restore(
    method: &Method,
    units: usize,
    config: &TransformerConfig,
    file: &TensorFile,
    device: Device,
) -> Result<Extension, AdapterError> {
    let extension = assemble(method, units, config, Source::File(file), device)?;
    let unknown = file.names().into_iter().find(|name| extension.params().get(name).is_err());
    if let Some(name) = unknown {
        let path = file.path().to_path_buf();
        return Err(TorchError::UnexpectedTensor { path, name }.into());
    }
    Ok(extension)
}

fn assemble(
    method: &Method,
    units: usize,
    config: &TransformerConfig,
    source: Source,
    device: Device,
) -> Result<Extension, AdapterError> {
    let adds = !method.trains_base();
    // No tensor has more rows; the bound keeps sizes within what libtorch counts with.
    if adds != (1..=1 << 32).contains(&units) {
        return Err(AdapterError::Units {
            method: method.kind(),
            found: units,
            expected: if adds { "1 to 4294967296" } else { "0, as it adds no weights" },
        });
    }
    let sigma = adapter_activation(method, config);
    let new = Blueprint { config, units, source, device };
    match method {
        Method::Finetune {}
        | Method::KlToBase { .. }
        | Method::L2Sp { .. }
        | Method::Ewc { .. }
        | Method::WiseFt { .. } => Ok(Extension::none()),
        Method::Lora { .. } | Method::Dora { .. } => new.deltas(method),
        Method::Adapter { placement, start, .. } => {
            new.branches(*placement, *start, sigma, |adapter, _, _| Ok(Box::new(adapter)))
        }
        Method::NeutralResidues { gate: spec, placement, start, input_norm, .. } => {
            let d = config.d_model;
            let variance = start_variance(*start, d, config.n_layers());
            new.branches(*placement, *start, sigma, |mut adapter, weights, [block, module]| {
                if *input_norm {
                    let name = format!("{block}.{module}.input_norm.weight");
                    let n_d = weights.constant(&name, &[d as i64], 1.0)?;
                    adapter = adapter.with_input_norm(n_d, config.norm_epsilon);
                }
                let of_all = format!("{module}.gate");
                let prefix = if spec.shared { of_all } else { format!("{block}.{of_all}") };
                let gate = BlockGate::start(weights, &prefix, *spec, d as i64, variance)?;
                Ok(Box::new(NeutralResidue::new(adapter, gate)))
            })
        }
        Method::BlockExpansion { .. } if units > config.n_layers() => {
            let expected = "at most as many as the base has blocks";
            Err(AdapterError::Units { method: method.kind(), found: units, expected })
        }
        Method::BlockExpansion { .. } => new.blocks(),
    }
}

/// The σ inside a method's adapters: its own, or the base's.
pub fn adapter_activation(method: &Method, config: &TransformerConfig) -> Activation {
    match method {
        Method::Adapter { activation: Some(own), .. }
        | Method::NeutralResidues { activation: Some(own), .. } => (*own).into(),
        _ => config.activation,
    }
}

/// What the extensions of all methods need to know.
struct Blueprint<'a> {
    config: &'a TransformerConfig,
    units: usize,
    source: Source<'a>,
    device: Device,
}

impl Blueprint<'_> {
    /// LoRA or `DoRA` on the method's layers of every block.
    fn deltas(&self, method: &Method) -> Result<Extension, AdapterError> {
        let layers = LoraLayer::of_method(method, self.units, self.config.n_layers());
        let layers = layers.filter(|layers| !layers.is_empty()).ok_or(AdapterError::NoTargets)?;
        let mut extension = Extension::new(ParamStore::new(self.device));
        for layer in layers {
            let mut weights = Weights { store: extension.params_mut(), source: self.source };
            let (inputs, outputs) = self.config.linear_shape(layer.site);
            let shape = [inputs as i64, outputs as i64];
            layer.start(&mut weights, shape)?;
            let delta = layer.delta(extension.params())?;
            extension.add_delta(layer.block, layer.site, delta);
        }
        Ok(extension)
    }

    /// Copies on top of groups of the base's blocks.
    fn blocks(&self) -> Result<Extension, AdapterError> {
        let mut extension = Extension::new(ParamStore::new(self.device));
        for above in block_expansion::tops(self.units, self.config.n_layers()) {
            let mut weights = Weights { store: extension.params_mut(), source: self.source };
            block_expansion::start(&mut weights, self.config, above)?;
            extension.add_block(self.config, above)?;
        }
        Ok(extension)
    }

    /// Adapters in every block, each finished by the method, which is told the parts of its name,
    /// `layers.{i}` and `{module}.adapter`: as it is, or behind a gate.
    fn branches(
        &self,
        placement: BranchPlacement,
        start: Start,
        sigma: Activation,
        finish: impl Fn(GluAdapter, &mut Weights, [&str; 2]) -> Result<Box<dyn Branch>, AdapterError>,
    ) -> Result<Extension, AdapterError> {
        let (d, layers) = (self.config.d_model, self.config.n_layers());
        let variance = start_variance(start, d, layers);
        let mut extension = Extension::new(ParamStore::new(self.device));
        let sites = |block| placement.sites().iter().map(move |&site| (block, site));
        for (block, site) in (0..layers).flat_map(sites) {
            let module = match site {
                Placement::Ffn => "mlp.adapter",
                Placement::Attention => "self_attn.adapter",
            };
            let mut weights = Weights { store: extension.params_mut(), source: self.source };
            let layer = format!("layers.{block}");
            let prefix = format!("{layer}.{module}");
            let dh = [d as i64, self.units as i64];
            let adapter = GluAdapter::start(&mut weights, &prefix, dh, variance, sigma)?;
            let branch = finish(adapter, &mut weights, [&layer, module])?;
            extension.add_branch(block, site, branch);
        }
        Ok(extension)
    }
}
