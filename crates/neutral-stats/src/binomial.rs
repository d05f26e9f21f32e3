//! Answers that two models got right or wrong, on the same questions.

/// p values of McNemar's test, two-sided.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct McNemar {
    /// `min(1, 2 · P(X ≤ min(b, c)))` with `X ~ Binomial(b + c, ½)`: never above its level, and often far below.
    pub exact: f64,
    /// The exact p without half the probability of what was seen: nearer to its level.
    ///
    /// Source: M. W. Fagerland, S. Lydersen, P. Laake, *The McNemar test for binary matched-pairs data*, 2013.
    pub mid_p: f64,
}

/// McNemar's test that both models are right equally often, from the questions that only one got right.
///
/// Questions that both answered alike say nothing about the difference. Without any other, p is 1.
pub fn mcnemar(only_first: u64, only_second: u64) -> McNemar {
    let (n, k) = (only_first + only_second, only_first.min(only_second));
    if n == 0 {
        return McNemar { exact: 1.0, mid_p: 1.0 };
    }
    let probability = |i: u64| {
        let [n, i] = [n as f64, i as f64];
        let log = libm::lgamma(n + 1.0) - libm::lgamma(i + 1.0) - libm::lgamma(n - i + 1.0);
        libm::exp(log - n * std::f64::consts::LN_2)
    };
    // From the largest term down, until nothing is added.
    let mut tail = 0.0;
    for i in (0..=k).rev() {
        let term = probability(i);
        tail += term;
        if term < 1e-18 * tail {
            break;
        }
    }
    // As many one way as the other are on both sides of the middle, and counted once.
    let [exact, seen] = if only_first == only_second {
        [1.0, 0.5 * probability(k)]
    } else {
        [f64::min(1.0, 2.0 * tail), probability(k)]
    };
    McNemar { exact, mid_p: (exact - seen).max(0.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand() {
        // Five questions against none: 2 / 2⁵, and half of that.
        let found = mcnemar(5, 0);
        assert!((found.exact - 0.0625).abs() < 1e-14 && (found.mid_p - 0.031_25).abs() < 1e-14);
        assert_eq!(mcnemar(0, 5), found);
    }

    #[test]
    fn as_many_one_way_as_the_other_or_none_at_all_is_no_difference() {
        assert_eq!(mcnemar(0, 0), McNemar { exact: 1.0, mid_p: 1.0 });
        // P(X = 1) = 1/2 of two, C(14, 7) / 2¹⁴ of fourteen.
        for (n, mid_p) in [(1, 0.75), (7, 1.0 - 0.5 * 3432.0 / 16384.0)] {
            let found = mcnemar(n, n);
            assert!(found.exact == 1.0 && (found.mid_p - mid_p).abs() < 1e-13, "{n}: {found:?}");
        }
    }

    #[test]
    fn many_questions_do_not_overflow() {
        let found = mcnemar(1_000_000, 1_001_000);
        // The normal approximation: z = 1000 / √2001000.
        assert!((found.mid_p - 0.4796).abs() < 1e-3, "{}", found.mid_p);
    }
}
