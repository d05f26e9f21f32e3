//! Attention of sequences that share beginnings: each token is computed once, however many go through it.
//!
//! The rows of all nodes lie one after another without padding. On the CPU one unit of work is a
//! key-value head of a tree: its nodes are visited in order, and each puts its keys and values at their
//! positions, over those of the branch before. What lies before them is then the node's own path.

use std::array;
use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

use tch::{Device, Tensor, no_grad};

use super::forward::{QUERIES, Work};
use super::head::Place;
use super::pack::{as_numbers, pairs, transpose_into};
use super::{Heads, Kernel, Scores, Seen, attend, geometry, operands, rotated};
use crate::element::{Element, Parts, numbers_mut};
use crate::fused::{by_kind, has_kernel};
use crate::parallel::parallel_for;
use crate::system::threads;

/// Token sequences that share beginnings, as the nodes of trees; the first of each tree begins at
/// position 0.
#[derive(Debug, Default)]
pub struct PrefixTree {
    nodes: Vec<Node>,
    /// What attends to what, by window, where there is no kernel: the same for every block.
    masks: RefCell<BTreeMap<Option<usize>, Tensor>>,
    /// The path to the last node, by places of nodes.
    path: Vec<usize>,
    depth: usize,
}

/// Tokens that the same sequences go through.
#[derive(Clone, Debug)]
struct Node {
    parent: Option<usize>,
    rows: Range<usize>,
    /// Of the first row.
    position: usize,
}

impl PrefixTree {
    /// Appends the rows of a node that follows those of another, and returns its place.
    ///
    /// # Panics
    /// If it has no rows, or if the other is neither the last node nor one that the last one follows: a
    /// branch is finished before the next one begins.
    pub fn push(&mut self, parent: Option<usize>, rows: usize) -> usize {
        assert!(rows > 0, "a node has rows");
        let kept = parent.map_or(Some(0), |p| Some(self.path.iter().position(|n| *n == p)? + 1));
        self.path.truncate(kept.expect("a branch is finished before the next one begins"));
        let position = parent.map_or(0, |p| self.nodes[p].position + self.nodes[p].rows.len());
        let first = self.rows();
        self.masks.get_mut().clear();
        self.depth = self.depth.max(position + rows);
        self.path.push(self.nodes.len());
        self.nodes.push(Node { parent, rows: first..first + rows, position });
        self.nodes.len() - 1
    }

    /// The nodes in order: the place of the one that each follows, and its rows.
    pub fn nodes(&self) -> impl Iterator<Item = (Option<usize>, Range<usize>)> {
        self.nodes.iter().map(|node| (node.parent, node.rows.clone()))
    }

    /// Number of rows of all nodes.
    pub fn rows(&self) -> usize {
        self.nodes.last().map_or(0, |node| node.rows.end)
    }

    /// Positions of the longest sequence.
    pub fn depth(&self) -> usize {
        self.depth
    }

    /// Which rows attend to which, `[n, n]`, bool; to so many positions, themselves included, or to all.
    fn mask(&self, window: Option<usize>, device: Device) -> Tensor {
        let mut masks = self.masks.borrow_mut();
        let mask = masks.entry(window).or_insert_with(|| self.new_mask(window, device));
        mask.to_device(device)
    }

    fn new_mask(&self, window: Option<usize>, device: Device) -> Tensor {
        let n = self.rows();
        let mut mask = vec![false; n * n];
        for node in &self.nodes {
            let mut above = Some(node);
            while let Some(seen) = above {
                for (row, position) in node.rows.clone().zip(node.position..) {
                    for (key, at) in seen.rows.clone().zip(seen.position..) {
                        let near = window.is_none_or(|window| at + window > position);
                        mask[row * n + key] = at <= position && near;
                    }
                }
                above = seen.parent.map(|parent| &self.nodes[parent]);
            }
        }
        Tensor::from_slice(&mask).view([n as i64, n as i64]).to_device(device)
    }

    /// The position of every row, `[n]`, `Int64`.
    fn positions(&self, device: Device) -> Tensor {
        let all = self.nodes.iter().flat_map(|node| (node.position..).take(node.rows.len()));
        Tensor::from_slice(&all.map(|p| p as i64).collect::<Vec<_>>()).to_device(device)
    }

    /// The nodes of each tree.
    fn trees(&self) -> impl Iterator<Item = &[Node]> {
        self.nodes.chunk_by(|_, next| next.parent.is_some())
    }
}

