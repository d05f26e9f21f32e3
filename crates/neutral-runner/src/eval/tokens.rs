//! Requests to tokens, by the rules of lm-evaluation-harness' `HFLM`, so that tokens are the same ones.

use neutral_data::PromptTokenizer;
use neutral_eval::{Continuation, rolling_windows};
use neutral_model::ModelFolder;
use neutral_store::read_json;
use neutral_tasks::{Request, split_context_continuation};
use serde::Serialize;
use serde_json::Value;

use crate::exit::BadInput;
use crate::model_source;

/// The window of a model that does not say its own.
const DEFAULT_MAX_LENGTH: usize = 2048;

/// What stands before the first window of a rolling text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RollingPrefix {
    /// The prefix token, and after it whatever the tokenizer puts before a text: with most Llamas BOS
    /// twice, as lm-evaluation-harness does.
    #[default]
    Harness,
    /// The prefix token once.
    Single,
}

/// What a user may set about tokens.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RuleOptions {
    pub add_bos_token: Option<bool>,
    pub rolling_prefix: RollingPrefix,
    pub max_length: Option<usize>,
}

/// How text becomes tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct TokenRules {
    /// Special tokens around a text: those of the tokenizer's template, or BOS always or never.
    pub add_bos_token: Option<bool>,
    /// What stands before a rolling text.
    pub rolling_prefix: RollingPrefix,
    /// What stands for an empty context.
    pub prefix_token: u32,
    /// Tokens that the model reads at once.
    pub max_length: usize,
}

/// A model's tokenizer with its rules.
pub(crate) struct RequestTokenizer {
    pub rules: TokenRules,
    prompts: PromptTokenizer,
}

impl RequestTokenizer {
    /// The tokenizer of a model's folder.
    pub(crate) fn of(folder: &ModelFolder, options: &RuleOptions) -> anyhow::Result<Self> {
        let tokenizer = model_source::tokenizer(folder)?;
        let prompts = tokenizer.prompts();
        let own = folder.path().join("tokenizer_config.json");
        let own: Value = if own.is_file() { read_json(&own)? } else { Value::Null };
        let prefix = prefix_token(&own, folder.config_json(), &prompts);
        if options.add_bos_token == Some(true) && !prefix.is_some_and(|prefix| prefix.is_bos) {
            let message =
                "add_bos_token is true, but the model's tokenizer has no BOS; leave it out";
            return Err(BadInput(message.to_owned()).into());
        }
        let rules = TokenRules {
            add_bos_token: options.add_bos_token,
            rolling_prefix: options.rolling_prefix,
            prefix_token: prefix.map_or_else(|| tokenizer.separator_id(), |prefix| prefix.id),
            max_length: options
                .max_length
                .or_else(|| max_length(folder.config_json(), &own))
                .unwrap_or(DEFAULT_MAX_LENGTH),
        };
        Ok(Self { rules, prompts })
    }

    /// The rules, and what they come to with this tokenizer.
    pub(crate) fn describe(&self) -> anyhow::Result<Value> {
        let mut rules = serde_json::to_value(self.rules)?;
        rules["prefix_text"] = self.prefix_text().into();
        let begins = self.encode("a")?.first() == Some(&self.rules.prefix_token);
        rules["texts_begin_with_prefix"] = begins.into();
        Ok(rules)
    }

    /// The text of the prefix token.
    pub(crate) fn prefix_text(&self) -> String {
        self.prompts.name(self.rules.prefix_token).unwrap_or_default()
    }

    /// The windows that a request is scored in: one, or of a rolling text as many as it fills.
    ///
    /// # Errors
    /// If the tokenizer fails on the text, or nothing of it is left to be scored.
    pub(crate) fn continuations(&self, request: &Request) -> anyhow::Result<Vec<Continuation>> {
        let TokenRules { prefix_token, max_length, rolling_prefix, .. } = self.rules;
        match request {
            Request::LogLikelihood { context, continuation } => {
                // The callbacks cannot fail, so that the first error is kept aside.
                let failed = std::cell::Cell::new(None);
                let keep = |tokens: anyhow::Result<Vec<u32>>| {
                    tokens.unwrap_or_else(|error| {
                        failed.set(Some(error));
                        Vec::new()
                    })
                };
                let split = split_context_continuation(
                    context,
                    continuation,
                    |text| keep(self.encode(text)),
                    |text| keep(self.prompts.encode(text, false).map_err(Into::into)),
                    prefix_token,
                );
                failed.into_inner().map_or(Ok(()), Err)?;
                let input = split.input(max_length);
                Ok(vec![Continuation { input, targets: split.continuation }])
            }
            Request::Rolling { text } => {
                let mut tokens = self.encode(text)?;
                if rolling_prefix == RollingPrefix::Single && tokens.first() == Some(&prefix_token)
                {
                    tokens.remove(0);
                }
                let windows = rolling_windows(&tokens, prefix_token, max_length);
                let continuations = windows.map(|window| Continuation {
                    input: window.input().collect(),
                    targets: window.targets.to_vec(),
                });
                Ok(continuations.collect())
            }
        }
    }

