//! How many weights a base has and an extension adds, and the rank or width that a budget buys.

use crate::error::{Problem, SpecError};
use crate::experiment::Shape;
use crate::field_path::FieldPath;
use crate::method::{GateActivation, GatePer, GateSpec, LinearSite, Method};
use crate::plan::ExtensionSize;

impl Shape {
    /// Width of a head: `d_model / n_heads`.
    pub fn head_dim(&self) -> usize {
        self.d_model / self.n_heads
    }

    /// Inputs and outputs of a linear layer of a block.
    pub fn linear_shape(&self, site: LinearSite) -> (usize, usize) {
        let (d, kv) = (self.d_model, self.n_kv_heads * self.head_dim());
        match site {
            LinearSite::QProj | LinearSite::OProj => (d, d),
            LinearSite::KProj | LinearSite::VProj => (d, kv),
            LinearSite::GateProj | LinearSite::UpProj => (d, self.d_ff),
            LinearSite::DownProj => (self.d_ff, d),
        }
    }
}

/// Weights of a block's linear layers.
pub(crate) fn linear_parameters(shape: &Shape) -> u64 {
    let of = |site| {
        let (inputs, outputs) = shape.linear_shape(site);
        inputs as u64 * outputs as u64
    };
    LinearSite::ALL.into_iter().map(of).sum()
}

/// Weights of the base: `V·d + L·(linear layers + 2·d) + d`, and `V·d` once more with a free head.
///
/// The `d`s are the weights of RMSNorm, two a block and the last.
pub fn base_parameters(shape: &Shape, vocab_size: usize) -> u64 {
    let (d, layers) = (shape.d_model as u64, shape.n_layers as u64);
    let embeddings = if shape.tie_embeddings { 1 } else { 2 };
    embeddings * vocab_size as u64 * d + layers * (linear_parameters(shape) + 2 * d) + d
}

/// The rank or width whose weights come nearest to the budget, the lower one on a tie.
///
/// A unit costs, in each of the `L` blocks: LoRA's rank `in + out` for each target; an adapter's
/// width `3·d`. Neutral residues also pay for their gate, whatever the width: `d` a block, or `d²`
/// with one a channel, and for a bias 1, or `d`.
///
/// # Errors
/// If the budget is too small for one unit; the message says which would do.
pub fn extension_size(
    method: &Method,
    shape: &Shape,
    vocab_size: usize,
) -> Result<ExtensionSize, SpecError> {
    solve(method, shape, vocab_size).map_err(|message| SpecError::Invalid {
        problems: vec![Problem::new(FieldPath::dotted("method.budget"), message)],
    })
}

