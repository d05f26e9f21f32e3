//! What holds a base that trains near where it began: the classic answers to forgetting.
//!
//! Each is a function added to the language model's loss (`ℓ = ℓ_LM + …`); no module hides state.
//! What an anchor compares with, the base's weights or another copy of it, is fixed before training.
//!
//! | anchor | loss | file |
//! |---|---|---|
//! | KL to the base | `weight · KL(p_base ‖ p)`, mean over original-domain tokens | [`kl`] |
//! | L2-SP | `weight / 2 · ‖w − w_base‖²` | [`quadratic`] |
//! | EWC | `weight / 2 · Σ F (w − w_base)²` | [`quadratic`], `F` from [`fisher`] |

pub mod fisher;
pub mod kl;
pub mod quadratic;

use neutral_model::{Extension, Transformer};
use neutral_torch::ParamStore;

use crate::TrainError;
use crate::ranks::Ranks;
use fisher::FisherText;
use quadratic::Quadratic;

/// What holds the base that trains.
#[derive(Clone, Copy, Debug, Default)]
pub enum Anchor<'a> {
    /// Nothing.
    #[default]
    None,
    /// The base's predictions on the mix's original domain.
    Kl {
        /// The KL's factor.
        weight: f64,
        /// The base as it was, frozen: another copy than the one that trains.
        base: &'a Transformer,
    },
    /// The base's weights, all alike.
    L2Sp {
        /// The factor.
        weight: f64,
    },
    /// The base's weights, each as much as the original domain needs it.
    Ewc {
        /// The factor.
        weight: f64,
        /// Original-domain sequences that the Fisher information is the mean over.
        fisher_sequences: usize,
    },
}

impl Anchor<'_> {
    /// The penalty on the weights, if the anchor is one; `params` are still the base's.
    ///
    /// # Errors
    /// [`TrainError::NoOriginalText`] if EWC finds no text of the original domain; that of a collective that failed.
    pub(crate) fn penalty(
        self,
        model: &Transformer,
        extension: &Extension,
        params: &ParamStore,
        text: &FisherText,
        ranks: Option<&Ranks>,
    ) -> Result<Option<Quadratic>, TrainError> {
        match self {
            Self::None | Self::Kl { .. } => Ok(None),
            Self::L2Sp { weight } => Ok(Some(Quadratic::new(params, None, weight))),
            Self::Ewc { weight, fisher_sequences } => {
                let fisher =
                    fisher::diagonal(model, extension, params, text, fisher_sequences, ranks)?;
                Ok(Some(Quadratic::new(params, Some(fisher), weight)))
            }
        }
    }
}
