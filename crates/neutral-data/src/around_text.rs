//! What `tokenizer_config.json` says of the special tokens around a text.

use std::path::Path;

use serde_json::Value;
use tokenizers::Tokenizer as HuggingFace;
use tokenizers::processors::PostProcessorWrapper;
use tokenizers::processors::template::TemplateProcessing;

/// Replaces a tokenizer's template, if the `tokenizer_config.json` beside its file says whether a text has BOS or EOS
/// around it: transformers goes by that, whatever `tokenizer.json` has (from version 5 on for all tokenizers, before for
/// Llama's). A token that it does not name is not put.
///
/// Source: `update_post_processor` of `TokenizersBackend` in Hugging Face transformers 5.
pub(crate) fn heed_config(tokenizer: &mut HuggingFace, config: &Path) -> Result<(), String> {
    if !config.is_file() {
        return Ok(());
    }
    let config: Value = neutral_store::read_json(config).map_err(|e| e.to_string())?;
    let says = |key: &str| match config.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Bool(puts)) => Ok(Some(*puts)),
        Some(other) => Err(format!("`{key}` is {other}; expected true or false")),
    };
    let (bos, eos) = (says("add_bos_token")?, says("add_eos_token")?);
    if bos.is_none() && eos.is_none() {
        return Ok(());
    }
    let mut special = Vec::new();
    let mut piece = |puts: Option<bool>, key: &str| -> Result<Option<String>, String> {
        let named =
            config.get(key).and_then(|token| token.get("content").unwrap_or(token).as_str());
        let Some(name) = named.filter(|_| puts == Some(true)) else { return Ok(None) };
        let id = tokenizer.token_to_id(name);
        let id = id.ok_or_else(|| format!("`{key}` is {name:?}, which tokenizer.json lacks"))?;
        special.push((name.to_owned(), id));
        Ok(Some(format!("{name}:0")))
    };
    let (before, after) = (piece(bos, "bos_token")?, piece(eos, "eos_token")?);
    let single: Vec<String> =
        [before, Some("$A:0".to_owned()), after].into_iter().flatten().collect();
    let template = TemplateProcessing::builder()
        .try_single(single)?
        .special_tokens(special)
        .build()
        .map_err(|e| e.to_string())?;
    tokenizer.with_post_processor(Some(PostProcessorWrapper::Template(template)));
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::Tokenizer;
    use crate::prompts::tests::save_with_template;

    #[test]
    fn the_configuration_stands_over_the_template() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokenizer.json");
        let load = |template: bool, config: &str| {
            save_with_template(&path, if template { &["<s>", "A"] } else { &["A"] });
            std::fs::write(folder.path().join("tokenizer_config.json"), config).unwrap();
            Tokenizer::load(&path)
        };
        let around = |tokenizer: &Tokenizer| {
            let all = tokenizer.prompts().encode("a", true).unwrap();
            let text = tokenizer.encode("a").unwrap();
            let at = all.windows(text.len()).position(|part| part == text).unwrap();
            (all[..at].to_vec(), all[at + text.len()..].to_vec())
        };
        let names = r#""bos_token": {"content": "<s>"}, "eos_token": "</s>""#;
        let with = |says: &str| format!("{{{says}, {names}}}");
        let silent = [false, true].map(|template| load(template, &format!("{{{names}}}")).unwrap());
        let cases = [
            (false, r#""add_bos_token": true"#, (vec![300], vec![])),
            (true, r#""add_bos_token": true, "add_eos_token": true"#, (vec![300], vec![301])),
            (true, r#""add_bos_token": false"#, (vec![], vec![])),
            (false, r#""add_eos_token": false"#, (vec![], vec![])),
        ];
        for (template, says, expected) in cases {
            let loaded = load(template, &with(says)).unwrap();
            assert_eq!(around(&loaded), expected, "{template}, {says}");
            // Documents begin as texts do.
            let begins = expected.0.first().copied();
            assert_eq!(loaded.separator_id(), begins.unwrap_or(silent[0].separator_id()), "{says}");
            let as_before = around(&silent[usize::from(template)]) == expected;
            let same = loaded.fingerprint() == silent[usize::from(template)].fingerprint();
            assert_eq!(same, as_before, "{template}, {says}");
        }
        let wrong =
            load(false, r#"{"add_bos_token": true, "bos_token": "<b>"}"#).unwrap_err().to_string();
        assert!(wrong.contains("tokenizer_config.json") && wrong.contains("<b>"), "{wrong}");
        let wrong = load(false, r#"{"add_bos_token": "yes"}"#).unwrap_err().to_string();
        assert!(wrong.contains("expected true or false"), "{wrong}");
    }
}
