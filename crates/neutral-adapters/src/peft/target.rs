//! Which layers an adapter is on, and the rank and alpha of each, by PEFT's rules.

use indexmap::IndexMap;
use neutral_model::{TransformerConfig, linear_name};
use neutral_spec::LinearSite;
use regex::Regex;

use super::config::{LoraConfig, Modules};
use crate::files::wrong_field;
use crate::{AdapterError, LoraLayer};

/// PEFT's word for all linear layers but the head.
const ALL_LINEAR: &str = "all-linear";

/// Modules that PEFT can put LoRA on, and that have no place for it here.
const OTHER_MODULES: [&str; 2] = ["lm_head", "model.embed_tokens"];

/// The layers that the configuration means in a model, in the order of blocks.
pub(super) fn layers(
    config: &LoraConfig,
    model: &TransformerConfig,
) -> Result<Vec<LoraLayer>, AdapterError> {
    let targets = Matcher::new(config, "target_modules", &config.targets)?;
    let excluded = match &config.excluded {
        Some(modules) => Some(Matcher::new(config, "exclude_modules", modules)?),
        None => None,
    };
    let means = |path: &str, block: Option<u64>| {
        targets.matches(path, block) && !excluded.as_ref().is_some_and(|e| e.matches(path, None))
    };
    let all_linear = matches!(&config.targets, Modules::Pattern(p) if is_all_linear(p));
    if let Some(other) = OTHER_MODULES.into_iter().find(|path| !all_linear && means(path, None)) {
        let expected = format!(
            "it includes {other}, where LoRA is not supported; only the {} linear layers of a block are",
            LinearSite::ALL.len()
        );
        return Err(wrong(config, "target_modules", &config.targets, expected));
    }
    let mut layers = Vec::new();
    for block in 0..model.n_layers() {
        for site in LinearSite::ALL {
            let path = format!("model.layers.{block}.{}", linear_name(site));
            if means(&path, Some(block as u64)) {
                let LoraConfig { rank, alpha, dora, .. } = *config;
                layers.push(LoraLayer { block, site, rank, alpha, dora });
            }
        }
    }
    if layers.is_empty() {
        let expected = "it matches no linear layer of the model".to_owned();
        return Err(wrong(config, "target_modules", &config.targets, expected));
    }
    assign(config, "rank_pattern", &config.rank_pattern, &mut layers, |l, &rank| l.rank = rank)?;
    assign(config, "alpha_pattern", &config.alpha_pattern, &mut layers, |l, &a| l.alpha = a)?;
    if config.rank_stabilised {
        for layer in &mut layers {
            // The plain scale that is PEFT's `alpha / √r`.
            layer.alpha *= (layer.rank as f64).sqrt();
        }
    }
    Ok(layers)
}

/// Gives each layer the value of the first pattern that matches, if there is one.
///
/// PEFT: `re.match(rf"(.*\.)?({key})$", path)`, so that a pattern is a regular expression for the end
/// of a path, from a dot on.
fn assign<T>(
    config: &LoraConfig,
    field: &str,
    patterns: &IndexMap<String, T>,
    layers: &mut [LoraLayer],
    set: impl Fn(&mut LoraLayer, &T),
) -> Result<(), AdapterError> {
    let mut waiting: Vec<_> = layers.iter_mut().collect();
    for (pattern, value) in patterns {
        let regex = regex(config, field, pattern, &format!(r"\A(?:.*\.)?(?:{pattern})\z"))?;
        waiting.retain_mut(|layer| {
            let found = regex.is_match(&layer.module());
            if found {
                set(layer, value);
            }
            !found
        });
    }
    Ok(())
}

/// What a list of names or a regular expression matches.
enum Matcher<'a> {
    AllLinear,
    Regex(Regex),
    Names { names: &'a [String], blocks: Option<&'a [u64]> },
}

impl<'a> Matcher<'a> {
    fn new(
        config: &'a LoraConfig,
        field: &str,
        modules: &'a Modules,
    ) -> Result<Self, AdapterError> {
        match modules {
            Modules::Pattern(pattern) if is_all_linear(pattern) => Ok(Self::AllLinear),
            Modules::Pattern(pattern) => {
                // PEFT: `re.fullmatch`.
                let regex = regex(config, field, pattern, &format!(r"\A(?:{pattern})\z"))?;
                Ok(Self::Regex(regex))
            }
            Modules::Names(names) => Ok(Self::Names { names, blocks: config.layers.as_deref() }),
        }
    }

    /// `block` is that of a module which lies in one; without it `layers_to_transform` is not asked.
    fn matches(&self, path: &str, block: Option<u64>) -> bool {
        match self {
            Self::AllLinear => true,
            Self::Regex(regex) => regex.is_match(path),
            Self::Names { names, blocks } => {
                let ends_with = |name: &String| {
                    path.strip_suffix(name.as_str()).is_some_and(|before| before.ends_with('.'))
                };
                let in_blocks = match (blocks, block) {
                    (Some(blocks), Some(block)) => blocks.contains(&block),
                    _ => true,
                };
                // A whole path is meant whatever `layers_to_transform` says.
                names.iter().any(|name| name == path) || (in_blocks && names.iter().any(ends_with))
            }
        }
    }
}

fn is_all_linear(pattern: &str) -> bool {
    pattern.eq_ignore_ascii_case(ALL_LINEAR)
}

fn regex(
    config: &LoraConfig,
    field: &str,
    pattern: &str,
    whole: &str,
) -> Result<Regex, AdapterError> {
    // Alone first, so that no pattern can close the group around it.
    let compiled = Regex::new(pattern).and_then(|_| Regex::new(whole));
    compiled.map_err(|cause| {
        let expected = format!("expected a regular expression without look-around: {cause}");
        wrong_field(&config.path, field, format!("{pattern:?}"), expected)
    })
}

fn wrong(config: &LoraConfig, field: &str, found: &Modules, expected: String) -> AdapterError {
    let found = match found {
        Modules::Names(names) => format!("{names:?}"),
        Modules::Pattern(pattern) => format!("{pattern:?}"),
    };
    wrong_field(&config.path, field, found, expected)
}
