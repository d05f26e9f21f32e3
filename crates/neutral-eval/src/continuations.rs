//! Log-likelihoods of continuations: what tasks ask.
//!
//! Requests are sorted, so that those with a common beginning are neighbours, and packed without padding
//! into passes over [`PrefixTree`]s: a beginning is computed once for all requests of a pass that share
//! it, and requests that differ in their last token alone are one sequence. Logits are made for scored
//! positions only, some rows at a time.

use std::sync::atomic::{AtomicBool, Ordering};

use indicatif::ProgressBar;
use neutral_model::{Extension, PrefixTree, Transformer};
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use crate::EvalError;

/// Rows of a pass: enough for large products.
const ROWS: usize = 4096;

/// A pass has room for so many of its longest sequences, so that a beginning that all share is at most
/// this share of the work. Where attention has no kernel, a pass needs memory for each pair of its rows, and has room for one.
const LONGEST: usize = 4;

/// What a model reads, and what it is scored on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Continuation {
    /// The tokens that are read: context and continuation without its last token.
    pub input: Vec<u32>,
    /// The continuation: the last of it follows the last token read.
    pub targets: Vec<u32>,
}

/// How a model scores a continuation.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ContinuationScore {
    /// `Σ ln p(target | tokens before it)`, in nats; the terms are fp32, or fp64 if the model is; their sum is fp64.
    pub log_likelihood: f64,
    /// Every target is the likeliest token, the first on a tie: greedy decoding gives it.
    pub is_greedy: bool,
}

/// How many requests share a pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BatchSize {
    /// As many as fit a pass of a few thousand tokens.
    Auto,
    /// At most so many. With 1, a score depends on its own request alone, to the last bit.
    Requests(usize),
}

/// What scoring cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Passes of the model.
    pub passes: usize,
    /// Tokens that were computed.
    pub rows: usize,
    /// Tokens of all inputs, each by itself.
    pub tokens: usize,
}

/// Scores continuations under a model with an extension, in their order; the pristine base's is
/// [`Extension::none`].
///
/// The bar moves with requests. A score moves by rounding with what shares its pass, unless
/// [`BatchSize::Requests`] is 1.
///
/// # Errors
/// If a request has no targets or reads fewer tokens than those, or has a token that the model does not
/// know; if a score is not finite; or if `stop` was set.
///
/// # Panics
/// If the extension was made for another model.
pub fn score_continuations(
    model: &Transformer,
    extension: &Extension,
    requests: &[Continuation],
    batch_size: BatchSize,
    stop: &AtomicBool,
    progress: &ProgressBar,
) -> Result<(Vec<ContinuationScore>, Work), EvalError> {
    let vocab_size = model.config().vocab_size;
    requests.iter().enumerate().try_for_each(|(i, request)| check(i, request, vocab_size))?;
    let none = ContinuationScore { log_likelihood: 0.0, is_greedy: true };
    let mut scores = vec![none; requests.len()];
    let mut work = Work::default();
    // Kernels are the CPU's (neutral-torch's `fused`).
    let has_kernel = model.device() == Device::Cpu
        && model.config().attention_softcap.is_none()
        && model.compute_kind() != Kind::Double;
    let longest = if has_kernel { LONGEST } else { 1 };
    for batch in batches(requests, batch_size, longest) {
        if stop.load(Ordering::SeqCst) {
            return Err(EvalError::Interrupted);
        }
        let packed = Packed::new(requests, &batch);
        let tokens = Tensor::from_slice(&packed.tokens).unsqueeze(0).to_device(model.device());
        let hidden = model.forward_prefixes(&tokens, &packed.tree, extension).hidden_btd;
        let asked: Vec<_> = packed.asked.iter().map(|(row, token, _)| (*row, *token)).collect();
        let found = model.log_probs(&hidden.squeeze_dim(0), &asked);
        for ((_, _, request), token) in packed.asked.iter().zip(found) {
            scores[*request].log_likelihood += token.log_prob;
            scores[*request].is_greedy &= token.is_likeliest;
        }
        for &request in &batch {
            let ContinuationScore { log_likelihood, .. } = scores[request];
            if !log_likelihood.is_finite() {
                let found = format!(
                    "has the log-likelihood {log_likelihood}; the model's numbers have overflowed"
                );
                return Err(EvalError::Request { request, found });
            }
            work.tokens += requests[request].input.len();
        }
        work.passes += 1;
        work.rows += packed.tokens.len();
        progress.inc(batch.len() as u64);
    }
    Ok((scores, work))
}

fn check(place: usize, request: &Continuation, vocab_size: usize) -> Result<(), EvalError> {
    let Continuation { input, targets } = request;
    let wrong = |found| Err(EvalError::Request { request: place, found });
    let (read, scored) = (input.len(), targets.len());
    if scored == 0 {
        return wrong("has an empty continuation; there is nothing to score".to_owned());
    }
    if read < scored {
        return wrong(format!(
            "reads {read} tokens and scores {scored}: its continuation has no context, or is longer than the model's window"
        ));
    }
    match input.iter().chain(targets).find(|token| **token as usize >= vocab_size) {
        Some(token) => wrong(format!(
            "has token {token}, but the model knows {vocab_size}; its tokenizer is another model's"
        )),
        None => Ok(()),
    }
}

