//! `re.sub` of Python 3.11, with patterns of the crate `regex`.

use regex::Regex;

/// Signs of a pattern that may match nothing although it could match something in the same place.
const UNSURE: [&str; 5] = ["|", "*?", "+?", "??", "}?"];

/// A piece of a replacement.
enum Part {
    Text(String),
    /// What the group of this number matched.
    Group(usize),
}

/// Replaces the first `count` matches, or all where it is 0.
pub(crate) fn substitute(
    text: &str,
    pattern: &str,
    replacement: &str,
    count: usize,
) -> Result<String, String> {
    let (translated, has_end) = translate(pattern)?;
    let regex = Regex::new(&translated).map_err(|e| format!("{pattern} is not supported: {e}"))?;
    if has_end && text.ends_with('\n') {
        let found = "matches before the last end of line too in Python, which is not supported";
        return Err(format!("the $ of {pattern} {found} of {text:?}"));
    }
    let parts = parts(replacement, &regex)?;
    let mut out = String::new();
    let (mut copied, mut from, mut done) = (0, 0, 0);
    while from <= text.len() && (count == 0 || done < count) {
        let Some(found) = regex.captures_at(text, from) else { break };
        let Some(whole) = found.get(0) else { break };
        out += &text[copied..whole.start()];
        for part in &parts {
            out += match part {
                Part::Text(text) => text.as_str(),
                Part::Group(number) => found.get(*number).map_or("", |group| group.as_str()),
            };
        }
        (copied, from) = (whole.end(), whole.end());
        done += 1;
        if whole.is_empty() {
            if UNSURE.iter().any(|sign| pattern.contains(sign)) {
                let found = "matches nothing, and has | or a lazy repetition";
                return Err(format!("{pattern} {found}; such patterns are not supported"));
            }
            // Nothing is matched once in a place, also right after another match.
            from += text[copied..].chars().next().map_or(1, char::len_utf8);
        }
    }
    out += &text[copied..];
    Ok(out)
}

/// The pattern with Python's white space and letters, and whether `$` is in it.
fn translate(pattern: &str) -> Result<(String, bool), String> {
    let mut out = String::new();
    let (mut in_class, mut has_end) = (false, false);
    let mut characters = pattern.chars().peekable();
    while let Some(c) = characters.next() {
        match c {
            '\\' => match characters.next() {
                Some('s') => out += r"[\s\x1c-\x1f]",
                Some('S') => out += r"[^\s\x1c-\x1f]",
                Some('w') => out += r"[\p{L}\p{N}_]",
                Some('W') => out += r"[^\p{L}\p{N}_]",
                Some('Z') => out += r"\z",
                // Ends of words in the crate.
                Some(sign @ ('<' | '>')) => out.push(sign),
                Some(escaped) => out.extend(['\\', escaped]),
                None => out.push('\\'),
            },
            '[' if !in_class => {
                in_class = true;
                out.push('[');
                out.extend(characters.next_if_eq(&'^'));
                // The first one is meant, as it ends nothing.
                if characters.next_if_eq(&']').is_some() {
                    out += r"\]";
                }
            }
            '[' | '&' | '-' | '~' if in_class && (c == '[' || characters.peek() == Some(&c)) => {
                return Err(format!("{pattern} is not supported: write \\{c} between brackets"));
            }
            c => {
                in_class &= c != ']';
                has_end |= c == '$' && !in_class;
                out.push(c);
            }
        }
    }
    Ok((out, has_end))
}

/// `parse_template`: `\1` to `\99` and `\g<1>` are groups, `\g<name>` as well.
fn parts(replacement: &str, regex: &Regex) -> Result<Vec<Part>, String> {
    let refused = |found: &str| format!("the replacement {replacement:?} has {found}");
    let group = |number: usize| {
        let known = number < regex.captures_len();
        let found = || refused(&format!("the group {number}, which the pattern has not"));
        known.then_some(Part::Group(number)).ok_or_else(found)
    };
    let mut parts = Vec::new();
    let mut rest = replacement;
    while let Some(at) = rest.find('\\') {
        parts.push(Part::Text(rest[..at].to_owned()));
        rest = &rest[at + 1..];
        let digits = rest.bytes().take(3).take_while(u8::is_ascii_digit).count();
        if rest.starts_with('0') || (digits == 3 && rest[..3].bytes().all(|b| b < b'8')) {
            return Err(refused("the number of a character, which is not supported"));
        }
        if digits > 0 {
            let (number, after) = rest.split_at(digits.min(2));
            parts.push(group(number.parse().unwrap_or(usize::MAX))?);
            rest = after;
        } else if let Some((name, after)) =
            rest.strip_prefix("g<").and_then(|named| named.split_once('>'))
        {
            let number = regex.capture_names().position(|known| known == Some(name));
            let number = number.or_else(|| name.parse().ok());
            let number = number.ok_or_else(|| refused(&format!("no group of the name {name}")))?;
            parts.push(group(number)?);
            rest = after;
        } else {
            let text = match rest.chars().next() {
                Some('n') => "\n",
                Some('r') => "\r",
                Some('t') => "\t",
                Some('\\') => "\\",
                _ => {
                    return Err(refused(
                        "an escape that is not supported; write a backslash as two",
                    ));
                }
            };
            parts.push(Part::Text(text.to_owned()));
            rest = &rest[1..];
        }
    }
    parts.push(Part::Text(rest.to_owned()));
    Ok(parts)
}
