//! Linear layers, and the delta that an extension may put on one.

use neutral_torch::fused::{self, join_rows};
use tch::Tensor;

use crate::LinearDelta;

/// `y = x Wᵀ + b`, mostly without `b`.
#[derive(Debug)]
pub(crate) struct Linear {
    /// `[out, in]`.
    pub(crate) weight: Tensor,
    /// `[out]`.
    pub(crate) bias: Option<Tensor>,
}

impl Linear {
    /// # Shapes
    /// `x`: `[…, in]`; result: `[…, out]`.
    pub(crate) fn forward(&self, x: &Tensor, delta: Option<&dyn LinearDelta>) -> Tensor {
        linear(x, &self.weight, self.bias.as_ref(), delta)
    }
}

/// `y = x Wᵀ + b`, computed in the kind of `x`; then the delta, if there is one.
///
/// Weights that train are fp32 whatever the model computes in: the cast is part of the graph, so
/// their gradients are fp32 too.
///
/// # Shapes
/// `x`: `[…, in]`, `weight`: `[out, in]`, `bias`: `[out]`, result: `[…, out]`.
pub(crate) fn linear(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    delta: Option<&dyn LinearDelta>,
) -> Tensor {
    let weight = weight.to_kind(x.kind());
    let bias = bias.map(|bias| bias.to_kind(x.kind()));
    let y = fused::linear(x, &weight, bias.as_ref());
    match delta {
        Some(delta) => delta.apply(x, &weight, bias.as_ref(), y),
        None => y,
    }
}

/// Layers that read the same input, as one product: queries, keys and values; gate and up.
#[derive(Debug)]
pub(crate) struct Joined {
    /// The layers' weights, `[out, in]`: handles of those in the store.
    parts: Vec<Tensor>,
    /// All of them below each other; while it is there, the parts are views of it.
    whole: Option<Tensor>,
    /// The layers' biases, `[out]`, of all or of none.
    biases: Vec<Tensor>,
}

impl Joined {
    pub(crate) fn new(layers: Vec<Linear>) -> Self {
        let (parts, biases): (Vec<_>, Vec<_>) =
            layers.into_iter().map(|l| (l.weight, l.bias)).unzip();
        Self { parts, whole: None, biases: biases.into_iter().flatten().collect() }
    }

    /// What all layers give, beside each other in one tensor; or, if there are deltas, a tensor each.
    /// Either way the product is the same, so that a delta of zero changes no bit.
    ///
    /// # Shapes
    /// `x`: `[…, in]`; results: `[…, Σ out]`, or `[…, out]` for each layer.
    pub(crate) fn forward(&self, x: &Tensor, deltas: &[Option<&dyn LinearDelta>]) -> Vec<Tensor> {
        // Where the parts train, the weight is put together anew, with gradients.
        let join = |parts: &[Tensor]| join_rows(&parts.iter().collect::<Vec<_>>(), x.kind());
        let weight = self.whole.as_ref().map_or_else(|| join(&self.parts), Tensor::shallow_clone);
        let bias = (!self.biases.is_empty()).then(|| join(&self.biases));
        let y = linear(x, &weight, bias.as_ref(), None);
        if deltas.iter().all(Option::is_none) {
            return vec![y];
        }
        let widths: Vec<i64> = self.parts.iter().map(|part| part.size()[0]).collect();
        let outputs = y.split_with_sizes(widths.as_slice(), -1).into_iter();
        let biases = self.biases.iter().map(|bias| Some(bias.to_kind(x.kind())));
        let biases = biases.chain(std::iter::repeat_with(|| None));
        (outputs.zip(&self.parts).zip(biases).zip(deltas))
            .map(|(((y, weight), bias), delta)| match delta {
                Some(delta) => delta.apply(x, &weight.to_kind(x.kind()), bias.as_ref(), y),
                None => y,
            })
            .collect()
    }

    /// Moves the parts into one piece of memory, where they stay under their names. They must not
    /// train, and [`Joined::part`] must be called before their kind changes.
    pub(crate) fn join(&mut self) {
        tch::no_grad(|| {
            let whole = Tensor::cat(&self.parts, 0);
            let mut at = 0;
            for part in &mut self.parts {
                let rows = part.size()[0];
                part.set_data(&whole.narrow(0, at, rows));
                at += rows;
            }
            self.whole = Some(whole);
        });
    }

    /// The parts as tensors of their own again: the store gives them new memory when it
    /// changes their kind, and the whole would not follow.
    pub(crate) fn part(&mut self) {
        if self.whole.take().is_some() {
            for part in &mut self.parts {
                let own = part.detach().copy();
                part.set_data(&own);
            }
        }
    }
}
