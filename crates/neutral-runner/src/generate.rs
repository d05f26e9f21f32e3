//! `neutral generate`: what a model writes, and where an extension's gates open.

use std::io::{IsTerminal, Read, Write};

use neutral_data::{Control, Tokenizer};
use neutral_model::{Generation, ModelFolder, ReadToken, Sampling};
use neutral_store::Cache;

use crate::cli::GenerateArgs;
use crate::exit::{Abandoned, BadInput};
use crate::model_source::{self, Loaded};
use crate::signals;

/// `neutral generate`.
pub(crate) fn run(args: &GenerateArgs) -> anyhow::Result<()> {
    let sampling = sampling(args)?;
    let loaded = args.model.load(&Cache::from_env()?, &Control::default())?;
    let Loaded { folder, model, extension, .. } = loaded;
    let tokenizer = model_source::tokenizer(&folder)?;
    let prompt = prompt(args)?;
    let ids = tokenizer.prompts().encode(&prompt, true)?;
    let ids: Vec<i64> = ids.into_iter().map(i64::from).collect();
    if ids.is_empty() {
        return Err(
            BadInput("the prompt is empty; write one with --prompt or pipe it in".into()).into()
        );
    }
    let rows = folder.config().vocab_size as i64;
    if let Some(id) = ids.iter().find(|id| **id >= rows) {
        let name = tokenizer.prompts().name(*id as u32).unwrap_or_default();
        let message =
            format!("the prompt names the token {name}, for which the model has no embedding");
        return Err(BadInput(message).into());
    }
    let ends = end_tokens(&folder, &tokenizer);
    let stop = signals::stop_flag()?;
    let (mut generation, read) = Generation::new(&model, &extension, &ids, sampling);
    let mut out = Printer::new(&tokenizer, args.show_gates && has_gates(&read));
    if args.show_gates && !has_gates(&read) {
        tracing::warn!("--show-gates: this model has no gates");
    }
    // The prompt is shown only where its gates are.
    if out.gates {
        for token in read {
            out.token(token)?;
        }
    }
    for _ in 0..args.max_tokens {
        if stop.load(std::sync::atomic::Ordering::SeqCst) {
            out.finish()?;
            return Err(Abandoned.into());
        }
        let token = generation.next_token()?;
        if ends.contains(&token.id) {
            break;
        }
        out.token(token)?;
    }
    out.finish()
}

fn sampling(args: &GenerateArgs) -> anyhow::Result<Sampling> {
    let wrong = |flag: &str, found: f64, expected: &str| {
        anyhow::Error::from(BadInput(format!("{flag} is {found}, expected {expected}")))
    };
    if !(args.temperature >= 0.0 && args.temperature.is_finite()) {
        return Err(wrong("--temperature", args.temperature, "0 or more"));
    }
    if !(args.top_p > 0.0 && args.top_p <= 1.0) {
        return Err(wrong("--top-p", args.top_p, "above 0 and at most 1"));
    }
    if args.temperature == 0.0 && args.top_p < 1.0 {
        return Err(wrong("--top-p", args.top_p, "a --temperature above 0 beside it"));
    }
    Ok(Sampling { temperature: args.temperature, top_p: args.top_p, seed: args.seed })
}

fn prompt(args: &GenerateArgs) -> anyhow::Result<String> {
    if let Some(prompt) = &args.prompt {
        return Ok(prompt.clone());
    }
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text)?;
    Ok(text.trim_end_matches('\n').to_owned())
}

fn has_gates(read: &[ReadToken]) -> bool {
    read.iter().any(|token| token.open_gates.is_some())
}

/// The tokens that end a text: those that the model's files name, and the document separator.
fn end_tokens(folder: &ModelFolder, tokenizer: &Tokenizer) -> Vec<i64> {
    let mut ends = vec![i64::from(tokenizer.separator_id())];
    let generation = folder.path().join("generation_config.json");
    let generation: Option<serde_json::Value> = neutral_store::read_json(&generation).ok();
    for json in [Some(folder.config_json()), generation.as_ref()].into_iter().flatten() {
        match json.get("eos_token_id") {
            Some(serde_json::Value::Array(ids)) => {
                ends.extend(ids.iter().filter_map(serde_json::Value::as_i64));
            }
            Some(id) => ends.extend(id.as_i64()),
            None => {}
        }
    }
    ends
}

/// Writes text as soon as its bytes are whole characters.
struct Printer<'a> {
    tokenizer: &'a Tokenizer,
    text: neutral_data::TextStream<'a>,
    gates: bool,
    colours: bool,
    /// Of the tokens whose text is not written yet.
    open: Vec<f64>,
}

/// 256-colour backgrounds from closed to open, of white text: a dark grey, then warmer.
const SCALE: [u8; 6] = [236, 58, 94, 130, 166, 202];

impl<'a> Printer<'a> {
    fn new(tokenizer: &'a Tokenizer, gates: bool) -> Self {
        let colours = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Self { tokenizer, text: tokenizer.text_stream(), gates, colours, open: Vec::new() }
    }

    fn token(&mut self, token: ReadToken) -> anyhow::Result<()> {
        self.open.extend(token.open_gates);
        match self.text.next(token.id as u32)? {
            Some(text) => self.write(&text),
            None => Ok(()),
        }
    }

    fn write(&mut self, text: &str) -> anyhow::Result<()> {
        let mut out = std::io::stdout().lock();
        if self.gates && !self.open.is_empty() {
            let open = self.open.iter().sum::<f64>() / self.open.len() as f64;
            if self.colours {
                let colour = SCALE[(open * (SCALE.len() - 1) as f64).round() as usize];
                write!(out, "\x1b[38;5;15;48;5;{colour}m{text}\x1b[0m")?;
            } else {
                write!(out, "{text}[{:.0}%]", open * 100.0)?;
            }
        } else {
            write!(out, "{text}")?;
        }
        self.open.clear();
        Ok(out.flush()?)
    }

    fn finish(mut self) -> anyhow::Result<()> {
        let rest = std::mem::replace(&mut self.text, self.tokenizer.text_stream()).finish()?;
        if !rest.is_empty() {
            self.write(&rest)?;
        }
        let mut out = std::io::stdout().lock();
        writeln!(out)?;
        if self.gates && self.colours {
            write!(out, "open gates: ")?;
            for (i, colour) in SCALE.iter().enumerate() {
                let percent = 100 * i / (SCALE.len() - 1);
                write!(out, "\x1b[48;5;{colour}m {percent:>3} % \x1b[0m")?;
            }
            writeln!(out)?;
        }
        Ok(())
    }
}