pub(crate) fn solve(
    method: &Method,
    shape: &Shape,
    vocab_size: usize,
) -> Result<ExtensionSize, String> {
    let (d, layers) = (shape.d_model as u64, shape.n_layers as u64);
    let base = base_parameters(shape, vocab_size);
    let (budget, unit, fixed, what) = match method {
        Method::Finetune {} => {
            return Ok(ExtensionSize {
                units: 0,
                extension_parameters: 0,
                trainable_parameters: base,
            });
        }
        Method::Lora { budget, targets, .. } => {
            let of = |&site: &LinearSite| {
                let (inputs, outputs) = shape.linear_shape(site);
                (inputs + outputs) as u64
            };
            (budget, layers * targets.iter().map(of).sum::<u64>(), 0, "a rank of 1")
        }
        Method::Adapter { budget, .. } => (budget, layers * 3 * d, 0, "a width of 1"),
        Method::NeutralResidues { budget, gate, .. } => {
            (budget, layers * 3 * d, layers * gate_parameters(*gate, d), "a gate and a width of 1")
        }
    };
    let weights = budget.of(base);
    let spare = weights.saturating_sub(fixed);
    let units = spare / unit + u64::from(spare % unit * 2 > unit);
    if units == 0 {
        let enough = smallest_percent(fixed + unit / 2 + 1, base);
        return Err(format!(
            "{budget} of the base's {base} weights are {weights}, too few for {what}: {} weights; the smallest budget that would do is {enough}%",
            fixed + unit
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
    use crate::budget::Budget;
    use crate::method::{LocalLossSpec, Placement, Start};

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
            gate: GateSpec { activation: GateActivation::Relu, per, bias },
            local_loss: LocalLossSpec::default(),
            placement: Placement::Ffn,
            start: Start::LowVariance,
        }
    }

    #[test]
    fn the_base_is_counted_as_by_hand() {
        // A block: q, o 8·8; k, v 8·4; gate, up, down 8·20; two norms of 8. Then the last norm.
        let block = 2 * 64 + 2 * 32 + 3 * 160 + 2 * 8;
        assert_eq!(block, 688);
        assert_eq!(base_parameters(&SHAPE, 300), 300 * 8 + 2 * 688 + 8);
        let free = Shape { tie_embeddings: false, ..SHAPE };
        assert_eq!(base_parameters(&free, 300), 2 * 300 * 8 + 2 * 688 + 8);
    }

    #[test]
    fn each_method_pays_what_its_tensors_hold() {
        let size = |method| extension_size(&method, &SHAPE, 300).unwrap();
        let base = base_parameters(&SHAPE, 300);
        assert_eq!(base, 3784);
        assert_eq!(
            size(Method::Finetune {}),
            ExtensionSize { units: 0, extension_parameters: 0, trainable_parameters: 3784 }
        );
        // 20 % are 757 weights. An adapter's unit: 2 blocks of 3·8.
        let adapter =
            Method::Adapter { budget: percent(20.0), placement: Placement::Ffn, start: Start::He };
        assert_eq!(size(adapter).extension_parameters, 16 * 48);
        // A rank: q 16, k 12, down 28, in 2 blocks, 112; 757 = 6.76 of them.
        let targets = vec![LinearSite::QProj, LinearSite::KProj, LinearSite::DownProj];
        let lora = Method::Lora { budget: percent(20.0), lora_alpha: None, targets };
        assert_eq!((size(lora.clone()).units, size(lora).extension_parameters), (7, 784));
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
    }

    #[test]
    fn ties_go_to_the_lower_unit() {
        let shape = Shape { d_model: 2, n_heads: 1, n_kv_heads: 1, n_layers: 1, d_ff: 1, ..SHAPE };
        // A unit of 6 weights, a base of 1000 and 1.5, 1.6 units.
        let vocab_size = (1000 - 2 - (4 * 4 + 3 * 2 + 4)) / 2;
        assert_eq!(base_parameters(&shape, vocab_size), 1000);
        let units = |p| {
            let budget = percent(p);
            let method = Method::Adapter { budget, placement: Placement::Ffn, start: Start::He };
            extension_size(&method, &shape, vocab_size).unwrap().units
        };
        assert_eq!((units(0.9), units(1.0), units(1.5), units(1.6)), (1, 2, 2, 3));
    }

    #[test]
    fn a_budget_too_small_names_the_smallest_that_would_do() {
        for (method, stem) in [
            (residues(percent(0.1), GatePer::Channel, None), "a gate and a width of 1"),
            (residues(percent(0.001), GatePer::Token, Some(0.0)), "a gate and a width of 1"),
        ] {
            let error = extension_size(&method, &SHAPE, 300).unwrap_err().to_string();
            assert!(error.starts_with("method.budget: ") && error.contains(stem), "{error}");
            let named: Budget = error.rsplit("would do is ").next().unwrap().parse().unwrap();
            let Method::NeutralResidues { gate: GateSpec { per, bias, .. }, .. } = method else {
                unreachable!()
            };
            assert_eq!(extension_size(&residues(named, per, bias), &SHAPE, 300).unwrap().units, 1);
            let less = percent(named.fraction() * 100.0 * 0.9);
            assert!(extension_size(&residues(less, per, bias), &SHAPE, 300).is_err(), "{named}");
        }
    }
}
