//! Rolling windows: how a document longer than the model's window is scored, each token once.
//!
//! Windows predict disjoint pieces of the document. All read as many tokens as they may: the last one
//! reaches back to the left to full length, and scores only what no window before it did. The prefix
//! token stands in the first window alone, and is never scored. Ten tokens `0…9`, windows of 4, prefix `B`:
//!
//! ```text
//! document       0   1   2   3   4   5   6   7   8   9
//!
//! window 1  in   B   0   1   2
//!           out  0   1   2   3                              4 scored
//! window 2  in               3   4   5   6
//!           out              4   5   6   7                  4 scored
//! window 3  in                       5   6   7   8
//!           out                      ·   ·   8   9          2 scored
//! ```
//!
//! Whether there is a prefix, and which, changes scores by much; here there always is one, the
//! separator, after which training saw documents begin. The separator after a document is not scored.
//!
//! Source: `get_rolling_token_windows` of lm-evaluation-harness, with `context_len = 1`.

use std::ops::Range;

/// One window of a document: what the model reads, and what it is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window<'a> {
    /// The token before the document, in its first window.
    pub prefix: Option<u32>,
    /// The document's tokens that are read, after the prefix.
    pub context: &'a [u32],
    /// The tokens to score: what follows the last `targets.len()` tokens that are read.
    pub targets: &'a [u32],
}

impl<'a> Window<'a> {
    /// Number of tokens that are read, prefix included.
    pub fn input_len(&self) -> usize {
        usize::from(self.prefix.is_some()) + self.context.len()
    }

    /// The tokens that are read.
    pub fn input(&self) -> impl Iterator<Item = u32> + use<'a> {
        self.prefix.into_iter().chain(self.context.iter().copied())
    }

    /// Positions of the input whose prediction is scored.
    pub fn scored(&self) -> Range<usize> {
        self.input_len() - self.targets.len()..self.input_len()
    }
}

/// As [`rolling_windows`], but that the prefix stands in every window: later ones read a token less of the document and
/// score one less, so that each token but the document's first is predicted from the one before it too.
///
/// ```text
/// window 2  in   B   3   4   5
///           out      4   5   6                              3 scored
/// ```
///
/// # Panics
/// If `length` is below 2.
pub fn prefixed_windows(
    tokens: &[u32],
    prefix: u32,
    length: usize,
) -> impl Iterator<Item = Window<'_>> {
    assert!(length > 1, "a window reads a token beside the prefix");
    let later = (length..tokens.len()).step_by(length - 1);
    let starts = (!tokens.is_empty()).then_some(0).into_iter().chain(later);
    starts.map(move |start| {
        let scored = if start == 0 { length } else { length - 1 };
        let end = (start + scored).min(tokens.len());
        // The last one reaches back to full length.
        let context = &tokens[end.saturating_sub(length)..end - 1];
        Window { prefix: Some(prefix), context, targets: &tokens[start..end] }
    })
}