/// As [`super::attention`], of the rows of trees: each attends to itself and to those before it on its
/// path, `window` positions of them if there is one. Without gradients.
///
/// # Shapes
/// `qkv`: as for [`super::attention`], `[1, n, …]` with the tree's rows; `rotation`: of the positions up
/// to its depth.
///
/// # Panics
/// If the shapes do not fit each other or the tree.
pub fn prefix_attention(
    qkv: &[&Tensor],
    heads: Heads,
    scores: Scores,
    rotation: [&Tensor; 2],
    tree: &PrefixTree,
    window: Option<usize>,
) -> Tensor {
    assert_eq!(qkv[0].size()[..2], [1, tree.rows() as i64], "one row for each of the tree's");
    no_grad(|| {
        if has_kernel(qkv[0]) && scores.softcap.is_none() {
            return by_kind!(qkv[0], kernel(qkv, heads, scores, rotation, tree, window));
        }
        formula(qkv, heads, scores, rotation, tree, window)
    })
}

fn formula(
    qkv: &[&Tensor],
    heads: Heads,
    scores: Scores,
    rotation: [&Tensor; 2],
    tree: &PrefixTree,
    window: Option<usize>,
) -> Tensor {
    let device = qkv[0].device();
    let positions = tree.positions(device);
    let [cos, sin] = rotation.map(|table| table.index_select(0, &positions));
    let [q, k, v] = rotated(qkv, heads, [&cos, &sin]);
    attend([&q, &k, &v], heads, scores, Seen::Where(&tree.mask(window, device)))
}

fn kernel<T: Element>(
    qkv: &[&Tensor],
    heads: Heads,
    scores: Scores,
    rotation: [&Tensor; 2],
    tree: &PrefixTree,
    window: Option<usize>,
) -> Tensor {
    let inputs: Vec<Tensor> = qkv.iter().map(|x| x.contiguous()).collect();
    let rotation = rotation.map(Tensor::contiguous);
    let g = geometry(
        &inputs,
        heads,
        scores,
        [1, tree.rows()],
        tree.depth,
        [&rotation[0], &rotation[1]],
    );
    let shape = [1, tree.rows() as i64, (g.query_heads * g.e) as i64];
    let mut out = inputs[0].new_empty(shape, (T::KIND, Device::Cpu));
    let kernel = operands::<T>(g, heads, &inputs, &rotation, None);
    let mut trees: Vec<&[Node]> = tree.trees().collect();
    // Largest first, each to the thread that is free: trees differ much in size.
    trees.sort_by_key(|nodes| Reverse(nodes.iter().map(|node| node.rows.len()).sum::<usize>()));
    let (units, next) = (trees.len() * g.key_value_heads, AtomicUsize::new(0));
    let parts = Parts::new(numbers_mut(&mut out));
    parallel_for(threads(), 1, |_, _| {
        let mut work = Work::new::<T>(&g);
        let mut value_rows = vec![T::from_f32(0.0); g.padded_t * g.e];
        loop {
            let unit = next.fetch_add(1, Ordering::Relaxed);
            if unit >= units {
                break;
            }
            let head = unit % g.key_value_heads;
            for node in trees[unit / g.key_value_heads] {
                kernel.visit(&mut work, &mut value_rows, node, head, window, parts);
            }
        }
    });
    out
}

