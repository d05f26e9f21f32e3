//! What a branch reads besides a token itself: means over the tokens before it.
//!
//! Sums are taken in fp64, so that the mean at a token does not depend on how much was read in one call.

use neutral_torch::fused::PrefixTree;
use tch::{IndexOp, Kind, Tensor};

use crate::attention::window_starts;

/// The tokens before those of a call, as branches see them: of the same call, of earlier ones, or on a path.
#[derive(Debug)]
pub struct Before<'a>(Source<'a>);

#[derive(Debug)]
enum Source<'a> {
    /// Sequences from their first token on, or each token's document from the start that is given, `[b, t]`.
    Sequence(Option<Tensor>),
    /// What earlier calls left, a slot for each mean in the order of computation.
    Cached { slots: &'a mut Vec<Tensor>, next: usize },
    /// Sequences that share beginnings.
    Prefixes(&'a PrefixTree),
}

impl<'a> Before<'a> {
    /// Nothing but the tokens of the same call, all of one document.
    pub fn nothing() -> Self {
        Self::sequence(None)
    }

    pub(crate) fn sequence(starts_bt: Option<Tensor>) -> Self {
        Self(Source::Sequence(starts_bt))
    }

    /// Slots of earlier calls with the same extension; none, if this is the first.
    pub(crate) fn cached(slots: &'a mut Vec<Tensor>) -> Self {
        Self(Source::Cached { slots, next: 0 })
    }

    pub(crate) fn prefixes(tree: &'a PrefixTree) -> Self {
        Self(Source::Prefixes(tree))
    }

    /// At each token the mean of `z` over the last `window` tokens, its own included, or over as many as its
    /// document, its sequence or its path has.
    ///
    /// # Shapes
    /// `[b, t, c] → [b, t, c]`, in `z`'s kind; differentiable in `z`, except where earlier calls count.
    ///
    /// # Panics
    /// If the window is 0, or the sizes are not those that the tokens before have.
    pub fn window_mean(&mut self, z_btc: &Tensor, window: usize) -> Tensor {
        assert!(window > 0, "a window has a token");
        match &mut self.0 {
            Source::Sequence(starts_bt) => {
                let z_bt = z_btc.select(-1, 0);
                mean_from(z_btc, &window_starts(&z_bt, starts_bt.as_ref(), window))
            }
            Source::Cached { slots, next } => {
                if *next == slots.len() {
                    slots.push(z_btc.narrow(1, 0, 0));
                }
                let (mean_btc, kept) = continued(&slots[*next], z_btc, window);
                slots[*next] = kept;
                *next += 1;
                mean_btc
            }
            Source::Prefixes(tree) => {
                // What each node leaves to those that follow it.
                let mut kept: Vec<Tensor> = Vec::new();
                let mut means = Vec::new();
                for (parent, rows) in tree.nodes() {
                    let z_btc = z_btc.i((.., rows.start as i64..rows.end as i64));
                    let before =
                        parent.map_or_else(|| z_btc.narrow(1, 0, 0), |p| kept[p].shallow_clone());
                    let (mean_btc, left) = continued(&before, &z_btc, window);
                    means.push(mean_btc);
                    kept.push(left);
                }
                Tensor::cat(&means, 1)
            }
        }
    }
}

/// The means of tokens that follow others, and what those after them need: the last `window − 1` of all.
fn continued(before_btc: &Tensor, z_btc: &Tensor, window: usize) -> (Tensor, Tensor) {
    let [before, new] = [before_btc, z_btc].map(|z| z.size()[1]);
    let all_btc = Tensor::cat(&[before_btc, z_btc], 1);
    let starts_bt = window_starts(&all_btc.select(-1, 0), None, window);
    let kept = (before + new).min(window as i64 - 1);
    (
        mean_from(&all_btc, &starts_bt).narrow(1, before, new),
        all_btc.narrow(1, before + new - kept, kept).copy(),
    )
}

/// `(Σ_{r = starts[t]}^{t} z[r]) / (t − starts[t] + 1)`.
fn mean_from(z_btc: &Tensor, starts_bt: &Tensor) -> Tensor {
    let (t, c) = (z_btc.size()[1], z_btc.size()[2]);
    // [t + 1]: the sum of all before each position.
    let sums_btc = z_btc.cumsum(1, Kind::Double).constant_pad_nd([0, 0, 1, 0]);
    let starts_btc = starts_bt.unsqueeze(-1).expand([-1, -1, c], false);
    let of_windows = sums_btc.narrow(1, 1, t) - sums_btc.gather(1, &starts_btc, false);
    let counts_bt = Tensor::arange_start(1, t + 1, (Kind::Int64, z_btc.device())) - starts_bt;
    (of_windows / counts_bt.unsqueeze(-1)).to_kind(z_btc.kind())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device;

    fn numbers(shape: [i64; 3]) -> Tensor {
        let n: i64 = shape.iter().product();
        (Tensor::arange(n, (Kind::Double, Device::Cpu)) * 1.7).sin().view(shape)
    }

    /// By two loops, in f64; a token's document begins at `starts[t]`.
    fn by_hand(z_btc: &Tensor, starts: &[Vec<usize>], window: usize) -> Tensor {
        let [b, t, c] = z_btc.size()[..] else { panic!("three dimensions") };
        let mut means = Vec::new();
        for (row, starts) in (0..b).zip(starts) {
            for (at, &start) in starts.iter().enumerate() {
                let first = start.max((at + 1).saturating_sub(window));
                for channel in 0..c {
                    let sum: f64 =
                        (first..=at).map(|r| z_btc.double_value(&[row, r as i64, channel])).sum();
                    means.push(sum / (at - first + 1) as f64);
                }
            }
        }
        Tensor::from_slice(&means).view([b, t, c])
    }

    fn close(a: &Tensor, b: &Tensor) -> bool {
        a.allclose(b, 1e-12, 1e-12, false)
    }

    const WINDOWS: [usize; 5] = [1, 2, 3, 7, 100];

    #[test]
    fn a_mean_is_over_its_window_and_its_document_alone() {
        let z_btc = numbers([2, 7, 3]);
        let documents = vec![vec![0, 0, 0, 3, 3, 5, 5], vec![0, 1, 1, 1, 1, 1, 6]];
        for window in WINDOWS {
            let whole = Before::nothing().window_mean(&z_btc, window);
            assert!(close(&whole, &by_hand(&z_btc, &vec![vec![0; 7]; 2], window)), "{window}");
            let starts: Vec<i64> = documents.iter().flatten().map(|&s| s as i64).collect();
            let starts_bt = Tensor::from_slice(&starts).view([2, 7]);
            let within = Before::sequence(Some(starts_bt)).window_mean(&z_btc, window);
            assert!(close(&within, &by_hand(&z_btc, &documents, window)), "{window}");
        }
        assert!(Before::nothing().window_mean(&z_btc, 1).allclose(&z_btc, 0.0, 1e-15, false));
        let single = Before::nothing().window_mean(&z_btc.to_kind(Kind::Float), 3);
        assert_eq!(single.kind(), Kind::Float);
    }

    #[test]
    fn read_in_pieces_or_along_paths_the_means_are_those_of_whole_sequences() {
        let z_btc = numbers([1, 9, 2]);
        for window in WINDOWS {
            let whole = Before::nothing().window_mean(&z_btc, window);
            let mut slots = Vec::new();
            let pieces = [(0, 4), (4, 1), (5, 1), (6, 3)].map(|(at, count)| {
                let mut before = Before::cached(&mut slots);
                // Two branches, of which each has its own tokens before it.
                let piece = z_btc.narrow(1, at, count);
                let twice = before.window_mean(&(&piece * 2.0), window);
                let once = before.window_mean(&piece, window);
                assert!(close(&twice, &(&once * 2.0)));
                once
            });
            assert!(close(&Tensor::cat(&pieces, 1), &whole), "{window}");
            assert!(slots.iter().all(|kept| kept.size()[1] < window as i64));

            // 0–3, then either 4–5 and 6 or 7–8; after that another tree.
            let mut tree = PrefixTree::default();
            let trunk = tree.push(None, 4);
            let left = tree.push(Some(trunk), 2);
            let _ = tree.push(Some(left), 1);
            let _ = tree.push(Some(trunk), 2);
            let _ = tree.push(None, 3);
            let rows = Tensor::cat(&[&z_btc, &z_btc.narrow(1, 0, 3)], 1);
            let found = Before::prefixes(&tree).window_mean(&rows, window);
            for path in [vec![0, 1, 2, 3, 4, 5, 6], vec![0, 1, 2, 3, 7, 8], vec![9, 10, 11]] {
                let path = Tensor::from_slice(&path);
                let alone = Before::nothing().window_mean(&rows.index_select(1, &path), window);
                assert!(close(&found.index_select(1, &path), &alone), "{window}");
            }
        }
    }

    #[test]
    fn the_gradient_is_the_difference_quotient() {
        let z_btc = numbers([1, 5, 2]).set_requires_grad(true);
        let factors = numbers([1, 5, 2]) + 0.3;
        let value = |z: &Tensor| (Before::nothing().window_mean(z, 3) * &factors).sum(Kind::Double);
        let gradient = Tensor::run_backward(&[value(&z_btc)], &[&z_btc], false, false).remove(0);
        for at in 0..5 {
            let step = numbers([1, 5, 2]).zeros_like();
            let _ = step.i((0, at, 1)).fill_(1e-6);
            let z = z_btc.detach();
            let difference =
                value(&(&z + &step)).double_value(&[]) - value(&(&z - &step)).double_value(&[]);
            assert!((difference / 2e-6 - gradient.double_value(&[0, at, 1])).abs() < 1e-8);
        }
    }
}