/// The windows of a document, in order; none for a document without tokens.
///
/// # Panics
/// If `length` is 0.
pub fn rolling_windows(
    tokens: &[u32],
    prefix: u32,
    length: usize,
) -> impl Iterator<Item = Window<'_>> {
    assert!(length > 0, "a window reads at least one token");
    (0..tokens.len()).step_by(length).map(move |start| {
        let end = (start + length).min(tokens.len());
        let targets = &tokens[start..end];
        if start == 0 {
            Window { prefix: Some(prefix), context: &tokens[..end - 1], targets }
        } else {
            // The token before the first target is read at least, so `end` is above `length`.
            Window { prefix: None, context: &tokens[end - 1 - length..end - 1], targets }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const B: u32 = 99;

    /// Windows as `(input, targets)`.
    fn windows(n: u32, length: usize) -> Vec<(Vec<u32>, Vec<u32>)> {
        let tokens: Vec<u32> = (0..n).collect();
        let windows = rolling_windows(&tokens, B, length);
        windows.map(|w| (w.input().collect(), w.targets.to_vec())).collect()
    }

    #[test]
    fn the_worked_example() {
        let expected = [
            (vec![B, 0, 1, 2], vec![0, 1, 2, 3]),
            (vec![3, 4, 5, 6], vec![4, 5, 6, 7]),
            (vec![5, 6, 7, 8], vec![8, 9]),
        ];
        assert_eq!(windows(10, 4), expected);
    }

    #[test]
    fn windows_are_those_of_the_harness() {
        let fixture = include_str!("../../../tests/fixtures/tasks/tokens.json");
        let fixture: serde_json::Value = serde_json::from_str(fixture).unwrap();
        let numbers = |value: &serde_json::Value| -> Vec<u32> {
            value.as_array().unwrap().iter().map(|n| n.as_u64().unwrap() as u32).collect()
        };
        let cases = fixture["windows"].as_array().unwrap();
        assert!(cases.len() > 3);
        for case in cases {
            let (tokens, length) = (numbers(&case["tokens"]), case["max_length"].as_u64().unwrap());
            let ours = rolling_windows(&tokens, 1, length as usize);
            let ours: Vec<_> = ours.map(|w| (w.input().collect(), w.targets.to_vec())).collect();
            let theirs = case["windows"].as_array().unwrap().iter().map(|window| {
                // What is given, and what is scored: all but the last of both is read.
                let (mut input, targets) = (numbers(&window[0]), numbers(&window[1]));
                input.extend(&targets[..targets.len() - 1]);
                (input, targets)
            });
            assert_eq!(ours, theirs.collect::<Vec<_>>(), "{case}");
        }
    }

    #[test]
    fn documents_about_as_long_as_the_window() {
        assert_eq!(windows(0, 4), []);
        assert_eq!(windows(1, 4), [(vec![B], vec![0])]);
        assert_eq!(windows(3, 4), [(vec![B, 0, 1], vec![0, 1, 2])]);
        assert_eq!(windows(4, 4), [(vec![B, 0, 1, 2], vec![0, 1, 2, 3])]);
        assert_eq!(windows(5, 4)[1..], [(vec![0, 1, 2, 3], vec![4])]);
        assert_eq!(windows(2, 1), [(vec![B], vec![0]), (vec![0], vec![1])]);
    }

    #[test]
    fn the_prefix_may_stand_in_every_window() {
        let tokens: Vec<u32> = (0..10).collect();
        let windows = prefixed_windows(&tokens, B, 4);
        let windows: Vec<_> = windows.map(|w| (w.input().collect(), w.targets.to_vec())).collect();
        let expected: [(Vec<u32>, Vec<u32>); 3] = [
            (vec![B, 0, 1, 2], vec![0, 1, 2, 3]),
            (vec![B, 3, 4, 5], vec![4, 5, 6]),
            (vec![B, 6, 7, 8], vec![7, 8, 9]),
        ];
        assert_eq!(windows, expected);
        // The last one reaches back.
        let last = prefixed_windows(&tokens[..9], B, 4).last().unwrap();
        assert_eq!((last.context, last.targets), (&tokens[5..8], &tokens[7..9]));
    }

    #[test]
    fn every_token_is_scored_once_after_the_token_before_it() {
        for (length, n) in (1..=7).flat_map(|length| (0..=30).map(move |n| (length, n))) {
            let tokens: Vec<u32> = (0..n).collect();
            let rolling = rolling_windows(&tokens, B, length).collect();
            let prefixed = (length > 1).then(|| prefixed_windows(&tokens, B, length).collect());
            for windows in std::iter::once(rolling).chain(prefixed) {
                let windows: Vec<Window> = windows;
                let mut scored = Vec::new();
                for window in windows {
                    let input: Vec<u32> = window.input().collect();
                    assert_eq!(input.len(), window.input_len());
                    assert!(input.len() == length || tokens.len() < length);
                    assert_eq!(window.scored().len(), window.targets.len());
                    for (at, target) in window.scored().zip(window.targets) {
                        let before = target.checked_sub(1).unwrap_or(B);
                        assert_eq!(input[at], before);
                        scored.push(*target);
                    }
                }
                assert_eq!(scored, tokens, "n = {n}, length = {length}");
            }
        }
    }
}
