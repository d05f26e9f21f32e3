//! `neutral bench`: how long a step of training, and reading and writing of text, takes with each method.

pub(crate) mod generate;
pub(crate) mod step;

use std::str::FromStr;

use neutral_model::TransformerConfig;
use neutral_spec::{Budget, Method, Shape};
use serde_json::json;

use crate::exit::BadInput;

/// A model's size, by a known name or as six numbers.
#[derive(Clone, Debug)]
pub(crate) struct BenchShape {
    pub(crate) name: String,
    pub(crate) config: TransformerConfig,
}

impl FromStr for BenchShape {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let numbers = match text {
            "tiny" => "256,8,4,4,704,8192",
            "small" => "512,8,8,8,1408,16384",
            "smollm2-135m" => "576,30,9,3,1536,49152",
            _ => text,
        };
        let numbers: Result<Vec<usize>, _> = numbers.split(',').map(|n| n.trim().parse()).collect();
        let [d_model, n_layers, n_heads, n_kv_heads, d_ff, vocab_size] =
            numbers.unwrap_or_default()[..]
        else {
            return Err(format!(
                "`{text}` is no shape; write tiny, small, smollm2-135m or d,L,heads,kv,ffn,vocab"
            ));
        };
        let shape = Shape {
            d_model,
            n_layers,
            n_heads,
            n_kv_heads,
            d_ff,
            tie_embeddings: true,
            rope_theta: 10_000.0,
            norm_epsilon: 1e-5,
        };
        let config = TransformerConfig::llama(&shape, vocab_size);
        config.validate().map_err(|e| e.to_string())?;
        Ok(Self { name: text.to_owned(), config })
    }
}

/// A method at its default options; `neutral_residues:N` with a gate that reads N tokens.
fn method_of(name: &str, budget: Budget) -> anyhow::Result<Method> {
    let options = match name.split_once(':') {
        _ if name == "finetune" => json!({ "kind": name }),
        None => json!({ "kind": name, "budget": budget }),
        Some((kind, window)) => {
            let tokens: usize =
                window.parse().ok().filter(|&tokens| tokens > 1).ok_or_else(|| {
                    BadInput(format!(
                        "--method: `{name}`: `{window}` is no window; expected tokens, at least 2"
                    ))
                })?;
            json!({ "kind": kind, "budget": budget, "gate": { "window": tokens } })
        }
    };
    serde_json::from_value(options).map_err(|e| BadInput(format!("--method: {e}")).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shape_is_six_numbers() {
        assert_eq!("256,8,4,4,704,8192".parse::<BenchShape>().unwrap().config.n_layers(), 8);
        for text in ["huge", "256,8,4,4,704", "256,8,4,4,704,8192,junk", "256,8,4,4,704,8192,1"] {
            assert!(text.parse::<BenchShape>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_number_after_the_method_is_the_window_of_its_gate() {
        let budget = Budget::from_percent(20.0).unwrap();
        let window = |name| match method_of(name, budget).unwrap() {
            Method::NeutralResidues { gate, .. } => gate.window,
            other => panic!("{other:?}"),
        };
        assert_eq!(window("neutral_residues"), None);
        assert_eq!(window("neutral_residues:64"), Some(64));
        for (name, said) in [
            ("neutral_residues:1", "`1` is no window"),
            ("neutral_residues:a", "`a` is no window"),
            ("adapter:64", "gate"),
        ] {
            let message = method_of(name, budget).unwrap_err().to_string();
            assert!(message.contains(said), "{message}");
        }
    }
}
