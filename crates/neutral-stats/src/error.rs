//! Data from which nothing follows.

/// Why there is no estimate.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum StatsError {
    /// A number that is infinite or none.
    #[error("{what} {at} is {value}; expected a finite number")]
    NotFinite {
        /// What the number is.
        what: &'static str,
        /// Its place, from 0.
        at: usize,
        /// The number.
        value: f64,
    },
    /// The spread of so few cannot be told.
    #[error("{found} {what}; at least {needed} are needed to tell how much they vary")]
    TooFew {
        /// What there is too little of.
        what: &'static str,
        /// How many there are.
        found: usize,
        /// How many there must be.
        needed: usize,
    },
    /// Two lists that belong together and do not fit.
    #[error("{found} {what}; expected {expected}, one for each document")]
    Length {
        /// What the list holds.
        what: &'static str,
        /// Its length.
        found: usize,
        /// The other's.
        expected: usize,
    },
    /// A denominator that is not above 0.
    #[error("denominator {at} is {value}; expected a number above 0")]
    Denominator {
        /// Its place, from 0.
        at: usize,
        /// The number.
        value: f64,
    },
    /// A p value that is none.
    #[error("p value {at} is {value}; expected a number from 0 to 1")]
    Probability {
        /// Its place, from 0.
        at: usize,
        /// The number.
        value: f64,
    },
}

/// Refuses what is not finite.
pub(crate) fn all_finite(what: &'static str, values: &[f64]) -> Result<(), StatsError> {
    match values.iter().position(|value| !value.is_finite()) {
        Some(at) => Err(StatsError::NotFinite { what, at, value: values[at] }),
        None => Ok(()),
    }
}

/// Refuses documents of which no ratio can be taken.
pub(crate) fn documents(numerators: &[f64], denominators: &[f64]) -> Result<(), StatsError> {
    let (found, expected) = (numerators.len(), denominators.len());
    if found != expected {
        return Err(StatsError::Length { what: "numerators", found, expected });
    }
    if found < 2 {
        return Err(StatsError::TooFew { what: "documents", found, needed: 2 });
    }
    all_finite("numerator", numerators)?;
    all_finite("denominator", denominators)?;
    match denominators.iter().position(|value| *value <= 0.0) {
        Some(at) => Err(StatsError::Denominator { at, value: denominators[at] }),
        None => Ok(()),
    }
}
