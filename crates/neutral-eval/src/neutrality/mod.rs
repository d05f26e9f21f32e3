//! How neutral an extension is: what it does on a text, and what that changed about the base.
//!
//! ```text
//! score    extended model, all text    ─► Neutrality   gates shut, size of residues, by block
//! compare  base beside extended model  ─► Divergence   KL and agreement a token, bits, gates' values
//! trace    the same, one document      ─► TokenTrace   gates and KL, token by token, to be read
//! spectra  the extension's weights     ─► Spectrum     singular values of every matrix
//! ```

mod compare;
mod distribution;
mod gates;
mod pair;
mod residues;
mod spectrum;
#[cfg(test)]
mod tests;
mod trace;

pub use compare::{Divergence, NeutralPrefixes, compare};
pub use distribution::Distribution;
pub use gates::{BlockGates, GATE_EDGES, GateHistogram};
pub use residues::Neutrality;
pub(crate) use residues::{NeutralitySums, at};
pub use spectrum::{Spectrum, spectra};
pub use trace::{TokenTrace, trace};
