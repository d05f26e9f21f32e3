//! Scores of labels, as scikit-learn defines them: `f1_score` and `matthews_corrcoef`.

use std::collections::BTreeMap;

/// The right label and the one that was picked.
pub(crate) type Pair = (usize, usize);

/// How often a label is right, is picked, and both.
#[derive(Clone, Copy, Default)]
struct Counts {
    right: usize,
    picked: usize,
    both: usize,
}

impl Counts {
    fn of(items: &[Pair]) -> BTreeMap<usize, Self> {
        let mut counts: BTreeMap<usize, Self> = BTreeMap::new();
        for (right, picked) in items {
            counts.entry(*right).or_default().right += 1;
            counts.entry(*picked).or_default().picked += 1;
            counts.entry(*right).or_default().both += usize::from(right == picked);
        }
        counts
    }

    /// Twice the hits over what is right and what is picked; 0 where there is neither.
    fn f1(self) -> f64 {
        let all = self.right + self.picked;
        if all == 0 { 0.0 } else { 2.0 * self.both as f64 / all as f64 }
    }
}

/// That of label 1.
pub(crate) fn f1(items: &[Pair]) -> f64 {
    Counts::of(items).get(&1).copied().unwrap_or_default().f1()
}

pub(crate) fn f1_macro(items: &[Pair]) -> f64 {
    let counts = Counts::of(items);
    counts.values().map(|counts| counts.f1()).sum::<f64>() / counts.len() as f64
}

pub(crate) fn f1_micro(items: &[Pair]) -> f64 {
    let both = items.iter().filter(|(right, picked)| right == picked).count();
    Counts { right: items.len(), picked: items.len(), both }.f1()
}

pub(crate) fn f1_weighted(items: &[Pair]) -> f64 {
    let weighted = |counts: &Counts| counts.f1() * counts.right as f64;
    Counts::of(items).values().map(weighted).sum::<f64>() / items.len() as f64
}

/// 0 where one label alone is right or picked.
pub(crate) fn matthews(items: &[Pair]) -> f64 {
    let counts = Counts::of(items);
    let sum = |of: fn(&Counts) -> usize| counts.values().map(of).sum::<usize>() as f64;
    let all = items.len() as f64;
    let covariance = sum(|c| c.both) * all - sum(|c| c.right * c.picked);
    let variances =
        (all * all - sum(|c| c.picked * c.picked)) * (all * all - sum(|c| c.right * c.right));
    if variances == 0.0 { 0.0 } else { covariance / variances.sqrt() }
}
