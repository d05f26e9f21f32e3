//! Attention of new tokens to all before them, whose keys and values are kept: for generating.

use tch::{Kind, Tensor, no_grad};

use super::{Heads, Scores, Seen, attend, rotated};

/// Rotated keys, and values, of the positions so far.
#[derive(Debug, Default)]
pub struct KeyValues {
    /// `[b, key_value, capacity, e]` each; what lies behind `len` means nothing.
    kept: Option<[Tensor; 2]>,
    len: i64,
}

impl KeyValues {
    /// Number of positions.
    pub fn len(&self) -> i64 {
        self.len
    }

    /// There is no position yet.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Appends positions; keys and values of all of them, `[b, key_value, len, e]`.
    fn append(&mut self, new: [&Tensor; 2]) -> [Tensor; 2] {
        let size = new[0].size();
        let (before, all) = (self.len, self.len + size[2]);
        let kept = match self.kept.take() {
            Some(kept) if kept[0].size()[2] >= all => kept,
            // Room for as many again, so that a token at a time does not copy all others each time.
            short => std::array::from_fn(|i| {
                let room = Tensor::empty(
                    [size[0], size[1], 2 * all, size[3]],
                    (new[i].kind(), new[i].device()),
                );
                if let Some(short) = &short {
                    room.narrow(2, 0, before).copy_(&short[i].narrow(2, 0, before));
                }
                room
            }),
        };
        self.len = all;
        for (kept, new) in kept.iter().zip(new) {
            kept.narrow(2, before, size[2]).copy_(new);
        }
        let kept = self.kept.insert(kept);
        std::array::from_fn(|i| kept[i].narrow(2, 0, all))
    }
}

/// As [`super::attention`], of tokens that follow those kept; theirs are kept too. Without gradients.
///
/// # Shapes
/// `qkv`: as for [`super::attention`], of the new tokens alone; `rotation`: of their positions; a
/// token attends to `window` positions, itself included, or to all before it.
///
/// # Panics
/// If the shapes do not fit each other or those kept.
pub fn cached_attention(
    qkv: &[&Tensor],
    heads: Heads,
    scores: Scores,
    rotation: [&Tensor; 2],
    kept: &mut KeyValues,
    window: Option<usize>,
) -> Tensor {
    no_grad(|| {
        let [q, k, v] = rotated(qkv, heads, rotation);
        let before = kept.len();
        let [k, v] = kept.append([&k, &v]);
        // Without a mask, with which no kernel of CUDA's shares heads, and which is of all positions times all.
        if window.is_none_or(|window| kept.len() <= window as i64) {
            if q.size()[2] == 1 {
                return attend([&q, &k, &v], heads, scores, Seen::All);
            }
            if before == 0 {
                return attend([&q, &k, &v], heads, scores, Seen::Before);
            }
        }
        let options = (Kind::Int64, q.device());
        let query = (Tensor::arange(q.size()[2], options) + before).unsqueeze(-1);
        let key = Tensor::arange(kept.len(), options);
        let mut mask = key.le_tensor(&query);
        if let Some(window) = window {
            mask = mask.logical_and(&(key + window as i64).gt_tensor(&query));
        }
        attend([&q, &k, &v], heads, scores, Seen::Where(&mask))
    })
}
