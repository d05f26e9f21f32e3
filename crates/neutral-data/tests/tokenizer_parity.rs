//! Our tokens beside those that Hugging Face's Python package gave, line by line. Called by
//! `scripts/verify-tokenizer`, which writes the lines.

#![expect(clippy::unwrap_used, reason = "in tests a panic is the report")]

use neutral_data::Tokenizer;
use serde::Deserialize;

#[derive(Deserialize)]
struct Line {
    text: String,
    ids: Vec<u32>,
}

#[test]
#[ignore = "reads what scripts/verify-tokenizer writes"]
fn tokens_are_those_of_the_python_package_and_come_back() {
    let path = |name: &str| std::path::PathBuf::from(std::env::var_os(name).unwrap());
    let tokenizer = Tokenizer::load(&path("NEUTRAL_TOKENIZER")).unwrap();
    let lines = std::fs::read_to_string(path("NEUTRAL_LINES")).unwrap();
    let lines: Vec<Line> =
        lines.split_terminator('\n').map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(!lines.is_empty());
    let (mut differ, mut changed) = (0, 0);
    for Line { text, ids } in &lines {
        let ours = tokenizer.encode(text).unwrap();
        differ += usize::from(ours != *ids);
        changed += usize::from(tokenizer.decode(&ours).unwrap() != *text);
    }
    println!("{} lines: {differ} with other tokens, {changed} that do not come back", lines.len());
    let allowed = std::env::var("NEUTRAL_CHANGED").map_or(0, |n| n.parse().unwrap());
    assert!(differ == 0 && changed <= allowed);
}
