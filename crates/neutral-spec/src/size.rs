//! How many weights a base has and an extension adds, and the rank or width that a budget buys.

use crate::base::Shape;
use crate::error::{Problem, SpecError};
use crate::field_path::FieldPath;
use crate::gate::{GateActivation, GatePer, GateSpec};
use crate::method::{BranchPlacement, LinearSite, Method};
use crate::plan::ExtensionSize;

/// The sizes of a base that budgets and costs depend on, wherever the base comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModelSize {
    /// Width of the residual stream.
    pub d_model: usize,
    /// Number of blocks.
    pub n_layers: usize,
    /// Query heads.
    pub n_heads: usize,
    /// Key and value heads.
    pub n_kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Inner width of the feed-forward layer.
    pub d_ff: usize,
    /// Number of tokens.
    pub vocab_size: usize,
    /// Number of weights.
    pub parameters: u64,
    /// Number of weights of one block, its norms included.
    pub block_parameters: u64,
}

impl ModelSize {
    /// Inputs and outputs of a linear layer of a block, as `(in, out)`; its weight is `[out, in]`.
    pub fn linear_shape(&self, site: LinearSite) -> (usize, usize) {
        let (d, ff) = (self.d_model, self.d_ff);
        let (q, kv) = (self.n_heads * self.head_dim, self.n_kv_heads * self.head_dim);
        match site {
            LinearSite::QProj => (d, q),
            LinearSite::OProj => (q, d),
            LinearSite::KProj | LinearSite::VProj => (d, kv),
            LinearSite::GateProj | LinearSite::UpProj => (d, ff),
            LinearSite::DownProj => (ff, d),
        }
    }

    /// Weights of a block's linear layers.
    pub fn linear_parameters(&self) -> u64 {
        let of = |site| {
            let (inputs, outputs) = self.linear_shape(site);
            inputs as u64 * outputs as u64
        };
        LinearSite::ALL.into_iter().map(of).sum()
    }
}

impl Shape {
    /// Width of a head: `d_model / n_heads`.
    pub fn head_dim(&self) -> usize {
        self.d_model / self.n_heads
    }

    /// The sizes of such a model with a vocabulary.
    ///
    /// Its weights: `V·d + L·(linear layers + 2·d) + d`, and `V·d` once more with a free head. The
    /// `d`s are the weights of RMSNorm, two a block and the last.
    pub fn size(&self, vocab_size: usize) -> ModelSize {
        let mut size = ModelSize {
            d_model: self.d_model,
            n_layers: self.n_layers,
            n_heads: self.n_heads,
            n_kv_heads: self.n_kv_heads,
            head_dim: self.head_dim(),
            d_ff: self.d_ff,
            vocab_size,
            parameters: 0,
            block_parameters: 0,
        };
        let (d, layers) = (self.d_model as u64, self.n_layers as u64);
        let embeddings = if self.tie_embeddings { 1 } else { 2 };
        size.block_parameters = size.linear_parameters() + 2 * d;
        size.parameters = embeddings * vocab_size as u64 * d + layers * size.block_parameters + d;
        size
    }
}

/// The rank or width whose weights come nearest to the budget, the lower one on a tie.
///
/// A unit costs, in each of the `L` blocks: the rank of LoRA and `DoRA` `in + out` for each target; an
/// adapter's width `3·d`, twice with branches beside both sub-layers. Whatever the units, `DoRA` also
/// pays `out` for each target, and neutral residues for each gate: `d`, or `d²` with one a channel,
/// and for a bias 1, or `d`; and `d` for each norm of an adapter's input. A unit of block expansion is a
/// whole block.
///
/// # Errors
/// If the budget is too small for one unit, the message says which would do; or if it is more than a
/// copy of every block.
pub fn extension_size(method: &Method, model: &ModelSize) -> Result<ExtensionSize, SpecError> {
    solve(method, model).map_err(|message| SpecError::Invalid {
        problems: vec![Problem::new(FieldPath::dotted("method.budget"), message)],
    })
}