/// The places of the requests of each pass, which has room for so many of its longest, sorted by their tokens; the
/// largest pass first, so that what does not fit into memory fails at once.
fn batches(requests: &[Continuation], batch_size: BatchSize, room: usize) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..requests.len()).collect();
    order.sort_by(|a, b| requests[*a].input.cmp(&requests[*b].input).then(a.cmp(b)));
    let mut batches: Vec<(usize, Vec<usize>)> = Vec::new();
    let (mut rows, mut longest) = (0, 0);
    for place in order {
        let len = requests[place].input.len();
        if let Some((size, batch)) = batches.last_mut() {
            let before = &requests[batch[batch.len() - 1]].input;
            let added = len - common(before, &requests[place].input);
            let fits = match batch_size {
                BatchSize::Auto => rows + added <= ROWS.max(room * len.max(longest)),
                BatchSize::Requests(most) => batch.len() < most,
            };
            if fits {
                (rows, longest) = (rows + added, longest.max(len));
                *size = rows;
                batch.push(place);
                continue;
            }
        }
        (rows, longest) = (len, len);
        batches.push((len, vec![place]));
    }
    batches.sort_by_key(|(rows, _)| std::cmp::Reverse(*rows));
    batches.into_iter().map(|(_, batch)| batch).collect()
}

/// How many tokens two inputs begin with alike.
fn common(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// One pass: tokens as rows of a tree, and what is asked of them.
struct Packed {
    tree: PrefixTree,
    tokens: Vec<i64>,
    /// Row, token, request; by row, and so in the order of each request's targets.
    asked: Vec<(usize, u32, usize)>,
}

impl Packed {
    /// Requests must be sorted by their input.
    fn new(requests: &[Continuation], batch: &[usize]) -> Self {
        let mut packed =
            Self { tree: PrefixTree::default(), tokens: Vec::new(), asked: Vec::new() };
        packed.add(requests, batch, None, &mut Vec::new());
        packed.asked.sort_by_key(|(row, _, request)| (*row, *request));
        packed
    }

    /// Adds requests that have the path's tokens in common; `path` are their rows.
    fn add(
        &mut self,
        requests: &[Continuation],
        batch: &[usize],
        parent: Option<usize>,
        path: &mut Vec<usize>,
    ) {
        let depth = path.len();
        let input = |place: usize| &requests[place].input;
        // Sorted: those that end here come first.
        let ended = batch.partition_point(|place| input(*place).len() == depth);
        for &place in &batch[..ended] {
            let targets = &requests[place].targets;
            let rows = &path[depth - targets.len()..];
            self.asked.extend(rows.iter().zip(targets).map(|(row, token)| (*row, *token, place)));
        }
        for branch in batch[ended..].chunk_by(|a, b| input(*a)[depth] == input(*b)[depth]) {
            // What the first and the last of sorted inputs share, all share.
            let (first, last) = (input(branch[0]), input(branch[branch.len() - 1]));
            let tokens = &first[depth..common(first, last)];
            let node = self.tree.push(parent, tokens.len());
            path.extend(self.tokens.len()..self.tokens.len() + tokens.len());
            self.tokens.extend(tokens.iter().map(|token| i64::from(*token)));
            self.add(requests, branch, Some(node), path);
            path.truncate(depth);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(input: &[u32], targets: usize) -> Continuation {
        let targets = (0..targets).map(|i| 20 + i as u32).collect();
        Continuation { input: input.to_vec(), targets }
    }

    #[test]
    fn common_beginnings_become_rows_once() {
        let requests = [
            request(&[5, 6, 7, 8], 1),
            request(&[1, 2, 3], 2),
            request(&[5, 6], 1),
            request(&[5, 6, 7, 9], 3),
            request(&[5, 6], 2),
        ];
        let batches = batches(&requests, BatchSize::Auto, LONGEST);
        assert_eq!(batches, [[1, 2, 4, 0, 3]]);
        let packed = Packed::new(&requests, &batches[0]);
        assert_eq!(packed.tokens, [1, 2, 3, 5, 6, 7, 8, 9]);
        assert_eq!((packed.tree.rows(), packed.tree.depth()), (8, 4));
        let expected = [
            (1, 20, 1),
            (2, 21, 1),
            (3, 20, 4),
            (4, 20, 2),
            (4, 21, 4),
            (4, 20, 3),
            (5, 21, 3),
            (6, 20, 0),
            (7, 22, 3),
        ];
        let mut expected = expected.to_vec();
        expected.sort_by_key(|(row, _, request)| (*row, *request));
        assert_eq!(packed.asked, expected);
    }

    #[test]
    fn passes_are_filled_and_the_largest_comes_first() {
        let long = |begin: u32, len: u32| request(&(begin..begin + len).collect::<Vec<_>>(), 1);
        let requests: Vec<_> = (0..9).map(|i| long(i * 1000, 1000 + i)).collect();
        let all = batches(&requests, BatchSize::Auto, LONGEST);
        assert_eq!(all, [vec![4, 5, 6, 7], vec![0, 1, 2, 3], vec![8]]);
        assert_eq!(batches(&requests, BatchSize::Requests(1), LONGEST).len(), 9);
        assert_eq!(batches(&requests, BatchSize::Requests(5), LONGEST).len(), 2);
        // A long beginning that all share does not fill the pass.
        let shared: Vec<_> = (0..9)
            .map(|i| request(&(0..4000).chain([9000 + i; 600]).collect::<Vec<_>>(), 1))
            .collect();
        assert_eq!(batches(&shared, BatchSize::Auto, LONGEST).len(), 1);
        assert_eq!(batches(&shared, BatchSize::Auto, 1).len(), 9);
    }
}