impl<T: Element> Kernel<'_, T> {
    /// Puts a node's keys and values where they belong, then attends with its queries.
    fn visit(
        &self,
        work: &mut Work,
        value_rows: &mut [T],
        node: &Node,
        head: usize,
        window: Option<usize>,
        out: Parts<T>,
    ) {
        let g = self.geometry;
        let words = g.e / T::GROUP;
        let (first, position, len) = (node.rows.start, node.position, node.rows.len());
        let end = position + len;
        let rows = &mut as_numbers::<T>(&mut work.rows)[..len * g.e];
        g.read_rows(&self.source(1, head, 0), first, position, rows);
        transpose_into(&work.rows, [len, words], [words, g.padded_t], &mut work.keys[position..]);
        // A group of values may begin in the node above, and end where nothing is yet.
        let from = position / T::GROUP * T::GROUP;
        let to = end.next_multiple_of(T::GROUP);
        g.read_rows(
            &self.source(2, head, 0),
            first,
            position,
            &mut value_rows[position * g.e..end * g.e],
        );
        value_rows[end * g.e..to * g.e].fill(T::from_f32(0.0));
        let rows = &mut as_numbers::<T>(&mut work.rows)[..(to - from) * g.e];
        rows.copy_from_slice(&value_rows[from * g.e..to * g.e]);
        let values = &mut work.values[from / T::GROUP * g.padded_e..];
        pairs::<T>(&work.rows, to - from, g.e, g.padded_e, values);

        let group = g.query_heads / g.key_value_heads;
        for query_head in head * group..(head + 1) * group {
            let place = Place { stride: g.query_heads * g.e, offset: query_head * g.e };
            for begin in (0..len).step_by(QUERIES) {
                let m = QUERIES.min(len - begin);
                let queries = &mut as_numbers::<T>(&mut work.queries)[..m * g.e];
                let source = self.source(0, query_head, 0);
                g.read_rows(&source, first + begin, position + begin, queries);
                let keys: [Range<usize>; QUERIES] = array::from_fn(|i| {
                    let end = position + begin + i + 1;
                    window.map_or(0, |window| end.saturating_sub(window))..end
                });
                work.attend::<T>(&g, 0, &keys[..m], &mut [0.0; QUERIES]);
                let written = first + begin..first + begin + m;
                #[expect(unsafe_code, reason = "threads write their own heads")]
                // SAFETY: these rows of this query head belong to one unit.
                unsafe {
                    g.write(out, place, 0, written, None, (&work.mixed, g.padded_e));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tch::Kind;

    use super::super::tests::table;
    use super::*;
    use crate::fused::attention;
    use crate::fused::testing::{error, normal};
    use crate::simd::at_every_width;

    /// `(parent, rows)` of the nodes of two trees.
    const NODES: [(Option<usize>, usize); 8] = [
        (None, 49),
        (Some(0), 1),
        (Some(1), 20),
        (Some(1), 3),
        (Some(0), 7),
        (None, 1),
        (Some(5), 50),
        (Some(5), 2),
    ];

    fn tree() -> PrefixTree {
        let mut tree = PrefixTree::default();
        for (parent, rows) in NODES {
            tree.push(parent, rows);
        }
        tree
    }

    #[test]
    fn every_path_is_attended_to_as_a_sequence_by_itself() {
        let tree = tree();
        assert_eq!((tree.rows(), tree.depth(), tree.trees().count()), (133, 70, 2));
        for (query, key_value, width) in [(4, 2, 6), (3, 1, 64), (2, 2, 20)] {
            let heads = Heads { query, key_value, width };
            let [cos, sin] = table(70, width as i64 / 2);
            let all = (query + 2 * key_value) * width;
            let qkv = normal("qkv", &[1, 133, all as i64], Kind::Double).detach();
            let scores = Scores { scale: 0.3, softcap: None };
            for (window, softcap) in [(None, None), (Some(9), None), (None, Some(0.7))] {
                let scores = Scores { softcap, ..scores };
                for kind in [Kind::Double, Kind::Float, Kind::BFloat16] {
                    let qkv = qkv.to_kind(kind);
                    let check = || {
                        let found =
                            prefix_attention(&[&qkv], heads, scores, [&cos, &sin], &tree, window);
                        // Every leaf's path, as a causal sequence.
                        for leaf in [2, 3, 4, 6, 7] {
                            let mut path = vec![];
                            let mut at = Some(leaf);
                            while let Some(node) = at {
                                let Node { rows, parent, .. } = &tree.nodes[node];
                                path.splice(0..0, rows.clone().map(|row| row as i64));
                                at = *parent;
                            }
                            let t = path.len() as i64;
                            let rows = Tensor::from_slice(&path);
                            let alone = qkv.index_select(1, &rows).to_kind(Kind::Double);
                            let starts = window.map(|window| {
                                let start = |i: i64| (i - window as i64 + 1).max(0);
                                Tensor::from_slice(&(0..t).map(start).collect::<Vec<_>>())
                                    .view([1, t])
                            });
                            let rotation = [&cos, &sin].map(|table| table.narrow(0, 0, t));
                            let rotation = [&rotation[0], &rotation[1]];
                            let exact =
                                attention(&[&alone], heads, scores, rotation, starts.as_ref());
                            let bound = match kind {
                                Kind::Double => 1e-12,
                                Kind::Float => 1e-5,
                                _ => 0.02,
                            };
                            let found = found.index_select(1, &rows);
                            let error = error(&[found], &[exact]);
                            assert!(error < bound, "{heads:?} {window:?} {kind:?}: {error:.1e}");
                        }
                    };
                    at_every_width(|_| check());
                }
            }
        }
    }

    #[test]
    #[should_panic(expected = "a branch is finished before the next one begins")]
    fn a_node_cannot_follow_one_of_a_finished_branch() {
        let mut tree = tree();
        tree.push(Some(6), 1);
    }
}