pub(crate) fn solve(method: &Method, model: &ModelSize) -> Result<ExtensionSize, String> {
    let (d, layers) = (model.d_model as u64, model.n_layers as u64);
    let base = model.parameters;
    let rank = |targets: &[LinearSite]| {
        let of = |&site: &LinearSite| {
            let (inputs, outputs) = model.linear_shape(site);
            (inputs + outputs) as u64
        };
        layers * targets.iter().map(of).sum::<u64>()
    };
    let branches = |placement: BranchPlacement| layers * placement.sites().len() as u64;
    let (budget, unit, fixed, what) = match method {
        Method::Finetune {}
        | Method::KlToBase { .. }
        | Method::L2Sp { .. }
        | Method::Ewc { .. }
        | Method::WiseFt { .. } => {
            return Ok(ExtensionSize {
                units: 0,
                extension_parameters: 0,
                trainable_parameters: base,
            });
        }
        Method::Lora { budget, targets, .. } => (budget, rank(targets), 0, "a rank of 1"),
        Method::Dora { budget, targets, .. } => {
            let lengths =
                targets.iter().map(|&site| model.linear_shape(site).1 as u64).sum::<u64>();
            (budget, rank(targets), layers * lengths, "the rows' lengths and a rank of 1")
        }
        Method::Adapter { budget, placement, .. } => {
            (budget, branches(*placement) * 3 * d, 0, "a width of 1")
        }
        Method::NeutralResidues { budget, gate, placement, input_norm, .. } => {
            let branches = branches(*placement);
            let gates = if gate.shared { branches / layers } else { branches };
            let norms = if *input_norm { branches * d } else { 0 };
            let fixed = gates * gate_parameters(*gate, d) + norms;
            (budget, branches * 3 * d, fixed, "a gate and a width of 1")
        }
        Method::BlockExpansion { budget } => (budget, model.block_parameters, 0, "a whole block"),
    };
    if unit == 0 {
        return Err("method.targets is empty; name at least one of q_proj … down_proj".to_owned());
    }
    let nearest = |weights: u64| {
        let spare = weights.saturating_sub(fixed);
        spare / unit + u64::from(spare % unit * 2 > unit)
    };
    let units = budget.units().or(budget.of(base).map(nearest)).unwrap_or_default();
    if units == 0 {
        let weights = budget.of(base).unwrap_or_default();
        let enough = smallest_percent(fixed + unit / 2 + 1, base);
        return Err(format!(
            "{budget} of the base's {base} weights are {weights}, too few for {what}: {} weights; the smallest budget that would do is {enough}%",
            fixed + unit
        ));
    }
    if matches!(method, Method::BlockExpansion { .. }) && units > layers {
        return Err(format!(
            "{budget} is {units} blocks of {unit} weights, but each of the base's {layers} is copied once at most; lower it"
        ));
    }
    let extension_parameters = fixed + units * unit;
    Ok(ExtensionSize {
        units: units as usize,
        extension_parameters,
        trainable_parameters: extension_parameters,
    })
}

fn gate_parameters(gate: GateSpec, d: u64) -> u64 {
    let bias = u64::from(gate.bias.is_some());
    match (gate.activation, gate.per) {
        (GateActivation::None, _) => 0,
        (_, GatePer::Token) => d + bias,
        (_, GatePer::Channel) => d * d + bias * d,
    }
}

