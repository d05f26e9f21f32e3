//! Windows of about one length in one tensor.
//!
//! Longest first: a window that does not fit into memory fails at once and not after an hour.
//!
//! Tensor names end in their shape: `b` window, `t` position, `n` scored position.

use std::cmp::Reverse;

use tch::{Device, Tensor};

use crate::Window;

/// A window and the document it is from, by its place in the list of documents.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row<'a> {
    pub(crate) document: usize,
    pub(crate) window: Window<'a>,
}

/// Sorts rows by length and splits them so that a batch has at most so many positions, padding
/// included. A row that is longer than that is a batch of its own.
pub(crate) fn group<'r, 'a>(
    rows: &'r mut [Row<'a>],
    tokens_per_batch: usize,
) -> Vec<&'r [Row<'a>]> {
    rows.sort_by_key(|row| Reverse(row.window.input_len()));
    let mut rest: &'r [Row<'a>] = rows;
    let mut batches = Vec::new();
    while let Some(longest) = rest.first() {
        let fitting = (tokens_per_batch / longest.window.input_len()).clamp(1, rest.len());
        let (batch, after) = rest.split_at(fitting);
        batches.push(batch);
        rest = after;
    }
    batches
}

/// The tensors of a batch.
#[derive(Debug)]
pub(crate) struct Batch {
    /// What is read, `[b, t]`, `Int64`, padded on the right.
    pub(crate) tokens_bt: Tensor,
    /// Where a prediction is scored, as places in `b·t`, row by row, `[n]`; never a padded one.
    pub(crate) scored_n: Tensor,
    /// The tokens to be predicted there, `[n]`, `Int64`.
    pub(crate) targets_n: Tensor,
}

impl Batch {
    /// Pads rows, the longest first, with a token that the model knows.
    pub(crate) fn new(rows: &[Row<'_>], padding: u32, device: Device) -> Self {
        let width = rows.first().map_or(0, |row| row.window.input_len());
        let (mut tokens, mut scored, mut targets) = (Vec::new(), Vec::new(), Vec::new());
        for Row { window, .. } in rows {
            let start = tokens.len();
            scored.extend(window.scored().map(|position| (start + position) as i64));
            targets.extend(window.targets.iter().copied().map(i64::from));
            tokens.extend(window.input().map(i64::from));
            tokens.resize(start + width, i64::from(padding));
        }
        let tensor = |numbers: &[i64]| Tensor::from_slice(numbers).to_device(device);
        Self {
            tokens_bt: tensor(&tokens).view([rows.len() as i64, width as i64]),
            scored_n: tensor(&scored),
            targets_n: tensor(&targets),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rolling_windows;

    fn rows(documents: &[Vec<u32>]) -> Vec<Row<'_>> {
        let windows = |(document, tokens)| {
            rolling_windows(tokens, 9, 4).map(move |window| Row { document, window })
        };
        documents.iter().map(Vec::as_slice).enumerate().flat_map(windows).collect()
    }

    #[test]
    fn a_batch_keeps_to_its_size_and_no_row_is_lost() {
        let documents: Vec<Vec<u32>> = (0..9).map(|n| vec![0; n]).collect();
        let mut rows = rows(&documents);
        let count = rows.len();
        for (limit, most) in [(1, 4), (4, 4), (7, 7), (9, 9), (100, 100)] {
            let batches = group(&mut rows, limit);
            assert_eq!(batches.iter().map(|batch| batch.len()).sum::<usize>(), count);
            for batch in batches {
                let width = batch.iter().map(|row| row.window.input_len()).max().unwrap();
                assert_eq!(width, batch[0].window.input_len(), "longest first");
                assert!(width * batch.len() <= most, "{} of {width} in {limit}", batch.len());
            }
        }
    }

    #[test]
    fn padding_is_on_the_right_and_has_no_target() {
        let documents = [vec![1, 2], vec![1, 2, 3, 4, 5]];
        let mut rows = rows(&documents);
        let batches = group(&mut rows, 12);
        assert_eq!(batches.len(), 1);
        let batch = Batch::new(batches[0], 9, Device::Cpu);
        let read = |tensor: &Tensor| Vec::<i64>::try_from(tensor.view(-1)).unwrap();
        assert_eq!(batch.tokens_bt.size(), [3, 4]);
        assert_eq!(read(&batch.tokens_bt), [9, 1, 2, 3, 1, 2, 3, 4, 9, 1, 9, 9]);
        assert_eq!(read(&batch.scored_n), [0, 1, 2, 3, 7, 8, 9]);
        assert_eq!(read(&batch.targets_n), [1, 2, 3, 4, 5, 1, 2]);
    }
}