    /// The tokens of a text, with the special tokens that the rules want; a text that begins with the prefix token's
    /// name has its own.
    fn encode(&self, text: &str) -> anyhow::Result<Vec<u32>> {
        let TokenRules { add_bos_token, prefix_token, .. } = self.rules;
        let prefix = self.prefix_text();
        let has_own = !prefix.is_empty() && text.starts_with(&prefix);
        let mut tokens = self.prompts.encode(text, !has_own && add_bos_token.unwrap_or(true))?;
        if add_bos_token == Some(true) && tokens.first() != Some(&prefix_token) {
            tokens.insert(0, prefix_token);
        }
        Ok(tokens)
    }
}

/// What a text begins with.
#[derive(Clone, Copy)]
struct Prefix {
    id: u32,
    is_bos: bool,
}

/// BOS, or EOS where there is none: by name in `tokenizer_config.json`, else by number in `config.json`.
fn prefix_token(tokenizer: &Value, model: &Value, prompts: &PromptTokenizer) -> Option<Prefix> {
    let named = |key: &str| {
        let token = &tokenizer[key];
        prompts.id(token.as_str().or_else(|| token["content"].as_str())?)
    };
    let numbered = |key: &str| {
        let id = &model[key];
        let id = id.as_array().and_then(|ids| ids.first()).unwrap_or(id);
        u32::try_from(id.as_u64()?).ok()
    };
    let bos = |id| Prefix { id, is_bos: true };
    let eos = |id| Prefix { id, is_bos: false };
    let by_name = named("bos_token").map(bos).or_else(|| named("eos_token").map(eos));
    let by_number =
        || numbered("bos_token_id").map(bos).or_else(|| numbered("eos_token_id").map(eos));
    by_name.or_else(by_number)
}

fn max_length(model: &Value, tokenizer: &Value) -> Option<usize> {
    // A tokenizer without a limit says some 10³⁰.
    let own = tokenizer["model_max_length"].as_u64();
    ["n_positions", "max_position_embeddings", "n_ctx"]
        .iter()
        .find_map(|key| model[*key].as_u64())
        .or(own)
        .filter(|length| *length > 0)
        .and_then(|length| usize::try_from(length).ok())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn a_text_that_begins_with_bos_gets_no_other() {
        // Its template puts `<s>`, token 1, before a text.
        let model = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/eval/model");
        let folder = ModelFolder::open(Path::new(model)).unwrap();
        for (add_bos_token, expected) in
            [(None, [1, 1]), (Some(true), [1, 1]), (Some(false), [0, 1])]
        {
            let options = RuleOptions { add_bos_token, ..RuleOptions::default() };
            let tokenizer = RequestTokenizer::of(&folder, &options).unwrap();
            let found = ["a text", "<s>a text"].map(|text| {
                let tokens = tokenizer.encode(text).unwrap();
                tokens.into_iter().take_while(|token| *token == 1).count()
            });
            assert_eq!(found, expected, "{add_bos_token:?}");
        }
    }

    /// transformers takes the wish back in silence, and a text would begin with EOS here.
    #[test]
    fn a_tokenizer_without_bos_adds_none() {
        let model = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/eval/model");
        let copy = tempfile::tempdir().unwrap();
        for file in std::fs::read_dir(model).unwrap().map(Result::unwrap) {
            std::fs::copy(file.path(), copy.path().join(file.file_name())).unwrap();
        }
        let own = copy.path().join("tokenizer_config.json");
        let mut config: Value = read_json(&own).unwrap();
        config["bos_token"] = Value::Null;
        std::fs::write(&own, config.to_string()).unwrap();
        let folder = ModelFolder::open(copy.path()).unwrap();
        let of = |add_bos_token| {
            RequestTokenizer::of(&folder, &RuleOptions { add_bos_token, ..RuleOptions::default() })
        };
        let error = of(Some(true)).err().unwrap().to_string();
        assert!(error.contains("has no BOS"), "{error}");
        assert_eq!(of(None).unwrap().prefix_text(), "</s>");
    }
}