/// The percentage that so many weights are, rounded up to two significant digits.
fn smallest_percent(weights: u64, base: u64) -> f64 {
    let percent = weights as f64 * 100.0 / base as f64;
    let digits = 1 - percent.log10().floor() as i32;
    let rounded = (percent * 10f64.powi(digits)).ceil();
    // Through text, so that the result is the decimal number itself, not one a rounding away.
    format!("{rounded}e{}", -digits).parse().unwrap_or(percent)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::LocalLossSpec;
    use crate::budget::Budget;
    use crate::method::Start;

    const SHAPE: Shape = Shape {
        d_model: 8,
        n_layers: 2,
        n_heads: 4,
        n_kv_heads: 2,
        d_ff: 20,
        tie_embeddings: true,
        rope_theta: 1e4,
        norm_epsilon: 1e-5,
    };

    fn percent(percent: f64) -> Budget {
        Budget::from_percent(percent).unwrap()
    }

    fn residues(budget: Budget, per: GatePer, bias: Option<f64>) -> Method {
        Method::NeutralResidues {
            budget,
            gate: GateSpec { per, bias, ..GateSpec::default() },
            local_loss: LocalLossSpec::default(),
            placement: BranchPlacement::Ffn,
            start: Start::LowVariance,
            activation: None,
            input_norm: false,
        }
    }

    #[test]
    fn the_base_is_counted_as_by_hand() {
        // A block: q, o 8·8; k, v 8·4; gate, up, down 8·20; two norms of 8. Then the last norm.
        let block = 2 * 64 + 2 * 32 + 3 * 160 + 2 * 8;
        assert_eq!(block, 688);
        assert_eq!(SHAPE.size(300).parameters, 300 * 8 + 2 * 688 + 8);
        let free = Shape { tie_embeddings: false, ..SHAPE };
        assert_eq!(free.size(300).parameters, 2 * 300 * 8 + 2 * 688 + 8);
    }

    #[test]
    fn each_method_pays_what_its_tensors_hold() {
        let size = |method| extension_size(&method, &SHAPE.size(300)).unwrap();
        let base = SHAPE.size(300).parameters;
        assert_eq!(base, 3784);
        assert_eq!(
            size(Method::Finetune {}),
            ExtensionSize { units: 0, extension_parameters: 0, trainable_parameters: 3784 }
        );
        // 20 % are 757 weights. An adapter's unit: 2 blocks of 3·8.
        let adapter = Method::Adapter {
            budget: percent(20.0),
            placement: BranchPlacement::Ffn,
            start: Start::He,
            activation: None,
        };
        assert_eq!(size(adapter).extension_parameters, 16 * 48);
        // A rank: q 16, k 12, down 28, in 2 blocks, 112; 757 = 6.76 of them.
        let targets = vec![LinearSite::QProj, LinearSite::KProj, LinearSite::DownProj];
        let lora = Method::Lora { budget: percent(20.0), lora_alpha: None, targets };
        assert_eq!((size(lora.clone()).units, size(lora).extension_parameters), (7, 784));
        // The same of DoRA, and its rows: q 8, k 4, down 8, in 2 blocks, 40; 717 = 6.4 ranks.
        let dora = |targets| Method::Dora { budget: percent(20.0), lora_alpha: None, targets };
        let dora = dora(vec![LinearSite::QProj, LinearSite::KProj, LinearSite::DownProj]);
        assert_eq!((size(dora.clone()).units, size(dora).extension_parameters), (6, 6 * 112 + 40));
        // Both sub-layers: units of 96 weights, 757 = 7.9 of them.
        let placement = BranchPlacement::Both;
        let both = Method::Adapter {
            budget: percent(20.0),
            placement,
            start: Start::He,
            activation: None,
        };
        assert_eq!((size(both.clone()).units, size(both).extension_parameters), (8, 768));
        // A block of 688: 757 = 1.1 of them, and no more than two.
        let blocks = |p| Method::BlockExpansion { budget: percent(p) };
        assert_eq!((size(blocks(20.0)).units, size(blocks(20.0)).extension_parameters), (1, 688));
        assert_eq!((size(blocks(45.0)).units, size(blocks(45.0)).extension_parameters), (2, 1376));
        let error = |p| extension_size(&blocks(p), &SHAPE.size(300)).unwrap_err().to_string();
        assert!(
            error(50.0).contains("3 blocks of 688") && error(9.0).contains("a whole block: 688")
        );
        // Gates: 2·8, 2·(8+1), 2·64, 2·(64+8); the rest over 48.
        for (per, bias, gate, width) in [
            (GatePer::Token, None, 16, 15),
            (GatePer::Token, Some(1.0), 18, 15),
            (GatePer::Channel, None, 128, 13),
            (GatePer::Channel, Some(1.0), 144, 13),
        ] {
            let size = size(residues(percent(20.0), per, bias));
            assert_eq!((size.units, size.extension_parameters), (width, gate + width as u64 * 48));
        }
        // One gate of 8 + 1 for both blocks, and two norms of 8: 732 left, 15.25 units.
        let mut variant = residues(percent(20.0), GatePer::Token, Some(1.0));
        if let Method::NeutralResidues { gate, input_norm, .. } = &mut variant {
            (gate.shared, *input_norm) = (true, true);
        }
        assert_eq!(size(variant.clone()).extension_parameters, 9 + 16 + 15 * 48);
        // Beside both sub-layers a gate each, four norms, and units of 96: 707 left, 7.4 of them.
        if let Method::NeutralResidues { placement, .. } = &mut variant {
            *placement = BranchPlacement::Both;
        }
        assert_eq!(size(variant).extension_parameters, 2 * 9 + 32 + 7 * 96);
    }

    #[test]
    fn ties_go_to_the_lower_unit() {
        let shape = Shape { d_model: 2, n_heads: 1, n_kv_heads: 1, n_layers: 1, d_ff: 1, ..SHAPE };
        // A unit of 6 weights, a base of 1000 and 1.5, 1.6 units.
        let vocab_size = (1000 - 2 - (4 * 4 + 3 * 2 + 4)) / 2;
        assert_eq!(shape.size(vocab_size).parameters, 1000);
        let units = |p| {
            let budget = percent(p);
            let method = Method::Adapter {
                budget,
                placement: BranchPlacement::Ffn,
                start: Start::He,
                activation: None,
            };
            extension_size(&method, &shape.size(vocab_size)).unwrap().units
        };
        assert_eq!((units(0.9), units(1.0), units(1.5), units(1.6)), (1, 2, 2, 3));
    }

    #[test]
    fn units_are_the_rank_the_width_and_the_new_blocks() {
        let budget = Budget::from_units(3).unwrap();
        let targets = vec![LinearSite::QProj];
        for method in [
            Method::Lora { budget, lora_alpha: None, targets },
            residues(budget, GatePer::Token, None),
            Method::BlockExpansion { budget },
        ] {
            let model = SHAPE.size(300);
            let size = extension_size(&method, &model);
            if matches!(method, Method::BlockExpansion { .. }) && model.n_layers < 3 {
                assert!(size.unwrap_err().to_string().contains("3 units is 3 blocks"));
                continue;
            }
            let size = size.unwrap();
            assert_eq!(size.units, 3);
            // The share that as many weights are gives the same.
            let share = 100.0 * size.extension_parameters as f64 / model.parameters as f64;
            let same = |budget| match &method {
                Method::Lora { targets, .. } => {
                    Method::Lora { budget, lora_alpha: None, targets: targets.clone() }
                }
                Method::BlockExpansion { .. } => Method::BlockExpansion { budget },
                _ => residues(budget, GatePer::Token, None),
            };
            assert_eq!(extension_size(&same(percent(share)), &model).unwrap(), size);
        }
    }

    #[test]
    fn a_budget_too_small_names_the_smallest_that_would_do() {
        for (method, stem) in [
            (residues(percent(0.1), GatePer::Channel, None), "a gate and a width of 1"),
            (residues(percent(0.001), GatePer::Token, Some(0.0)), "a gate and a width of 1"),
        ] {
            let error = extension_size(&method, &SHAPE.size(300)).unwrap_err().to_string();
            assert!(error.starts_with("method.budget: ") && error.contains(stem), "{error}");
            let named: Budget = error.rsplit("would do is ").next().unwrap().parse().unwrap();
            let Method::NeutralResidues { gate: GateSpec { per, bias, .. }, .. } = method else {
                unreachable!()
            };
            assert_eq!(
                extension_size(&residues(named, per, bias), &SHAPE.size(300)).unwrap().units,
                1
            );
            let named_percent: f64 = named.to_string().trim_end_matches('%').parse().unwrap();
            let less = percent(named_percent * 0.9);
            assert!(
                extension_size(&residues(less, per, bias), &SHAPE.size(300)).is_err(),
                "{named}"
            );
        }
    }
}
