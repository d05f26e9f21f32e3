//! Which documents are shown as examples: `lm_eval/api/samplers.py`.
//!
//! One generator serves a task, seeded once and drawn from document after document, so the examples of a
//! document depend on how many were asked before it.

use crate::config::Sampler;
use crate::random::PythonRandom;
use crate::value::Document;

/// Draws examples from a pool.
pub(crate) struct Draw {
    sampler: Sampler,
    pool: Vec<Document>,
    random: PythonRandom,
}

impl Draw {
    pub(crate) fn new(sampler: Sampler, pool: Vec<Document>, seed: u64) -> Self {
        Self { sampler, pool, random: PythonRandom::new(seed) }
    }

    /// `count` examples, none of which equals `without`.
    ///
    /// At random, one more is drawn then than is needed; where the pool holds several copies of the
    /// document and too few are left, all are drawn again from a pool without them.
    pub(crate) fn examples(
        &mut self,
        count: usize,
        without: Option<&Document>,
    ) -> Result<Vec<&Document>, String> {
        let size = self.pool.len();
        let few = |needed: usize| {
            format!("needs {needed} documents to draw {count} examples, and there are {size}")
        };
        let other = |document: &&Document| Some(*document) != without;
        if self.sampler == Sampler::FirstN {
            let first: Vec<_> = self.pool.iter().filter(other).take(count).collect();
            return if first.len() == count { Ok(first) } else { Err(few(count)) };
        }
        let needed = count + usize::from(without.is_some());
        let drawn = self.random.sample(size, needed).ok_or_else(|| few(needed))?;
        let drawn: Vec<_> =
            drawn.into_iter().map(|i| &self.pool[i]).filter(other).take(count).collect();
        if drawn.len() == count {
            return Ok(drawn);
        }
        let rest: Vec<_> = self.pool.iter().filter(other).collect();
        let drawn = self.random.sample(rest.len(), count).ok_or_else(|| few(count))?;
        Ok(drawn.into_iter().map(|i| rest[i]).collect())
    }
}
